"""Prove a store sound: every byte against its hash, every number against what the store says of itself.

What is checked, in this order, each problem named with file or trajectory:

* manifest: it reads, and its fingerprint holds;
* files: each is there with size and SHA-256, nothing else lies in the store, and the arrays need all that is listed;
* shards: their indices hold, and name their chunks one after another without a gap;
* tables: sizes, offsets, splits, axes and times agree with the manifest and with each other;
* pages: meshes have a node or a cell for every point; the index of each trajectory is a permutation of its points,
  padded only at the end of pages of the last stratum; coordinates and importance are finite and inside of their
  ranges, and add up to the mass of the strata;
* values: all finite, or missing in fields that may lack values, and those on pages equal to the dense frames bit for
  bit; every chunk's checksum on the way;
* statistics: computed again from all frames; counts and extremes agree exactly, the rest within 1e-9 of the root mean
  square.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from preprocess.convert import Progress
from ups_data.coordinates import check_axis
from ups_data.errors import CorruptionError, SchemaError, StoreError, StoreNotFoundError, UpsDataError
from ups_data.pages import PageLayout
from ups_data.schema import MANIFEST_NAME, ChannelStatistics, FileEntry, Manifest
from ups_data.statistics import FieldStatistics
from ups_data.storage import TarStore, open_store
from ups_data.storage.base import PagePoints
from ups_data.storage.byte_store import ByteStore, LocalByteStore
from ups_data.storage.mesh_arrays import MESH_GROUP
from ups_data.storage.sharded_array import ShardedArray
from ups_data.storage.tables import TrajectoryTables
from ups_data.storage.tar_format import TAR_MANIFEST_NAME, ZARR_PREFIX, TarManifest
from ups_data.storage.tar_store import read_tar_manifest
from ups_data.storage.tar_writer import digest_tar_shard, metadata_entries, packed_specs
from ups_data.storage.writer import GROUPS
from ups_data.storage.zarr_store import (
    COORDINATES,
    FIELDS,
    IMPORTANCE,
    MEASURES,
    TABLE_GROUP,
    ZarrStore,
    read_manifest,
)

CHECKS = ("manifest", "files", "shards", "tables", "pages", "values", "statistics")
"""Names of the checks, in their order."""

_MAX_PROBLEMS = 20
_READ_BYTES = 2**20
_STATISTICS_TOLERANCE = 1e-9
# Maps are stored as float32, masses were added up before that.
_MASS_TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """What was checked of a store, and what was found.

    Attributes:
        location: the store.
        checks: how many things each check looked at; a check that an earlier problem made impossible is missing.
        problems: one line each, beginning with the check; empty for a sound store.
    """

    location: str
    checks: Mapping[str, int]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every check was made and none found a problem."""
        return not self.problems and set(self.checks) == set(CHECKS)

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON knows it."""
        return {
            "ok": self.ok,
            "location": self.location,
            "checks": dict(self.checks),
            "problems": list(self.problems),
        }


def validate(path: Path, *, progress: Progress | None = None) -> ValidationReport:
    """Check every byte of a store against what its writer committed, and what it says against itself.

    Problems are gathered, not raised. Where files are so damaged that the store does not open, what stands in the
    arrays is not looked at. Memory holds the page index and a frame of one trajectory, or the index of one shard.

    Args:
        path: directory of the store.
        progress: called with "files" or "trajectories", how many are done, and how many there are.

    Raises:
        StoreNotFoundError: there is no finished store.
    """
    findings = _Findings()
    source = LocalByteStore(path)
    packed = (path / TAR_MANIFEST_NAME).is_file() and not (path / MANIFEST_NAME).exists()
    manifest: Manifest | TarManifest | None = None
    with findings.gathered("manifest", SchemaError, CorruptionError):
        manifest = read_tar_manifest(source) if packed else read_manifest(source)
    findings.count("manifest")
    if manifest is not None:
        name = TAR_MANIFEST_NAME if packed else MANIFEST_NAME
        _check_files(path, {name: manifest.files}, source, findings, progress or _say_nothing)
        _check_store(path, findings, progress or _say_nothing)
    return ValidationReport(location=str(path), checks=findings.checks, problems=findings.problems)


def _check_store(path: Path, findings: _Findings, progress: Progress) -> None:
    try:
        store = open_store(path)
        assert isinstance(store, ZarrStore)
    except (StoreError, SchemaError) as error:
        findings.add("tables", f"the store does not open, so its arrays were not looked at: {error}")
        return
    if isinstance(store, TarStore):
        _check_tar_listing(store, findings)
        _check_tar_shards(store, findings)
    else:
        _check_listing(store, findings)
        _check_shards(store, findings)
    _check_tables(store, findings)
    _check_contents(store, findings, progress)


class _Findings:
    """Problems and counts by check; of many problems of one check the first are kept and the rest counted."""

    def __init__(self) -> None:
        self._checked: Counter[str] = Counter()
        self._found: Counter[str] = Counter()
        self._problems: dict[str, list[str]] = {check: [] for check in CHECKS}

    def count(self, check: str, number: int = 1) -> None:
        """Note that a check looked at so many more things."""
        self._checked[check] += number

    def add(self, check: str, problem: str) -> None:
        """Note a problem; one that is known already, such as that of a chunk read twice, is not repeated."""
        if problem in self._problems[check]:
            return
        self._found[check] += 1
        if self._found[check] <= _MAX_PROBLEMS:
            self._problems[check].append(problem)

    def expect(self, check: str, holds: bool, problem: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.add(check, problem)

    @contextmanager
    def gathered(self, check: str, *errors: type[UpsDataError]) -> Iterator[None]:
        """Note errors as problems of a check instead of raising them."""
        try:
            yield
        except errors as error:
            self.add(check, str(error))

    @property
    def checks(self) -> dict[str, int]:
        """How many things each check looked at."""
        return {check: self._checked[check] for check in CHECKS if check in self._checked}

    @property
    def problems(self) -> tuple[str, ...]:
        """All problems, in the order of the checks."""
        return tuple(line for check in CHECKS for line in self._lines(check))

    def _lines(self, check: str) -> Iterator[str]:
        yield from (f"{check}: {problem}" for problem in self._problems[check])
        if self._found[check] > _MAX_PROBLEMS:
            yield f"{check}: and {self._found[check] - _MAX_PROBLEMS} more problems like these"


def _say_nothing(what: str, done: int, total: int) -> None:
    """Take progress and drop it."""


# -- files ---------------------------------------------------------------------------------------------------------


def find_damage(root: Path, manifest: Manifest, *, progress: Progress | None = None) -> dict[str, str]:
    """Return the keys of files that are not what the manifest lists, and what is wrong with each.

    Args:
        root: directory of the store.
        manifest: of the store.
        progress: called with "files", how many are looked at, and how many there are.

    Raises:
        StoreError: a file cannot be read, for another reason than that it is not there.
    """
    told, source, damage = progress or _say_nothing, LocalByteStore(root), {}
    for number, entry in enumerate(manifest.files):
        told("files", number, len(manifest.files))
        try:
            _check_file(root, entry, source)
        except (CorruptionError, StoreNotFoundError) as error:
            damage[entry.key] = str(error)
    told("files", len(manifest.files), len(manifest.files))
    return damage


def _check_files(
    root: Path,
    listing: Mapping[str, tuple[FileEntry, ...]],
    source: ByteStore,
    findings: _Findings,
    progress: Progress,
) -> None:
    """Compare every file with the manifest, given by its name and the files that it lists."""
    ((name, entries),) = listing.items()
    for number, entry in enumerate(entries):
        progress("files", number, len(entries))
        with findings.gathered("files", StoreError):
            _check_file(root, entry, source)
    progress("files", len(entries), len(entries))
    findings.count("files", len(entries))
    known = {name, *(entry.key for entry in entries)}
    for key in _walk(root):
        findings.expect(
            "files",
            key in known,
            f"{root / key} does not belong to the store: the manifest does not list it; remove it",
        )


def _check_file(root: Path, entry: FileEntry, source: ByteStore) -> None:
    size = source.size(entry.key)
    if size != entry.size_bytes:
        raise CorruptionError(
            f"{root / entry.key} has {size} bytes, {entry.size_bytes} were committed; restore it or convert again"
        )
    digest = hashlib.sha256()
    for start in range(0, size, _READ_BYTES):
        digest.update(source.read_ranges(entry.key, [(start, min(_READ_BYTES, size - start))])[0])
    if digest.hexdigest() != entry.sha256:
        raise CorruptionError(
            f"{root / entry.key} is not the file that was committed (SHA-256 differs); restore it or convert again"
        )


def _walk(root: Path) -> Iterator[str]:
    """Yield the key of everything below a directory that is no directory; links to directories are not followed."""
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted([*files, *links]):
            yield (Path(folder) / name).relative_to(root).as_posix()


def _check_listing(store: ZarrStore, findings: _Findings) -> None:
    """Refuse a file that the manifest lists and no array has: its hash holds, yet nobody knows what it is."""
    wanted = {f"{group}/zarr.json".lstrip("/") for group in GROUPS}
    if any(key.startswith(f"{MESH_GROUP}/") for key in store.arrays):
        wanted.add(f"{MESH_GROUP}/zarr.json")
    for key, array in store.arrays.items():
        wanted.add(f"{key}/zarr.json")
        wanted.update(array.spec.shard_key(shard) for shard in range(array.spec.num_shards))
    for name in TrajectoryTables.names():
        values: Shaped[np.ndarray, "..."] = getattr(store.tables, name)
        wanted.add(f"{TABLE_GROUP}/{name}/zarr.json")
        if values.size:
            wanted.add("/".join([TABLE_GROUP, name, "c", *["0"] * values.ndim]))
    listed = {entry.key for entry in store.manifest.files}
    for key in sorted(listed - wanted):
        findings.add("files", f"{store.location}/{key} is listed by the manifest, but belongs to no array of the store")
    for key in sorted(wanted - listed):
        findings.add("files", f"{store.location}/{key} belongs to the store, but the manifest does not list it")


def _check_shards(store: ZarrStore, findings: _Findings) -> None:
    sizes = {entry.key: entry.size_bytes for entry in store.manifest.files}
    for array in store.arrays.values():
        if not isinstance(array, ShardedArray):
            continue
        for shard in range(array.spec.num_shards):
            with findings.gathered("shards", StoreError):
                _check_shard(array, shard, sizes[array.spec.shard_key(shard)])
            findings.count("shards")


def _check_tar_listing(store: TarStore, findings: _Findings) -> None:
    """Refuse a file that is neither a shard nor what the manifest of the Zarr store tells."""
    manifest = store.shards.manifest
    wanted = {
        f"{ZARR_PREFIX}/{entry.key}": entry.sha256 for entry in metadata_entries(store.manifest, packed_specs(store))
    }
    shards = {name for shard in manifest.shards for name in (shard.key, shard.index)}
    for entry in manifest.files:
        known = entry.key in shards or entry.key == f"{ZARR_PREFIX}/{MANIFEST_NAME}"
        findings.expect(
            "files",
            known or wanted.pop(entry.key, None) == entry.sha256,
            f"{store.location}/{entry.key} is listed, but is not what the manifest of the Zarr store tells; pack again",
        )
    for key in sorted(wanted):
        findings.add("files", f"{store.location}/{key} belongs to the store, but the manifest does not list it")


def _check_tar_shards(store: TarStore, findings: _Findings) -> None:
    """Pack each shard anew from what its index finds: all other bytes follow from tables and rows."""
    listed = {entry.key: entry.sha256 for entry in store.shards.manifest.files}
    for number, shard in enumerate(store.shards.manifest.shards):
        with findings.gathered("shards", StoreError):
            for key, digest in zip((shard.key, shard.index), digest_tar_shard(store, number), strict=True):
                findings.expect(
                    "shards", listed[key] == digest, f"{store.location}/{key} is not what its rows make; pack again"
                )
        findings.count("shards")


def _check_shard(array: ShardedArray, shard: int, size_bytes: int) -> None:
    spec = array.spec
    index = array.read_shard_index(shard)
    used = min(spec.rows_per_shard, spec.num_rows - shard * spec.rows_per_shard)
    lengths = index[:used, 1]
    starts = np.cumsum(lengths) - lengths
    rest = np.full((spec.rows_per_shard - used, 2), np.iinfo(np.uint64).max, dtype=np.uint64)
    fixed = spec.codec_of_chunk.encoded_bytes
    end = size_bytes - index.nbytes - 4
    sound = np.array_equal(index[:used, 0], starts) and np.array_equal(index[used:], rest) and lengths.sum() == end
    if not sound or (fixed is not None and (lengths != fixed).any()):
        raise CorruptionError(
            f"{spec.shard_key(shard)}: the shard index does not list {used} chunks one after another up to itself; "
            f"convert again"
        )


# -- tables --------------------------------------------------------------------------------------------------------


def _check_tables(store: ZarrStore, findings: _Findings) -> None:
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


def _check_axes(store: ZarrStore, findings: _Findings) -> None:
    _, first = np.unique(store.tables.geometry, return_index=True)
    for trajectory in first.tolist():
        for nodes, spec in zip(store.axes(trajectory), store.manifest.geometry.axes, strict=True):
            with findings.gathered("tables", SchemaError):
                check_axis(nodes, spec, where=f"trajectory {trajectory}")


# -- what stands in the arrays -------------------------------------------------------------------------------------


def _check_contents(store: ZarrStore, findings: _Findings, progress: Progress) -> None:
    manifest = store.manifest
    statistics = FieldStatistics(len(manifest.channel_names))
    counted = set(_counted(store).tolist())
    whole = True
    for trajectory in range(len(store)):
        progress("trajectories", trajectory, len(store))
        with findings.gathered("pages", StoreError):
            _check_mesh(store, trajectory, findings)
        update = statistics.update if trajectory in counted else None
        whole &= _check_trajectory(store, trajectory, findings, update)
    progress("trajectories", len(store), len(store))
    _check_parameters(store, findings)
    if whole:
        _check_statistics(statistics.records(manifest.channel_names), manifest, findings)


def _check_mesh(store: ZarrStore, trajectory: int, findings: _Findings) -> None:
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


def _check_trajectory(store: ZarrStore, trajectory: int, findings: _Findings, update: _Update | None) -> bool:
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
    findings: _Findings,
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


def _check_pages(store: ZarrStore, place: _Place, findings: _Findings) -> Int64[np.ndarray, "page entry"] | None:
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
    findings: _Findings,
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


def _check_measures(store: ZarrStore, place: _Place, points: PagePoints, findings: _Findings) -> None:
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
    store: ZarrStore, place: _Place, index: Int64[np.ndarray, "page entry"], findings: _Findings
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
    store: ZarrStore, place: _Place, frame: int, index: Int64[np.ndarray, "page entry"], findings: _Findings
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


# -- statistics ----------------------------------------------------------------------------------------------------


def _counted(store: ZarrStore) -> Int64[np.ndarray, " trajectory"]:
    """Return the trajectories that the statistics must cover."""
    return store.splits["train"] if "train" in store.splits else np.arange(len(store))


def _check_statistics(found: tuple[ChannelStatistics, ...], manifest: Manifest, findings: _Findings) -> None:
    findings.count("statistics", len(found))
    findings.expect(
        "statistics",
        manifest.statistics_split == ("train" if "train" in manifest.splits else None),
        f"statistics_split is {manifest.statistics_split}, the splits are {', '.join(manifest.splits)}",
    )
    for ours, stated in zip(found, manifest.statistics, strict=True):
        for key, value in ours.model_dump(exclude={"channel"}).items():
            written = getattr(stated, key)
            exact = key in {"count", "min", "max"} or None in (value, written)
            scale = ours.delta_rms if key.startswith("delta_") else ours.rms
            agrees = value == written if exact else abs(value - written) <= _STATISTICS_TOLERANCE * (scale or 0.0)
            findings.expect(
                "statistics",
                agrees,
                f"{key} of channel {ours.channel} is {value}, the manifest says {written}; convert again",
            )


def _check_parameters(store: ZarrStore, findings: _Findings) -> None:
    manifest = store.manifest
    for stated, column in zip(manifest.parameters, store.tables.parameters[_counted(store)].T, strict=False):
        scale = _STATISTICS_TOLERANCE * max(float(np.abs(column).max()), 1e-300)
        for key, value in {"mean": float(column.mean()), "std": float(column.std())}.items():
            written = getattr(stated, key)
            findings.expect(
                "statistics",
                abs(value - written) <= scale,
                f"{key} of parameter {stated.name} is {value}, the manifest says {written}; convert again",
            )
