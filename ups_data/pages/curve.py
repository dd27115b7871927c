"""Space-filling curves: one integer key a point, such that near keys are near points.

Hilbert keys follow J. Skilling, "Programming the Hilbert curve", AIP Conf. Proc. 707 (2004), vectorised over
points; Morton keys interleave the bits of the coordinates. 1-D keys are the coordinates themselves.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int32, UInt64

from ups_data.schema import CurveName

_CLOUD_BITS = {1: 32, 2: 26, 3: 20}
# Keys of so many points are worked out at once.
_BLOCK_POINTS = 2**20


def grid_order(shape: tuple[int, ...], *, curve: CurveName) -> Int32[np.ndarray, " point"]:
    """Return the point ids of a grid in curve order.

    Any shape will do: the curve of the smallest cube 2**b per axis that holds the grid is followed, and what lies
    outside of the grid is left out. Memory: 20 bytes a point while it is made, 4 when it is.
    """
    size = math.prod(shape)
    bits = max(1, (max(shape) - 1).bit_length())
    keys = np.empty(size, dtype=np.uint64)
    for start in range(0, size, _BLOCK_POINTS):
        ids = np.arange(start, min(start + _BLOCK_POINTS, size))
        places = np.stack(np.unravel_index(ids, shape)).astype(np.uint64)
        keys[ids[0] : ids[-1] + 1] = _keys(places, bits, curve)
    return _sort(keys)


def cloud_order(coordinates: Float[np.ndarray, "point dim"], *, curve: CurveName) -> Int32[np.ndarray, " point"]:
    """Return the point ids of a cloud in curve order.

    Coordinates are scaled by the longest side of the bounding box, so lengths keep their proportions; points that
    fall into one cell of the finest curve keep their order. Memory as for grids.
    """
    lowest = coordinates.min(axis=0).astype(np.float64)
    extent = float((coordinates.max(axis=0) - lowest).max()) or 1.0
    bits = _CLOUD_BITS[coordinates.shape[1]]
    keys = np.empty(len(coordinates), dtype=np.uint64)
    for start in range(0, len(coordinates), _BLOCK_POINTS):
        part = slice(start, start + _BLOCK_POINTS)
        scaled = (coordinates[part].astype(np.float64, copy=False) - lowest) / extent * (2.0**bits - 1)
        keys[part] = _keys(scaled.T.astype(np.uint64), bits, curve)
    return _sort(keys)


def _sort(keys: UInt64[np.ndarray, " point"]) -> Int32[np.ndarray, " point"]:
    return np.argsort(keys, kind="stable").astype(np.int32)


def _keys(places: UInt64[np.ndarray, "dim point"], bits: int, curve: CurveName) -> UInt64[np.ndarray, " point"]:
    if len(places) == 1:
        return places[0]
    if curve == "hilbert":
        places = _hilbert_transpose(places.copy(), bits)
    return _interleave(places, bits)


def _interleave(places: UInt64[np.ndarray, "dim point"], bits: int) -> UInt64[np.ndarray, " point"]:
    keys = np.zeros(places.shape[1], dtype=np.uint64)
    for bit in range(bits - 1, -1, -1):
        for place in places:
            keys = (keys << np.uint64(1)) | ((place >> np.uint64(bit)) & np.uint64(1))
    return keys


def _hilbert_transpose(places: UInt64[np.ndarray, "dim point"], bits: int) -> UInt64[np.ndarray, "dim point"]:
    """Turn coordinates into the transposed Hilbert index in place (Skilling 2004, AxestoTranspose)."""
    one = np.uint64(1)
    for level in range(bits - 1, 0, -1):
        bit, below = one << np.uint64(level), (one << np.uint64(level)) - one
        for dim, place in enumerate(places):
            swap = np.where(place & bit, np.uint64(0), (places[0] ^ place) & below)
            places[0] ^= np.where(place & bit, below, swap)
            places[dim] ^= swap
    for dim in range(1, len(places)):
        places[dim] ^= places[dim - 1]
    flip = np.zeros(places.shape[1], dtype=np.uint64)
    for level in range(bits - 1, 0, -1):
        bit = one << np.uint64(level)
        flip ^= np.where(places[-1] & bit, bit - one, np.uint64(0))
    places ^= flip
    return places
