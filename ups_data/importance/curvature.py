"""Importance by the size of the second derivatives."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from jaxtyping import Float, Float64

from ups_data.importance.base import Geometry, GridGeometry, RootMeanSquareMetric, Subject
from ups_data.importance.differences import channel_slabs
from ups_data.importance.quadratic_fit import CloudHessian
from ups_data.importance.sphere import Arcs, is_on_sphere


class CurvatureMetric(RootMeanSquareMetric):
    """Root mean square over frames of the Frobenius norm of the Hessian, per channel.

    |H|^2 = sum over axes i, j of (d^2 u / dx_i dx_j)^2: by differences on grids, mixed ones by one first derivative
    after the other; by least squares of a quadratic over the nearest neighbours on scattered points. On a sphere, with
    h = cos(latitude), the second covariant derivatives: H_ll = u_ll / h^2 + h'/h u_p and H_lp = d/dp (u_l / h).

    `update` raises a `SchemaError` for scattered points whose neighbours determine no quadratic, as those of a surface
    in space.
    """

    def __init__(self, geometry: Geometry, subject: Subject) -> None:
        super().__init__(geometry, subject)
        self._cloud = (
            None
            if isinstance(geometry, GridGeometry)
            else geometry.once(
                CloudHessian, lambda: CloudHessian(geometry.coordinates, geometry.order, geometry.folder)
            )
        )

    @classmethod
    def objection(cls, subject: Subject) -> str | None:
        """Refuse points on a sphere, whose neighbours determine no quadratic in space."""
        if subject.kind != "grid" and is_on_sphere(subject.specs):
            return "is not defined on scattered points of a sphere; use 'gradient' or 'temporal_change'"
        return super().objection(subject)

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the squared second derivatives of one frame."""
        if self._cloud is not None:
            for points, squares in self._cloud.squared_norms(frame):
                self.add_squares(squares, points)
        elif isinstance(self.geometry, GridGeometry):
            for channel, part, own, values, geometry in channel_slabs(frame, self.geometry, self.scratch):
                squares = _squared_norm(values, Arcs.of(geometry, self.subject.specs))[:, own]
                self.add_squares(squares, part, only=channel, num_maps=len(frame))


def _squared_norm(values: Float64[np.ndarray, "channel *space"], arcs: Arcs) -> Float64[np.ndarray, "channel *space"]:
    dims = len(arcs.geometry.axes)
    squares = np.zeros_like(values)
    for axis in range(dims):
        squares += np.square(arcs.second_derivative(values, axis))
    for first, second in combinations(arcs.longitude_first, 2):
        mixed = arcs.derivative(arcs.derivative(values, first), second)
        squares += 2 * np.square(mixed)
    return arcs.fill_poles(squares, values)
