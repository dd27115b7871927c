"""Samplers that take points from anywhere: how many is all that bounds a draw."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from ups_data.samplers.base import Amount, Sampler
from ups_data.samplers.schedule import Schedule
from ups_data.samplers.weights import Weights


class PointSampler(Sampler):
    """Draws exactly the asked number of points and reads whole frames for them.

    Args:
        ratio: drawn points / points of the trajectory; a number in (0, 1] or a schedule. Or
        num_queries: points to draw; a number or a schedule.
        weights: see `Weights`.
    """

    def __init__(
        self,
        ratio: float | Schedule | None = None,
        num_queries: int | Schedule | None = None,
        *,
        weights: str | Weights = "unbiased",
    ) -> None:
        super().__init__(weights)
        self.amount = Amount.of(ratio, num_queries)

    def most_queries(
        self,
        num_points: Int64[np.ndarray, " size"],
        page_points: int,  # noqa: ARG002  of the contract
    ) -> int:
        """Return a bound on the points of a draw, at any global step."""
        return int(self.amount.most_points(num_points).max())
