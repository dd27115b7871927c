"""What the dimensions of an xarray data set mean: told by their coordinate variables, or by options; never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pydantic
from jaxtyping import Shaped

from ups_data.errors import SourceError, suggest
from ups_data.schema import AxisKind, Record

if TYPE_CHECKING:
    import xarray

_EAST = ("degrees_east", "degree_east", "degrees_e", "degree_e", "degreese", "degreee")
_NORTH = ("degrees_north", "degree_north", "degrees_n", "degree_n", "degreesn", "degreen")
_PRESSURE = ("pa", "hpa", "mb", "mbar", "millibar", "millibars", "bar", "dbar", "decibar", "kpa")
_NAMES: dict[str, AxisKind] = {
    "lon": "longitude",
    "long": "longitude",
    "longitude": "longitude",
    "lat": "latitude",
    "latitude": "latitude",
}
"""What says enough by itself, where a coordinate variable has no unit and its numbers are degrees."""
_STANDARD_KINDS: dict[str, AxisKind] = {
    "longitude": "longitude",
    "grid_longitude": "longitude",
    "latitude": "latitude",
    "grid_latitude": "latitude",
}
_STANDARD_NAMES = {
    "projection_x_coordinate": "x",
    "projection_y_coordinate": "y",
    "height": "z",
    "depth": "z",
    "air_pressure": "z",
}
_SPACE = ("x", "y", "z", "space")
_BY_KIND = {"longitude": "x", "latitude": "y"}


class XarrayOptions(Record):
    """What may be told of a data set.

    Attributes:
        time: the dimension of time.
        space: the dimensions of space, in any order.
        trajectory: the dimension, or dimensions, along which independent simulations lie: members of an ensemble,
            starts of forecasts.
        component: a dimension whose entries become components of the fields that have it: pressure levels, for example.
        variables: the variables that become fields; by default all that lie on the dimensions of space.
        missing: variables whose NaN, and whose values out of their valid range, are missing values, though they do not
            declare it.
        periodic: dimensions of space that wrap around, with one node a cell.
        frames_per_trajectory: cut the time series into trajectories of so many frames (the last may be shorter), each
            with a split and an importance map of its own.
        grib_keys: which messages of GRIB files are meant, by their keys: `{typeOfLevel: surface}`.
    """

    time: str | None = None
    space: tuple[str, ...] | None = None
    trajectory: str | tuple[str, ...] | None = None
    component: str | None = None
    variables: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()
    periodic: tuple[str, ...] = ()
    frames_per_trajectory: Annotated[int, pydantic.Field(ge=1)] | None = None
    grib_keys: dict[str, str | int] = pydantic.Field(default_factory=dict)

    @property
    def trajectories(self) -> tuple[str, ...]:
        """The dimensions of independent simulations."""
        return (self.trajectory,) if isinstance(self.trajectory, str) else self.trajectory or ()


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Which dimension is which; `space` in the order of the axes, `single` those of one entry, which are left out."""

    time: str | None
    space: tuple[str, ...]
    trajectory: tuple[str, ...]
    component: str | None
    single: tuple[str, ...]


def find_roles(dataset: xarray.Dataset, options: XarrayOptions, path: Path) -> Roles:
    """Find out what every dimension of the variables means.

    Raises:
        SourceError: a dimension that neither its coordinate variable nor an option explains, or none, or more than
            three of space; names the candidates and how to say what is meant.
    """
    dims = tuple(str(dim) for dim in dataset.dims)
    singles = [dim for dim in (options.time, options.component) if dim is not None]
    named = {*singles, *options.trajectories, *(options.space or ()), *options.periodic}
    for dim in (*singles, *options.trajectories, *(options.space or ()), *options.periodic):
        if dim not in dims:
            raise SourceError(f"{path.name} has no dimension {dim!r}. {suggest(dim, dims)}")
    meanings = {dim: _meaning_of(dataset, dim) for dim in dims}
    trajectory = options.trajectories or tuple(
        dim for dim in dims if meanings[dim] == "trajectory" and dim not in named and dataset.sizes[dim] > 1
    )
    time = options.time or _find_time(meanings, {*trajectory, *named}, path)
    taken = {time, options.component, *trajectory}
    single = tuple(
        dim
        for dim in dims
        if dataset.sizes[dim] == 1 and dim not in named | taken and meanings[dim] not in ("time", "x", "y", "space")
    )
    told = options.space or tuple(dim for dim in dims if meanings[dim] in _SPACE and dim not in single)
    stored = [dim for dim in dims if dim in told and dim not in taken]
    space = tuple(sorted(stored, key=lambda dim: _SPACE.index(_space_of(meanings[dim]))))
    roles = Roles(time=time, space=space, trajectory=trajectory, component=options.component, single=single)
    _refuse_unknown_dims(dataset, options, path, known={*taken, *space, *single})
    if not 1 <= len(space) <= 3:
        raise SourceError(
            f"{path.name}: dimensions {', '.join(dims)} with {len(space)} of space; name one to three of them, as in "
            f"--option 'space=[lat, lon]'"
        )
    return roles


