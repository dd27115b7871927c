"""Losses on drawn points that estimate the losses on all points.

The weights of a batch make sum over q of w_q f_q an unbiased estimate of the mean of f over the points of a sample's
trajectory. A loss that is linear in such sums (`mean_squared`) is therefore an unbiased estimate of the dense loss, and
so is its gradient; with a `DenseSampler` it is the dense loss to rounding. A quotient of two such sums
(`relative_squared`) has a bias of order 1 / num_queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import pydantic
import torch
from jaxtyping import Bool, Float

from ups_data.collate import SparseBatch
from ups_data.models import Lattice, NeuralOperator
from ups_data.schema import Record

LossKind = Literal["mean_squared", "relative_squared"]
Lambda = Annotated[float, pydantic.Field(ge=0)]


class LossConfig(Record):
    """Which loss, and how much each of its terms counts; a term of weight 0 is not computed.

    Attributes:
        kind: see `weighted_loss`.
        lambda_forward: weight of the error of the predicted target frames.
        lambda_inv_enc: weight of the error with which the encoded input is decoded again.
    """

    kind: LossKind = "mean_squared"
    lambda_forward: Lambda = 1.0
    lambda_inv_enc: Lambda = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class LossBundle:
    """What is trained on.

    Attributes:
        total: sum of weight times term.
        components: the terms by name, without their weights.
    """

    total: Float[torch.Tensor, ""]
    components: dict[str, Float[torch.Tensor, ""]]


def weighted_loss(
    predicted: Float[torch.Tensor, "batch time query channel"],
    target: Float[torch.Tensor, "batch time query channel"],
    weights: Float[torch.Tensor, "batch query"],
    *,
    kind: LossKind = "mean_squared",
    valid: Bool[torch.Tensor, "batch time query channel"] | None = None,
) -> Float[torch.Tensor, ""]:
    """Return the loss of a batch from its drawn points.

    Args:
        predicted: values at the drawn points, of any finite content on padding.
        target: what they should be.
        weights: of the draw, 0 on padding. A sample whose weights are all 0 only fills the batch and does not count.
        kind: `mean_squared`: mean over samples, frames and channels of sum_q w_q e_q^2. `relative_squared`: mean over
            samples of that sum over sum_q w_q y_q^2, both added up over frames and channels.
        valid: False where the target is missing, which counts as no error and no size; None where none is.
    """
    error = predicted - target
    if valid is not None:
        error, target = error.masked_fill(~valid, 0.0), target.masked_fill(~valid, 0.0)
    errors = torch.einsum("btqc,bq->btc", error.square(), weights)
    real = (weights != 0).any(dim=1).to(errors.dtype)
    if kind == "mean_squared":
        by_sample = errors.mean(dim=(1, 2))
    else:
        size = torch.einsum("btqc,bq->b", target.square(), weights)
        by_sample = errors.sum(dim=(1, 2)) / torch.where(size > 0, size, torch.ones_like(size))
    return (by_sample * real).sum() / real.sum().clamp(min=1)


def inverse_encoding_loss(
    model: NeuralOperator, latent: Lattice, batch: SparseBatch, *, kind: LossKind = "mean_squared"
) -> Float[torch.Tensor, ""]:
    """Return how well the tokens of the input decode to the input itself, estimated at the drawn points.

    It takes the drawn queries with their weights, so it is unbiased at every ratio and equals the dense loss at ratio
    1. The values of the input are picked from what the encoder saw: nothing more is read.

    Raises:
        ConfigError: a target field that is no input field.
    """
    channels = list(model.problem.target_channels_in_input())
    values = batch.inputs[:, -1, channels].flatten(2)
    # Padding points to node 0: any finite value will do, its weight is 0.
    nodes = batch.query_index.long().clamp(min=0)[:, None].expand(-1, len(channels), -1)
    target = values.gather(2, nodes).transpose(1, 2)[:, None]
    valid = None
    if batch.input_valid is not None:
        valid = batch.input_valid[:, -1, channels].flatten(2).gather(2, nodes).transpose(1, 2)[:, None]
    decoded = model.decode(latent, batch.query_coords)[:, None]
    return weighted_loss(decoded, target, batch.query_weights, kind=kind, valid=valid)


def compute_operator_loss_bundle(model: NeuralOperator, batch: SparseBatch, config: LossConfig) -> LossBundle:
    """Return the terms `L_forward` and `L_inv_enc` of a batch, and their weighted sum."""
    terms = {}
    if config.lambda_forward:
        terms["L_forward"] = weighted_loss(
            model(batch), batch.query_targets, batch.query_weights, kind=config.kind, valid=batch.target_valid
        )
    if config.lambda_inv_enc:
        terms["L_inv_enc"] = inverse_encoding_loss(model, model.encode(batch), batch, kind=config.kind)
    weights = {"L_forward": config.lambda_forward, "L_inv_enc": config.lambda_inv_enc}
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return LossBundle(total=total, components=terms)
