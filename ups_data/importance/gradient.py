"""Importance by the size of the spatial gradient."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from ups_data.errors import SchemaError
from ups_data.importance.base import Geometry, GridGeometry, ImportanceMetric


class GradientMetric(ImportanceMetric):
    """Root mean square over frames of |grad u|, per channel, in units of the channel per unit of length."""

    geometry: GridGeometry

    def __init__(self, geometry: Geometry, num_channels: int) -> None:
        if not isinstance(geometry, GridGeometry):
            raise SchemaError(
                "importance metric 'gradient' is defined on grids, not on scattered points; use 'temporal_change'"
            )
        super().__init__(geometry, num_channels)

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the squared gradient of one frame."""
        for axis in range(len(self.geometry.axes)):
            self._sum += np.square(axis_derivative(frame.astype(np.float64), self.geometry, axis))
        self.num_frames += 1


def axis_derivative(
    values: Float64[np.ndarray, "channel *space"], geometry: GridGeometry, axis: int
) -> Float64[np.ndarray, "channel *space"]:
    """Differentiate along one axis to second order, across the seam where the axis is periodic.

    Inner nodes: the three-point formula for uneven spacing. Ends of an axis that is not periodic: one-sided, to
    first order. An axis of one node has derivative zero.
    """
    nodes, period = geometry.axes[axis], geometry.periods[axis]
    dim = axis + 1
    if nodes.size == 1:
        return np.zeros_like(values)
    if period is None:
        return np.gradient(values, nodes, axis=dim)
    wrapped = np.concatenate([nodes[-1:] - period, nodes, nodes[:1] + period])
    pad = [(1, 1) if number == dim else (0, 0) for number in range(values.ndim)]
    padded = np.gradient(np.pad(values, pad, mode="wrap"), wrapped, axis=dim)
    return np.take(padded, np.arange(1, nodes.size + 1), axis=dim)
