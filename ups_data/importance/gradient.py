"""Importance by the size of the spatial gradient."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float64

from ups_data.errors import SchemaError
from ups_data.importance.base import ON_GRIDS_ONLY, Geometry, GridGeometry, ImportanceMetric


class GradientMetric(ImportanceMetric):
    """Root mean square over frames of |grad u|, per channel, in units of the channel per unit of length."""

    geometry: GridGeometry
    needs_grid: ClassVar[bool] = True

    def __init__(self, geometry: Geometry, num_channels: int) -> None:
        if not isinstance(geometry, GridGeometry):
            raise SchemaError(f"importance metric 'gradient' {ON_GRIDS_ONLY}")
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
    if nodes.size == 1:
        return np.zeros_like(values)
    along = np.moveaxis(values, axis + 1, -1)
    if period is not None:
        nodes = np.concatenate([nodes[-1:] - period, nodes, nodes[:1] + period])
        along = np.concatenate([along[..., -1:], along, along[..., :1]], axis=-1)
    # By slopes, and not by np.gradient: its rounding gives a constant field a gradient, which is then scaled to mean 1.
    steps = np.diff(nodes)
    slopes = np.diff(along, axis=-1) / steps
    inner = (steps[:-1] * slopes[..., 1:] + steps[1:] * slopes[..., :-1]) / (steps[:-1] + steps[1:])
    if period is None:
        inner = np.concatenate([slopes[..., :1], inner, slopes[..., -1:]], axis=-1)
    return np.moveaxis(inner, -1, axis + 1)
