"""NetCDF files through xarray: weather, ocean, whatever follows the CF conventions or is described by a few options.

What a dimension means is told by its coordinate variable (`axis`, `units`, `standard_name`) or by an option; where
neither tells, the file is refused with what to state. Axes come out as x (longitude), y (latitude), z where the file
tells which they are, else in the order of its dimensions. A coordinate that falls (latitudes from north to south) is
read backwards, so that nodes increase. A longitude whose nodes go once around the globe is periodic.

Times are kept as the file counts them, with its own unit ("hours since 1979-01-01"): calendars are not interpreted.
Packed values are unpacked and missing ones become NaN, which a conversion refuses with its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import pydantic
from jaxtyping import Float64, Shaped

from preprocess.sources.axes import as_float, grid_axis, read_increasing
from preprocess.sources.base import Source, TrajectoryInfo
from preprocess.sources.dimensions import arrange
from preprocess.sources.exact import exact_cast, stored_dtype
from preprocess.sources.hdf5_files import has_hdf5_magic, open_hdf5
from preprocess.sources.naming import check_name, name_field
from ups_data.errors import SourceError, UnknownFormatError, suggest
from ups_data.schema import AxisSpec, FieldSpec, GeometryKind, Record
from ups_data.yaml_records import parse_record

if TYPE_CHECKING:
    import xarray

_NETCDF3_MAGIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_EAST = ("degrees_east", "degree_east", "degrees_e", "degree_e", "degreese", "degreee")
_NORTH = ("degrees_north", "degree_north", "degrees_n", "degree_n", "degreesn", "degreen")
_STANDARD_NAMES = {
    "longitude": "x",
    "projection_x_coordinate": "x",
    "latitude": "y",
    "projection_y_coordinate": "y",
    "height": "z",
    "depth": "z",
}
_SPACE = ("x", "y", "z", "space")


class XarrayOptions(Record):
    """What may be told of a NetCDF file.

    Attributes:
        time: the dimension of time.
        space: the dimensions of space, in any order.
        trajectory: the dimension along which independent simulations lie.
        variables: the variables that become fields; by default all that lie on the dimensions of space.
        periodic: dimensions of space that wrap around, with one node a cell.
        frames_per_trajectory: cut the time series into trajectories of so many frames (the last may be shorter), each
            with a split and an importance map of its own.
    """

    time: str | None = None
    space: tuple[str, ...] | None = None
    trajectory: str | None = None
    variables: tuple[str, ...] | None = None
    periodic: tuple[str, ...] = ()
    frames_per_trajectory: Annotated[int, pydantic.Field(ge=1)] | None = None


@dataclass(frozen=True, kw_only=True)
class _Roles:
    """Which dimension is which; `space` in the order of the axes."""

    time: str | None
    space: tuple[str, ...]
    trajectory: str | None


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """Where a trajectory lies: number of the file, place along its trajectory dimension, first frame."""

    file: int
    row: int | None
    first: int


class XarraySource(Source):
    """Grids in one or several NetCDF files; several files hold independent trajectories of the same fields."""

    format: ClassVar[str] = "netcdf"
    summary: ClassVar[str] = "NetCDF files (CF conventions, or a few options that name dimensions)"

    def __init__(self, paths: Sequence[Path], options: XarrayOptions) -> None:
        self.paths, self._options = tuple(paths), options
        self.name = self.paths[0].stem
        self.kind: GeometryKind = "grid"
        self._opened: dict[int, xarray.Dataset] = {}
        first = self._dataset(0)
        self._roles = _find_roles(first, options, self.paths[0])
        self._variables = _find_variables(first, self._roles, options, self.paths[0])
        self.fields = tuple(self._describe_field(first[name]) for name in self._variables)
        self.dtype = stored_dtype((first[name].dtype for name in self._variables), where=self.paths[0].name)
        self._parameters = _find_parameters(first, self._roles, self._variables)
        # Known once: a coordinate is read from the file every time that it is looked at.
        self._falling = tuple(dim for dim in self._roles.space if _is_falling(first[dim].values))
        self._nodes = tuple(self._read_nodes(first, dim) for dim in self._roles.space)
        self.axes = tuple(
            self._describe_axis(first, dim, nodes) for dim, nodes in zip(self._roles.space, self._nodes, strict=True)
        )
        self.time_unit = None if self._roles.time is None else _text(first[self._roles.time], "units")
        self._pieces, self.trajectories = self._find_trajectories()
        self.notes = self._find_notes(first)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell by the first bytes, and HDF5 files by what the NetCDF library leaves in them."""
        try:
            if path.is_dir():
                return False
            with path.open("rb") as file:
                if file.read(4) in _NETCDF3_MAGIC:
                    return True
            if not has_hdf5_magic(path):
                return False
            with open_hdf5(path) as content:
                return "_NCProperties" in content.attrs or any(
                    "_Netcdf4Dimid" in item.attrs for item in content.values()
                )
        except (OSError, SourceError):
            return False

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> Self:
        """Open files of one data set; `options` are those of `XarrayOptions`."""
        return cls(paths, parse_record(XarrayOptions, options, where="options of format 'netcdf'"))

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read frames [start, stop) of a trajectory; see `Source.read_frames`."""
        piece, roles = self._pieces[trajectory], self._roles
        cuts: dict[str, int | slice] = dict.fromkeys(self._falling, slice(None, None, -1))
        if roles.time is not None:
            cuts[roles.time] = slice(piece.first + start, piece.first + stop)
        if roles.trajectory is not None and piece.row is not None:
            cuts[roles.trajectory] = piece.row
        parts = []
        for name in self._variables:
            variable = self._dataset(piece.file)[name]
            chosen = variable.isel({dim: cut for dim, cut in cuts.items() if dim in variable.dims})
            dims = tuple("time" if dim == roles.time else str(dim) for dim in chosen.dims)
            block = arrange(_values(chosen, self.paths[piece.file]), dims, space=roles.space, num_frames=stop - start)
            where = f"{self.paths[piece.file].name}: {name}"
            parts.append(exact_cast(block, self.dtype, where=where))
        return np.concatenate(parts, axis=1)

    def read_coordinates(self, trajectory: int) -> tuple[Float64[np.ndarray, "..."], ...]:  # noqa: ARG002  of the contract
        """Return the nodes of every axis; see `Source.read_coordinates`."""
        return self._nodes

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: another process opens them itself."""
        return {**self.__dict__, "_opened": {}}

    def _dataset(self, number: int) -> xarray.Dataset:
        if number not in self._opened:
            path = self.paths[number]
            try:
                self._opened[number] = _import_xarray(path).open_dataset(path, decode_times=False, cache=False)
            except (OSError, ValueError, RuntimeError) as error:
                raise SourceError(f"{path} cannot be read as NetCDF: {error}") from error
        return self._opened[number]

    def _describe_field(self, variable: xarray.DataArray) -> FieldSpec:
        where = f"{self.paths[0].name}: variable {variable.name!r}"
        return name_field(str(variable.name), unit=_text(variable, "units"), where=where)

    def _read_nodes(self, dataset: xarray.Dataset, dim: str) -> Float64[np.ndarray, " node"]:
        where = f"{self.paths[0].name}: {dim}"
        if dim not in dataset.variables:
            raise SourceError(f"{where} is a dimension of space without coordinate variable, so its nodes are not told")
        nodes = dataset[dim].values
        return read_increasing(nodes[::-1] if dim in self._falling else nodes, where=where)

    def _describe_axis(self, dataset: xarray.Dataset, dim: str, nodes: Float64[np.ndarray, " node"]) -> AxisSpec:
        where = f"{self.paths[0].name}: {dim}"
        periodic = dim in self._options.periodic or _goes_around(dataset[dim], nodes)
        return grid_axis(
            check_name(dim, where=where), nodes, periodic=periodic, where=where, unit=_text(dataset[dim], "units")
        )

    def _find_trajectories(self) -> tuple[tuple[_Piece, ...], tuple[TrajectoryInfo, ...]]:
        pieces, infos = [], []
        for number, path in enumerate(self.paths):
            dataset = self._dataset(number)
            self._check_alike(dataset, path)
            times = self._read_times(dataset, path)
            rows = [None] if self._roles.trajectory is None else list(range(dataset.sizes[self._roles.trajectory]))
            length = self._options.frames_per_trajectory or times.size
            for row in rows:
                for first in range(0, times.size, length):
                    pieces.append(_Piece(file=number, row=row, first=first))
                    infos.append(self._describe(dataset, path, pieces[-1], times[first : first + length]))
        return tuple(pieces), tuple(infos)

    def _describe(
        self, dataset: xarray.Dataset, path: Path, piece: _Piece, times: Float64[np.ndarray, " time"]
    ) -> TrajectoryInfo:
        member = "" if piece.row is None else f": {self._roles.trajectory} {piece.row}"
        frames = "" if times.size == 1 else f": frames {piece.first} to {piece.first + times.size - 1}"
        parameters = {}
        for name in self._parameters:
            values = dataset[name].values
            value = values if values.ndim == 0 else values[piece.row]
            parameters[name] = as_float(value, where=f"{path.name}: {name}")
        return TrajectoryInfo(
            item=f"{path.name}{member}{frames}",
            shape=tuple(nodes.size for nodes in self._nodes),
            times=times,
            parameters=parameters,
        )

    def _check_alike(self, dataset: xarray.Dataset, path: Path) -> None:
        missing = [name for name in (*self._variables, *self._parameters) if name not in dataset.variables]
        if missing:
            raise SourceError(f"{path.name} lacks the variable {missing[0]!r} that {self.paths[0].name} has")
        first = self._dataset(0)
        for name in self._variables:
            if dataset[name].dims != first[name].dims:
                raise SourceError(
                    f"{path.name}: {name} has dimensions {dataset[name].dims}, in {self.paths[0].name} "
                    f"{first[name].dims}"
                )
        for dim in self._roles.space:
            if dim not in dataset.variables or not np.array_equal(dataset[dim].values, first[dim].values):
                raise SourceError(f"{path.name}: the nodes of {dim} differ from those of {self.paths[0].name}")

    def _read_times(self, dataset: xarray.Dataset, path: Path) -> Float64[np.ndarray, " time"]:
        if self._roles.time is None:
            return np.zeros(1)
        if self._roles.time not in dataset.variables:
            raise SourceError(f"{path.name}: the times of dimension {self._roles.time!r} are not told")
        return read_increasing(dataset[self._roles.time].values, where=f"{path.name}: {self._roles.time}")

    def _find_notes(self, dataset: xarray.Dataset) -> tuple[str, ...]:
        notes = [f"{dim} falls in the files and is read backwards" for dim in self._falling]
        left = [str(name) for name in dataset.data_vars if name not in (*self._variables, *self._parameters)]
        if left:
            notes.append(f"variables that were not converted: {', '.join(left)}")
        return tuple(notes)


