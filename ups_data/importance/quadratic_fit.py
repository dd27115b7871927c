"""Second derivatives on scattered points by local least squares: no cells, no grid, exact for quadratic fields.

At point i with neighbours j: the gradient g and the symmetric Hessian H that minimise the sum over j of
(u_j - u_i - g . d_j - d_j . H d_j / 2)^2, with d_j = x_j - x_i. Offsets are first taken along the principal axes of the
neighbourhood, each in units of its own extent: so a stretched cloud is fitted as well as a round one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement

import numpy as np
from jaxtyping import Float, Float64

from ups_data.errors import SchemaError
from ups_data.importance.neighbours import first_of_each_place

NEIGHBOURS = {1: 6, 2: 12, 3: 24}
"""Neighbours of a point, by dimensions: about twice as many as a quadratic has coefficients (2, 5, 9)."""

LEAST_RATIO = 1e-4
"""A fit whose smallest singular value is less than this part of its largest is not determined by the neighbours."""

_BLOCK_POINTS = 2**14


class CloudHessian:
    """The Hessian at every point of a cloud, made ready once and taken of many frames.

    Of points at one place the first is the neighbour of others. Seams of periodic axes are not crossed. Where values
    are missing (NaN), a Hessian that needs one of them counts as zero, and as missing where its own value is.

    Memory: 8 bytes times neighbours times entries of the Hessian and 4 bytes a neighbour, a point (340 bytes in the
    plane, 1260 in space), the sorted points and the search tree while it is made ready, and blocks of 16,384 points.

    Args:
        coordinates: of the points (N, D).

    Raises:
        SchemaError: neighbours that determine no quadratic: too few points, or points on a line, a surface, a circle;
            names the point.
    """

    def __init__(self, coordinates: Float[np.ndarray, "point dim"]) -> None:
        from scipy.spatial import cKDTree

        self._coordinates = np.ascontiguousarray(coordinates, dtype=np.float64)
        count, dims = self._coordinates.shape
        self._pairs = tuple(combinations_with_replacement(range(dims), 2))
        places, nearest = first_of_each_place(self._coordinates), NEIGHBOURS[dims]
        if len(places) <= nearest:
            raise SchemaError(
                f"curvature on scattered points takes {nearest} neighbours of each, and there are {len(places)} places "
                f"only; use 'gradient' or 'temporal_change'"
            )
        self._neighbours = np.empty((count, nearest), dtype=np.int32)
        self._operator = np.empty((count, len(self._pairs), nearest))
        self._scale = np.empty(count)
        tree = cKDTree(self._coordinates[places])
        for block in self._blocks():
            # The place itself is the nearest one.
            distances, found = tree.query(self._coordinates[block], k=list(range(2, nearest + 2)))
            self._neighbours[block] = places[found]
            self._scale[block] = distances[:, -1]
            self._operator[block] = self._fit(block)

    def squared_norm(self, values: Float64[np.ndarray, "channel point"]) -> Float64[np.ndarray, "channel point"]:
        """Return the squared Frobenius norm of the Hessian of every channel at every point."""
        squares = np.empty_like(values)
        # An entry off the diagonal stands for two.
        weights = np.array([1.0 if first == second else 2.0 for first, second in self._pairs])
        for block in self._blocks():
            for channel, result in zip(values, squares, strict=True):
                changes = channel[self._neighbours[block]] - channel[block, None]
                entries = np.einsum("pen,pn->pe", self._operator[block], changes)
                entries /= np.square(self._scale[block, None])
                result[block] = np.square(entries) @ weights
                unknown = np.isnan(result[block]) & ~np.isnan(channel[block])
                result[block][unknown] = 0.0
        return squares

    def _blocks(self) -> Iterator[slice]:
        for start in range(0, len(self._coordinates), _BLOCK_POINTS):
            yield slice(start, start + _BLOCK_POINTS)

    def _fit(self, block: slice) -> Float64[np.ndarray, "point entry neighbour"]:
        """Return what makes the entries of the Hessian of the changes to the neighbours."""
        offsets = self._coordinates[self._neighbours[block]] - self._coordinates[block, None]
        offsets /= self._scale[block, None, None]
        extents, axes = np.linalg.eigh(np.einsum("pnd,pne->pde", offsets, offsets))
        flat = extents[:, 0] <= LEAST_RATIO**2 * extents[:, -1]
        # A flat neighbourhood is refused below; until then it must not divide by zero.
        turn = axes / np.sqrt(np.where(flat[:, None], 1.0, extents))[:, None, :]
        along = offsets @ turn
        products = [along[..., i] * along[..., j] * (0.5 if i == j else 1.0) for i, j in self._pairs]
        terms = np.concatenate([along, np.stack(products, axis=-1)], axis=-1)
        # Of length 1 each, so that the ratio of singular values tells of directions, not of sizes.
        lengths = np.linalg.norm(terms, axis=1, keepdims=True)
        left, sizes, right = np.linalg.svd(terms / np.where(lengths > 0, lengths, 1.0), full_matrices=False)
        self._refuse_undetermined(flat | (sizes[:, -1] < LEAST_RATIO * sizes[:, 0]), block)
        solved = np.einsum("pkt,pk,pnk->ptn", right, 1 / sizes, left) / lengths.swapaxes(1, 2)
        return self._turn_back(solved[:, offsets.shape[2] :], turn)

    def _turn_back(
        self, solved: Float64[np.ndarray, "point entry neighbour"], turn: Float64[np.ndarray, "point dim dim"]
    ) -> Float64[np.ndarray, "point entry neighbour"]:
        """Take Hessians along the principal axes back to those of the coordinates: H = T H' T^T."""
        dims = turn.shape[1]
        whole = np.empty((len(solved), dims, dims, solved.shape[2]))
        for number, (first, second) in enumerate(self._pairs):
            whole[:, first, second] = whole[:, second, first] = solved[:, number]
        back = np.einsum("pik,pkln,pjl->pijn", turn, whole, turn)
        return np.stack([back[:, first, second] for first, second in self._pairs], axis=1)

    def _refuse_undetermined(self, bad: np.ndarray, block: slice) -> None:
        if not bad.any():
            return
        point = block.start + int(np.argmax(bad))
        place = ", ".join(f"{value:g}" for value in self._coordinates[point])
        raise SchemaError(
            f"curvature on scattered points: the {self._neighbours.shape[1]} nearest neighbours of point {point} at "
            f"({place}) determine no quadratic: they lie on a line, a surface or a circle, as those of a mesh of a "
            f"surface do; use 'gradient' or 'temporal_change'"
        )
