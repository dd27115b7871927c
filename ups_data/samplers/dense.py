"""Every point."""

from __future__ import annotations

import numpy as np

from ups_data.pages import PageLayout, PointDraw
from ups_data.samplers.base import DrawKey, Sampler


class DenseSampler(Sampler):
    """Takes every point of the trajectory in point-id order, each with weight 1 / N."""

    def draw(self, layout: PageLayout, key: DrawKey) -> PointDraw:  # noqa: ARG002  # of the contract
        """Return all points."""
        count = layout.num_points
        return PointDraw(points=np.arange(count), weights=np.full(count, 1 / count))
