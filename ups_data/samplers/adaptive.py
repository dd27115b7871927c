"""Adaptive draws: more pages for the strata where the model errs."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from ups_data.pages import PageLayout, page_shares
from ups_data.samplers.base import DrawKey, FeedbackRule
from ups_data.samplers.page_sampler import PageSampler
from ups_data.samplers.schedule import Schedule, share_of
from ups_data.samplers.weights import Weights

_RULE = FeedbackRule()


class AdaptiveSampler(PageSampler):
    """Gives each stratum the share lambda * N_s / N + (1 - lambda) * N_s e_s / sum N e of one half of the pages.

    e_s is the root of the mean loss of the stratum's points, as `loader.feedback(batch, per_query_loss)` tells it. The
    gradient of a squared error grows with the error itself, so these are the shares of least variance of the gradient
    (Neyman 1934). The other half (`feedback.trust` says how much) is shared out as by `ImportanceSampler`, since the
    gradient of a network is not its error alone; and so is all of it before anything is known, and where too little is.

    Weights are exact whatever is fed back: it changes how many pages a stratum gets, never which. Runs of pages begin
    anew in every draw. (Starts that walk through the pages, as other samplers have them, would have had their say in
    the losses that the budgets follow, which is a bias.)

    Strata are those of the store: bands of importance, told apart by their number in all trajectories. Trajectories
    with fewer strata than the store is said to have are neither learnt from nor adapted to.

    Args:
        ratio: drawn points / points of the trajectory; a number in (0, 1] or a schedule. Or
        num_queries: points to draw; a number or a schedule. Both are rounded to whole pages.
        uniform_share: lambda in [0, 1], a number or a schedule. No weight is far above 1 / lambda times the mean one.
        feedback: how losses become e_s.
        weights: see `Weights`.
    """

    def __init__(
        self,
        ratio: float | Schedule | None = None,
        num_queries: int | Schedule | None = None,
        *,
        uniform_share: float | Schedule = 0.25,
        feedback: FeedbackRule = _RULE,
        weights: str | Weights = "unbiased",
    ) -> None:
        super().__init__(ratio, num_queries, weights=weights, walk=False)
        self.uniform_share = share_of("uniform_share", uniform_share)
        self.feedback: FeedbackRule = feedback

    def shares(self, layout: PageLayout, key: DrawKey) -> Float64[np.ndarray, " stratum"]:
        """Return the mixture of size, importance, and emphasised size where there is an emphasis."""
        uniform_share = self.uniform_share(key.step)
        offline = page_shares(layout, uniform_share=uniform_share)
        if key.emphasis is None or len(key.emphasis) != layout.num_strata:
            return offline
        by_size = layout.stratum_points / layout.num_points
        emphasised = by_size * np.array(key.emphasis)
        learnt = uniform_share * by_size + (1 - uniform_share) * emphasised / emphasised.sum()
        return (1 - self.feedback.trust) * offline + self.feedback.trust * learnt
