"""Convert a source to a store: importance, pages, statistics, shards, manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float64, Int64, Shaped

from preprocess.plan import ConvertPlan, plan_conversion
from preprocess.settings import ConvertSettings
from preprocess.sources.base import Source, TrajectoryInfo
from ups_data import __version__
from ups_data.coordinates import check_axis
from ups_data.errors import SourceError
from ups_data.importance import CloudGeometry, Geometry, GridGeometry, ImportanceMap
from ups_data.pages import PageLayout, PageTable, build_pages, cloud_order, grid_order
from ups_data.schema import GeometrySpec, Manifest, ParameterSpec, SourceSpec
from ups_data.statistics import FieldStatistics
from ups_data.storage.tables import TrajectoryTables
from ups_data.storage.writer import ArrayWriter, StoreWriter
from ups_data.storage.zarr_store import COORDINATES, FIELDS, IMPORTANCE, INDEX, VALUES

__all__ = ["ConvertSettings", "Progress", "convert"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

_BLOCK_BYTES = 256 * 2**20
# Squares of values, and of their changes and gradients, must stay finite in float64.
_MAX_SIZE = 1e100


def convert(
    source: Source,
    dest: Path,
    settings: ConvertSettings,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Convert all trajectories of `source` to a new store at `dest`.

    Trajectories are read one after another, in blocks of frames of at most 256 MiB; a trajectory that fits in one block
    is read once, a longer one twice. Nothing appears at `dest` before everything is written.

    Raises:
        StoreExistsError: `dest` is taken.
        SourceError: the source cannot be read, or a value is not finite; names file, item, frame and point.
        ConfigError: settings that cannot hold for this source.
        SchemaError: coordinates that break a rule.
        StoreError: the disk is full or read-only.
    """
    plan = plan_conversion(source, settings)
    with StoreWriter(dest, overwrite=overwrite) as writer:
        conversion = _Conversion(source, settings, plan, writer)
        for trajectory in range(len(source.trajectories)):
            if progress is not None:
                progress("trajectories", trajectory, len(source.trajectories))
            conversion.add_trajectory(trajectory)
        manifest = conversion.finish(settings.name or writer.dest.name)
    if progress is not None:
        progress("trajectories", len(source.trajectories), len(source.trajectories))
    return manifest


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ordering:
    """What the page layout needs to know of a trajectory's geometry."""

    geometry: Geometry
    order: Int64[np.ndarray, " point"]
    number: int