def _find_roles(dataset: xarray.Dataset, options: XarrayOptions, path: Path) -> _Roles:
    """Find out what every dimension of the variables means."""
    dims = tuple(str(dim) for dim in dataset.dims)
    named = [options.time, options.trajectory, *(options.space or ()), *options.periodic]
    for dim in (dim for dim in named if dim is not None):
        if dim not in dims:
            raise SourceError(f"{path.name} has no dimension {dim!r}. {suggest(dim, dims)}")
    meanings = {dim: _meaning_of(dataset, dim) for dim in dims}
    times = [dim for dim in dims if meanings[dim] == "time" and dim not in (options.space or ())]
    time = options.time or (times[0] if len(times) == 1 else None)
    if options.time is None and len(times) > 1:
        raise SourceError(f"{path.name}: time may be any of {', '.join(times)}; say which: --option time={times[0]}")
    told = options.space or tuple(dim for dim in dims if meanings[dim] in _SPACE)
    stored = [dim for dim in dims if dim in told and dim not in (time, options.trajectory)]
    space = tuple(sorted(stored, key=lambda dim: _SPACE.index(meanings[dim] or "space")))
    _refuse_unknown_dims(dataset, options, path, known={time, options.trajectory, *space})
    if not 1 <= len(space) <= 3:
        raise SourceError(
            f"{path.name}: dimensions {', '.join(dims)} with {len(space)} of space; name one to three of them, as in "
            f"--option 'space=[lat, lon]'"
        )
    return _Roles(time=time, space=space, trajectory=options.trajectory)


