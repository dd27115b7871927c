"""Samplers that read whole pages: the share of each stratum decides what they are."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from jaxtyping import Float64, Int64

from ups_data.errors import SamplerError
from ups_data.pages import PageDraw, PageLayout, draw_pages, page_budgets
from ups_data.random import Stream, generator
from ups_data.samplers.base import Amount, DrawKey, Sampler
from ups_data.samplers.schedule import Schedule
from ups_data.samplers.weights import Weights


class PageSampler(Sampler):
    """Draws a cyclic run of pages from each stratum.

    The number of points is rounded to the nearest number of whole pages. With `walk=True` the start of a
    sample's runs is uniform and then moves on by the budget from epoch to epoch, so that every point of the
    trajectory is seen within ceil(R_s / k_s) epochs, as long as budgets stay the same (schedules and feedback change
    them); with `walk=False` it is drawn anew. Either way every single draw starts uniformly, which is what makes its
    weights exact.
    """

    def __init__(
        self,
        ratio: float | Schedule | None,
        num_queries: int | Schedule | None,
        *,
        weights: str | Weights,
        walk: bool,
    ) -> None:
        super().__init__(weights)
        self.amount = Amount.of(ratio, num_queries)
        self.walk = walk

    @abstractmethod
    def shares(self, layout: PageLayout, key: DrawKey) -> Float64[np.ndarray, " stratum"]:
        """Return the share of each stratum in the pages of a draw."""

    def num_pages(self, layout: PageLayout, step: int) -> int:
        """Return how many pages a draw takes: those of the asked points, rounded to the nearest, at least one."""
        # Of all pages, which hold padding too: asked for every point, every page is drawn.
        return max(1, round(self.amount.points(layout, step) / layout.num_points * layout.num_pages))

    def most_queries(self, num_points: Int64[np.ndarray, " size"], page_points: int) -> int:
        """Return a bound on the points of a draw, at any global step: its pages, none of them with padding."""
        most = self.amount.most_points(num_points)
        # Of q points, round(q / N * ceil(N / P)) pages: at most q / P + q / N + 1/2, and a draw has no more than N.
        pages = np.floor(most / page_points + 1.5)
        return int(np.minimum(pages * page_points, num_points).max())

    def draw(self, layout: PageLayout, key: DrawKey) -> PageDraw:
        """Draw pages with their unbiased weights.

        Raises:
            SamplerError: fewer pages than strata, or more points than there are.
        """
        points = self.amount.points(layout, key.step)
        num_pages = self.num_pages(layout, key.step)
        if num_pages < layout.num_strata:
            raise SamplerError(
                f"{points} queries are {num_pages} pages of {layout.page_points} points, fewer than the "
                f"{layout.num_strata} strata of the store; ask for at least {layout.num_strata * layout.page_points} "
                f"queries, or convert with smaller pages (page_points) or fewer strata (num_strata)"
            )
        budgets = page_budgets(layout, num_pages=num_pages, shares=self.shares(layout, key))
        return draw_pages(layout, budgets=budgets, starts=self._starts(layout, budgets, key))

    def _starts(
        self, layout: PageLayout, budgets: Int64[np.ndarray, " stratum"], key: DrawKey
    ) -> Int64[np.ndarray, " stratum"]:
        words = (key.sample, 0 if self.walk else key.epoch + 1)
        random = generator(seed=key.seed, stream=Stream.DRAW, words=words)
        sizes = np.maximum(layout.stratum_pages, 1)
        first = random.integers(sizes)
        return (first + key.epoch * budgets) % sizes if self.walk else first