class _Conversion:
    """The state of one conversion: array writers, running statistics, and the rows of the tables so far."""

    def __init__(self, source: Source, settings: ConvertSettings, plan: ConvertPlan, writer: StoreWriter) -> None:
        self._source, self._settings, self._plan, self._writer = source, settings, plan, writer
        self._arrays: dict[str, ArrayWriter] = {key: writer.create_array(spec) for key, spec in plan.arrays.items()}
        self._channel_names = tuple(name for field in source.fields for name in field.channel_names)
        self._statistics = FieldStatistics(len(self._channel_names))
        train = plan.split_names.index("train") if "train" in plan.split_names else None
        self._counted = np.ones(len(plan.split_codes), dtype=bool) if train is None else plan.split_codes == train
        self._statistics_split: Literal["train"] | None = None if train is None else "train"
        self._grids: dict[bytes, int] = {}
        self._grid_orders: dict[tuple[int, ...], Int64[np.ndarray, " point"]] = {}
        self._axis_nodes: list[Float64[np.ndarray, " node"]] = []
        self._rows: list[tuple[PageLayout, int]] = []

    def add_trajectory(self, trajectory: int) -> None:
        """Read one trajectory, lay out its pages and write them."""
        ordering = self._read_geometry(trajectory)
        blocks = _FrameBlocks(self._source, trajectory, np.dtype(self._plan.dtype))
        importance = self._measure(trajectory, ordering.geometry, blocks)
        layout = self._plan.layout
        table = build_pages(
            importance,
            ordering.order,
            page_points=layout.page_points,
            num_strata=layout.num_strata,
            block_points=layout.block_points,
            seed=layout.seed,
            trajectory=trajectory,
        )
        self._write_static(table, importance, ordering.geometry)
        for block in blocks:
            self._write_frames(table, block)
        self._rows.append((table.layout, ordering.number))

    def finish(self, name: str) -> Manifest:
        """Write what is left: last shards, tables, manifest."""
        for array in self._arrays.values():
            array.close()
        self._writer.write_tables(self._tables())
        source, plan = self._source, self._plan
        counts = np.bincount(plan.split_codes, minlength=len(plan.split_names))
        statistics = self._statistics.records(self._channel_names)
        reviewed = source.review_statistics(statistics) if self._statistics_split == "train" else ()
        manifest = Manifest(
            writer=f"ups_data {__version__}",
            name=name,
            fields=source.fields,
            dtype="float64" if plan.dtype == "float64" else "float32",
            geometry=GeometrySpec(kind=source.kind, axes=source.axes, shape=plan.shape),
            boundaries=source.boundaries,
            time_unit=source.time_unit,
            parameters=self._parameter_specs(),
            num_trajectories=len(plan.num_frames),
            num_frames=int(plan.num_frames.sum()),
            num_points=int(plan.num_points.sum()),
            splits={split: int(count) for split, count in zip(plan.split_names, counts, strict=True)},
            split_provenance=plan.split_provenance,
            statistics=statistics,
            statistics_split=self._statistics_split,
            layout=plan.layout,
            importance=self._plan.importance,
            codec=self._settings.codec,
            source=SourceSpec(format=source.format, files=source.fingerprints(), notes=(*source.notes, *reviewed)),
            files=(),
        )
        return self._writer.finish(manifest)

    def _read_geometry(self, trajectory: int) -> _Ordering:
        source, info = self._source, self._source.trajectories[trajectory]
        where = f"{source.name}: {info.item}"
        parts = tuple(np.asarray(part, dtype=np.float64) for part in source.read_coordinates(trajectory))
        curve = self._plan.layout.curve
        if source.kind != "grid":
            (coordinates,) = parts
            if coordinates.shape != (info.num_points, len(source.axes)) or not np.isfinite(coordinates).all():
                raise SourceError(
                    f"{where}: coordinates must be finite and of shape {(info.num_points, len(source.axes))}"
                )
            return _Ordering(
                geometry=CloudGeometry(coordinates=coordinates),
                order=cloud_order(coordinates, curve=curve),
                number=0,
            )
        _check_grid(source, info, parts, where)
        if info.shape not in self._grid_orders:
            self._grid_orders[info.shape] = grid_order(info.shape, curve=curve)
        periods = tuple(axis.upper - axis.lower if axis.periodic else None for axis in source.axes)
        return _Ordering(
            geometry=GridGeometry(axes=parts, periods=periods),
            order=self._grid_orders[info.shape],
            number=self._number_grid(info.shape, parts),
        )

    def _number_grid(self, shape: tuple[int, ...], axes: tuple[Float64[np.ndarray, " _"], ...]) -> int:
        key = repr(shape).encode() + b"".join(axis.tobytes() for axis in axes)
        if key not in self._grids:
            self._grids[key] = len(self._grids)
            self._axis_nodes.extend(axes)
        return self._grids[key]

    def _measure(self, trajectory: int, geometry: Geometry, blocks: _FrameBlocks) -> Float64[np.ndarray, " point"]:
        """Go through all frames once: refuse bad values, gather importance and statistics."""
        importance = ImportanceMap(self._plan.importance, geometry, self._plan.subject)
        previous = None
        start = 0
        for block in blocks:
            self._refuse_non_finite(trajectory, start, block)
            for frame in block:
                importance.update(frame)
                if self._counted[trajectory]:
                    self._statistics.update(frame, previous)
                previous = frame
            start += len(block)
        return importance.result()

    def _refuse_non_finite(self, trajectory: int, start: int, block: Float[np.ndarray, "time channel *space"]) -> None:
        # NaN compares as False, so this refuses it too.
        sound = np.abs(block) <= min(_MAX_SIZE, float(np.finfo(block.dtype).max))
        if sound.all():
            return
        frame, channel, *place = np.unravel_index(int(np.argmin(sound)), block.shape)
        raise SourceError(
            f"{self._source.name}: {self._source.trajectories[trajectory].item}, frame {start + frame}, channel "
            f"{self._channel_names[channel]}, point {tuple(map(int, place))} holds {block[frame, channel, *place]}; "
            f"{int((~sound).sum())} of {sound.size} values of this block are not finite or over {_MAX_SIZE:g} in size. "
            f"Mend the source: missing values are never filled"
        )

    def _write_static(self, table: PageTable, importance: Float64[np.ndarray, " point"], geometry: Geometry) -> None:
        padding = table.index < 0
        self._arrays[INDEX].append(table.index)
        self._arrays[IMPORTANCE].append(np.where(padding, np.nan, importance[table.index]))
        if isinstance(geometry, CloudGeometry):
            coordinates = np.where(padding[..., None], np.nan, geometry.coordinates[table.index])
            self._arrays[COORDINATES].append(coordinates.transpose(0, 2, 1))

    def _write_frames(self, table: PageTable, block: Float[np.ndarray, "time channel *space"]) -> None:
        padding = table.index < 0
        for frame in block:
            pages = frame.reshape(len(frame), -1)[:, table.index].transpose(1, 0, 2)
            pages[np.broadcast_to(padding[:, None], pages.shape)] = np.nan
            self._arrays[VALUES].append(pages)
            if FIELDS in self._arrays:
                self._arrays[FIELDS].append(frame)

    def _tables(self) -> TrajectoryTables:
        infos = self._source.trajectories
        layouts = [layout for layout, _ in self._rows]
        on_grid = self._source.kind == "grid"
        shapes = [[axis.size for axis in self._axis_nodes[i : i + len(self._source.axes)]] for i in self._grid_starts()]
        return TrajectoryTables(
            num_frames=self._plan.num_frames,
            num_points=self._plan.num_points,
            split=self._plan.split_codes,
            stratum_pages=np.stack([layout.stratum_pages for layout in layouts]).astype(np.int32),
            stratum_mass=np.stack([layout.stratum_mass for layout in layouts]),
            parameters=self._plan.parameters,
            times=np.concatenate([info.times for info in infos]).astype(np.float64),
            geometry=np.array([number for _, number in self._rows], dtype=np.int32),
            geometry_shape=np.array(shapes, dtype=np.int64).reshape(-1, len(self._source.axes)),
            axis_nodes=np.concatenate(self._axis_nodes) if on_grid else np.empty(0),
        )

    def _grid_starts(self) -> Iterator[int]:
        return iter(range(0, len(self._axis_nodes), len(self._source.axes)))

    def _parameter_specs(self) -> tuple[ParameterSpec, ...]:
        values = self._plan.parameters[self._counted]
        names, units = self._source.trajectories[0].parameters, self._source.parameter_units
        return tuple(
            ParameterSpec(name=name, unit=units.get(name), mean=float(column.mean()), std=float(column.std()))
            for name, column in zip(names, values.T, strict=True)
        )


