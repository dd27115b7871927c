"""Stratified draws: one point of every cell of the domain."""

from __future__ import annotations

from ups_data.pages import CellDraw, PageLayout, cut_cells
from ups_data.random import Stream, generator
from ups_data.samplers.base import DrawKey
from ups_data.samplers.point_sampler import PointSampler


class StratifiedSampler(PointSampler):
    """Cuts the points into exactly n cells of neighbours and draws one of each, at random.

    Cells are runs along a Hilbert curve, of floor or ceil(N / n) points, so that they exist for every n up to N, every
    shape of a grid, also in one dimension and with sizes that do not divide, and for clouds and meshes. A point of a
    cell with N_c points is drawn with probability 1 / N_c and has weight N_c / N: weights sum to 1 in every draw.

    Cells do not lie together in a store, whose pages hold points from everywhere: like `UniformSampler`, every draw
    reads whole frames. On a store with one stratum (`num_strata=1`) `BalancedSampler` spreads points as evenly, and
    reads pages.

    Args:
        ratio: drawn points / points of the trajectory; a number in (0, 1] or a schedule. Or
        num_queries: points to draw; a number or a schedule.
        weights: see `Weights`.
    """

    def draw(self, layout: PageLayout, key: DrawKey) -> CellDraw:
        """Draw a point of each cell.

        Raises:
            SamplerError: more points than there are.
        """
        sizes = cut_cells(layout.num_points, self.amount.points(layout, key.step))
        random = generator(seed=key.seed, stream=Stream.DRAW, words=(key.sample, key.epoch + 1))
        return CellDraw(sizes=sizes, places=random.integers(sizes), weights=sizes / layout.num_points)
