"""Importance by the size of the second derivatives."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from jaxtyping import Float, Float64

from ups_data.importance.base import Geometry, GridGeometry, RootMeanSquareMetric, Subject
from ups_data.importance.differences import axis_derivative, second_derivative, slabs
from ups_data.importance.quadratic_fit import CloudHessian


class CurvatureMetric(RootMeanSquareMetric):
    """Root mean square over frames of the Frobenius norm of the Hessian, per channel.

    |H|^2 = sum over axes i, j of (d^2 u / dx_i dx_j)^2: by differences on grids, mixed ones by one first derivative
    after the other; by least squares of a quadratic over the nearest neighbours on scattered points.

    Raises:
        SchemaError: scattered points whose neighbours determine no quadratic, as those of a surface in space.
    """

    def __init__(self, geometry: Geometry, subject: Subject) -> None:
        super().__init__(geometry, subject)
        self._cloud = None if isinstance(geometry, GridGeometry) else CloudHessian(geometry.coordinates)

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the squared second derivatives of one frame."""
        if self._cloud is not None:
            self.add_squares(self._cloud.squared_norm(frame.astype(np.float64)))
        elif isinstance(self.geometry, GridGeometry):
            for part, own, values, geometry in slabs(frame, self.geometry):
                self.add_squares(_squared_norm(values, geometry)[:, own], part)


def _squared_norm(
    values: Float64[np.ndarray, "channel *space"], geometry: GridGeometry
) -> Float64[np.ndarray, "channel *space"]:
    dims = len(geometry.axes)
    squares = np.zeros_like(values)
    for axis in range(dims):
        squares += np.square(second_derivative(values, geometry, axis))
    for first, second in combinations(range(dims), 2):
        mixed = axis_derivative(axis_derivative(values, geometry, first), geometry, second)
        squares += 2 * np.square(mixed)
    return squares
