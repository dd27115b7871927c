"""Where a model is asked: every point of a grid or a cloud, a range at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from jaxtyping import Float64

from ups_data.coordinates import coordinates_of
from ups_data.errors import DatasetError


@dataclass(frozen=True, kw_only=True, eq=False)
class PointSet:
    """Points in a fixed order; those of a grid are never built all at once.

    Attributes:
        axes: node coordinates of each axis, () for scattered points.
        scattered: coordinates (N, D) of scattered points, None on a grid.
    """

    axes: tuple[Float64[np.ndarray, " _"], ...] = ()
    scattered: Float64[np.ndarray, "point dim"] | None = None

    def __post_init__(self) -> None:
        if bool(self.axes) == (self.scattered is not None):
            raise DatasetError("a set of points has the axes of a grid, or scattered points: give one of them")
        if len(self) == 0:
            raise DatasetError(f"a set of points needs at least one, got the shape {self.shape}")

    @classmethod
    def grid(cls, *axes: Sequence[float] | Float64[np.ndarray, " _"]) -> Self:
        """Take the nodes of a grid, in C order: physical coordinates along each axis."""
        return cls(axes=tuple(np.asarray(axis, dtype=np.float64) for axis in axes))

    @classmethod
    def cloud(cls, coordinates: Float64[np.ndarray, "point dim"]) -> Self:
        """Take scattered points, physical coordinates (N, D)."""
        return cls(scattered=coordinates)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Nodes per axis of a grid, (N,) of scattered points."""
        return tuple(len(axis) for axis in self.axes) if self.scattered is None else (len(self.scattered),)

    def __len__(self) -> int:
        return math.prod(self.shape)

    @property
    def dims(self) -> int:
        """Number of coordinates of a point."""
        return len(self.axes) if self.scattered is None else self.scattered.shape[1]

    def coordinates(self, start: int = 0, stop: int | None = None) -> Float64[np.ndarray, "point dim"]:
        """Return the coordinates of the points from `start` to before `stop`."""
        stop = len(self) if stop is None else min(stop, len(self))
        if self.scattered is not None:
            return self.scattered[start:stop]
        return coordinates_of(self.axes, np.arange(start, stop))

    def refine(self, factor: int, *, lower: Sequence[float], upper: Sequence[float], periodic: Sequence[bool]) -> Self:
        """Return a grid with `factor` times the resolution, whose every `factor`-th node is one of this grid.

        Intervals are cut evenly; on a periodic axis the one across the seam too, so n nodes become factor * n, on
        another axis factor * (n - 1) + 1.

        Args:
            factor: at least 1.
            lower: where the domain begins on each axis.
            upper: where it ends; on a periodic axis they give the period.
            periodic: one flag an axis.

        Raises:
            DatasetError: scattered points, or a factor below 1.
        """
        if self.scattered is not None:
            raise DatasetError("scattered points have no resolution to refine: name the points to decode at")
        if factor < 1:
            raise DatasetError(f"a grid is refined by a factor of at least 1, got {factor}")
        boxes = zip(self.axes, lower, upper, periodic, strict=True)
        return type(self)(axes=tuple(_refine(axis, factor, high - low, wraps) for axis, low, high, wraps in boxes))


def _refine(
    nodes: Float64[np.ndarray, " node"], factor: int, extent: float, periodic: bool
) -> Float64[np.ndarray, " fine"]:
    closed = np.append(nodes, nodes[0] + extent) if periodic else nodes
    places = np.arange(factor * (len(closed) - 1) + (0 if periodic else 1)) / factor
    return np.interp(places, np.arange(len(closed)), closed)
