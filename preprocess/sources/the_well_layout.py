"""The layout of one file of The Well, described without reading a field; `preprocess.sources.the_well` tells of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64

from preprocess.sources.axes import as_float, read_increasing
from preprocess.sources.base import TrajectoryInfo
from preprocess.sources.hdf5_files import get_dataset, get_group, read_attribute, read_part, read_text
from preprocess.sources.naming import check_name, name_field
from ups_data.errors import SourceError, suggest
from ups_data.schema import AxisKind, BoundarySpec, FieldSpec

if TYPE_CHECKING:
    import h5py

SPLITS = ("train", "valid", "test")
FIELD_GROUPS = ("t0_fields", "t1_fields", "t2_fields")
_TENSOR_DIMS = ("row", "column")
_CURVED_GRIDS = ("equiangular", "spherical")
_ANGLES: dict[str, tuple[AxisKind, float, float]] = {
    "theta": ("colatitude", 0.0, np.pi),
    "colatitude": ("colatitude", 0.0, np.pi),
    "lat": ("latitude", -np.pi / 2, np.pi / 2),
    "latitude": ("latitude", -np.pi / 2, np.pi / 2),
    "phi": ("longitude", -np.pi, 2 * np.pi),
    "lon": ("longitude", -np.pi, 2 * np.pi),
    "longitude": ("longitude", -np.pi, 2 * np.pi),
}
"""Angles of a sphere by the names that axes of such grids have, and where they lie, in radians."""


@dataclass(frozen=True, kw_only=True)
class WellPart:
    """One data set that makes up one field.

    Attributes:
        dataset: full name in the file.
        dims: its stored dimensions: `trajectory`, `time`, the axes that it varies along, `row`, `column`. An axis that
            it does not vary along is absent, or stored with one entry.
        field: as the schema has it.
        dtype: as stored.
        mask: data set whose true entries the values belong to, one after another in place of the axes; None for a value
            at every node.
    """

    dataset: str
    dims: tuple[str, ...]
    field: FieldSpec
    dtype: np.dtype[Any]
    mask: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class WellPlace:
    """Where a trajectory lies: file, row, and nodes of its own."""

    path: Path
    row: int
    info: TrajectoryInfo
    nodes: tuple[Float64[np.ndarray, " _"], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class WellLayout:
    """What one file holds; the parts make up the channels, in order."""

    name: str
    axes: tuple[str, ...]
    kinds: tuple[AxisKind, ...]
    periodic: tuple[bool, ...]
    parts: tuple[WellPart, ...]
    boundaries: tuple[BoundarySpec, ...]
    places: tuple[WellPlace, ...]
    notes: tuple[str, ...]


def describe_well(file: h5py.File, path: Path) -> WellLayout:
    """Describe a file of The Well.

    Raises:
        SourceError: whatever contradicts the layout; names file and item.
    """
    return _WellFile(file, path).describe()


class _WellFile:
    """One open file while it is described."""

    def __init__(self, file: h5py.File, path: Path) -> None:
        self._file, self._path = file, path
        self._notes: list[str] = []
        self._dimensions = get_group(file, "dimensions", path=path)
        self._axes = self._read_axis_names()
        self._count = self._read_count("n_trajectories")
        self._nodes = tuple(self._read_nodes(axis) for axis in self._axes)
        self._kinds = self._read_kinds()
        self._times = self._read_row("time")
        self._sizes = dict(zip(self._axes, (nodes.shape[-1] for nodes in self._nodes), strict=True))
        self._sizes |= {"time": self._times.shape[-1], "trajectory": self._count}

    def describe(self) -> WellLayout:
        """Put together what the file holds."""
        parts = [part for order, group in enumerate(FIELD_GROUPS) for part in self._describe_fields(group, order)]
        scalars = self._read_list("scalars", "field_names") if "scalars" in self._file else ()
        parts.extend(self._describe_scalar(name) for name in scalars if self._is_time_varying(name))
        boundaries, more = self._describe_boundaries(tuple(part.field.name for part in parts))
        parts.extend(more)
        if not parts:
            raise SourceError(f"{self._path.name}: none of {', '.join(FIELD_GROUPS)} names a field in field_names")
        names = [part.field.name for part in parts]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise SourceError(f"{self._path.name}: two data sets are named {twice!r}; fields must have distinct names")
        periodic = {axis for found in boundaries if found.kind == "periodic" for axis in found.axes}
        return WellLayout(
            name=read_text(self._attribute(self._file, "dataset_name"), where=f"{self._path.name}: dataset_name"),
            axes=self._axes,
            kinds=self._kinds,
            periodic=tuple(axis in periodic for axis in self._axes),
            parts=tuple(parts),
            boundaries=boundaries,
            places=tuple(self._describe_places(scalars)),
            notes=tuple(self._notes),
        )

    def _attribute(self, item: h5py.HLObject, name: str) -> Any:
        return read_attribute(item, name, path=self._path)

    def _flag(self, item: h5py.HLObject, name: str, *, default: bool | None = None) -> bool:
        if default is not None and name not in item.attrs:
            return default
        value = np.asarray(self._attribute(item, name))
        if value.size != 1 or value.dtype.kind not in "biu":
            raise SourceError(f"{self._where(item)}: attribute {name} is {value!r:.80}; true or false is wanted")
        return bool(value.reshape(()))

    def _where(self, item: h5py.HLObject) -> str:
        return f"{self._path.name}: {str(item.name).lstrip('/') or 'the file'}"

    def _read_kinds(self) -> tuple[AxisKind, ...]:
        """Tell lengths from angles on a sphere, in radians."""
        where = f"{self._path.name}: attribute grid_type"
        kind = read_text(self._attribute(self._file, "grid_type"), where=where)
        if kind.lower() == "cartesian":
            return tuple("linear" for _ in self._axes)
        if kind.lower() not in _CURVED_GRIDS or any(axis not in _ANGLES for axis in self._axes):
            raise SourceError(
                f"{where} is {kind!r} with the axes {', '.join(self._axes)}; only 'cartesian' grids and spheres with "
                f"the axes theta and phi are read: on other grids equal spacings of the axes are no equal lengths, so "
                f"means and gradients would be wrong. Interpolate to a Cartesian grid first"
            )
        for axis, nodes in zip(self._axes, self._nodes, strict=True):
            angle, lower, upper = _ANGLES[axis]
            if nodes.min() < lower - 1e-5 or nodes.max() > upper + 1e-5:
                raise SourceError(
                    f"{self._path.name}: dimensions/{axis} runs from {nodes.min():g} to {nodes.max():g}; as a {angle} "
                    f"in radians it lies between {lower:g} and {upper:g}"
                )
        named = ", ".join(f"{axis} is the {_ANGLES[axis][0]}" for axis in self._axes)
        self._notes.append(f"the grid lies on a sphere: {named}, in radians")
        return tuple(_ANGLES[axis][0] for axis in self._axes)

    def _read_axis_names(self) -> tuple[str, ...]:
        where = f"{self._path.name}: dimensions: attribute spatial_dims"
        names = _as_names(self._attribute(self._dimensions, "spatial_dims"), where=where)
        wanted = self._read_count("n_spatial_dims")
        if len(names) != wanted or not 1 <= wanted <= 3 or len(set(names)) != len(names):
            raise SourceError(
                f"{where} names {', '.join(names) or 'none'}, n_spatial_dims is {wanted}; as many distinct names, one "
                f"to three, are wanted"
            )
        return tuple(check_name(name, where=where) for name in names)

    def _read_count(self, name: str) -> int:
        where = f"{self._path.name}: attribute {name}"
        value = as_float(self._attribute(self._file, name), where=where)
        if value < 1 or value != int(value):
            raise SourceError(f"{where} is {value:g}; a whole number of at least 1 is wanted")
        return int(value)

    def _read_nodes(self, axis: str) -> Float64[np.ndarray, "..."]:
        dataset = get_dataset(self._dimensions, axis, path=self._path)
        if self._flag(dataset, "time_varying", default=False):
            raise SourceError(f"{self._where(dataset)} is time_varying; grids that move in time are not read")
        return self._read_row(axis)

    def _read_row(self, name: str) -> Float64[np.ndarray, "..."]:
        """Read increasing numbers, (N,) for all trajectories or (B, N)."""
        dataset = get_dataset(self._dimensions, name, path=self._path)
        where = self._where(dataset)
        varying = self._flag(dataset, "sample_varying", default=False)
        values = read_part(dataset, (), where=where)
        if values.ndim != 1 + varying or (varying and len(values) != self._count):
            wanted = f"({self._count}, N)" if varying else "(N,)"
            raise SourceError(f"{where} has shape {values.shape} and sample_varying {varying}; {wanted} is wanted")
        if not varying:
            return read_increasing(values, where=where)
        return np.stack([read_increasing(row, where=f"{where}[{i}]") for i, row in enumerate(values)])

    def _read_list(self, group: str, name: str) -> tuple[str, ...]:
        found = get_group(self._file, group, path=self._path)
        return _as_names(self._attribute(found, name), where=f"{self._where(found)}: attribute {name}")

    def _describe_fields(self, group: str, order: int) -> Iterator[WellPart]:
        if group not in self._file:
            return
        names = self._read_list(group, "field_names")
        left_out = sorted(set(self._file[group]) - set(names))
        if left_out:
            self._notes.append(f"{group} holds {', '.join(left_out)}, which its field_names does not name: left out")
        for name in names:
            yield self._describe_field(get_dataset(self._file[group], name, path=self._path), name, order)

    def _describe_field(self, dataset: h5py.Dataset, name: str, order: int) -> WellPart:
        where = self._where(dataset)
        leading = self._leading_dims(dataset)
        along = np.asarray(self._attribute(dataset, "dim_varying"))
        if along.shape != (len(self._axes),) or along.dtype.kind not in "biu":
            raise SourceError(
                f"{where}: attribute dim_varying is {along!r:.80}; one true or false for each of "
                f"{', '.join(self._axes)} is wanted"
            )
        varying = tuple(axis for axis, flag in zip(self._axes, along, strict=True) if flag)
        # An axis that a field does not vary along is left out of the file, or has one entry.
        space = varying if dataset.ndim == len(leading) + len(varying) + order else self._axes
        dims = (*leading, *space, *_TENSOR_DIMS[:order])
        self._check_shape(dataset, dims, varying)
        components = self._name_components(dataset.shape[len(dims) - order :])
        return WellPart(
            dataset=str(dataset.name).lstrip("/"),
            dims=dims,
            field=name_field(name, components, where=where),
            dtype=dataset.dtype,
        )

    def _leading_dims(self, dataset: h5py.Dataset) -> tuple[str, ...]:
        flags = {"trajectory": "sample_varying", "time": "time_varying"}
        return tuple(dim for dim, name in flags.items() if self._flag(dataset, name))

    def _check_shape(self, dataset: h5py.Dataset, dims: tuple[str, ...], varying: tuple[str, ...]) -> None:
        known = {**self._sizes, **{axis: 1 for axis in self._axes if axis not in varying}}
        wanted = tuple(known.get(dim) for dim in dims)
        fits = len(wanted) == dataset.ndim and all(
            size in {None, found} for size, found in zip(wanted, dataset.shape, strict=True)
        )
        if not fits:
            text = ", ".join(f"{dim} {known.get(dim, '')}".rstrip() for dim in dims) or "one number"
            raise SourceError(f"{self._where(dataset)} has shape {dataset.shape}; ({text}) is wanted")

    def _name_components(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        """Name the components of a vector by the axes, those of a tensor by pairs of them, row first."""
        if not shape:
            return ("",)
        parts = [self._axes if size == len(self._axes) else tuple(map(str, range(size))) for size in shape]
        if len(parts) == 1:
            return parts[0]
        joint = "" if all(len(part) == 1 for names in parts for part in names) else "_"
        return tuple(f"{row}{joint}{column}" for row in parts[0] for column in parts[1])

    def _is_time_varying(self, name: str) -> bool:
        return self._flag(get_dataset(self._file["scalars"], name, path=self._path), "time_varying")

    def _describe_scalar(self, name: str) -> WellPart:
        """Describe a scalar that changes in time: a field that is the same at all points."""
        dataset = get_dataset(self._file["scalars"], name, path=self._path)
        dims = self._leading_dims(dataset)
        self._check_shape(dataset, dims, ())
        self._notes.append(f"field {name} is the scalar of that name, which changes in time: the same at all points")
        return WellPart(
            dataset=f"scalars/{name}",
            dims=dims,
            field=name_field(name, where=self._where(dataset)),
            dtype=dataset.dtype,
        )

    def _describe_boundaries(self, fields: tuple[str, ...]) -> tuple[tuple[BoundarySpec, ...], list[WellPart]]:
        boundaries: list[BoundarySpec] = []
        parts: list[WellPart] = []
        if "boundary_conditions" not in self._file:
            return (), []
        parent = get_group(self._file, "boundary_conditions", path=self._path)
        for name in parent:
            group = get_group(parent, name, path=self._path)
            boundaries.append(self._describe_boundary(group, name, fields))
            parts.extend(self._describe_mask(group, boundaries[-1]))
            parts.extend(self._describe_values(group, boundaries[-1]))
        return tuple(boundaries), parts

    def _describe_boundary(self, group: h5py.Group, name: str, fields: tuple[str, ...]) -> BoundarySpec:
        where = self._where(group)
        axes = _as_names(self._attribute(group, "associated_dims"), where=f"{where}: attribute associated_dims")
        held = _as_names(self._attribute(group, "associated_fields"), where=f"{where}: attribute associated_fields")
        for kind, found, known in (("dims", axes, self._axes), ("fields", held, fields)):
            for other in found:
                if other not in known:
                    raise SourceError(f"{where}: attribute associated_{kind} names {other!r}. {suggest(other, known)}")
        if not axes:
            raise SourceError(f"{where}: attribute associated_dims names no axis")
        kind = read_text(self._attribute(group, "bc_type"), where=f"{where}: attribute bc_type").lower()
        return BoundarySpec(
            name=check_name(name, where=where),
            kind=check_name(kind, where=f"{where}: attribute bc_type"),
            axes=tuple(dict.fromkeys(axes)),
            sides=self._read_sides(group, axes),
            fields=tuple(dict.fromkeys(held)),
        )

    def _read_sides(self, group: h5py.Group, axes: tuple[str, ...]) -> tuple[Any, ...]:
        """Tell the ends from a mask along one axis; any other mask becomes a field."""
        if "mask" not in group or len(axes) > 1:
            return ()
        mask = get_dataset(group, "mask", path=self._path)
        dims = self._mask_dims(group, mask, axes)
        if dims != axes:
            return ()
        values = read_part(mask, (), where=self._where(mask))
        return tuple(side for side, end in (("lower", values[0]), ("upper", values[-1])) if end)

    def _mask_dims(self, group: h5py.Group, mask: h5py.Dataset, axes: tuple[str, ...]) -> tuple[str, ...]:
        """Return the dimensions of a mask: those that the boundary varies along may be left out."""
        leading = self._leading_dims(mask if "time_varying" in mask.attrs else group)
        leading = () if mask.ndim == len(axes) else leading
        self._check_shape(mask, (*leading, *axes), axes)
        return (*leading, *axes)

    def _describe_mask(self, group: h5py.Group, boundary: BoundarySpec) -> Iterator[WellPart]:
        """Keep where a boundary lies that is not the end of an axis: a field that is 1 on it."""
        if "mask" not in group:
            return
        mask = get_dataset(group, "mask", path=self._path)
        dims = self._mask_dims(group, mask, boundary.axes)
        if len(dims) == 1 and not read_part(mask, (slice(1, -1),), where=self._where(mask)).any():
            return
        name = f"{boundary.name}_mask"
        self._notes.append(f"field {name} is the mask of boundary {boundary.name}, 1 where the boundary is")
        yield WellPart(
            dataset=str(mask.name).lstrip("/"),
            dims=dims,
            field=name_field(name, where=self._where(mask)),
            dtype=mask.dtype,
        )

    def _describe_values(self, group: h5py.Group, boundary: BoundarySpec) -> Iterator[WellPart]:
        """Keep what a boundary prescribes: a field with these values where the boundary is, and 0 elsewhere."""
        if "values" not in group:
            return
        values = get_dataset(group, "values", path=self._path)
        mask = get_dataset(group, "mask", path=self._path)
        where = self._where(values)
        if self._mask_dims(group, mask, boundary.axes) != boundary.axes:
            raise SourceError(f"{where} belongs to a mask that varies; values on a boundary that moves are not read")
        count = int(np.count_nonzero(read_part(mask, (), where=self._where(mask))))
        leading = () if values.ndim == 1 else self._leading_dims(values if "time_varying" in values.attrs else group)
        wanted = (*(self._sizes[dim] for dim in leading), count)
        if values.shape != wanted:
            raise SourceError(
                f"{where} has shape {values.shape}; {wanted} is wanted: one value for each true of the mask"
            )
        name = f"{boundary.name}_values"
        self._notes.append(
            f"field {name} has the values of boundary {boundary.name} where the boundary is, and 0 elsewhere"
        )
        yield WellPart(
            dataset=str(values.name).lstrip("/"),
            dims=(*leading, *boundary.axes),
            field=name_field(name, where=where),
            dtype=values.dtype,
            mask=str(mask.name).lstrip("/"),
        )

    def _describe_places(self, scalars: tuple[str, ...]) -> Iterator[WellPlace]:
        parameters = self._read_parameters(scalars)
        split = self._path.parent.name if self._path.parent.name in SPLITS else None
        shape = tuple(self._sizes[axis] for axis in self._axes)
        for row in range(self._count):
            info = TrajectoryInfo(
                item=f"{self._path.name}: trajectory {row}",
                shape=shape,
                times=self._times[row] if self._times.ndim == 2 else self._times,
                parameters={name: values[row % len(values)] for name, values in parameters.items()},
                split=split,
            )
            nodes = tuple(values[row] if values.ndim == 2 else values for values in self._nodes)
            yield WellPlace(path=self._path, row=row, info=info, nodes=nodes)

    def _read_parameters(self, scalars: tuple[str, ...]) -> dict[str, Sequence[float]]:
        """Return one value for all trajectories, or one for each, of all scalars that do not change in time."""
        where = f"{self._path.name}: attribute simulation_parameters"
        named = _as_names(self._attribute(self._file, "simulation_parameters"), where=where)
        found: dict[str, Sequence[float]] = {}
        for name in named:
            if name in self._file.attrs:
                found[name] = [as_float(self._file.attrs[name], where=f"{self._path.name}: attribute {name}")]
            elif name not in scalars:
                raise SourceError(f"{where} names {name!r}, which is neither an attribute of the file nor a scalar")
        for name in scalars:
            if not self._is_time_varying(name):
                values = self._read_scalar(name)
                if name in found and len(values) == 1 and not np.isclose(values[0], found[name][0], rtol=1e-6):
                    raise SourceError(
                        f"{self._path.name}: scalars/{name} is {values[0]:g}, attribute {name} is {found[name][0]:g}; "
                        f"they must agree"
                    )
                found[name] = values
        for name in found:
            check_name(name, where=f"{self._path.name}: parameter")
        return found

    def _read_scalar(self, name: str) -> Sequence[float]:
        dataset = get_dataset(self._file["scalars"], name, path=self._path)
        where = self._where(dataset)
        wanted = ((self._count,),) if self._flag(dataset, "sample_varying") else ((), (1,))
        if dataset.shape not in wanted:
            raise SourceError(f"{where} has shape {dataset.shape}; {wanted[0]} is wanted")
        return [as_float(value, where=where) for value in read_part(dataset, (), where=where).reshape(-1)]


def _as_names(value: Any, *, where: str) -> tuple[str, ...]:
    """Return an attribute of names: an array of text, one text, or an empty array of any type."""
    array = np.asarray(value)
    if array.size == 0:
        return ()
    if array.ndim > 1:
        raise SourceError(f"{where} has shape {array.shape}; a list of names is wanted")
    return tuple(read_text(item, where=where) for item in array.reshape(-1).tolist())
