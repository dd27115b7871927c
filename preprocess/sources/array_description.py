"""The description of NumPy, HDF5 and Zarr arrays: strict records, read from YAML.

A description names the arrays and says what every one of their dimensions means; nothing is guessed. Files are named
relative to it: `.npy`, `.npz` with a `key`, HDF5 files and Zarr directories with the full name as `key`. An example
with all of it:

    format: arrays
    name: burgers                                       # default: name of the file
    kind: grid                                          # or points, or mesh
    dims: [trajectory, time, component, x, y]           # of every field that does not state its own
    fields:
      velocity: {file: velocity.npy, components: [x, y], unit: m/s}
      permeability: {file: data.npz, key: a, dims: [trajectory, x, y]}    # the same in every frame
      salinity: {file: salinity.npy, dims: [time, x, y], missing: -9999}  # what stands for a missing value; or nan
      ice: {file: ice.npy, dims: [time, x, y], missing: {file: land.npy, dims: [x, y]}}    # missing where that is true
    axes:                                               # in stored order, one to three
      x: {start: 0.0, stop: 1.0, periodic: true, unit: m}                 # stop is one period on, not a node
      y: {file: data.npz, key: y, extent: [0.0, 2.0]}                     # or `values: [...]`
    times: {start: 0.0, step: 0.05, unit: s}            # or `values: [...]`, or `file:` of (time,), (trajectory, time)
    parameters:
      viscosity: {value: 1e-3, unit: m2/s}              # or a number, `values: [...]`, or `file:` of (trajectory,)
    split: {train: 800, test: 200}                      # in order; or one name, or one name a trajectory
    notes: [simulated with a pseudo-spectral solver]

Of HDF5 and Zarr only the frames that are being converted are read: `{file: run.h5, key: fields/velocity}`,
`{file: run.zarr, key: velocity}`.

Marks of missing values are true or 1 where a value is missing, with `where: 0` the other way round; their dims are
those of the field, unless stated: some of them, in any order.

Angles on a sphere say so: `lon: {start: 0, stop: 360, periodic: true, unit: degrees, kind: longitude}`, or `latitude`,
or `colatitude`. Latitudes whose extent is not stated reach half a cell beyond the outer nodes, up to the poles.

Point clouds have `kind: points`, the dimension `point` instead of the axes, and
`coordinates: {file: points.npy}` of shape (point, dim) or (trajectory, point, dim), dim in the order of `axes`.
Points that move have `positions: {file: positions.npy, dims: [trajectory, time, point, component]}` instead, component
in the order of `axes`: a point then lies where it starts, and the field `position` tells where it is in every frame.

Meshes have `kind: mesh`, `coordinates` of their nodes, and the cells between them, all of one type:
`cells: {file: cells.npy, type: triangle}` of shape (cell, corner) or (trajectory, cell, corner), integers that count
the nodes from 0, or from 1 with `first: 1`. Types are line, triangle, quad, tetra, pyramid, wedge and hexahedron,
corners in VTK's order. The points are the nodes, or the centres of cells with `location: cells`: then `point` in the
dims of fields counts the cells. The measure of a centre is that of its cell, the measure of a node an equal share of
each of its cells. Cells without extent, cells that stand there twice and nodes of no cell are refused, or left out with
`drop_faulty: true`.

The surface of an STL file, which holds no field itself, is `coordinates: {file: car.stl, key: points}` and
`cells: {file: car.stl, key: triangles, type: triangle}`: facets in the order of the file, for fields on them with
`location: cells`; points in the order in which the file first has them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import pydantic

from ups_data.mesh import PointLocation
from ups_data.schema import AxisKind, Finite, Name, Positive, Record

# Behind a validator that sees the raw content, pydantic takes JSON's lists for Python's, which strict tuples refuse.
_FROM_LIST = pydantic.Field(strict=False)

CellKind = Literal["line", "triangle", "quad", "tetra", "pyramid", "wedge", "hexahedron"]

POSITION = "position"
"""The field that `positions` become."""


class ArrayEntry(Record):
    """Where an array lies: a file or directory relative to the description, and a key where it has several."""

    file: str
    key: str | None = None


class MarksEntry(ArrayEntry):
    """An array of truth values along some of a field's dimensions; `where` is the mark of a missing value."""

    dims: tuple[str, ...] | None = None
    where: Literal[0, 1] = 1


class FieldEntry(ArrayEntry):
    """A field: its array, the meaning of its dimensions, components, unit, and how missing values are told."""

    dims: tuple[str, ...] | None = None
    components: tuple[str, ...] | None = None
    unit: str | None = None
    missing: Finite | Literal["nan"] | MarksEntry | None = None


class PositionsEntry(ArrayEntry):
    """Where points are in every frame: the array and the meaning of its dimensions."""

    dims: tuple[str, ...] | None = None


class CellsEntry(ArrayEntry):
    """The cells of a mesh: connectivity, their type, what the points are, the number of the first node."""

    type: CellKind
    location: PointLocation = "nodes"
    first: Literal[0, 1] = 0
    drop_faulty: bool = False


