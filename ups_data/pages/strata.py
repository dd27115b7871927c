"""Cut the points of a trajectory into bands of importance, in whole pages."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

_BINS = 4096


def cut_strata(
    importance: Float[np.ndarray, " point"],
    order: Int64[np.ndarray, " point"],
    *,
    page_points: int,
    num_strata: int,
    block_points: int,
) -> tuple[Int64[np.ndarray, " point"], Int64[np.ndarray, " stratum"]]:
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
        ranking: point ids, most important first; ties in curve order.
        stratum_pages: pages of each stratum (num_strata,), 0 for strata that could not be filled.
    """
    pooled = pool_blocks(importance[order], block_points)
    ranking = order[np.argsort(-pooled, kind="stable")]
    num_pages = -(-importance.size // page_points)
    filled = min(num_strata, num_pages)
    cuts = _cumulative_sqrt_cuts(pooled, filled) / page_points
    # Every stratum keeps at least one page: lift cuts that coincide, then push back those that ran over the end.
    steps = np.arange(filled - 1)
    cuts = np.maximum.accumulate(np.maximum(np.rint(cuts).astype(np.int64), 1) - steps) + steps
    cuts = np.minimum(cuts, num_pages - filled + 1 + steps)
    stratum_pages = np.zeros(num_strata, dtype=np.int64)
    stratum_pages[:filled] = np.diff(np.concatenate([[0], cuts, [num_pages]]))
    return ranking, stratum_pages


def _cumulative_sqrt_cuts(importance: Float[np.ndarray, " point"], num_strata: int) -> Float[np.ndarray, " cut"]:
    """Return how many points lie above each of the num_strata - 1 cuts, falling importance."""
    counts, _ = np.histogram(importance, bins=_BINS)
    counts = counts[::-1]
    steps = np.cumsum(np.sqrt(counts))
    levels = steps[-1] * np.arange(1, num_strata) / num_strata
    return np.interp(levels, steps, np.cumsum(counts))


def pool_blocks(values: Float[np.ndarray, " point"], block_points: int) -> Float[np.ndarray, " point"]:
    """Replace each value by the mean of its run of `block_points` consecutive values."""
    starts = np.arange(0, values.size, block_points)
    lengths = np.diff(np.append(starts, values.size))
    return np.repeat(np.add.reduceat(values, starts) / lengths, lengths)
