"""Values between the nodes of a rectilinear grid: piecewise polynomials, one axis after another.

Along each axis the value at x is that of the polynomial through the nearest nodes, two (`linear`) or four (`cubic`):

    u(x) = sum_j w_j(x) u(t_j),    w_j(x) = prod over m != j of (x - t_m) / (t_j - t_m)    (Lagrange)

and weights of several axes are multiplied. So polynomials of degree 1 or 3 in each coordinate come out exactly, on
uneven nodes too, values at nodes are the nodes' own to the bit, and a value depends on no node but those of its
stencil: a missing value among them makes it missing, and one beside them does not. Stencils reach across the seam of a
periodic axis; at the ends of others they are shifted inwards, and keep their degree.

Splines would be smoother, but need all nodes of an axis for each value: one missing value would be missing everywhere.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64, Shaped

from ups_data.errors import SourceError
from ups_data.importance import GridGeometry
from ups_data.schema import SchemeName

NUM_NODES: dict[SchemeName, int] = {"linear": 2, "cubic": 4}
"""Nodes of a stencil along an axis."""

_GATHER_BYTES = 8 * 2**20
_LEAST_POINTS = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class AxisStencils:
    """The nodes along one axis that some values are made of.

    Attributes:
        nodes: their numbers (Q, nodes of a stencil).
        weights: of each, adding up to 1.
    """

    nodes: Int64[np.ndarray, "query node"]
    weights: Float64[np.ndarray, "query node"]


class Interpolation:
    """A scheme on one grid.

    Args:
        grid: node coordinates, and the periods of those axes that wrap.
        scheme: `linear` or `cubic`. An axis of one node has one value, whatever the scheme.

    Raises:
        SourceError: an axis has more than one node, and fewer than a stencil.
    """

    def __init__(self, grid: GridGeometry, scheme: SchemeName) -> None:
        self._grid = grid
        self._widths = tuple(stencil_width(size, scheme) for size in grid.shape)
        for axis, (size, width) in enumerate(zip(grid.shape, self._widths, strict=True)):
            if size < width:
                raise SourceError(
                    f"{scheme} interpolation needs {width} nodes along an axis, and axis {axis} has {size}; use a "
                    f"scheme of fewer nodes"
                )

    def apply(
        self,
        frames: Shaped[np.ndarray, "time channel *space"],
        points: Float64[np.ndarray, "query dim"],
        dtype: np.dtype[Any],
    ) -> Float[np.ndarray, "time channel query"]:
        """Return the values of some frames at some points, worked out in float64; NaN where a node's value is missing.

        Args:
            frames: values at the nodes.
            points: where, within the nodes of each axis, or anywhere along a periodic one.
            dtype: of the result; a value that is too large for it becomes infinite.
        """
        num_times, num_channels = frames.shape[:2]
        flat = frames.reshape(num_times * num_channels, -1)
        values = np.empty((len(flat), len(points)), dtype=dtype)
        step = max(_LEAST_POINTS, _GATHER_BYTES // (8 * len(flat)))
        for start in range(0, len(points), step):
            part = slice(start, start + step)
            with np.errstate(over="ignore"):
                values[:, part] = self._sum(flat, self.stencils(points[part]))
        return values.reshape(num_times, num_channels, len(points))

    def stencils(self, points: Float64[np.ndarray, "query dim"]) -> tuple[AxisStencils, ...]:
        """Return which nodes values at some points are made of, axis by axis."""
        axes = zip(self._grid.axes, self._grid.periods, self._widths, strict=True)
        return tuple(
            _stencils_of(places, nodes, period, width)
            for places, (nodes, period, width) in zip(points.T, axes, strict=True)
        )

    def _sum(
        self, flat: Shaped[np.ndarray, "row node"], stencils: tuple[AxisStencils, ...]
    ) -> Float64[np.ndarray, "row query"]:
        strides = np.cumprod([1, *self._grid.shape[:0:-1]])[::-1]
        total: Float64[np.ndarray, "row query"] = np.zeros((len(flat), len(stencils[0].nodes)))
        for corner in itertools.product(*map(range, self._widths)):
            place: Int64[np.ndarray, " query"] = np.zeros(total.shape[1], dtype=np.int64)
            weight = np.ones(total.shape[1])
            for axis, number, stride in zip(stencils, corner, strides.tolist(), strict=True):
                place += axis.nodes[:, number] * stride
                weight *= axis.weights[:, number]
            total += np.take(flat, place, axis=1) * weight
        return total


def stencil_width(num_nodes: int, scheme: SchemeName) -> int:
    """Return the nodes of a stencil along an axis; one where the axis has no other."""
    return 1 if num_nodes == 1 else NUM_NODES[scheme]


def _stencils_of(
    places: Float64[np.ndarray, " query"], nodes: Float64[np.ndarray, " node"], period: float | None, width: int
) -> AxisStencils:
    if width == 1:
        return AxisStencils(
            nodes=np.zeros((places.size, 1), dtype=np.int64),
            weights=np.ones((places.size, 1)),
        )
    if period is not None:
        # Into the period that begins at the first node; a place that lies there already is not touched.
        turns = np.floor((places - nodes[0]) / period)
        places = np.where(turns == 0, places, places - turns * period)
    cell = np.searchsorted(nodes, places, side="right") - 1
    if period is None:
        first = np.clip(np.clip(cell, 0, nodes.size - 2) - (width // 2 - 1), 0, nodes.size - width)
    else:
        first = cell - (width // 2 - 1)
    numbers = first[:, None] + np.arange(width)
    turns_of, numbers = np.divmod(numbers, nodes.size)
    positions = nodes[numbers] + (0.0 if period is None else turns_of * period)
    return AxisStencils(nodes=numbers, weights=_lagrange_weights(places, positions))


def _lagrange_weights(
    places: Float64[np.ndarray, " query"], positions: Float64[np.ndarray, "query node"]
) -> Float64[np.ndarray, "query node"]:
    weights = np.ones_like(positions)
    for own, other in itertools.permutations(range(positions.shape[1]), 2):
        weights[:, own] *= (places - positions[:, other]) / (positions[:, own] - positions[:, other])
    return weights
