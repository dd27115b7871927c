"""Losses on drawn points that estimate the losses on all points.

The weights of a batch make sum over q of w_q f_q an unbiased estimate of the mean of f over the points of a sample's
trajectory. A loss that is linear in such sums (`mean_squared`) is therefore an unbiased estimate of the dense loss, and
so is its gradient; with a `DenseSampler` it is the dense loss to rounding. A quotient of two such sums
(`relative_squared`) has a bias of order 1 / num_queries.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float

LossKind = Literal["mean_squared", "relative_squared"]


def weighted_loss(
    predicted: Float[torch.Tensor, "batch time query channel"],
    target: Float[torch.Tensor, "batch time query channel"],
    weights: Float[torch.Tensor, "batch *frame query"],
    *,
    kind: LossKind = "mean_squared",
    valid: Bool[torch.Tensor, "batch time query channel"] | None = None,
) -> Float[torch.Tensor, ""]:
    """Return the loss of a batch from its drawn points.

    Args:
        predicted: values at the drawn points, of any finite content on padding.
        target: what they should be.
        weights: of the draw, 0 on padding; (B, T, Q) where each frame has points of its own. A sample whose weights
            are all 0 only fills the batch and does not count.
        kind: `mean_squared`: mean over samples, frames and channels of sum_q w_q e_q^2. `relative_squared`: mean over
            samples of that sum over sum_q w_q y_q^2, both added up over frames and channels.
        valid: False where the target is missing, which counts as no error and no size; None where none is.
    """
    error = predicted - target
    if valid is not None:
        error, target = error.masked_fill(~valid, 0.0), target.masked_fill(~valid, 0.0)
    drawn = "btq" if weights.ndim > 2 else "bq"
    errors = torch.einsum(f"btqc,{drawn}->btc", error.square(), weights)
    real = (weights != 0).flatten(1).any(dim=1).to(errors.dtype)
    if kind == "mean_squared":
        by_sample = errors.mean(dim=(1, 2))
    else:
        size = torch.einsum(f"btqc,{drawn}->b", target.square(), weights)
        by_sample = errors.sum(dim=(1, 2)) / torch.where(size > 0, size, torch.ones_like(size))
    return (by_sample * real).sum() / real.sum().clamp(min=1)