class AxisEntry(Record):
    """An axis of a grid (nodes as `start` and `stop`, `values`, or an array) or of a cloud (unit and extent only)."""

    start: Finite | None = None
    stop: Finite | None = None
    values: tuple[Finite, ...] | None = None
    file: str | None = None
    key: str | None = None
    periodic: bool = False
    extent: tuple[Finite, Finite] | None = None
    unit: str | None = None
    kind: AxisKind = "linear"

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.start is None) != (self.stop is None):
            raise ValueError("start and stop must be given together")
        given = [self.start is not None, self.values is not None, self.file is not None]
        if sum(given) > 1:
            raise ValueError("nodes must be given in one way: start and stop, or values, or file")
        return self


class TimesEntry(Record):
    """Times of the frames: `start` and `step`, `values`, or an array."""

    start: Finite | None = None
    step: Finite | None = None
    values: tuple[Finite, ...] | None = None
    file: str | None = None
    key: str | None = None
    unit: str | None = None

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.start is None) != (self.step is None):
            raise ValueError("start and step must be given together")
        if sum([self.start is not None, self.values is not None, self.file is not None]) != 1:
            raise ValueError("times must be given in one way: start and step, or values, or file")
        return self


class ParameterEntry(Record):
    """A scalar of every trajectory: one `value` for all, one of `values` for each, or an array."""

    value: Finite | None = None
    values: Annotated[tuple[Finite, ...], _FROM_LIST] | None = None
    file: str | None = None
    key: str | None = None
    unit: str | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _bare_number(cls, content: Any) -> Any:
        if isinstance(content, dict):
            return content
        if isinstance(content, bool) or not isinstance(content, (int, float)):
            raise ValueError("a parameter is a number, or keys: value, values, or file")
        return {"value": content}

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum([self.value is not None, self.values is not None, self.file is not None]) != 1:
            raise ValueError("a parameter must be given in one way: value, or values, or file")
        return self


class SplitEntry(Record):
    """Split of every trajectory: one name for all, a list of names, or counts in the order of the trajectories."""

    name: Name | None = None
    names: Annotated[tuple[Name, ...], _FROM_LIST] | None = None
    counts: dict[Name, Positive] | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _by_kind(cls, content: Any) -> Any:
        for kind, key in ((str, "name"), (list, "names"), (dict, "counts")):
            if isinstance(content, kind):
                return {key: content}
        return content


class ArraysDescription(Record):
    """What a description file holds; see the module's docstring."""

    format: Literal["arrays"] = "arrays"
    name: Name | None = None
    kind: Literal["grid", "points", "mesh"] = "grid"
    dims: tuple[str, ...] | None = None
    fields: dict[Name, FieldEntry] = pydantic.Field(default_factory=dict)
    axes: dict[Name, AxisEntry] = pydantic.Field(min_length=1, max_length=3)
    coordinates: ArrayEntry | None = None
    positions: PositionsEntry | None = None
    cells: CellsEntry | None = None
    times: TimesEntry | None = None
    parameters: dict[Name, ParameterEntry] = pydantic.Field(default_factory=dict)
    split: SplitEntry | None = None
    notes: tuple[str, ...] = ()

    @pydantic.model_validator(mode="after")
    def _cells_fit(self) -> Self:
        if (self.kind == "mesh") != (self.cells is not None):
            raise ValueError("`cells` belongs to `kind: mesh`, and only to it")
        if self.cells is not None and self.positions is not None:
            raise ValueError("a mesh has `coordinates` of its nodes: nodes between which there are cells cannot move")
        return self

    @pydantic.model_validator(mode="after")
    def _kind_fits(self) -> Self:
        reserved = {"trajectory", "time", "component", "point"} & set(self.axes)
        if reserved:
            raise ValueError(f"{sorted(reserved)} name dimensions of arrays and cannot name an axis")
        if (self.kind != "grid") != ((self.coordinates is not None) or (self.positions is not None)):
            raise ValueError(
                "`coordinates` belongs to `kind: points` and `kind: mesh`, and only to them; or `positions` of moving "
                "points"
            )
        if self.coordinates is not None and self.positions is not None:
            raise ValueError("`coordinates` are those of points at rest, `positions` those of moving ones; give one")
        if not self.fields and self.positions is None:
            raise ValueError("`fields` should have at least 1 item")
        if self.positions is not None and POSITION in self.fields:
            raise ValueError(f"field {POSITION!r} is made of `positions`; give the other field another name")
        for name, axis in self.axes.items():
            if self.kind != "grid" and axis.periodic and axis.extent is None:
                raise ValueError(f"axis {name!r} is periodic, so its extent must be stated: points do not tell it")
            has_nodes = axis.start is not None or axis.values is not None or axis.file is not None
            if (self.kind == "grid") != has_nodes:
                rule = "needs nodes: start and stop, or values, or file" if self.kind == "grid" else "must have none"
                raise ValueError(f"axis {name!r} of `kind: {self.kind}` {rule}")
        return self
