"""What stands in a data set: fields, axes, geometry, boundaries, parameters, statistics."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import pydantic

from ups_data.schema.base import AxisKind, Count, Finite, GeometryKind, Name, Positive, Record


class FieldSpec(Record):
    """A named physical quantity.

    Attributes:
        name: unique among the fields of a store.
        components: one name for each channel; `("",)` for a scalar, `("x", "y")` for a plane vector.
        unit: physical unit as text, None where the source does not tell.
    """

    name: Name
    components: tuple[str, ...] = ("",)
    unit: str | None = None

    @pydantic.model_validator(mode="after")
    def _components_are_distinct(self) -> Self:
        if not self.components or len(set(self.components)) != len(self.components):
            raise ValueError(f"field {self.name!r} needs one or more distinct components, got {self.components}")
        return self

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Channel names: `pressure`, or `velocity.x`, `velocity.y`."""
        return tuple(f"{self.name}.{part}" if part else self.name for part in self.components)


class AxisSpec(Record):
    """One spatial axis of the domain.

    Attributes:
        name: `x`, `y`, `z`, `longitude`, ...; the order of the axes is the order of the stored array.
        lower, upper: extent of the domain over all trajectories, in `unit`. Not periodic: the first and the
            last node (or the bounding box of a cloud). Periodic: `upper` is `lower` plus one period, so the
            node that would lie at `upper` is the node at `lower` and is not stored.
        periodic: whether the field wraps around.
        unit: physical unit as text, None where the source does not tell.
        kind: `linear`, or which angle on a sphere the coordinate is, in degrees or radians by its unit: `latitude`
            counts from the equator, `colatitude` from the north pole. It decides the measure of cells alone.
    """

    name: Name
    lower: Finite
    upper: Finite
    periodic: bool = False
    unit: str | None = None
    kind: AxisKind = "linear"

    @pydantic.model_validator(mode="after")
    def _extent_is_positive(self) -> Self:
        if not self.lower < self.upper:
            raise ValueError(f"axis {self.name!r}: lower={self.lower} must be less than upper={self.upper}")
        if self.kind == "linear":
            return self
        limits = {"longitude": (-720.0, 720.0), "latitude": (-90.0, 90.0), "colatitude": (0.0, 180.0)}[self.kind]
        lower, upper = self.lower / self.radian * (180 / math.pi), self.upper / self.radian * (180 / math.pi)
        if not limits[0] - 1e-6 <= lower <= upper <= limits[1] + 1e-6:
            raise ValueError(
                f"axis {self.name!r} is a {self.kind} from {self.lower} to {self.upper} {self.unit}, which leaves "
                f"{limits[0]:g} to {limits[1]:g} degrees"
            )
        return self

    @property
    def radian(self) -> float:
        """One radian in the unit of an angle.

        Raises:
            ValueError: the unit is neither degrees nor radians.
        """
        unit = (self.unit or "").lower()
        if unit.startswith("deg") or unit == "\N{DEGREE SIGN}":
            return 180 / math.pi
        if unit.startswith("rad"):
            return 1.0
        raise ValueError(f"axis {self.name!r} is a {self.kind}, so its unit must be degrees or radians, not {unit!r}")


class GeometrySpec(Record):
    """Where the points of a trajectory lie.

    Attributes:
        kind: `grid` (tensor-product coordinates), `points` (cloud) or `mesh` (points and cells).
        axes: one to three axes, in stored order; point ids of grids count in C order over them.
        shape: nodes per axis where all trajectories share them, else None.
        stored_measures: whether the measure (length, area, volume) of each point's cell is stored, of points and meshes
            whose source tells it; that of grids follows from their axes.
        point_location: what the points of a mesh are, `nodes` or centres of `cells`, where meshes are stored; None
            elsewhere.
    """

    kind: GeometryKind
    axes: tuple[AxisSpec, ...] = pydantic.Field(min_length=1, max_length=3)
    shape: tuple[Positive, ...] | None = None
    stored_measures: bool = False
    point_location: Literal["nodes", "cells"] | None = None

    @pydantic.model_validator(mode="after")
    def _axes_fit(self) -> Self:
        if self.stored_measures and self.kind == "grid":
            raise ValueError("the measures of a grid follow from its axes and are not stored")
        if self.point_location is not None and self.kind != "mesh":
            raise ValueError(f"point_location {self.point_location!r} belongs to meshes, not to kind {self.kind!r}")
        names = [axis.name for axis in self.axes]
        if len(set(names)) != len(names):
            raise ValueError(f"axis names must be distinct, got {names}")
        if self.shape is not None and self.kind == "grid" and len(self.shape) != len(self.axes):
            raise ValueError(f"shape {self.shape} has {len(self.shape)} entries for {len(self.axes)} axes")
        return self

    @property
    def dims(self) -> int:
        """Number of spatial dimensions."""
        return len(self.axes)

    @property
    def has_measures(self) -> bool:
        """Whether the measure of each point's cell is known."""
        return self.kind == "grid" or self.stored_measures


class BoundarySpec(Record):
    """A condition on the boundary of the domain, as the source tells it.

    Attributes:
        name: unique among the boundaries of a store.
        kind: `periodic`, `wall`, `open`, or what else the source calls it, in lower case.
        axes: axes that it holds on.
        sides: ends of these axes that it holds at; empty where the source tells none (a wall inside of the domain).
        fields: fields that it holds for; empty where the source tells none, or all of them.
    """

    name: Name
    kind: Name
    axes: tuple[Name, ...] = pydantic.Field(min_length=1, max_length=3)
    sides: tuple[Literal["lower", "upper"], ...] = ()
    fields: tuple[Name, ...] = ()


class ParameterSpec(Record):
    """A scalar that belongs to a whole trajectory (viscosity, Mach number), with its train statistics."""

    name: Name
    unit: str | None = None
    mean: Finite = 0.0
    std: Annotated[Finite, pydantic.Field(ge=0)] = 0.0


class ChannelStatistics(Record):
    """Moments of one channel over all points and frames of the train split, in physical units.

    `delta_*` are those of the change between consecutive frames, None where no trajectory has two frames.
    Standard deviations are those of the population (divided by the count).
    """

    channel: str
    count: Count
    mean: Finite
    std: Annotated[Finite, pydantic.Field(ge=0)]
    rms: Annotated[Finite, pydantic.Field(ge=0)]
    min: Finite
    max: Finite
    delta_mean: Finite | None = None
    delta_std: Finite | None = None
    delta_rms: Finite | None = None
    delta_min: Finite | None = None
    delta_max: Finite | None = None
