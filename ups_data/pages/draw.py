"""Draw pages: how many of each stratum, which ones, and the exact weight of every point on them.

A draw takes from stratum s a cyclic run of k_s consecutive pages out of R_s, from a start that is uniform over the
R_s pages. Each point lies on exactly one page, so its inclusion probability is k_s / R_s and

    sum over drawn points i of (R_s / k_s) / N * f_i

is an unbiased estimate of the mean of f over the trajectory's N points, for every f and every choice of k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from ups_data.errors import SamplerError
from ups_data.pages.layout import PageLayout


@dataclass(frozen=True, kw_only=True, eq=False)
class PageDraw:
    """Pages to read for one sample.

    Attributes:
        pages: page numbers in the trajectory, each once; runs of neighbours are read as one range.
        weights: weight of every point of the page, (R_s / k_s) / N.
        strata: number of the stratum of each page, rising; None where a sampler does not tell.
    """

    pages: Int64[np.ndarray, " page"]
    weights: Float64[np.ndarray, " page"]
    strata: Int64[np.ndarray, " page"] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class PointDraw:
    """Points to read for one sample, where a sampler does not go by pages.

    Attributes:
        points: rising point ids, each once.
        weights: weight of each point.
    """

    points: Int64[np.ndarray, " query"]
    weights: Float64[np.ndarray, " query"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CellDraw:
    """One point of each cell, where a cell is a run of neighbours along a space-filling curve through all points.

    Attributes:
        sizes: points of each cell, along the curve.
        places: place of the chosen point in its cell, from 0; None for the point nearest to the middle of the cell.
        weights: weight of each point: the share of its cell in all points.
    """

    sizes: Int64[np.ndarray, " cell"]
    places: Int64[np.ndarray, " cell"] | None
    weights: Float64[np.ndarray, " cell"]


def page_shares(layout: PageLayout, *, uniform_share: float) -> Float64[np.ndarray, " stratum"]:
    """Return share_s = lambda * N_s / N + (1 - lambda) * m_s / sum m, with lambda = `uniform_share`."""
    by_size = layout.stratum_points / layout.num_points
    return uniform_share * by_size + (1 - uniform_share) * layout.stratum_mass


def page_budgets(
    layout: PageLayout, *, num_pages: int, shares: Float64[np.ndarray, " stratum"]
) -> Int64[np.ndarray, " stratum"]:
    """Split `num_pages` pages among the strata in proportion to `shares`.

    Budgets add up exactly and lie between 1 and R_s for every stratum that has pages: shares are scaled until
    they fit within these bounds, then rounded by largest remainder, ties to the more important stratum.

    Raises:
        SamplerError: fewer pages than strata, or more than there are.
    """
    capacity = layout.stratum_pages
    floor = np.minimum(capacity, 1)
    if not floor.sum() <= num_pages <= capacity.sum():
        raise SamplerError(
            f"a draw of {num_pages} pages of {layout.page_points} points cannot be split among {floor.sum()} strata "
            f"with {capacity.sum()} pages in all; ask for {floor.sum() * layout.page_points} to {layout.num_points} "
            f"queries, or convert with smaller pages or fewer strata"
        )
    exact = _scale_within(np.maximum(shares, 1e-12) * (capacity > 0), floor, capacity, num_pages)
    budgets = np.clip(np.floor(exact + 1e-9).astype(np.int64), floor, capacity)
    remainder = np.where(budgets < capacity, exact - budgets, -np.inf)
    missing = num_pages - int(budgets.sum())
    budgets[np.argsort(-remainder, kind="stable")[:missing]] += 1
    return budgets


def _scale_within(
    shares: Float64[np.ndarray, " stratum"],
    floor: Int64[np.ndarray, " stratum"],
    capacity: Int64[np.ndarray, " stratum"],
    total: int,
) -> Float64[np.ndarray, " stratum"]:
    """Return clip(c * shares, floor, capacity) for the c at which it adds up to `total`.

    The sum is piecewise linear and rising in c: c follows from its values at the points where a bound begins to hold.
    """
    used = shares > 0
    corners = np.sort(np.concatenate([floor[used] / shares[used], capacity[used] / shares[used]]))
    sums = np.clip(corners[:, None] * shares, floor, capacity).sum(axis=1)
    return np.clip(np.interp(total, sums, corners) * shares, floor, capacity)


def draw_pages(
    layout: PageLayout, *, budgets: Int64[np.ndarray, " stratum"], starts: Int64[np.ndarray, " stratum"]
) -> PageDraw:
    """Take from each stratum the cyclic run of `budgets[s]` pages that begins at page `starts[s]` of it."""
    first_pages = np.cumsum(layout.stratum_pages) - layout.stratum_pages
    pages, weights, strata = [], [], []
    for stratum, (first, size) in enumerate(zip(first_pages, layout.stratum_pages, strict=True)):
        if size:
            budget = budgets[stratum]
            pages.append(first + np.sort((starts[stratum] + np.arange(budget)) % size))
            weights.append(np.full(budget, size / budget / layout.num_points))
            strata.append(np.full(budget, stratum))
    return PageDraw(pages=np.concatenate(pages), weights=np.concatenate(weights), strata=np.concatenate(strata))
