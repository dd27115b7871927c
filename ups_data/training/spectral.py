"""The error at low wave numbers, from any points."""

from __future__ import annotations

import functools
import itertools
import math

import torch
from jaxtyping import Bool, Float

from ups_data.training.weighted import LossKind


def spectral_loss(
    predicted: Float[torch.Tensor, "batch time query channel"],
    target: Float[torch.Tensor, "batch time query channel"],
    weights: Float[torch.Tensor, "batch query"],
    points: Float[torch.Tensor, "batch query dim"],
    *,
    modes: int = 8,
    kind: LossKind = "mean_squared",
    valid: Bool[torch.Tensor, "batch time query channel"] | None = None,
) -> Float[torch.Tensor, ""]:
    """Return the squared size of the error's Fourier coefficients at low wave numbers.

    The coefficient of the error e at the wave vector k is the mean over the points of e(x) exp(-2 pi i k x), x in unit
    coordinates, estimated by the weights of the draw: no grid is needed. Wave vectors have whole entries of at most
    `modes` in size; on a uniform periodic grid with more than 2 * modes nodes an axis they are those of the discrete
    Fourier transform over N, and with all of them the sum is the mean squared error (Parseval).

    Every coefficient is estimated without bias; the square of an estimate is larger than that of what it estimates by
    its variance, so a sparse draw gives more than the dense loss.

    Args:
        predicted: values at the drawn points.
        target: what they should be.
        weights: of the draw, 0 on padding.
        points: unit coordinates (B, Q, D).
        modes: largest entry of a wave vector.
        kind: `mean_squared`: mean over samples, frames and channels of the sum over k. `relative_squared`: mean over
            samples of that sum over the same sum of the target, both added up over frames and channels.
        valid: False where the target is missing, which counts as no error; None where none is.
    """
    error = predicted - target
    if valid is not None:
        error, target = error.masked_fill(~valid, 0.0), target.masked_fill(~valid, 0.0)
    vectors = _half_space(points.shape[-1], modes).to(points)
    phases = 2 * math.pi * points @ vectors.T
    waves = torch.cat([torch.cos(phases), torch.sin(phases)], dim=-1) * weights[..., None]
    # Of a real field the coefficients at k and -k are of one size: one of the two stands for both.
    twice = torch.where((vectors == 0).all(dim=1), 1.0, 2.0).repeat(2)
    real = (weights != 0).any(dim=1).to(error.dtype)
    errors = _power(error, waves, twice)
    if kind == "mean_squared":
        by_sample = errors.mean(dim=(1, 2))
    else:
        size = _power(target, waves, twice).sum(dim=(1, 2))
        by_sample = errors.sum(dim=(1, 2)) / torch.where(size > 0, size, torch.ones_like(size))
    return (by_sample * real).sum() / real.sum().clamp(min=1)


def _power(
    values: Float[torch.Tensor, "batch time query channel"],
    waves: Float[torch.Tensor, "batch query wave"],
    twice: Float[torch.Tensor, " wave"],
) -> Float[torch.Tensor, "batch time channel"]:
    return (torch.einsum("btqc,bqk->btck", values, waves).square() * twice).sum(dim=-1)


@functools.cache
def _half_space(dims: int, modes: int) -> Float[torch.Tensor, "wave dim"]:
    """Return the wave vectors of which one of k and -k is kept, 0 first."""
    every = itertools.product(range(-modes, modes + 1), repeat=dims)
    return torch.tensor([vector for vector in every if vector >= (0,) * dims], dtype=torch.float64)
