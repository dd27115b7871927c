"""The terms that an operator is trained on, and their weights over the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pydantic
import torch
from jaxtyping import Float

from ups_data.collate import SparseBatch
from ups_data.errors import ConfigError
from ups_data.models import NeuralOperator
from ups_data.schema import Record
from ups_data.training.inverse import inverse_decoding_loss, inverse_encoding_loss
from ups_data.training.schedules import Scheduled, value_at
from ups_data.training.spectral import spectral_loss
from ups_data.training.weighted import LossKind, weighted_loss

AtLeastZero = Annotated[int, pydantic.Field(ge=0)]


class LossConfig(Record):
    """Which loss, and how much each of its terms counts; a term of weight 0 is not computed.

    Every weight is a number, or a ramp over the global steps (`RampConfig`).

    Attributes:
        kind: see `weighted_loss`.
        lambda_forward: weight of the error of the first target frame.
        lambda_rollout: weight of the error of the target frames after it, which the latent operator reaches from its
            own tokens.
        rollout_length: target frames that count, at least 1; those of the window if None. Rounded down.
        lambda_inv_enc: weight of the error with which the encoded input is decoded again.
        lambda_inv_dec: weight of the error with which the decoded tokens are encoded again.
        inv_dec_ratio: share of a grid that the latter decodes; see `inverse_decoding_loss`.
        inverse_loss_warmup_steps: global steps in which the inverse terms do not count; over as many more their weights
            rise to the full ones.
        inverse_loss_max_weight: the weights of the inverse terms never exceed it; no limit if None.
        lambda_spectral: weight of the error of the first target frame at low wave numbers.
        spectral_modes: see `spectral_loss`.
    """

    kind: LossKind = "mean_squared"
    lambda_forward: Scheduled = 1.0
    lambda_rollout: Scheduled = 1.0
    rollout_length: Scheduled | None = None
    lambda_inv_enc: Scheduled = 0.0
    lambda_inv_dec: Scheduled = 0.0
    inv_dec_ratio: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.1
    inverse_loss_warmup_steps: AtLeastZero = 0
    inverse_loss_max_weight: Annotated[float, pydantic.Field(ge=0)] | None = None
    lambda_spectral: Scheduled = 0.0
    spectral_modes: Annotated[int, pydantic.Field(ge=0)] = 8

    def weights(self, step: int) -> dict[str, float]:
        """Return the weight of each term at a global step, those of 0 left out."""
        found = {
            "L_forward": value_at(self.lambda_forward, step),
            "L_rollout": value_at(self.lambda_rollout, step),
            "L_inv_enc": self._inverse_weight(self.lambda_inv_enc, step),
            "L_inv_dec": self._inverse_weight(self.lambda_inv_dec, step),
            "L_spec": value_at(self.lambda_spectral, step),
        }
        return {name: weight for name, weight in found.items() if weight}

    def num_frames(self, available: int, step: int) -> int:
        """Return how many target frames count at a global step."""
        if self.rollout_length is None:
            return available
        return min(max(1, int(value_at(self.rollout_length, step))), available)

    def _inverse_weight(self, base: Scheduled, step: int) -> float:
        weight, warmup = value_at(base, step), self.inverse_loss_warmup_steps
        if self.inverse_loss_max_weight is not None:
            weight = min(weight, self.inverse_loss_max_weight)
        return weight * min(max((step - warmup) / warmup, 0.0), 1.0) if warmup else weight


@dataclass(frozen=True, kw_only=True, eq=False)
class LossBundle:
    """What is trained on.

    Attributes:
        total: sum of weight times term.
        components: the terms by name, without their weights.
        per_query: (B, Q), squared error at each drawn point, mean over the target frames that count and their channels;
            without weights or gradient, 0 on padding. Where each target frame has points of its own (B, T, Q), mean
            over channels, of the T first frames that count. What `loader.feedback` of an adaptive sampler takes. None
            where neither `L_forward`, `L_rollout` nor `L_spec` was computed.
    """

    total: Float[torch.Tensor, ""]
    components: dict[str, Float[torch.Tensor, ""]]
    per_query: Float[torch.Tensor, "batch *frame query"] | None = None


def compute_operator_loss_bundle(
    model: NeuralOperator, batch: SparseBatch, config: LossConfig, *, step: int = 0
) -> LossBundle:
    """Return the terms of a batch that count at a global step, and their weighted sum.

    `L_forward` and `L_rollout` are unbiased estimates of the dense ones where `kind` is `mean_squared`, and so are
    `L_inv_enc` and, on grids, `L_inv_dec`; see the functions for the others.

    Args:
        model: encoder, latent operator, decoder.
        batch: drawn points with their weights.
        config: terms and weights.
        step: the global step.

    Raises:
        ConfigError: several target frames that were drawn from a window with more, see `Window.drawn_targets`.
    """
    weights = config.weights(step)
    latent = model.encode(batch)
    terms: dict[str, Float[torch.Tensor, ""]] = {}
    per_query = None
    if not weights.keys().isdisjoint({"L_forward", "L_rollout", "L_spec"}):
        frames = config.num_frames(batch.query_targets.shape[1], step)
        if frames > 1 and batch.targets_drawn:
            raise ConfigError(
                f"target frames after the first are reached from the frame before, and the {frames} of this batch are "
                f"drawn from a longer window, with gaps: draw one frame (drawn_targets=1), whose error is that of one "
                f"step of the operator from the input, or take all frames of the window"
            )
        needed = frames if "L_rollout" in weights else 1
        latents = model.rollout(batch, start=latent, frames=needed)
        predicted = model.answer(latents, batch, batch.query_coords)
        terms, per_query = _forward_terms(model, batch, predicted, config, weights)
    if "L_inv_enc" in weights:
        terms["L_inv_enc"] = inverse_encoding_loss(model, latent, batch, kind=config.kind)
    if "L_inv_dec" in weights:
        terms["L_inv_dec"] = inverse_decoding_loss(model, latent, batch, ratio=config.inv_dec_ratio, step=step)
    # Summed from 0, so that there is a total, without gradient, where nothing counts.
    total = sum((weights[name] * term for name, term in terms.items()), torch.zeros((), device=latent.values.device))
    return LossBundle(total=total, components=terms, per_query=per_query)


def _forward_terms(
    model: NeuralOperator,
    batch: SparseBatch,
    predicted: Float[torch.Tensor, "batch time query channel"],
    config: LossConfig,
    weights: dict[str, float],
) -> tuple[dict[str, Float[torch.Tensor, ""]], Float[torch.Tensor, "batch *frame query"]]:
    frames = predicted.shape[1]
    target = batch.query_targets[:, :frames]
    valid = None if batch.target_valid is None else batch.target_valid[:, :frames]
    drawn = batch.query_weights[:, :frames] if batch.has_fresh_points else batch.query_weights
    parts = {"L_forward": slice(0, 1), "L_rollout": slice(1, frames)}
    terms = {
        name: weighted_loss(
            predicted[:, part],
            target[:, part],
            drawn[:, part] if batch.has_fresh_points else drawn,
            kind=config.kind,
            valid=None if valid is None else valid[:, part],
        )
        for name, part in parts.items()
        if name in weights and part.start < frames
    }
    if "L_spec" in weights:
        first = batch.points_at(0)
        terms["L_spec"] = spectral_loss(
            predicted[:, :1],
            target[:, :1],
            first.weights,
            model.problem.unit_coordinates(first.coords),
            modes=config.spectral_modes,
            kind=config.kind,
            valid=None if valid is None else valid[:, :1],
        )
    error = (predicted.detach() - target).square()
    if valid is not None:
        error = error.masked_fill(~valid, 0.0)
    return terms, error.mean(dim=3 if batch.has_fresh_points else (1, 3)) * (drawn != 0)
