"""Gradients on scattered points by local least squares: no cells, no grid, exact for linear fields.

At point i with neighbours j: the g that minimises the sum over j of (u_j - u_i - g . (x_j - x_i))^2, which is
g = A^+ b with A the sum of (x_j - x_i)(x_j - x_i)^T and b that of (x_j - x_i)(u_j - u_i).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, Int32

from ups_data.importance.cloud_fit import CloudFit, Fit, Norm
from ups_data.importance.neighbours import Neighbours

NEIGHBOURS_PER_DIM = 4
"""Neighbours of a point: 4 on a line, 8 in the plane, 12 in space."""

LEAST_EXTENT = 0.1
"""A neighbourhood that reaches less than this far in a direction, relative to its longest, is flat in it."""


class CloudGradient(CloudFit):
    """The gradient at every point of a cloud, made ready once and taken of many frames.

    Where a neighbourhood is flat (points of a surface in space, of a line in the plane, all of a cloud of few points)
    only the gradient along it is known, and what is across counts as zero. A cloud of fewer places than a neighbourhood
    is one neighbourhood, and that of a single place has gradient zero. Missing values are NaN and no one's neighbours.

    Made ready are 4 bytes a neighbour, 8 D^2 + 8 for A^+ and the scale, a point: 132 bytes in space, 76 in the plane, a
    GiB for 8 million points in space. To make it again takes some 15 microseconds a point.

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
        # The place itself is the nearest one, and a neighbour at no distance.
        nearest = NEIGHBOURS_PER_DIM * dims + 1
        super().__init__(coordinates, order, folder, num_found=nearest, fit_bytes=4 * nearest + 8 * dims**2 + 8)

    def _choose(
        self, nearest: Neighbours
    ) -> tuple[Int32[np.ndarray, "point neighbour"], Float64[np.ndarray, " point"]]:
        farthest = np.where(np.isfinite(nearest.distances), nearest.distances, 0.0).max(axis=1)
        return nearest.points, np.where(farthest > 0, farthest, 1.0)

    def _solve(
        self,
        points: Int32[np.ndarray, " point"],  # noqa: ARG002  of the contract
        offsets: Float64[np.ndarray, "point neighbour dim"],
    ) -> Float64[np.ndarray, "point dim dim"]:
        return _pseudo_inverse(offsets)

    def _norm(self, points: Int32[np.ndarray, " point"], fit: Fit) -> Norm:
        offsets = self._offsets(points, fit.neighbours, fit.scale)

        def norm(
            values: Float64[np.ndarray, " point"], changes: Float64[np.ndarray, "point neighbour"]
        ) -> Float64[np.ndarray, " point"]:
            inverse = fit.operator
            if np.isnan(changes).any():
                inverse = self._leave_out_missing(inverse, offsets, changes)
            moments = np.einsum("pnd,pn->pd", offsets, np.nan_to_num(changes, copy=False))
            gradient = np.einsum("pde,pe->pd", inverse, moments) / fit.scale[:, None]
            return np.where(np.isnan(values), np.nan, np.square(gradient).sum(axis=1))

        return norm

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


def _pseudo_inverse(offsets: Float64[np.ndarray, "point neighbour dim"]) -> Float64[np.ndarray, "point dim dim"]:
    """Invert A on the directions in which a neighbourhood extends, by its principal axes."""
    extents, axes = np.linalg.eigh(np.einsum("pnd,pne->pde", offsets, offsets))
    there = (extents > LEAST_EXTENT**2 * extents[:, -1:]) & (extents[:, -1:] > 0)
    inverse = np.where(there, 1.0, 0.0) / np.where(there, extents, 1.0)
    return np.einsum("pdk,pk,pek->pde", axes, inverse, axes)
