"""Importance by the size of the vorticity."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float64

from ups_data.importance.base import Geometry, GridGeometry, RootMeanSquareMetric, Subject
from ups_data.importance.differences import axis_derivative, slabs
from ups_data.importance.sphere import Arcs


class VorticityMetric(RootMeanSquareMetric):
    """Root mean square over frames of |curl u|, one map for each field with as many components as there are axes.

    |curl u|^2 = sum over axes i < j of (du_j/dx_i - du_i/dx_j)^2; on a sphere, with h_i the radius of the circle that
    axis i runs along, ((d(h_j u_j)/dx_i - d(h_i u_i)/dx_j) / (h_i h_j))^2. Components that bear the names of the axes
    belong to them in whatever order they stand; others belong to the axes in the order in which both stand.
    """

    geometry: GridGeometry
    needs_grid: ClassVar[bool] = True

    def __init__(self, geometry: Geometry, subject: Subject) -> None:
        super().__init__(geometry, subject)
        self._vectors = tuple(_vector_channels(subject))

    @classmethod
    def objection(cls, subject: Subject) -> str | None:
        """Refuse scattered points, a single axis, and data without a vector field."""
        if (refusal := super().objection(subject)) is not None:
            return refusal
        dims = len(subject.axes)
        if dims == 1:
            return "is defined on grids of two or three axes, and there is one axis"
        if not any(_vector_channels(subject)):
            sizes = ", ".join(f"{field.name} has {len(field.components)}" for field in subject.fields)
            return f"needs a field of {dims} components, one for each axis, and there is none: {sizes}"
        return None

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the squared vorticity of one frame."""
        for part, own, values, geometry in slabs(frame, self.geometry, self.scratch):
            arcs = Arcs.of(geometry, self.subject.specs)
            squares = np.stack([_squared_curl(values, arcs, channels) for channels in self._vectors])
            self.add_squares(squares[:, own], part)


def _squared_curl(
    values: Float64[np.ndarray, "channel *space"], arcs: Arcs, channels: tuple[int, ...]
) -> Float64[np.ndarray, "*space"]:
    squares = np.zeros(values.shape[1:])
    for first, second in combinations(range(len(channels)), 2):
        along = axis_derivative(values[[channels[second]]] * arcs.radius(second), arcs.geometry, first)
        across = axis_derivative(values[[channels[first]]] * arcs.radius(first), arcs.geometry, second)
        squares += np.square((along - across) / (arcs.divisor(first) * arcs.divisor(second)))[0]
    return arcs.fill_poles(squares[None], values[[channels[0]]])[0]


def _vector_channels(subject: Subject) -> Iterator[tuple[int, ...]]:
    """Yield the channels of each vector field, in the order of the axes that they belong to."""
    start = 0
    for field in subject.fields:
        names = field.components
        if len(names) == len(subject.axes):
            named = sorted(names) == sorted(subject.axes)
            places = [names.index(axis) for axis in subject.axes] if named else range(len(names))
            yield tuple(start + place for place in places)
        start += len(names)