def kind_of(dataset: xarray.Dataset, dim: str) -> AxisKind:
    """Tell whether a coordinate is an angle on a sphere, by its unit, its standard name, or its name and numbers."""
    if dim not in dataset.variables:
        return "linear"
    variable = dataset[dim]
    unit = (text_of(variable, "units") or "").lower()
    if unit in _EAST or unit in _NORTH:
        return "longitude" if unit in _EAST else "latitude"
    standard = _STANDARD_KINDS.get((text_of(variable, "standard_name") or "").lower())
    if standard is not None and (unit.startswith(("deg", "rad")) or not unit):
        return standard
    named = _NAMES.get(dim.lower())
    if named is None or (unit and not unit.startswith(("deg", "rad"))) or variable.dtype.kind not in "iuf":
        return "linear"
    largest = float(np.abs(variable.values).max(initial=0.0))
    return named if unit or largest <= (360.0 if named == "longitude" else 90.0) else "linear"


def text_of(variable: xarray.DataArray, attribute: str) -> str | None:
    """Return an attribute that is text, None where there is none."""
    value = variable.attrs.get(attribute)
    return value.strip() or None if isinstance(value, str) else None


def is_falling(nodes: Shaped[np.ndarray, "..."]) -> bool:
    """Tell whether coordinates run backwards."""
    return nodes.ndim == 1 and nodes.size > 1 and nodes.dtype.kind in "iuf" and bool(nodes[0] > nodes[-1])


def bounds_of(dataset: xarray.Dataset) -> set[str]:
    """Return the variables that say where cells end (CF conventions, section 7.1)."""
    return {str(variable.attrs["bounds"]) for variable in dataset.variables.values() if "bounds" in variable.attrs}


def find_variables(dataset: xarray.Dataset, roles: Roles, options: XarrayOptions, path: Path) -> tuple[str, ...]:
    """Return the variables that become fields.

    Raises:
        SourceError: one that lies on some of the dimensions of space only, or none at all.
    """
    needed, bounds = set(roles.space), bounds_of(dataset)
    names = options.variables or tuple(str(name) for name in dataset.data_vars if name not in bounds)
    on_grid = tuple(name for name in names if needed <= set(dataset[name].dims))
    rest = [name for name in names if name not in on_grid and (options.variables or set(dataset[name].dims) & needed)]
    if rest and on_grid:
        raise SourceError(
            f"{path.name}: variable {rest[0]!r} has dimensions {dataset[rest[0]].dims}, not all of "
            f"{', '.join(roles.space)}; choose the others with --option 'variables=[{', '.join(on_grid)}]', or take a "
            f"dimension that some lack as components, as in --option component={_lacking(dataset, rest[0], roles)}"
        )
    if not on_grid:
        raise SourceError(f"{path.name} has no variable on {', '.join(roles.space)}")
    for name in options.missing:
        if name not in on_grid:
            raise SourceError(f"{path.name}: option missing names {name!r}. {suggest(name, on_grid)}")
    return on_grid


def _lacking(dataset: xarray.Dataset, name: str, roles: Roles) -> str:
    return next(dim for dim in roles.space if dim not in dataset[name].dims)


def _find_time(meanings: dict[str, str | None], taken: set[str], path: Path) -> str | None:
    times = [dim for dim in meanings if meanings[dim] == "time" and dim not in taken]
    if len(times) > 1:
        raise SourceError(
            f"{path.name}: time may be any of {', '.join(times)}; say which: --option time={times[0]}. If another one "
            f"counts independent forecasts: --option trajectory={times[1]}"
        )
    return times[0] if times else None


def _refuse_unknown_dims(
    dataset: xarray.Dataset, options: XarrayOptions, path: Path, *, known: set[str | None]
) -> None:
    bounds = bounds_of(dataset)
    chosen = options.variables or tuple(str(name) for name in dataset.data_vars if name not in bounds)
    for name in chosen:
        if name not in dataset.variables:
            names = [str(variable) for variable in dataset.data_vars]
            raise SourceError(f"{path.name} has no variable {name!r}. {suggest(name, names)}")
        unknown = [str(dim) for dim in dataset[name].dims if dim not in known]
        if unknown:
            raise SourceError(
                f"{path.name}: what dimension {unknown[0]!r} of variable {name!r} means is not told. Say so with "
                f"--option trajectory={unknown[0]}, or component=, or time=, or 'space=[...]' with all dimensions of "
                f"space, or choose other variables with --option 'variables=[...]'"
            )


def _meaning_of(dataset: xarray.Dataset, dim: str) -> str | None:
    """Return `time`, `trajectory`, `x`, `y`, `z` or `space` where the coordinate variable of a dimension tells."""
    if dim not in dataset.variables:
        return None
    variable = dataset[dim]
    axis, units = (text_of(variable, "axis") or "").upper(), (text_of(variable, "units") or "").lower()
    standard_name = (text_of(variable, "standard_name") or "").lower()
    if axis == "T" or " since " in units or standard_name in ("time", "forecast_period"):
        return "time"
    if axis == "E" or standard_name == "realization":
        return "trajectory"
    if axis in ("X", "Y", "Z"):
        return axis.lower()
    kind = kind_of(dataset, dim)
    if kind != "linear":
        return _BY_KIND[kind]
    is_vertical = text_of(variable, "positive") or units in _PRESSURE
    return _STANDARD_NAMES.get(standard_name, "z" if is_vertical else None)


def _space_of(meaning: str | None) -> str:
    return meaning if meaning in _SPACE else "space"
