"""Cut the points of a trajectory into bands of importance, in whole pages."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64, Integer, UInt8

_BINS = 4096
_ROUNDING = 2 * _BINS * np.finfo(np.float64).eps
_SLICE_POINTS = 2**20


def cut_strata(
    importance: Float[np.ndarray, " point"],
    order: Integer[np.ndarray, " point"],
    *,
    page_points: int,
    num_strata: int,
    block_points: int,
) -> tuple[UInt8[np.ndarray, " point"], Int64[np.ndarray, " stratum"]]:
    """Rank points by falling importance of their block and cut the ranking into strata.

    A block is a run of consecutive points in curve order, so a stratum is made of compact pieces of the domain
    and a draw can spread over it evenly; strata of scattered single points lose that (on 2-D turbulence at 2 % the
    variance of a draw was 1.3 times as large, see docs/format.md).

    Cuts follow the cumulative square root of the frequency (Dalenius and Hodges 1959): equal steps of the sum of
    sqrt(count) over a histogram of the importance. Each cut is then moved to a whole number of pages, so
    that every page is full but those of the last stratum, which is the one of lowest importance.

    Args:
        importance: non-negative and finite, one value a point.
        order: point ids in curve order.
        page_points: entries of a page, P.
        block_points: points of a block; 1 ranks each point by itself.
        num_strata: bands wanted; as many as there are pages where there are fewer.

    Returns:
        bands: stratum of each point, in curve order, 0 for the most important; within a block that a cut parts, the
            first points of the curve are the more important ones.
        stratum_pages: pages of each stratum (num_strata,), 0 for strata that could not be filled.
    """
    size = importance.size
    starts = np.arange(0, size, block_points)
    lengths = np.diff(np.append(starts, size))
    means = block_means(importance, order, block_points)
    num_pages = -(-size // page_points)
    filled = min(num_strata, num_pages)
    cuts = _cumulative_sqrt_cuts(means, lengths, filled) / page_points
    # Every stratum keeps at least one page: lift cuts that coincide, then push back those that ran over the end.
    steps = np.arange(filled - 1)
    cuts = np.maximum.accumulate(np.maximum(np.rint(cuts).astype(np.int64), 1) - steps) + steps
    cuts = np.minimum(cuts, num_pages - filled + 1 + steps)
    stratum_pages = np.zeros(num_strata, dtype=np.int64)
    stratum_pages[:filled] = np.diff(np.concatenate([[0], cuts, [num_pages]]))
    return _bands(means, starts, lengths, cuts * page_points), stratum_pages


def _bands(
    means: Float[np.ndarray, " block"],
    starts: Int64[np.ndarray, " block"],
    lengths: Int64[np.ndarray, " block"],
    ends: Int64[np.ndarray, " cut"],
) -> UInt8[np.ndarray, " point"]:
    """Return the stratum of each point, in curve order, from the ranks at which all strata but the last end."""
    ranked = np.argsort(-means, kind="stable")
    first_rank = np.empty_like(starts)
    first_rank[ranked] = np.cumsum(lengths[ranked]) - lengths[ranked]
    bands = np.repeat(np.searchsorted(ends, first_rank, side="right").astype(np.uint8), lengths)
    for stratum, end in enumerate(ends.tolist()):
        # The one block that this cut parts, if it parts any: its points from the cut on are of a later stratum.
        parted = np.flatnonzero((first_rank < end) & (end < first_rank + lengths))
        for block in parted.tolist():
            begin = starts[block] + end - first_rank[block]
            bands[begin : starts[block] + lengths[block]] = stratum + 1
    return bands


def _cumulative_sqrt_cuts(
    means: Float[np.ndarray, " block"], lengths: Int64[np.ndarray, " block"], num_strata: int
) -> Float[np.ndarray, " cut"]:
    """Return how many points lie above each of the num_strata - 1 cuts, falling importance."""
    if np.ptp(means) <= _ROUNDING * means.max():
        # Alike but for rounding, as the gradients of a linear field are: there are no bins between such numbers.
        means = np.zeros_like(means)
    counts = np.histogram(means, bins=_BINS, weights=lengths)[0][::-1]
    steps = np.cumsum(np.sqrt(counts))
    levels = steps[-1] * np.arange(1, num_strata) / num_strata
    return np.interp(levels, steps, np.cumsum(counts))


def block_means(
    importance: Float[np.ndarray, " point"], order: Integer[np.ndarray, " point"], block_points: int
) -> Float64[np.ndarray, " block"]:
    """Return the mean importance of each run of `block_points` consecutive points of the curve."""
    size = importance.size
    means = np.empty(-(-size // block_points))
    step = block_points * max(1, _SLICE_POINTS // block_points)
    for start in range(0, size, step):
        values = importance[order[start : start + step]].astype(np.float64)
        places = np.arange(0, values.size, block_points)
        sums = np.add.reduceat(values, places)
        means[start // block_points :][: places.size] = sums / np.diff(np.append(places, values.size))
    return means
