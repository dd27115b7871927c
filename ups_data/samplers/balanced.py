"""Balanced draws: strata in proportion to their points."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from ups_data.pages import PageLayout, page_shares
from ups_data.samplers.base import DrawKey
from ups_data.samplers.page_sampler import PageSampler
from ups_data.samplers.schedule import Schedule
from ups_data.samplers.weights import Weights


class BalancedSampler(PageSampler):
    """Spreads points evenly over the domain: every stratum gets pages in proportion to its size.

    Args:
        ratio: drawn points / points of the trajectory; a number in (0, 1] or a schedule. Or
        num_queries: points to draw; a number or a schedule. Both are rounded to whole pages.
        weights: see `Weights`.
        walk: whether starts walk through all pages epoch by epoch.
    """

    def __init__(
        self,
        ratio: float | Schedule | None = None,
        num_queries: int | Schedule | None = None,
        *,
        weights: str | Weights = "unbiased",
        walk: bool = True,
    ) -> None:
        super().__init__(ratio, num_queries, weights=weights, walk=walk)

    def shares(
        self,
        layout: PageLayout,
        key: DrawKey,  # noqa: ARG002  of the contract
    ) -> Float64[np.ndarray, " stratum"]:
        """Return the share of each stratum in the points of the trajectory."""
        return page_shares(layout, uniform_share=1.0)
