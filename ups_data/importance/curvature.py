"""Importance by the size of the second derivatives."""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from ups_data.importance.base import GridGeometry, RootMeanSquareMetric
from ups_data.importance.differences import axis_derivative, second_derivative


class CurvatureMetric(RootMeanSquareMetric):
    """Root mean square over frames of the Frobenius norm of the Hessian, per channel.

    |H|^2 = sum over axes i, j of (d^2 u / dx_i dx_j)^2, mixed ones by one first derivative after the other.
    """

    geometry: GridGeometry
    needs_grid: ClassVar[bool] = True

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the squared second derivatives of one frame."""
        values = frame.astype(np.float64)
        dims = len(self.geometry.axes)
        squares = np.zeros_like(values)
        for axis in range(dims):
            squares += np.square(second_derivative(values, self.geometry, axis))
        for first, second in combinations(range(dims), 2):
            mixed = axis_derivative(axis_derivative(values, self.geometry, first), self.geometry, second)
            squares += 2 * np.square(mixed)
        self.add_squares(squares)
