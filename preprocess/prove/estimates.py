"""How one sampler estimates one integrand on one trajectory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EstimateRow:
    """How one sampler estimates one integrand on one trajectory.

    Attributes:
        sampler: label of the sampler.
        trajectory: number in the store.
        block: number of the block of frames in the trajectory.
        integrand: see `Integrand`.
        channel, frame: of the field, None where the integrand depends on none.
        truth: mean over all points that draws may take; of a store for integrals, the integral over the domain.
        bias: mean of the estimates - truth.
        std: standard deviation of one estimate.
        z: bias over its standard error, which is std / sqrt(draws), but no less than what the rarest point or rounding
            may hide.
        multiplier: variance of as many points drawn uniformly without replacement / variance of this draw; None where
            one of them is zero to rounding.
    """

    sampler: str
    trajectory: int
    block: int
    integrand: str
    channel: str | None
    frame: int | None
    truth: float
    bias: float
    std: float
    z: float
    multiplier: float | None

    @property
    def label(self) -> str:
        """Integrand and channel, in words."""
        return self.integrand if self.channel is None else f"{self.channel}: {self.integrand}"
