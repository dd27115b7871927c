"""NumPy, HDF5 and Zarr arrays with a YAML description: the format for whatever has no reader of its own.

The description names the arrays and says what every one of their dimensions means; nothing is guessed. See
`preprocess.sources.array_description` for an example with all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float, Float64, Shaped

from preprocess.sources.array_cells import ArrayCells
from preprocess.sources.array_description import (
    POSITION,
    ArrayEntry,
    ArraysDescription,
    AxisEntry,
    FieldEntry,
    MarksEntry,
    ParameterEntry,
    SplitEntry,
    TimesEntry,
)
from preprocess.sources.array_files import NPY_MAGIC, ZIP_MAGIC, ArrayReader, StoredArray, find_array, list_arrays
from preprocess.sources.array_missing import Missing, MissingMarks, check_sentinel, find_sentinel, take_out
from preprocess.sources.axes import as_float, grid_axis, read_increasing
from preprocess.sources.base import Source, TrajectoryInfo
from preprocess.sources.curator_layout import looks_like_curator
from preprocess.sources.dimensions import arrange
from preprocess.sources.exact import exact_cast, stored_dtype
from preprocess.sources.hdf5_files import has_hdf5_magic
from preprocess.sources.mesh_points import MeshPoints
from preprocess.sources.zarr_files import is_zarr, note_absent_chunks
from ups_data.errors import ConfigError, SourceError, suggest
from ups_data.mesh import Mesh
from ups_data.schema import AxisSpec, FieldSpec, GeometryKind
from ups_data.yaml_records import parse_record, parse_yaml

_SAMPLE_BYTES = 2**16
_MOVING = "points move: each lies where it starts, and the field position tells where it is in every frame"


class _Field:
    """A field of a data set, with its array, the place of every dimension in it, and what of it is missing."""

    def __init__(
        self, name: str, entry: FieldEntry, array: StoredArray, dims: tuple[str, ...], missing: Missing | None = None
    ) -> None:
        if len(dims) != len(array.shape):
            raise SourceError(
                f"{array.where} of field {name!r} has {len(array.shape)} dimensions, shape {array.shape}; its dims "
                f"name {len(dims)}: {', '.join(dims)}"
            )
        self.name, self.array, self.dims, self.missing = name, array, dims, missing
        self.sizes = dict(zip(dims, array.shape, strict=True))
        self.spec = FieldSpec(name=name, components=self._components(entry), unit=entry.unit)

    def _components(self, entry: FieldEntry) -> tuple[str, ...]:
        size = self.sizes.get("component")
        if entry.components is None:
            return ("",) if size is None else tuple(map(str, range(size)))
        if len(entry.components) != (size or 1):
            raise SourceError(
                f"field {self.name!r} names {len(entry.components)} components {entry.components}, {self.array.where} "
                f"has {size or 1}; dims: {', '.join(self.dims)}"
            )
        return entry.components

    @property
    def where(self) -> str:
        """Its array, for messages."""
        return self.array.where


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """What is read of an array: frames of a trajectory, in the order of the axes `space`."""

    trajectory: int
    frames: slice
    space: tuple[str, ...]

    def read(self, reader: ArrayReader, dims: tuple[str, ...]) -> Shaped[np.ndarray, "..."]:
        """Read it, in stored order."""
        cuts: dict[str, int | slice] = {"trajectory": self.trajectory, "time": self.frames}
        whole: int | slice = slice(None)
        return reader.read(tuple(cuts.get(dim, whole) for dim in dims))

    def arrange(
        self, block: Shaped[np.ndarray, "..."], dims: tuple[str, ...]
    ) -> Shaped[np.ndarray, "time component *space"]:
        """Bring what was read in order."""
        left = tuple(dim for dim in dims if dim != "trajectory")
        return arrange(block, left, space=self.space, num_frames=self.frames.stop - self.frames.start)


class ArraysSource(Source):
    """Grids, point clouds or meshes in `.npy`, `.npz`, HDF5 and Zarr files, by a YAML description."""

    format: ClassVar[str] = "arrays"
    summary: ClassVar[str] = "NumPy .npy/.npz, HDF5 or Zarr arrays with a YAML description (give the description)"

    def __init__(self, path: Path, description: ArraysDescription) -> None:
        self._where, self._folder = path.name, path.parent
        self.name = description.name or path.stem
        self.kind: GeometryKind = description.kind
        self._space = tuple(description.axes) if description.kind == "grid" else ("point",)
        entries = {**description.fields, **_position_entry(description)}
        self._fields = tuple(self._open_field(name, entry, description) for name, entry in entries.items())
        self._sizes = self._join_sizes()
        self.fields = tuple(field.spec for field in self._fields)
        self.missing_fields = frozenset(field.name for field in self._fields if field.missing is not None)
        self.dtype = stored_dtype(
            (field.array.dtype for field in self._fields),
            where=", ".join(field.array.where for field in self._fields),
        )
        self._readers: dict[tuple[Path, str | None], ArrayReader] = {}
        self._cloud = self._find(description.coordinates) if description.coordinates is not None else None
        self._cells = self._open_cells(description)
        self.has_measures = self._cells is not None
        self._nodes: tuple[Float64[np.ndarray, " _"], ...] = ()
        self.axes = self._grid_axes(description) if self.kind == "grid" else self._cloud_axes(description)
        self.time_unit = description.times.unit if description.times is not None else None
        self.trajectories = self._describe_trajectories(description)
        arrays = [*(field.array for field in self._fields), *([] if self._cloud is None else [self._cloud])]
        absent = (note_absent_chunks(array.path, array.key or "") for array in arrays if is_zarr(array.path))
        moving = (_MOVING,) if description.positions is not None else ()
        left_out = () if self._cells is None else self._cells.notes
        self.notes = (*description.notes, *moving, *left_out, *(note for note in absent if note is not None))
        self.parameter_units = {name: entry.unit for name, entry in description.parameters.items() if entry.unit}
        self.paths = (path, *self._files_named_in(description))

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell a description by its key `fields`, and NumPy files by their first bytes."""
        try:
            with path.open("rb") as file:
                head = file.read(_SAMPLE_BYTES)
            if head.startswith(ZIP_MAGIC):
                return bool(list_arrays(path)) and not looks_like_curator(path)
        except (OSError, SourceError):
            return False
        is_description = any(line.startswith((b"fields:", b"positions:")) for line in head.splitlines())
        return head.startswith(NPY_MAGIC) or (is_description and b"\0" not in head)

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> Self:
        """Open the data set of one description file. There are no options."""
        for option in options:
            raise ConfigError(f"format 'arrays' has no option {option!r}; all is said in the description file")
        if len(paths) != 1:
            raise SourceError(
                f"{len(paths)} files were given for format 'arrays'; give the one description, which names the arrays"
            )
        (path,) = paths
        if path.is_dir() and not is_zarr(path):
            raise SourceError(f"{path} is a directory where a description of arrays must stand")
        if is_zarr(path) or has_hdf5_magic(path) or _is_numpy(path):
            raise SourceError(_ask_for_description(path))
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise SourceError(f"{path} is no text, so no description of arrays: {error}") from error
        return cls(path, parse_record(ArraysDescription, parse_yaml(text, where=path.name), where=path.name))

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read frames [start, stop) of a trajectory; see `Source.read_frames`."""
        cut = _Cut(trajectory=trajectory, frames=slice(start, stop), space=self._space)
        fields = [self._read_field(field, cut) for field in self._fields]
        frames = fields[0] if len(fields) == 1 else np.concatenate(fields, axis=1)
        return frames if self._cells is None else frames[..., self._located(trajectory).rows]

    def read_coordinates(self, trajectory: int) -> tuple[Float[np.ndarray, "..."], ...]:
        """Return the nodes of every axis, or the points of a cloud; see `Source.read_coordinates`."""
        if self.kind == "grid":
            return self._nodes
        return (self._read_points(trajectory) if self._cells is None else self._located(trajectory).coordinates,)

    def read_measures(self, trajectory: int) -> Float64[np.ndarray, " point"] | None:
        """Return measures of cells, or the nodes' shares of them; see `Source.read_measures`."""
        return None if self._cells is None else self._located(trajectory).measures

    def read_mesh(self, trajectory: int) -> Mesh | None:
        """Return nodes and cells; see `Source.read_mesh`."""
        return None if self._cells is None else self._located(trajectory).mesh

    def __getstate__(self) -> dict[str, Any]:
        """Leave open arrays behind: another process opens the files itself."""
        return {**self.__dict__, "_readers": {}}

    def _read_points(self, trajectory: int) -> Float[np.ndarray, "point dim"]:
        """Read the points of a cloud where they start, or the nodes of a mesh."""
        if self._cloud is None:
            return self._first_positions(trajectory)
        points = self._reader(self._cloud).read((trajectory,) if len(self._cloud.shape) == 3 else ())
        is_single = self._cells is None and points.dtype.newbyteorder("=") == np.float32
        return points.astype(np.float32 if is_single else np.float64, copy=False)

    def _located(self, trajectory: int) -> MeshPoints:
        assert self._cells is not None
        assert self._cloud is not None
        shared = self._cells.is_shared and len(self._cloud.shape) == 2
        return self._cells.locate(0 if shared else trajectory, self._read_points)

    def _open_cells(self, description: ArraysDescription) -> ArrayCells | None:
        entry = description.cells
        if entry is None:
            return None
        count = self._sizes.get("trajectory", 1)
        cells = ArrayCells(entry, self._find(entry), num_trajectories=count, dims=len(description.axes))
        if entry.location == "cells" and cells.num_cells != self._sizes["point"]:
            raise SourceError(
                f"{cells.where} has {cells.num_cells} cells, the fields have {self._sizes['point']} along 'point'"
            )
        return cells

    def _read_field(self, field: _Field, cut: _Cut) -> Shaped[np.ndarray, "time component *space"]:
        values = cut.read(self._reader(field.array), field.dims)
        where = f"{field.where} of trajectory {cut.trajectory}"
        block = exact_cast(cut.arrange(values, field.dims), self.dtype, where=where)
        if field.missing is None:
            return block
        if isinstance(field.missing, MissingMarks):
            marks = cut.read(self._reader(field.missing.array), field.missing.dims)
            gone = cut.arrange(field.missing.read(marks), field.missing.dims)
        elif field.missing == "nan":
            gone = np.isnan(block)
        else:
            gone = cut.arrange(find_sentinel(values, field.missing), field.dims)
        return take_out(block, np.broadcast_to(gone, block.shape), where=where)

    def _first_positions(self, trajectory: int) -> Float64[np.ndarray, "point dim"]:
        field = next(field for field in self._fields if field.name == POSITION)
        cut = _Cut(trajectory=trajectory, frames=slice(0, 1), space=self._space)
        return np.array(cut.arrange(cut.read(self._reader(field.array), field.dims), field.dims)[0].T, np.float64)

    def _reader(self, array: StoredArray) -> ArrayReader:
        place = (array.path, array.key)
        if place not in self._readers:
            self._readers[place] = array.open()
        return self._readers[place]

    def _find(self, entry: ArrayEntry | AxisEntry | TimesEntry | ParameterEntry) -> StoredArray:
        if entry.file is None:
            raise SourceError(f"{self._where} names no file where one is wanted")
        return find_array(self._folder / entry.file, entry.key)

    def _files_named_in(self, description: ArraysDescription) -> tuple[Path, ...]:
        entries = [
            *description.fields.values(),
            *description.axes.values(),
            *description.parameters.values(),
            *(entry.missing for entry in description.fields.values() if isinstance(entry.missing, MarksEntry)),
            *(
                entry
                for entry in (description.coordinates, description.positions, description.cells, description.times)
                if entry is not None
            ),
        ]
        return tuple(dict.fromkeys(self._folder / entry.file for entry in entries if entry.file is not None))

    def _open_field(self, name: str, entry: FieldEntry, description: ArraysDescription) -> _Field:
        dims = entry.dims or description.dims
        if dims is None:
            raise ConfigError(f"{self._where}: field {name!r} needs `dims`, its own or those of the whole file")
        known = ("trajectory", "time", "component", *self._space)
        for dim in dims:
            if dim not in known:
                raise ConfigError(
                    f"{self._where}: field {name!r} has the unknown dimension {dim!r}. {suggest(dim, known)}"
                )
        if len(set(dims)) != len(dims) or not set(self._space) <= set(dims):
            raise ConfigError(
                f"{self._where}: the dims of field {name!r} must name every one of {', '.join(self._space)}, and "
                f"nothing twice, got {', '.join(dims)}"
            )
        array = self._find(entry)
        field = _Field(name, entry, array, dims, self._open_missing(name, entry, array, dims))
        if isinstance(field.missing, MissingMarks):
            wanted = tuple(field.sizes[dim] for dim in field.missing.dims)
            if field.missing.array.shape != wanted:
                raise SourceError(
                    f"{field.missing.array.where} has shape {field.missing.array.shape}; marks of field {name!r} along "
                    f"{', '.join(field.missing.dims)} have shape {wanted}"
                )
        return field

    def _open_missing(self, name: str, entry: FieldEntry, array: StoredArray, dims: tuple[str, ...]) -> Missing | None:
        if not isinstance(entry.missing, MarksEntry):
            if isinstance(entry.missing, float):
                check_sentinel(entry.missing, array.dtype, where=array.where)
            return entry.missing
        along = entry.missing.dims or dims
        if len(set(along)) != len(along) or not set(self._space) <= set(along) <= set(dims):
            raise ConfigError(
                f"{self._where}: the marks of field {name!r} must lie along {', '.join(self._space)} and others of "
                f"{', '.join(dims)}, and along nothing twice, got {', '.join(along)}"
            )
        marks = self._find(entry.missing)
        if marks.dtype.kind not in "biuf" or len(marks.shape) != len(along):
            raise SourceError(
                f"{marks.where} has shape {marks.shape} and type {marks.dtype}; marks of field {name!r} along "
                f"{', '.join(along)} are wanted: state their dims, as in `missing: {{file: ..., dims: [x, y]}}`"
            )
        return MissingMarks(array=marks, dims=along, where=entry.missing.where)

    def _join_sizes(self) -> dict[str, int]:
        """Return the size of every dimension, on which all fields must agree."""
        sizes: dict[str, tuple[int, _Field]] = {}
        for field in self._fields:
            for dim, size in field.sizes.items():
                if size < 1:
                    raise SourceError(f"{field.array.where} of field {field.name!r} has no entry along {dim!r}")
                known, other = sizes.setdefault(dim, (size, field))
                if dim != "component" and size != known:
                    raise SourceError(
                        f"{field.array.where} of field {field.name!r} has {size} along {dim!r}, {other.array.where} of "
                        f"field {other.name!r} has {known}"
                    )
        return {dim: size for dim, (size, _) in sizes.items()}

    def _grid_axes(self, description: ArraysDescription) -> tuple[AxisSpec, ...]:
        self._nodes = tuple(self._read_nodes(name, entry) for name, entry in description.axes.items())
        return tuple(
            grid_axis(
                name,
                nodes,
                periodic=entry.periodic,
                where=f"{self._where}: axes.{name}",
                unit=entry.unit,
                extent=entry.extent or _stated_extent(entry),
                kind=entry.kind,
            )
            for (name, entry), nodes in zip(description.axes.items(), self._nodes, strict=True)
        )

    def _read_nodes(self, name: str, entry: AxisEntry) -> Float64[np.ndarray, " node"]:
        where, count = f"{self._where}: axes.{name}", self._sizes[name]
        if entry.start is not None and entry.stop is not None:
            nodes = np.linspace(entry.start, entry.stop, count, endpoint=not entry.periodic)
        elif entry.values is not None:
            nodes = np.array(entry.values)
        else:
            array = self._find(entry)
            nodes, where = array.load(), array.where
        nodes = read_increasing(nodes, where=where)
        if nodes.size != count:
            raise SourceError(f"{where} has {nodes.size} nodes, the fields have {count} along {name!r}")
        return nodes

    def _cloud_axes(self, description: ArraysDescription) -> tuple[AxisSpec, ...]:
        num_dims, count, cloud = len(description.axes), self._sizes["point"], self._cloud
        if cloud is not None and description.cells is not None and description.cells.location == "cells":
            count = cloud.shape[-2] if len(cloud.shape) > 1 else 0
        shapes = ((count, num_dims), (self._sizes.get("trajectory", 1), count, num_dims))
        if cloud is not None and (cloud.shape not in shapes or cloud.dtype.kind not in "iuf"):
            raise SourceError(
                f"{cloud.where} has shape {cloud.shape} and type {cloud.dtype}; coordinates of these fields and axes "
                f"are numbers of shape {shapes[0]} or {shapes[1]}"
            )
        lower, upper = self._bound_cloud()
        return tuple(
            grid_axis(
                name,
                np.array([lower[i], upper[i]]),
                periodic=entry.periodic,
                where=f"{self._where}: axes.{name}",
                unit=entry.unit,
                # Points have no cells: a cloud ends at its outermost points, on a sphere too.
                extent=entry.extent or (float(lower[i]), float(upper[i])),
                kind=entry.kind,
            )
            for i, (name, entry) in enumerate(description.axes.items())
        )

    def _bound_cloud(self) -> tuple[Float64[np.ndarray, " dim"], Float64[np.ndarray, " dim"]]:
        """Return the bounding box of all points, trajectory after trajectory."""
        shared = self._cloud is not None and len(self._cloud.shape) == 2
        array = self._cloud or next(field.array for field in self._fields if field.name == POSITION)
        ends = []
        for row in range(1 if shared else self._sizes.get("trajectory", 1)):
            points = self._read_points(row)
            if not np.isfinite(points).all():
                place = np.unravel_index(int(np.argmin(np.isfinite(points))), points.shape)
                where = tuple(map(int, place)) if shared else (row, *map(int, place))
                raise SourceError(f"{array.where} holds {points[place]} at {where}; it must be finite")
            ends.append((points.min(axis=0), points.max(axis=0)))
        lower, upper = (np.array(side, dtype=np.float64) for side in zip(*ends, strict=True))
        return lower.min(axis=0), upper.max(axis=0)

    def _describe_trajectories(self, description: ArraysDescription) -> tuple[TrajectoryInfo, ...]:
        count = self._sizes.get("trajectory", 1)
        times = self._read_times(description, count)
        parameters = {name: self._read_parameter(name, entry, count) for name, entry in description.parameters.items()}
        splits = self._read_splits(description.split, count)
        shape = tuple(self._sizes[dim] for dim in self._space)
        return tuple(
            TrajectoryInfo(
                item=f"{self._where}: trajectory {i}",
                shape=shape if self._cells is None else (len(self._located(i).rows),),
                times=times[i] if len(times) > 1 else times[0],
                parameters={name: values[i] for name, values in parameters.items()},
                split=splits[i],
            )
            for i in range(count)
        )

    def _read_times(self, description: ArraysDescription, count: int) -> list[Float64[np.ndarray, " time"]]:
        """Return one row of times for all trajectories, or one for each."""
        entry, num_frames = description.times, self._sizes.get("time")
        if num_frames is None:
            if entry is not None:
                raise ConfigError(f"{self._where} states `times`, but no field has the dimension 'time'")
            return [np.zeros(1)]
        if entry is None:
            raise ConfigError(f"{self._where} must state `times`: the fields have {num_frames} frames")
        where = f"{self._where}: times"
        if entry.start is not None and entry.step is not None:
            rows = (entry.start + entry.step * np.arange(num_frames))[None]
        elif entry.values is not None:
            rows = np.array(entry.values)[None]
        else:
            array = self._find(entry)
            rows, where = np.atleast_2d(array.load()), array.where
        if rows.shape not in {(1, num_frames), (count, num_frames)}:
            raise SourceError(
                f"{where} has shape {rows.shape}; {num_frames} times are wanted, for all {count} "
                f"trajectories or for each"
            )
        return [
            read_increasing(row, where=f"{where}, row {i}" if len(rows) > 1 else where) for i, row in enumerate(rows)
        ]

    def _read_parameter(self, name: str, entry: ParameterEntry, count: int) -> list[float]:
        where = f"{self._where}: parameters.{name}"
        if entry.value is not None:
            return [float(entry.value)] * count
        values: Sequence[Any] | Shaped[np.ndarray, "..."] = entry.values or ()
        if entry.file is not None:
            array = self._find(entry)
            values, where = array.load().reshape(-1), array.where
        if len(values) == 1:
            return [as_float(values[0], where=where)] * count
        if len(values) != count:
            raise SourceError(
                f"{where} has {len(values)} values for {count} trajectories; one, or one for each, is wanted"
            )
        return [as_float(value, where=f"{where}[{i}]") for i, value in enumerate(values)]

    def _read_splits(self, entry: SplitEntry | None, count: int) -> list[str | None]:
        if entry is None or entry.name is not None:
            return [entry.name if entry is not None else None] * count
        names = list(entry.names or ())
        for split, number in (entry.counts or {}).items():
            names.extend([split] * number)
        if len(names) != count:
            raise SourceError(f"{self._where}: split names {len(names)} trajectories, the fields have {count}")
        return list(names)


