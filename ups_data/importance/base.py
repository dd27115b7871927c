"""The contract of an importance metric: frames in, one non-negative map a channel out, streaming."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float64


@dataclass(frozen=True, kw_only=True, eq=False)
class GridGeometry:
    """What a metric on a grid may know: node coordinates, and the period of each periodic axis.

    Attributes:
        axes: strictly increasing node coordinates of each axis.
        periods: period of each axis, None where the axis does not wrap.
    """

    axes: tuple[Float64[np.ndarray, " _"], ...]
    periods: tuple[float | None, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Nodes per axis."""
        return tuple(axis.size for axis in self.axes)


@dataclass(frozen=True, kw_only=True, eq=False)
class CloudGeometry:
    """What a metric on scattered points may know: their coordinates (N, D)."""

    coordinates: Float[np.ndarray, "point dim"]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of points, as the shape of a map."""
        return (len(self.coordinates),)


Geometry = GridGeometry | CloudGeometry

ON_GRIDS_ONLY = "is defined on grids, not on scattered points; use 'temporal_change'"
"""Ends the refusal of a metric that needs a grid."""


class ImportanceMetric(ABC):
    """Accumulates a map over the frames of one trajectory.

    Memory is a few arrays of one frame's size, whatever the number of frames. `needs_grid` tells whether the metric
    is defined on grids only.
    """

    needs_grid: ClassVar[bool] = False

    def __init__(self, geometry: Geometry, num_channels: int) -> None:
        self.geometry = geometry
        self.num_frames = 0
        self._sum = np.zeros((num_channels, *geometry.shape))

    @abstractmethod
    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the next frame."""

    def result(self) -> Float64[np.ndarray, "channel *space"]:
        """Return the root of the mean square over the frames that were added, one map a channel."""
        return np.sqrt(self._sum / max(self.num_frames, 1))
