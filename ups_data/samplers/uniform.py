"""Uniform random points: today's practice, as a baseline."""

from __future__ import annotations

import numpy as np

from ups_data.pages import PageLayout, PointDraw
from ups_data.random import Stream, generator
from ups_data.samplers.base import DrawKey
from ups_data.samplers.point_sampler import PointSampler


class UniformSampler(PointSampler):
    """Draws exactly n points at random without replacement, each with weight 1 / n.

    It does not go by pages: every draw reads whole frames. It is what others do, and what `prove` measures against.

    Args:
        ratio: drawn points / points of the trajectory; a number in (0, 1] or a schedule. Or
        num_queries: points to draw; a number or a schedule.
        weights: see `Weights`; all are the same here.
    """

    def draw(self, layout: PageLayout, key: DrawKey) -> PointDraw:
        """Draw distinct points.

        Raises:
            SamplerError: more points than there are.
        """
        count = self.amount.points(layout, key.step)
        random = generator(seed=key.seed, stream=Stream.DRAW, words=(key.sample, key.epoch + 1))
        points = np.sort(random.choice(layout.num_points, size=count, replace=False, shuffle=False))
        return PointDraw(points=points.astype(np.int64), weights=np.full(count, 1 / count))