class _FrameBlocks:
    """The frames of one trajectory in blocks; iterated twice, read twice only where they do not fit in one block."""

    def __init__(self, source: Source, trajectory: int, dtype: np.dtype[Any]) -> None:
        self._source, self._trajectory, self._dtype = source, trajectory, dtype
        self._info = source.trajectories[trajectory]
        channels = sum(len(field.components) for field in source.fields)
        self._shape = (channels, *self._info.shape)
        self._length = max(1, _BLOCK_BYTES // (dtype.itemsize * channels * self._info.num_points))
        self._kept: Float[np.ndarray, "time channel *space"] | None = None

    def __iter__(self) -> Iterator[Float[np.ndarray, "time channel *space"]]:
        for start in range(0, self._info.num_frames, self._length):
            yield self._read(start, min(start + self._length, self._info.num_frames))

    def _read(self, start: int, stop: int) -> Float[np.ndarray, "time channel *space"]:
        if self._kept is not None:
            return self._kept
        block = self._source.read_frames(self._trajectory, start, stop)
        if block.shape != (stop - start, *self._shape):
            raise SourceError(
                f"{self._source.name}: {self._info.item} gives frames of shape {block.shape}, "
                f"{(stop - start, *self._shape)} was announced"
            )
        if not np.can_cast(block.dtype, self._dtype, "safe"):
            raise SourceError(
                f"{self._source.name}: {self._info.item} gives values of dtype {block.dtype}, {self._source.dtype} was "
                f"announced, and storing them as {self._dtype} would round them"
            )
        # A copy, always: array writers hold rows until a shard is full, and a source may reuse its buffer.
        block = block.astype(self._dtype)
        if stop - start == self._info.num_frames:
            self._kept = block
        return block


def _check_grid(source: Source, info: TrajectoryInfo, axes: tuple[Shaped[np.ndarray, "..."], ...], where: str) -> None:
    sizes = tuple(axis.size for axis in axes)
    if sizes != info.shape:
        raise SourceError(f"{where}: axes have {sizes} nodes, the field has {info.shape}")
    for values, spec in zip(axes, source.axes, strict=True):
        check_axis(values, spec, where=where)
