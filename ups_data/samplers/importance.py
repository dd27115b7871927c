"""Importance draws: more pages for the strata where the field is sharp, weights to match."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from ups_data.pages import PageLayout, page_shares
from ups_data.samplers.base import DrawKey
from ups_data.samplers.page_sampler import PageSampler
from ups_data.samplers.schedule import Schedule, share_of
from ups_data.samplers.weights import Weights


class ImportanceSampler(PageSampler):
    """Gives each stratum the share lambda * N_s / N + (1 - lambda) * m_s of the pages, m_s its importance.

    Args:
        ratio: drawn points / points of the trajectory; a number in (0, 1] or a schedule. Or
        num_queries: points to draw; a number or a schedule. Both are rounded to whole pages.
        uniform_share: lambda in [0, 1], a number or a schedule; 1 is the balanced draw. No weight is far above
            1 / lambda times the mean one.
        weights: see `Weights`.
        walk: whether starts walk through all pages epoch by epoch.
    """

    def __init__(
        self,
        ratio: float | Schedule | None = None,
        num_queries: int | Schedule | None = None,
        *,
        uniform_share: float | Schedule = 0.25,
        weights: str | Weights = "unbiased",
        walk: bool = True,
    ) -> None:
        super().__init__(ratio, num_queries, weights=weights, walk=walk)
        self.uniform_share = share_of("uniform_share", uniform_share)

    def shares(self, layout: PageLayout, key: DrawKey) -> Float64[np.ndarray, " stratum"]:
        """Return the mixture of size and importance."""
        return page_shares(layout, uniform_share=self.uniform_share(key.step))
