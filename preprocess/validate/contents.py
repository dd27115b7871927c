"""Whether tables, pages and values of a store are what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from preprocess.convert import Progress
from preprocess.validate.findings import Findings
from preprocess.validate.statistics import check_parameters, check_statistics, counted_trajectories
from ups_data.coordinates import check_axis
from ups_data.errors import SchemaError, StoreError
from ups_data.pages import PageLayout
from ups_data.statistics import FieldStatistics
from ups_data.storage.base import PagePoints
from ups_data.storage.tables import TrajectoryTables
from ups_data.storage.zarr_store import COORDINATES, FIELDS, IMPORTANCE, MEASURES, ZarrStore

# Maps are stored as float32, masses were added up before that.
_MASS_TOLERANCE = 1e-5


def check_tables(store: ZarrStore, findings: Findings) -> None:
    """Hold sizes, splits, axes and times in the tables against the manifest."""
    manifest, tables = store.manifest, store.tables
    findings.count("tables", len(TrajectoryTables.names()))
    for trajectory in range(len(store)):
        times = store.times(trajectory)
        findings.expect(
            "tables",
            bool(np.isfinite(times).all() and (np.diff(times) > 0).all()),
            f"times of trajectory {trajectory} are not finite and strictly increasing",
        )
        findings.expect(
            "tables",
            manifest.geometry.shape in (None, store.shape(trajectory)),
            f"trajectory {trajectory} has shape {store.shape(trajectory)}, the manifest says {manifest.geometry.shape}",
        )
    findings.expect("tables", bool(np.isfinite(tables.parameters).all()), "a parameter is not finite")
    columns = tables.parameters.shape[1]
    findings.expect(
        "tables",
        columns == len(manifest.parameters),
        f"{columns} parameters stand in the tables, the manifest names {len(manifest.parameters)}",
    )
    if manifest.geometry.kind == "grid":
        _check_axes(store, findings)


def _check_axes(store: ZarrStore, findings: Findings) -> None:
    _, first = np.unique(store.tables.geometry, return_index=True)
    for trajectory in first.tolist():
        for nodes, spec in zip(store.axes(trajectory), store.manifest.geometry.axes, strict=True):
            with findings.gathered("tables", SchemaError):
                check_axis(nodes, spec, where=f"trajectory {trajectory}")


def check_contents(store: ZarrStore, findings: Findings, progress: Progress) -> None:
    """Look at every page and value, and gather the statistics of all frames."""
    manifest = store.manifest
    statistics = FieldStatistics(len(manifest.channel_names))
    counted = set(counted_trajectories(store).tolist())
    whole = True
    for trajectory in range(len(store)):
        progress("trajectories", trajectory, len(store))
        with findings.gathered("pages", StoreError):
            _check_mesh(store, trajectory, findings)
        update = statistics.update if trajectory in counted else None
        whole &= _check_trajectory(store, trajectory, findings, update)
    progress("trajectories", len(store), len(store))
    check_parameters(store, findings)
    if whole:
        check_statistics(statistics.records(manifest.channel_names), manifest, findings)


def _check_mesh(store: ZarrStore, trajectory: int, findings: Findings) -> None:
    """Hold a trajectory's mesh against its points."""
    mesh = store.mesh(trajectory)
    if mesh is None:
        return
    where = f"the mesh of trajectory {trajectory}"
    count = len(mesh.nodes) if mesh.location == "nodes" else mesh.num_cells
    points = store.num_points(trajectory)
    findings.expect("pages", count == points, f"{where} has {count} {mesh.location} for {points} points")
    findings.expect("pages", bool(np.isfinite(mesh.nodes).all()), f"{where} has a node that is not finite")
    if mesh.location == "nodes" and count == points:
        same = np.array_equal(mesh.nodes, store.coordinates(trajectory))
        findings.expect("pages", same, f"{where} has other nodes than pages/coordinates")


_Update = Callable[[Any, Any], None]


