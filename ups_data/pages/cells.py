"""Cells: runs of neighbours along a space-filling curve, as equal in size as can be."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

_SAME = 1e-9  # relative difference below which squared distances are equal but for rounding


def cut_cells(num_points: int, num_cells: int) -> Int64[np.ndarray, " cell"]:
    """Return how many points each cell has: floor or ceil of num_points / num_cells, adding up exactly."""
    ends = np.arange(1, num_cells + 1, dtype=np.int64) * num_points // num_cells
    return np.diff(ends, prepend=0)


def central_places(
    coordinates: Float64[np.ndarray, "point dim"], sizes: Int64[np.ndarray, " cell"]
) -> Int64[np.ndarray, " cell"]:
    """Return the place, in each cell, of the point nearest to the mean of the cell's points.

    Of equally near ones cells take turns: on a grid, where most cells have several, always taking the first would move
    all points of the set to one side.

    The value at the middle of a cell is its mean to second order in the size of the cell, where that at any other
    point is so to first order only (the midpoint rule).

    Args:
        coordinates: of all points along the curve.
        sizes: points of each cell.
    """
    starts = np.cumsum(sizes) - sizes
    middles = np.add.reduceat(coordinates, starts) / sizes[:, None]
    distances = np.square(coordinates - np.repeat(middles, sizes, axis=0)).sum(axis=1)
    least = np.minimum.reduceat(distances, starts)
    nearest = np.flatnonzero(distances <= np.repeat(least, sizes) * (1 + _SAME) + np.finfo(np.float64).tiny)
    first = np.searchsorted(nearest, starts)
    ties = np.diff(first, append=nearest.size)
    return nearest[first + np.arange(sizes.size) % ties] - starts
