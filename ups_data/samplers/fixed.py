"""The same points every time, spread evenly: for validation and rewards."""

from __future__ import annotations

from ups_data.pages import CellDraw, PageLayout, cut_cells
from ups_data.samplers.base import DrawKey
from ups_data.samplers.point_sampler import PointSampler


class FixedSampler(PointSampler):
    """Takes one low-discrepancy set of points per trajectory, the same in every epoch, with quadrature weights.

    The points are the middles of n cells, runs of neighbours along a Hilbert curve; the weight of a point is the share
    of its cell in all points, with `estimand="integral"` the measure of its cell. So constants are integrated exactly,
    and smooth integrands with a smaller error than a random draw of as many points. It is an error, not noise: the same
    in every epoch, and no average over draws makes it smaller (`prove` calls it a bias). Compare models on it, or score
    candidates; to train, draw anew.

    Every draw reads whole frames, like `UniformSampler`.

    Args:
        ratio: points to take / points of the trajectory; a number in (0, 1]. Or
        num_queries: points to take.
    """

    def __init__(self, ratio: float | None = None, num_queries: int | None = None) -> None:
        super().__init__(ratio, num_queries)

    def draw(self, layout: PageLayout, key: DrawKey) -> CellDraw:  # noqa: ARG002  the same for every key
        """Take the middle of each cell.

        Raises:
            SamplerError: more points than there are.
        """
        sizes = cut_cells(layout.num_points, self.amount.points(layout, 0))
        return CellDraw(sizes=sizes, places=None, weights=sizes / layout.num_points)
