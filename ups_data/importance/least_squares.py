"""Gradients on scattered points by local least squares: no cells, no grid, exact for linear fields.

At point i with neighbours j: the g that minimises the sum over j of (u_j - u_i - g . (x_j - x_i))^2, which is
g = A^+ b with A the sum of (x_j - x_i)(x_j - x_i)^T and b that of (x_j - x_i)(u_j - u_i).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float64, Int64

NEIGHBOURS_PER_DIM = 4
"""Neighbours of a point: 4 on a line, 8 in the plane, 12 in space."""

LEAST_EXTENT = 0.1
"""A neighbourhood that reaches less than this far in a direction, relative to its longest, is flat in it."""

_BLOCK_POINTS = 2**15


class CloudGradient:
    """The gradient at every point of a cloud, made ready once and taken of many frames.

    Where a neighbourhood is flat (points of a surface in space, of a line in the plane, all of a cloud of few points)
    only the gradient along it is known, and what is across counts as zero. Of points at one place the first is the
    neighbour of others. A cloud of fewer places than a neighbourhood is one neighbourhood, and that of a single place
    has gradient zero. Seams of periodic axes are not crossed.

    Memory: 4 bytes a neighbour, 8 D^2 + 8 bytes for A^+ and the scale, a point (128 bytes in space, 72 in the plane),
    the sorted points and the search tree while it is made ready, and blocks of 32,768 points.

    Args:
        coordinates: of the points (N, D).
    """

    def __init__(self, coordinates: Float[np.ndarray, "point dim"]) -> None:
        from scipy.spatial import cKDTree

        self._coordinates = np.ascontiguousarray(coordinates, dtype=np.float64)
        count, dims = self._coordinates.shape
        places = first_of_each_place(self._coordinates)
        # The place itself is the nearest one.
        nearest = min(NEIGHBOURS_PER_DIM * dims + 1, len(places))
        self._neighbours = np.empty((count, nearest), dtype=np.int32)
        self._scale = np.empty(count)
        self._inverse = np.empty((count, dims, dims))
        tree = cKDTree(self._coordinates[places])
        for block in self._blocks():
            distances, found = tree.query(self._coordinates[block], k=list(range(1, nearest + 1)))
            self._neighbours[block] = places[found]
            self._scale[block] = np.where(distances[:, -1] > 0, distances[:, -1], 1.0)
            self._inverse[block] = _pseudo_inverse(self._offsets(block))

    def squared_norm(self, values: Float64[np.ndarray, "channel point"]) -> Float64[np.ndarray, "channel point"]:
        """Return |grad u|^2 of every channel at every point; missing values are NaN and no one's neighbours."""
        squares = np.empty_like(values)
        for block in self._blocks():
            offsets = self._offsets(block)
            for channel, result in zip(values, squares, strict=True):
                changes = channel[self._neighbours[block]] - channel[block, None]
                inverse = self._inverse[block]
                if np.isnan(changes).any():
                    inverse = self._leave_out_missing(inverse, offsets, changes)
                moments = np.einsum("pnd,pn->pd", offsets, np.nan_to_num(changes, copy=False))
                gradient = np.einsum("pde,pe->pd", inverse, moments) / self._scale[block, None]
                result[block] = np.where(np.isnan(channel[block]), np.nan, np.square(gradient).sum(axis=1))
        return squares

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

    def _blocks(self) -> Iterator[slice]:
        for start in range(0, len(self._coordinates), _BLOCK_POINTS):
            yield slice(start, start + _BLOCK_POINTS)

    def _offsets(self, block: slice) -> Float64[np.ndarray, "point neighbour dim"]:
        """Return the way to each neighbour in units of the way to the farthest, so that squares stay in range."""
        ways = self._coordinates[self._neighbours[block]] - self._coordinates[block, None]
        return ways / self._scale[block, None, None]


def first_of_each_place(coordinates: Float64[np.ndarray, "point dim"]) -> Int64[np.ndarray, " place"]:
    """Return the first of the points at each place, in order."""
    order = np.lexsort(coordinates.T)
    new = (np.diff(coordinates[order], axis=0) != 0).any(axis=1)
    return np.sort(order[np.concatenate([[True], new])])


def _pseudo_inverse(offsets: Float64[np.ndarray, "point neighbour dim"]) -> Float64[np.ndarray, "point dim dim"]:
    """Invert A on the directions in which a neighbourhood extends, by its principal axes."""
    extents, axes = np.linalg.eigh(np.einsum("pnd,pne->pde", offsets, offsets))
    there = (extents > LEAST_EXTENT**2 * extents[:, -1:]) & (extents[:, -1:] > 0)
    inverse = np.where(there, 1.0, 0.0) / np.where(there, extents, 1.0)
    return np.einsum("pdk,pk,pek->pde", axes, inverse, axes)
