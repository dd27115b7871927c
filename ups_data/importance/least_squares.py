"""Gradients on scattered points by local least squares: no cells, no grid, exact for linear fields.

At point i with neighbours j: the g that minimises the sum over j of (u_j - u_i - g . (x_j - x_i))^2, which is
g = A^+ b with A the sum of (x_j - x_i)(x_j - x_i)^T and b that of (x_j - x_i)(u_j - u_i).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int32

from ups_data.importance.kept_runs import KeptRuns
from ups_data.importance.neighbours import NeighbourSearch

NEIGHBOURS_PER_DIM = 4
"""Neighbours of a point: 4 on a line, 8 in the plane, 12 in space."""

LEAST_EXTENT = 0.1
"""A neighbourhood that reaches less than this far in a direction, relative to its longest, is flat in it."""

_BLOCK_POINTS = 2**15


class CloudGradient:
    """The gradient at every point of a cloud, made ready once and taken of many frames.

    Where a neighbourhood is flat (points of a surface in space, of a line in the plane, all of a cloud of few points)
    only the gradient along it is known, and what is across counts as zero. Of points at one place one is the neighbour
    of others, see `NeighbourSearch`. A cloud of fewer places than a neighbourhood is one neighbourhood, and that of a
    single place has gradient zero. Seams of periodic axes are not crossed.

    Memory: what `NeighbourSearch` and blocks of 32,768 points take, and 4 bytes a neighbour, 8 D^2 + 8 bytes for A^+
    and the scale, a point (132 bytes in space, 76 in the plane): in a temporary file where all of it is more than a GiB
    (8 million points in space). Where a disk has no room for twice that, neighbours are searched for again for each
    frame, which takes some 15 microseconds a point.

    Args:
        coordinates: of the points (N, D).
        order: points near each other in it lie near each other; see `NeighbourSearch`.
        folder: where a file may lie; the system's folder for temporary files if None.
    """

    def __init__(
        self,
        coordinates: Float[np.ndarray, "point dim"],
        order: Int32[np.ndarray, " point"] | None = None,
        folder: Path | None = None,
    ) -> None:
        count, dims = coordinates.shape
        # The place itself is the nearest one.
        nearest = NEIGHBOURS_PER_DIM * dims + 1
        self._search = NeighbourSearch(coordinates, order, num_neighbours=nearest)
        self._runs = KeptRuns(num_bytes=count * (4 * nearest + 8 * dims**2 + 8), folder=folder)

    def squared_norms(
        self, frame: Float[np.ndarray, "channel point"]
    ) -> Iterator[tuple[Int32[np.ndarray, " some"], Float64[np.ndarray, "channel some"]]]:
        """Yield points and |grad u|^2 of every channel at them; missing values are NaN and no one's neighbours."""
        for number in range(self._search.num_runs):
            run = _Run(*self._runs.take(number, self._prepare))
            points = self._search.points_of(number)
            squares = np.empty((len(frame), len(points)))
            for block in _blocks(len(points)):
                offsets = self._offsets(points[block], run.neighbours[block], run.scale[block])
                for channel, result in zip(frame, squares, strict=True):
                    values = channel[points[block]].astype(np.float64)
                    changes = channel[run.neighbours[block]].astype(np.float64) - values[:, None]
                    inverse = run.inverse[block]
                    if np.isnan(changes).any():
                        inverse = self._leave_out_missing(inverse, offsets, changes)
                    moments = np.einsum("pnd,pn->pd", offsets, np.nan_to_num(changes, copy=False))
                    gradient = np.einsum("pde,pe->pd", inverse, moments) / run.scale[block, None]
                    result[block] = np.where(np.isnan(values), np.nan, np.square(gradient).sum(axis=1))
            yield points, squares
        self._search.forget()

    def _prepare(self, number: int) -> _Run:
        """Find the neighbourhoods of the points of a run."""
        points, (neighbours, distances) = self._search.points_of(number), self._search.find(number)
        farthest = np.where(np.isfinite(distances), distances, 0.0).max(axis=1)
        dims = self._search.dims
        run = _Run(neighbours, np.where(farthest > 0, farthest, 1.0), np.empty((len(points), dims, dims)))
        for block in _blocks(len(points)):
            run.inverse[block] = _pseudo_inverse(self._offsets(points[block], neighbours[block], run.scale[block]))
        return run

    def _offsets(
        self,
        points: Int32[np.ndarray, " point"],
        neighbours: Int32[np.ndarray, "point neighbour"],
        scale: Float64[np.ndarray, " point"],
    ) -> Float64[np.ndarray, "point neighbour dim"]:
        """Return the way to each neighbour in units of the way to the farthest, so that squares stay in range."""
        ways = self._search.places_of(neighbours) - self._search.places_of(points)[:, None]
        return ways / scale[:, None, None]

    @staticmethod
    def _leave_out_missing(
        inverse: Float64[np.ndarray, "point dim dim"],
        offsets: Float64[np.ndarray, "point neighbour dim"],
        changes: Float64[np.ndarray, "point neighbour"],
    ) -> Float64[np.ndarray, "point dim dim"]:
        """Return A^+ of the neighbours that have a value; a neighbour at no distance has no part in A."""
        affected = np.isnan(changes).any(axis=1)
        known = np.where(np.isnan(changes[affected])[..., None], 0.0, offsets[affected])
        inverse = inverse.copy()
        inverse[affected] = _pseudo_inverse(known)
        return inverse


class _Run(NamedTuple):
    """The neighbourhoods of the points of a run: their points, the way to the farthest of them, and A^+."""

    neighbours: Int32[np.ndarray, "point neighbour"]
    scale: Float64[np.ndarray, " point"]
    inverse: Float64[np.ndarray, "point dim dim"]


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, _BLOCK_POINTS):
        yield slice(start, start + _BLOCK_POINTS)


def _pseudo_inverse(offsets: Float64[np.ndarray, "point neighbour dim"]) -> Float64[np.ndarray, "point dim dim"]:
    """Invert A on the directions in which a neighbourhood extends, by its principal axes."""
    extents, axes = np.linalg.eigh(np.einsum("pnd,pne->pde", offsets, offsets))
    there = (extents > LEAST_EXTENT**2 * extents[:, -1:]) & (extents[:, -1:] > 0)
    inverse = np.where(there, 1.0, 0.0) / np.where(there, extents, 1.0)
    return np.einsum("pdk,pk,pek->pde", axes, inverse, axes)
