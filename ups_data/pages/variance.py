"""The exact variance of a draw, from all of its starts: nothing is drawn.

A draw takes a cyclic run of k_s pages from each stratum, from a start that is uniform over its R_s pages, so what a
stratum adds to the estimate takes R_s values. Their variance over the starts, added up over the strata (whose starts
are independent), is the variance of the estimate, whatever the dealing, the budgets and the integrand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Integer

from ups_data.pages.draw import PageDraw
from ups_data.pages.layout import PageLayout


def draw_variances(
    layout: PageLayout,
    index: Integer[np.ndarray, "page entry"],
    draws: Sequence[PageDraw],
    values: Float64[np.ndarray, "point integrand"],
) -> Float64[np.ndarray, "draw integrand"]:
    """Return the variance of the estimated means of integrands over all draws with the budgets of each of `draws`.

    The estimand is the mean over the points that may be drawn, the weights are the unbiased ones.

    Args:
        layout: the layout.
        index: the point at every entry of every page that may be drawn (R, P), -1 for padding.
        draws: any draws; what counts is how many pages of each stratum they take.
        values: integrands at all points of the trajectory; 0 at those that may not be drawn.
    """
    ends = np.cumsum(layout.stratum_pages)
    drawn = [np.bincount(np.searchsorted(ends, draw.pages, side="right"), minlength=ends.size) for draw in draws]
    variances = np.zeros((len(draws), values.shape[1]))
    for stratum, (end, pages) in enumerate(zip(ends, layout.stratum_pages, strict=True)):
        if pages:
            sums = page_sums(index[end - pages : end], values)
            for number, budgets in enumerate(drawn):
                variances[number] += run_estimates(sums, int(budgets[stratum]), layout.num_points).var(axis=0)
    return variances


def run_estimates(
    sums: Float64[np.ndarray, "page integrand"], budget: int, num_points: int
) -> Float64[np.ndarray, "page integrand"]:
    """Return what a stratum adds to an estimate from each of its starts, by a cyclic run of `budget` pages.

    Args:
        sums: of the integrands over the points of each of its pages.
        budget: pages of a run.
        num_points: of all strata.
    """
    pages = len(sums)
    around = np.cumsum(np.concatenate([np.zeros_like(sums[:1]), sums, sums[:budget]]), axis=0)
    return (around[budget : budget + pages] - around[:pages]) * (pages / budget / num_points)


def uniform_variance(
    values: Float64[np.ndarray, "drawn integrand"], num_queries: float
) -> Float64[np.ndarray, " integrand"]:
    """Return the variance of the mean of `num_queries` points that are drawn at random without replacement.

    Args:
        values: integrands at all points that may be drawn, at least two.
        num_queries: size of the draw; the mean size of a draw that it is held against.
    """
    return (1 / num_queries - 1 / len(values)) * values.var(axis=0, ddof=1)


def page_sums(
    index: Integer[np.ndarray, "page entry"], values: Float64[np.ndarray, "point integrand"]
) -> Float64[np.ndarray, "page integrand"]:
    """Return the sums of integrands over the points of each page; padding, -1, adds nothing."""
    padded = np.concatenate([values, np.zeros_like(values[:1])])
    return np.stack([column[index].sum(axis=1) for column in padded.T], axis=1)
