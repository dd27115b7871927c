"""Second derivatives on scattered points by local least squares: no cells, no grid, exact for quadratic fields.

At point i with neighbours j: the gradient g and the symmetric Hessian H that minimise the sum over j of
(u_j - u_i - g . d_j - d_j . H d_j / 2)^2, with d_j = x_j - x_i. Offsets are first taken along the principal axes of the
neighbourhood, each in units of its own extent: so a stretched cloud is fitted as well as a round one.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32

from ups_data.errors import SchemaError
from ups_data.importance.cloud_fit import CloudFit, Fit, Norm
from ups_data.importance.neighbours import Neighbours

NEIGHBOURS = {1: 6, 2: 12, 3: 24}
"""Neighbours of a point, by dimensions: about twice as many as a quadratic has coefficients (2, 5, 9)."""

LEAST_RATIO = 1e-4
"""A fit whose smallest singular value is less than this part of its largest is not determined by the neighbours."""


class CloudHessian(CloudFit):
    """The Hessian at every point of a cloud, made ready once and taken of many frames.

    Where values are missing (NaN), a Hessian that needs one of them counts as zero, and as missing where its own value
    is. `squared_norms`, of the Frobenius norm, raises a `SchemaError` that names the point where neighbours determine
    no quadratic: too few points, or points on a line, a surface, a circle.

    Made ready are 8 bytes times neighbours times entries of the Hessian, 4 bytes a neighbour and 8 for the scale, a
    point: 344 bytes in the plane, 1,256 in space, a GiB for 3 million and 850,000 points. To make it again takes some
    50 microseconds a point in space.

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
        dims = coordinates.shape[1]
        self._pairs = tuple(combinations_with_replacement(range(dims), 2))
        self._nearest = NEIGHBOURS[dims]
        fit_bytes = 8 * len(self._pairs) * self._nearest + 4 * self._nearest + 8
        # The place itself is the nearest one.
        super().__init__(coordinates, order, folder, num_found=self._nearest + 1, fit_bytes=fit_bytes)

    def _choose(
        self, nearest: Neighbours
    ) -> tuple[Int32[np.ndarray, "point neighbour"], Float64[np.ndarray, " point"]]:
        found = np.isfinite(nearest.distances[0])
        if not found.all():
            raise SchemaError(
                f"curvature on scattered points takes {self._nearest} neighbours of each, and there are {found.sum()} "
                f"places only; use 'gradient' or 'temporal_change'"
            )
        return np.ascontiguousarray(nearest.points[:, 1:]), np.ascontiguousarray(nearest.distances[:, -1])

    def _norm(self, points: Int32[np.ndarray, " point"], fit: Fit) -> Norm:  # noqa: ARG002  of the contract
        # An entry off the diagonal stands for two.
        weights = np.array([1.0 if first == second else 2.0 for first, second in self._pairs])

        def norm(
            values: Float64[np.ndarray, " point"], changes: Float64[np.ndarray, "point neighbour"]
        ) -> Float64[np.ndarray, " point"]:
            entries = np.einsum("pen,pn->pe", fit.operator, changes)
            entries /= np.square(fit.scale[:, None])
            squares: Float64[np.ndarray, " point"] = np.square(entries) @ weights
            squares[np.isnan(squares) & ~np.isnan(values)] = 0.0
            return squares

        return norm

    def _solve(
        self, points: Int32[np.ndarray, " point"], offsets: Float64[np.ndarray, "point neighbour dim"]
    ) -> Float64[np.ndarray, "point entry neighbour"]:
        """Return what makes the entries of the Hessian of the changes to the neighbours."""
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
        self._refuse_undetermined(flat | (sizes[:, -1] < LEAST_RATIO * sizes[:, 0]), points)
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

    def _refuse_undetermined(self, bad: Bool[np.ndarray, " point"], points: Int32[np.ndarray, " point"]) -> None:
        if not bad.any():
            return
        point = int(points[np.argmax(bad)])
        place = ", ".join(f"{value:g}" for value in self._search.places_of(points[np.argmax(bad)][None])[0])
        raise SchemaError(
            f"curvature on scattered points: the {self._nearest} nearest neighbours of point {point} at "
            f"({place}) determine no quadratic: they lie on a line, a surface or a circle, as those of a mesh of a "
            f"surface do; use 'gradient' or 'temporal_change'"
        )
