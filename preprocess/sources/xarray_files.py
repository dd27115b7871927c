"""NetCDF, Zarr and GRIB through xarray: weather, ocean, whatever follows the CF conventions or a few options describe.

What a dimension means is told by its coordinate variable (`axis`, `units`, `standard_name`) or by an option; where
neither tells, the file is refused with what to state. Axes come out as x (longitude), y (latitude), z where the file
tells which they are, else in the order of its dimensions. A coordinate that falls (latitudes from north to south) is
read backwards, so that nodes increase. A longitude whose nodes go once around the globe is periodic. A dimension of one
entry that is none of these is left out, with a note.

Times are kept as the file counts them, with its own unit ("hours since 1979-01-01"): calendars are not interpreted.
Packed values are unpacked. Missing values that a variable declares (see `preprocess.sources.xarray_opening`) are kept
as missing, and so are those of the variables that the option `missing` names; any other NaN is refused with its place.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from jaxtyping import Bool, Float64, Shaped

from preprocess.sources.axes import as_float, goes_around, grid_axis, read_increasing
from preprocess.sources.base import Source, TrajectoryInfo
from preprocess.sources.dimensions import arrange
from preprocess.sources.exact import exact_cast, stored_dtype
from preprocess.sources.hdf5_files import has_hdf5_magic, open_hdf5
from preprocess.sources.naming import check_name, name_field, storable_name
from preprocess.sources.xarray_opening import (
    GRIB_MAGIC,
    NETCDF3_MAGIC,
    declares_missing,
    never_written,
    open_with_xarray,
    valid_range,
)
from preprocess.sources.xarray_roles import (
    XarrayOptions,
    bounds_of,
    find_roles,
    find_variables,
    is_falling,
    kind_of,
    text_of,
)
from preprocess.sources.zarr_files import has_named_dimensions, is_zarr, note_absent_chunks
from ups_data.errors import SourceError
from ups_data.schema import AxisSpec, FieldSpec, GeometryKind
from ups_data.yaml_records import parse_record

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """Where a trajectory lies: number of the file, place along each of its trajectory dimensions, first frame."""

    file: int
    rows: tuple[int, ...]
    first: int


class XarraySource(Source):
    """Grids in one or several files; several files hold independent trajectories of the same fields."""

    format: ClassVar[str] = "xarray"
    summary: ClassVar[str] = "NetCDF, Zarr or GRIB through xarray (CF conventions, or options that name dimensions)"
    is_general: ClassVar[bool] = True

    def __init__(self, paths: Sequence[Path], options: XarrayOptions) -> None:
        self.paths, self._options = tuple(paths), options
        self.name = self.paths[0].stem
        self.kind: GeometryKind = "grid"
        self._opened: dict[int, xarray.Dataset] = {}
        first = self._dataset(0)
        self._options = options = self._settle_options(options, first)
        self._roles = find_roles(first, options, self.paths[0])
        self._variables = find_variables(first, self._roles, options, self.paths[0])
        self.fields = tuple(self._describe_field(first, name) for name in self._variables)
        for name in self._variables:
            stored_dtype([first[name].dtype], where=f"{self.paths[0].name}: variable {name!r}")
        self.dtype = stored_dtype((first[name].dtype for name in self._variables), where=self.paths[0].name)
        self._parameters = self._find_parameters(first)
        self.parameter_units = {
            name: unit for name in self._parameters if (unit := text_of(first[name], "units")) is not None
        }
        # Known once: a coordinate is read from the file every time that it is looked at.
        self._falling = tuple(dim for dim in self._roles.space if is_falling(first[dim].values))
        self._nodes = tuple(self._read_nodes(first, dim) for dim in self._roles.space)
        self.axes = tuple(
            self._describe_axis(first, dim, nodes) for dim, nodes in zip(self._roles.space, self._nodes, strict=True)
        )
        self.time_unit = None if self._roles.time is None else text_of(first[self._roles.time], "units")
        self._pieces, self.trajectories = self._find_trajectories()
        self.missing_fields = self._find_missing()
        self.notes = self._find_notes(first)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell by the first bytes, HDF5 files by what the NetCDF library leaves in them, Zarr by named dimensions."""
        try:
            if path.is_dir():
                return has_named_dimensions(path)
            with path.open("rb") as file:
                head = file.read(4)
            if head in NETCDF3_MAGIC or head == GRIB_MAGIC:
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
        return cls(paths, parse_record(XarrayOptions, options, where=f"options of format {cls.format!r}"))

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read frames [start, stop) of a trajectory; see `Source.read_frames`."""
        piece, roles = self._pieces[trajectory], self._roles
        cuts: dict[str, int | slice] = dict.fromkeys(self._falling, slice(None, None, -1))
        if roles.time is not None:
            cuts[roles.time] = slice(piece.first + start, piece.first + stop)
        cuts |= dict(zip(roles.trajectory, piece.rows, strict=True)) | dict.fromkeys(roles.single, 0)
        names = {roles.time: "time", roles.component: "component"}
        parts = []
        for name in self._variables:
            variable = self._dataset(piece.file)[name]
            chosen = variable.isel({dim: cut for dim, cut in cuts.items() if dim in variable.dims})
            dims = tuple(names.get(str(dim), str(dim)) for dim in chosen.dims)
            values = self._check_values(_values(chosen, self.paths[piece.file]), variable, dims, trajectory, start)
            block = arrange(values, dims, space=roles.space, num_frames=stop - start)
            where = f"{self.paths[piece.file].name}: {name}"
            parts.append(exact_cast(block, self.dtype, where=where))
        return np.concatenate(parts, axis=1)

    def read_coordinates(self, trajectory: int) -> tuple[Float64[np.ndarray, "..."], ...]:  # noqa: ARG002  of the contract
        """Return the nodes of every axis; see `Source.read_coordinates`."""
        return self._nodes

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: another process opens them itself."""
        return {**self.__dict__, "_opened": {}}

    def _settle_options(
        self,
        options: XarrayOptions,
        dataset: xarray.Dataset,  # noqa: ARG002  for formats that look into it
    ) -> XarrayOptions:
        """Add what a format knows of its files."""
        return options

    def _split_of(self, path: Path) -> str | None:  # noqa: ARG002  for formats that tell
        return None

    def _dataset(self, number: int) -> xarray.Dataset:
        if number not in self._opened:
            self._opened[number] = open_with_xarray(self.paths[number], self._options.grib_keys)
        return self._opened[number]

    def _describe_field(self, dataset: xarray.Dataset, name: str) -> FieldSpec:
        where, variable = f"{self.paths[0].name}: variable {name!r}", dataset[name]
        components: tuple[str, ...] = ("",)
        level = self._roles.component
        if level is not None and level in variable.dims:
            count = dataset.sizes[level]
            entries = dataset[level].values.tolist() if level in dataset.variables else range(count)
            components = tuple(f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in entries)
        return name_field(storable_name(name), components, unit=text_of(variable, "units"), where=where)

    def _find_parameters(self, dataset: xarray.Dataset) -> tuple[str, ...]:
        """Return the numbers that belong to a file or to each of its trajectories, coordinates of these among them."""
        along = set(self._roles.trajectory)
        names = [str(name) for name in dataset.data_vars if name not in self._variables]
        names += [dim for dim in self._roles.trajectory if dim in dataset.coords]
        return tuple(
            name for name in names if set(map(str, dataset[name].dims)) <= along and dataset[name].dtype.kind in "iuf"
        )

    def _find_missing(self) -> frozenset[str]:
        """Return the fields that declare missing values, in any of the files."""
        declared = {
            name
            for number in range(len(self.paths))
            for name in self._variables
            if declares_missing(self._dataset(number)[name])
        }
        return frozenset(storable_name(name) for name in declared | set(self._options.missing))

    def _read_nodes(self, dataset: xarray.Dataset, dim: str) -> Float64[np.ndarray, " node"]:
        where = f"{self.paths[0].name}: {dim}"
        if dim not in dataset.variables:
            raise SourceError(f"{where} is a dimension of space without coordinate variable, so its nodes are not told")
        nodes = dataset[dim].values
        return read_increasing(nodes[::-1] if dim in self._falling else nodes, where=where)

    def _describe_axis(self, dataset: xarray.Dataset, dim: str, nodes: Float64[np.ndarray, " node"]) -> AxisSpec:
        where, kind = f"{self.paths[0].name}: {dim}", kind_of(dataset, dim)
        unit = text_of(dataset[dim], "units") or (None if kind == "linear" else "degrees")
        periodic = dim in self._options.periodic or (kind == "longitude" and goes_around(nodes, unit))
        return grid_axis(check_name(dim, where=where), nodes, periodic=periodic, where=where, unit=unit, kind=kind)

    def _find_trajectories(self) -> tuple[tuple[_Piece, ...], tuple[TrajectoryInfo, ...]]:
        pieces, infos = [], []
        for number, path in enumerate(self.paths):
            dataset = self._dataset(number)
            self._check_alike(dataset, path)
            times = self._read_times(dataset, path)
            parameters = {name: dataset[name].load() for name in self._parameters}
            length = self._options.frames_per_trajectory or times.size
            sizes = [range(dataset.sizes[dim]) for dim in self._roles.trajectory]
            for rows, first in itertools.product(itertools.product(*sizes), range(0, times.size, length)):
                pieces.append(_Piece(file=number, rows=rows, first=first))
                infos.append(self._describe(parameters, path, pieces[-1], times[first : first + length]))
        return tuple(pieces), tuple(infos)

    def _describe(
        self,
        parameters: Mapping[str, xarray.DataArray],
        path: Path,
        piece: _Piece,
        times: Float64[np.ndarray, " time"],
    ) -> TrajectoryInfo:
        rows = dict(zip(self._roles.trajectory, piece.rows, strict=True))
        member = "".join(f": {dim} {row}" for dim, row in rows.items())
        frames = "" if times.size == 1 else f": frames {piece.first} to {piece.first + times.size - 1}"
        values = {
            name: as_float(
                variable.isel({dim: row for dim, row in rows.items() if dim in variable.dims}).values,
                where=f"{path.name}: {name}",
            )
            for name, variable in parameters.items()
        }
        return TrajectoryInfo(
            item=f"{path.name}{member}{frames}",
            shape=tuple(nodes.size for nodes in self._nodes),
            times=times,
            parameters=values,
            split=self._split_of(path),
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
        same = [*self._roles.space, *([self._roles.component] if self._roles.component is not None else [])]
        for dim in same:
            if (dim in dataset.variables) != (dim in first.variables) or (
                dim in first.variables and not np.array_equal(dataset[dim].values, first[dim].values)
            ):
                raise SourceError(f"{path.name}: the nodes of {dim} differ from those of {self.paths[0].name}")

    def _read_times(self, dataset: xarray.Dataset, path: Path) -> Float64[np.ndarray, " time"]:
        if self._roles.time is None:
            return np.zeros(1)
        if self._roles.time not in dataset.variables:
            raise SourceError(f"{path.name}: the times of dimension {self._roles.time!r} are not told")
        return read_increasing(dataset[self._roles.time].values, where=f"{path.name}: {self._roles.time}")

    def _check_values(
        self,
        values: Shaped[np.ndarray, "..."],
        variable: xarray.DataArray,
        dims: tuple[str, ...],
        trajectory: int,
        start: int,
    ) -> Shaped[np.ndarray, "..."]:
        """Refuse what is missing without being declared, and what the file itself calls invalid."""
        name, item = str(variable.name), self.trajectories[trajectory].item
        where = f"{item}: {name} holds"
        if values.dtype.kind != "f":
            return values
        self._refuse(never_written(values, variable), dims, where, start, "was never written: the file is incomplete")
        limits = valid_range(variable)
        if limits is not None:
            outside = (values < limits[0]) | (values > limits[1])
            if name in self._options.missing:
                values = np.where(outside, values.dtype.type(np.nan), values)
            else:
                rule = f"lies outside of the valid range {limits[0]:g} to {limits[1]:g} that it states"
                self._refuse(outside, dims, where, start, f"{rule}. {_how_to_declare(name)}")
        if storable_name(name) not in self.missing_fields:
            rule = f"is missing, and nothing declares missing values of {name}. {_how_to_declare(name)}"
            self._refuse(np.isnan(values), dims, where, start, rule)
        elif "GRIB_missingValue" in variable.attrs:
            # Where no message is, cfgrib has NaN everywhere; a bitmap that hides all points is not written.
            across = tuple(dims.index(dim) for dim in self._roles.space if dim in dims[-2:])
            gone = np.isnan(values).all(axis=across, keepdims=True)
            self._refuse(np.broadcast_to(gone, values.shape), dims, where, start, "belongs to no message of the file")
        return values

    def _refuse(self, bad: Bool[np.ndarray, "..."], dims: tuple[str, ...], where: str, start: int, rule: str) -> None:
        if not bad.any():
            return
        place = dict(zip(dims, map(int, np.unravel_index(int(np.argmax(bad)), bad.shape)), strict=True))
        frame = f"frame {place.pop('time') + start}, " if "time" in place else ""
        nodes = dict(zip(self._roles.space, self._nodes, strict=True))
        rest = ", ".join(f"{dim} {nodes[dim][at] if dim in nodes else at:g}" for dim, at in place.items())
        raise SourceError(f"{where} at {frame}{rest} a value that {rule}")

    def _find_notes(self, dataset: xarray.Dataset) -> tuple[str, ...]:
        notes = [f"{dim} falls in the files and is read backwards" for dim in self._falling]
        for dim in self._roles.single:
            at = f", at {dataset[dim].values.tolist()[0]!s:.40}" if dim in dataset.variables else ""
            notes.append(f"dimension {dim} has one entry{at}, and is left out")
        renamed = [name for name in self._variables if storable_name(name) != name]
        notes.extend(f"field {storable_name(name)} is the variable {name}" for name in renamed)
        bounds = bounds_of(dataset)
        used = {*self._variables, *self._parameters}
        left = [str(name) for name in dataset.data_vars if name not in used]
        left += [str(name) for name in dataset.coords if name not in dataset.dims and name not in used | bounds]
        if left:
            notes.append(f"variables that were not converted: {', '.join(left)}")
        for path in (path for path in self.paths if is_zarr(path)):
            notes.extend(note for name in self._variables if (note := note_absent_chunks(path, name)) is not None)
        return tuple(notes)


def _how_to_declare(name: str) -> str:
    return f"If such values are missing on purpose, say so: --option 'missing=[{name}]'"


def _values(variable: xarray.DataArray, path: Path) -> Shaped[np.ndarray, "..."]:
    try:
        return np.asarray(variable.values)
    except (OSError, RuntimeError, IndexError, ValueError, EOFError) as error:
        raise SourceError(f"{path}: variable {variable.name!r} cannot be read: {error}") from error
