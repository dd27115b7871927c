"""Weights: what becomes of the unbiased weights of a draw, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

from ups_data.errors import SamplerError, suggest

WeightKind = Literal["unbiased", "self_normalised", "tempered", "none"]


@dataclass(frozen=True)
class Weights:
    """How the unbiased weights w of a draw become those of a batch.

    * `unbiased`: they stay w. The only kind whose estimates have no bias.
    * `self_normalised`: w / sum w, which is exactly 1 in every draw; a bias of order 1 / num_queries.
    * `tempered`: w^a, times what keeps the sum of w, with a = `exponent` between 0 and 1. Estimates lean towards what
      is drawn more often, and vary less where that is not where the integrand is large.
    * `none`: the same weight for every point, adding up to 1: what a loss sees that ignores how points were drawn.

    `preprocess.prove.prove` reports the bias of each on a store's own fields; `unbiased` is refused if it shows any.

    Attributes:
        kind: one of the above.
        exponent: a, of `tempered` alone; 0.5 by default. 1 is `unbiased`, 0 gives equal weights.
        max_weight: largest weight, as a multiple of the mean weight of the draw: larger ones are cut, and what is cut
            is lost (Ionides 2008), a bias towards zero from the points that stand for many. None cuts nothing. It
            applies last, so that weights which sum to 1 no longer do.
    """

    kind: str = "unbiased"
    exponent: float | None = None
    max_weight: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(WeightKind):
            raise SamplerError(f"there are no weights {self.kind!r}. {suggest(self.kind, get_args(WeightKind))}")
        if self.exponent is not None and (self.kind != "tempered" or not 0 <= self.exponent <= 1):
            raise SamplerError(
                f"exponent must lie in [0, 1] and belongs to weights 'tempered'; got {self.exponent} for {self.kind!r}"
            )
        if self.max_weight is not None and not self.max_weight >= 1:
            raise SamplerError(f"max_weight is a multiple of the mean weight, at least 1, got {self.max_weight}")

    @property
    def is_exact(self) -> bool:
        """Whether estimates have no bias."""
        return self.kind == "unbiased" and self.max_weight is None

    @property
    def sums_to_one(self) -> bool:
        """Whether the weights of every draw sum to 1."""
        return self.kind in ("self_normalised", "none") and self.max_weight is None

    def finish(self, weights: Float64[np.ndarray, " query"]) -> Float64[np.ndarray, " query"]:
        """Turn unbiased weights (0 on padding) into those of this kind."""
        weights = self._of_kind(weights)
        if self.max_weight is None:
            return weights
        return np.minimum(weights, self.max_weight * weights.sum() / np.count_nonzero(weights))

    def _of_kind(self, weights: Float64[np.ndarray, " query"]) -> Float64[np.ndarray, " query"]:
        if self.kind == "self_normalised":
            return weights / weights.sum()
        if self.kind == "none":
            return (weights > 0) / np.count_nonzero(weights)
        if self.kind == "tempered":
            powers = np.where(weights > 0, weights, 1.0) ** (0.5 if self.exponent is None else self.exponent)
            powers *= weights > 0
            return powers * (weights.sum() / powers.sum())
        return weights