def _check_trajectory(store: ZarrStore, trajectory: int, findings: Findings, update: _Update | None) -> bool:
    """Look at all blocks of a trajectory; return whether all of it could be read."""
    starts = [store.block_frames(trajectory, block).start for block in range(store.num_blocks(trajectory))]
    previous, whole = None, True
    for block, stop in enumerate([*starts[1:], store.num_frames(trajectory)]):
        place = _Place(trajectory=trajectory, block=block)
        index = _check_pages(store, place, findings)
        if index is None:
            whole, previous = False, None
            continue
        seen = np.zeros(store.num_points(trajectory), dtype=bool)
        for frame in store.block_frames(trajectory, block):
            values = None
            with findings.gathered("values", StoreError):
                values = _read_frame(store, place, frame, index, findings)
            if values is not None:
                seen |= np.isfinite(values).any(axis=0)
            if frame >= stop:
                continue  # the next block has it too
            whole &= values is not None
            if values is not None and update is not None and whole:
                update(values, previous)
            previous = values
        _check_seen(store, place, index, seen, findings)
    return whole


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A block of frames of a trajectory."""

    trajectory: int
    block: int

    def __str__(self) -> str:
        return f"trajectory {self.trajectory}" + (f", block {self.block}" if self.block else "")


def _check_seen(
    store: ZarrStore,
    place: _Place,
    index: Int64[np.ndarray, "page entry"],
    seen: Bool[np.ndarray, " point"],
    findings: Findings,
) -> None:
    """Compare the points that draws may take with those that have a value."""
    drawn = index[: store.layout(place.trajectory, place.block).num_pages]
    drawn = drawn[drawn >= 0]
    if seen[drawn].all() and np.count_nonzero(seen) == drawn.size:
        return
    point = drawn[np.argmin(seen[drawn])] if not seen[drawn].all() else np.setdiff1d(np.flatnonzero(seen), drawn)[0]
    findings.add(
        "values",
        f"{place}: {drawn.size} points may be drawn, {np.count_nonzero(seen)} have a value in any frame; point {point} "
        f"is the first that differs; convert again",
    )


def _check_pages(store: ZarrStore, place: _Place, findings: Findings) -> Int64[np.ndarray, "page entry"] | None:
    """Return the page index of a block where it can be used to look at values, else None."""
    trajectory, block = place.trajectory, place.block
    layout = store.layout(trajectory, block)
    pages = np.arange(layout.all_pages)
    findings.count("pages", layout.all_pages)
    try:
        points = store.read_page_points(trajectory, pages, block)
    except StoreError as error:
        findings.add("pages", str(error))
        return None
    index = points.index.reshape(layout.all_pages, layout.page_points)
    faults = [*_permutation_faults(index, store.num_points(trajectory)), *_padding_faults(index, layout)]
    for fault in faults:
        findings.add("pages", f"{store.location}/pages/index, {place}: {fault}; convert again")
    if COORDINATES in store.arrays:
        _check_coordinates(store, place, points.coordinates, points.index >= 0, findings)
    with findings.gathered("pages", StoreError):
        _check_importance(store, place, index, findings)
        if MEASURES in store.arrays:
            _check_measures(store, place, points, findings)
    return None if faults else index


def _permutation_faults(index: Int64[np.ndarray, "page entry"], num_points: int) -> Iterator[str]:
    counts = np.bincount(index[index >= 0], minlength=num_points)
    if (counts > 1).any():
        point = int(np.argmax(counts > 1))
        places = ", ".join(f"page {page} entry {entry}" for page, entry in np.argwhere(index == point)[:4].tolist())
        yield f"point {point} stands {counts[point]} times ({places}), {int((counts > 1).sum())} points more than once"
    if (counts == 0).any():
        yield f"point {int(np.argmin(counts))} stands on no page, nor do {int((counts == 0).sum()) - 1} others"


def _padding_faults(index: Int64[np.ndarray, "page entry"], layout: PageLayout) -> Iterator[str]:
    there = index >= 0
    if (there[:, 1:] & ~there[:, :-1]).any():
        page = int(np.argmax((there[:, 1:] & ~there[:, :-1]).any(axis=1)))
        yield f"page {page} has padding before a point"
    starts = np.cumsum(layout.stratum_pages) - layout.stratum_pages
    found = np.add.reduceat(there[: layout.num_pages].sum(axis=1), starts[: layout.num_strata])
    wanted = layout.stratum_points[: layout.num_strata]
    if (found != wanted).any():
        stratum = int(np.argmax(found != wanted))
        yield f"stratum {stratum} holds {found[stratum]} points where {wanted[stratum]} belong"


def _check_coordinates(
    store: ZarrStore,
    place: _Place,
    coordinates: Float[np.ndarray, "query dim"],
    there: Bool[np.ndarray, " query"],
    findings: Findings,
) -> None:
    lower, upper = np.array(store.domain.lower), np.array(store.domain.upper)
    slack = 1e-6 * (upper - lower)
    # NaN compares as False, so this finds it too.
    inside = ((coordinates >= lower - slack) & (coordinates <= upper + slack)).all(axis=1)
    where = f"{store.location}/{COORDINATES}, {place}"
    if not inside[there].all():
        entry = int(np.argmax(there & ~inside))
        findings.add(
            "pages",
            f"{where}: entry {entry} lies at {coordinates[entry].tolist()}, outside of {lower.tolist()} to "
            f"{upper.tolist()}; convert again",
        )
    findings.expect("pages", bool(np.isnan(coordinates[~there]).all()), f"{where}: padding has coordinates")


def _check_measures(store: ZarrStore, place: _Place, points: PagePoints, findings: Findings) -> None:
    layout = store.layout(place.trajectory, place.block)
    measures = store.read_page_measures(place.trajectory, np.arange(layout.all_pages), points, place.block)
    there = points.index >= 0
    sound = np.isfinite(measures) & (measures >= 0)
    where = f"{store.location}/{MEASURES}, {place}"
    if not sound[there].all():
        entry = int(np.argmax(there & ~sound))
        findings.add("pages", f"{where}: entry {entry} holds {measures[entry]}, not finite or negative; convert again")
    findings.expect("pages", bool(np.isnan(measures[~there]).all()), f"{where}: padding has a measure")


def _check_importance(
    store: ZarrStore, place: _Place, index: Int64[np.ndarray, "page entry"], findings: Findings
) -> None:
    layout, there = store.layout(place.trajectory, place.block), index >= 0
    # Points that no draw may take have no importance.
    there[layout.num_pages :] = False
    number = store.tables.block_offsets[place.trajectory] + place.block
    rows = store.tables.page_offsets[number] + np.arange(layout.all_pages)
    stored = store.arrays[IMPORTANCE].read_rows(rows).astype(np.float64)
    where = f"{store.location}/pages/importance, {place}"
    sound = np.isfinite(stored) & (stored >= 0)
    if not sound[there].all():
        page, entry = np.argwhere(there & ~sound)[0].tolist()
        findings.add("pages", f"{where}: page {page} entry {entry} holds {stored[page, entry]}, not finite or negative")
        return
    findings.expect("pages", bool(np.isnan(stored[~there]).all()), f"{where}: padding has importance")
    starts = np.cumsum(layout.stratum_pages) - layout.stratum_pages
    of_pages = np.where(there, stored, 0.0).sum(axis=1)[: layout.num_pages]
    sums = np.add.reduceat(of_pages, starts[: layout.num_strata])
    found, stated = sums / (sums.sum() or 1.0), layout.stratum_mass[: layout.num_strata]
    findings.expect(
        "pages",
        bool(np.abs(found - stated).max() <= _MASS_TOLERANCE),
        f"{where}: strata have shares {found.tolist()} of the importance, the tables say {stated.tolist()}",
    )


def _read_frame(
    store: ZarrStore, place: _Place, frame: int, index: Int64[np.ndarray, "page entry"], findings: Findings
) -> Float[np.ndarray, "channel point"] | None:
    """Return a frame as its pages have it, after a look at every value; None where one is not what it may be."""
    trajectory, manifest = place.trajectory, store.manifest
    channels = tuple(range(len(manifest.channel_names)))
    findings.count("values", store.num_points(trajectory) * len(channels))
    pages = store.read_page_values(trajectory, [frame], np.arange(len(index)), channels, place.block)[0]
    ids = index.reshape(-1)
    there = ids >= 0
    values = np.empty((len(channels), store.num_points(trajectory)), dtype=pages.dtype)
    values[:, ids[there]] = pages[there].T
    where = f"{place}, frame {frame}"
    fits = np.isfinite(values) | (np.isnan(values) & np.array(manifest.missing_channels)[:, None])
    sound = bool(fits.all())
    if not sound:
        channel, point = np.argwhere(~fits)[0].tolist()
        name = manifest.channel_names[channel]
        findings.add("values", f"{where}, channel {name}, point {point} holds {values[channel, point]}; convert again")
    findings.expect("values", bool(np.isnan(pages[~there]).all()), f"{where}: padding of pages/values has values")
    if FIELDS in store.arrays:
        dense = store.read_frames(trajectory, [frame], channels)[0]
        bits = f"u{values.itemsize}"
        differ = np.ascontiguousarray(dense).view(bits) != values.view(bits)
        if differ.any():
            channel, point = np.argwhere(differ)[0].tolist()
            findings.add(
                "values",
                f"{where}, channel {store.manifest.channel_names[channel]}, point {point}: pages/values holds "
                f"{values[channel, point]}, fields holds {dense[channel, point]}, and {int(differ.sum()) - 1} other "
                f"values differ; convert again",
            )
    return values if sound else None