def _stated_extent(entry: AxisEntry) -> tuple[float, float] | None:
    if entry.start is None or entry.stop is None or (entry.kind != "linear" and not entry.periodic):
        return None
    return entry.start, entry.stop


def _position_entry(description: ArraysDescription) -> dict[str, FieldEntry]:
    """Return the field that the positions of moving points become."""
    entry = description.positions
    if entry is None:
        return {}
    dims = entry.dims or description.dims or ()
    if not {"time", "point", "component"} <= set(dims):
        raise ConfigError(f"the dims of `positions` must name time, point and component, got {', '.join(dims)}")
    units = {axis.unit for axis in description.axes.values()}
    field = FieldEntry(
        file=entry.file,
        key=entry.key,
        dims=dims,
        components=tuple(description.axes),
        unit=units.pop() if len(units) == 1 else None,
    )
    return {POSITION: field}


def _field_name(key: str | None, number: int) -> str:
    return key.rpartition("/")[2] if key else f"field{number}"


def _is_numpy(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(NPY_MAGIC)).startswith((NPY_MAGIC, ZIP_MAGIC))


def _ask_for_description(path: Path) -> str:
    lines = []
    for number, array in enumerate(list_arrays(path)):
        key = f", key: {array.key}" if array.key is not None else ""
        lines.append(f"    {_field_name(array.key, number)}: {{file: {path.name}{key}}}    # shape {array.shape}")
    return (
        f"{path} holds arrays and does not say what their dimensions mean. Write a description beside it, for example "
        f"{path.with_suffix('.yaml').name}, and give that:\n"
        "  dims: [trajectory, time, x, y]\n  fields:\n" + "\n".join(lines) + "\n"
        "  axes:\n    x: {start: 0.0, stop: 1.0, periodic: true}\n    y: {start: 0.0, stop: 1.0}\n"
        "  times: {start: 0.0, step: 0.1, unit: s}"
    )