def _refuse_unknown_dims(
    dataset: xarray.Dataset, options: XarrayOptions, path: Path, *, known: set[str | None]
) -> None:
    bounds = _bounds_of(dataset)
    chosen = options.variables or tuple(str(name) for name in dataset.data_vars if name not in bounds)
    for name in chosen:
        if name not in dataset.variables:
            names = [str(variable) for variable in dataset.data_vars]
            raise SourceError(f"{path.name} has no variable {name!r}. {suggest(name, names)}")
        unknown = [str(dim) for dim in dataset[name].dims if dim not in known]
        if unknown:
            raise SourceError(
                f"{path.name}: what dimension {unknown[0]!r} of variable {name!r} means is not told. Say so with "
                f"--option trajectory={unknown[0]}, or time=, or 'space=[...]' with all dimensions of space, or choose "
                f"other variables with --option 'variables=[...]'"
            )


def _meaning_of(dataset: xarray.Dataset, dim: str) -> str | None:
    """Return `time`, `x`, `y`, `z` or `space` where the coordinate variable of a dimension tells."""
    if dim not in dataset.variables:
        return None
    variable = dataset[dim]
    axis, units = (_text(variable, "axis") or "").upper(), (_text(variable, "units") or "").lower()
    standard_name = (_text(variable, "standard_name") or "").lower()
    if axis == "T" or " since " in units or standard_name == "time":
        return "time"
    if axis in ("X", "Y", "Z"):
        return axis.lower()
    if units in _EAST or units in _NORTH:
        return "x" if units in _EAST else "y"
    return _STANDARD_NAMES.get(standard_name, "z" if _text(variable, "positive") else None)


def _find_variables(dataset: xarray.Dataset, roles: _Roles, options: XarrayOptions, path: Path) -> tuple[str, ...]:
    """Return the variables that become fields."""
    needed, bounds = set(roles.space), _bounds_of(dataset)
    names = options.variables or tuple(str(name) for name in dataset.data_vars if name not in bounds)
    on_grid = tuple(name for name in names if needed <= set(dataset[name].dims))
    rest = [name for name in names if name not in on_grid and (options.variables or set(dataset[name].dims) & needed)]
    if rest:
        raise SourceError(
            f"{path.name}: variable {rest[0]!r} has dimensions {dataset[rest[0]].dims}, not all of "
            f"{', '.join(roles.space)}; choose the others with --option 'variables=[...]'"
        )
    if not on_grid:
        raise SourceError(f"{path.name} has no variable on {', '.join(roles.space)}")
    return on_grid


def _find_parameters(dataset: xarray.Dataset, roles: _Roles, fields: tuple[str, ...]) -> tuple[str, ...]:
    """Return the numbers that belong to a file or to each of its trajectories."""
    kinds = ((), (roles.trajectory,))
    names = [str(name) for name in dataset.data_vars if dataset[name].dims in kinds and name not in fields]
    return tuple(name for name in names if dataset[name].dtype.kind in "iuf")


def _bounds_of(dataset: xarray.Dataset) -> set[str]:
    """Return the variables that say where cells end (CF conventions, section 7.1)."""
    return {str(variable.attrs["bounds"]) for variable in dataset.variables.values() if "bounds" in variable.attrs}


def _goes_around(coordinate: xarray.DataArray, nodes: Float64[np.ndarray, " node"]) -> bool:
    """Tell whether a longitude has one node for every equal cell of the whole circle."""
    if (_text(coordinate, "units") or "").lower() not in _EAST or nodes.size < 2:
        return False
    spacing = (nodes[-1] - nodes[0]) / (nodes.size - 1)
    return bool(abs(nodes.size * spacing - 360) < 1e-3 * spacing)


def _is_falling(nodes: Shaped[np.ndarray, "..."]) -> bool:
    return nodes.ndim == 1 and nodes.size > 1 and nodes.dtype.kind in "iuf" and bool(nodes[0] > nodes[-1])


def _text(variable: xarray.DataArray, attribute: str) -> str | None:
    value = variable.attrs.get(attribute)
    return value.strip() or None if isinstance(value, str) else None


def _values(variable: xarray.DataArray, path: Path) -> Shaped[np.ndarray, "..."]:
    try:
        return np.asarray(variable.values)
    except (OSError, RuntimeError, IndexError) as error:
        raise SourceError(f"{path}: variable {variable.name!r} cannot be read: {error}") from error


def _import_xarray(path: Path) -> ModuleType:
    try:
        import netCDF4  # noqa: F401  what xarray reads NetCDF with
        import xarray
    except ImportError as error:
        raise UnknownFormatError(
            f'{path} is a NetCDF file, and what reads it is not installed: pip install "ups-data[netcdf]"'
        ) from error
    return xarray
