"""Inverse losses: decoding and encoding should undo each other.

`inverse_encoding_loss` lives in physical space: fields -> tokens -> the same fields. `inverse_decoding_loss` lives in
latent space: tokens -> fields -> the same tokens. Both are computed from a part of the points.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int

from ups_data.collate import SparseBatch
from ups_data.models import GridEncoder, Lattice, NeuralOperator
from ups_data.models.lattice import product_positions
from ups_data.random import Stream, generator
from ups_data.training.weighted import LossKind, weighted_loss


def inverse_encoding_loss(
    model: NeuralOperator, latent: Lattice, batch: SparseBatch, *, kind: LossKind = "mean_squared"
) -> Float[torch.Tensor, ""]:
    """Return how well the tokens of the input decode to the input itself, estimated at the drawn points.

    It takes the drawn queries with their weights (those of the first target frame where each has its own), so it is
    unbiased at every ratio and equals the dense loss at ratio 1. The values of the input are picked from what the
    encoder saw: nothing more is read.

    Raises:
        ConfigError: a target field that is no input field.
    """
    channels, points = list(model.problem.target_channels_in_input()), batch.points_at(0)
    target = _pick(batch.inputs[:, -1:, channels], points.index).transpose(2, 3)
    valid = None
    if batch.input_valid is not None:
        valid = _pick(batch.input_valid[:, -1:, channels], points.index).transpose(2, 3)
    decoded = model.decode(latent, points.coords)[:, None]
    return weighted_loss(decoded, target, points.weights, kind=kind, valid=valid)


def inverse_decoding_loss(
    model: NeuralOperator, latent: Lattice, batch: SparseBatch, *, ratio: float = 1.0, step: int = 0
) -> Float[torch.Tensor, ""]:
    """Return how well the fields that the tokens decode to are encoded to the same tokens again.

    The mean over samples, tokens and their entries of (encode(decode(z)) - z)^2, z held fixed where it is subtracted.
    What is encoded is the input of the batch with the target channels of its last frame replaced by what z decodes to.

    On grids the tokens are cut into equal boxes, and one box is decoded, with as many patches around it as have a say
    in its tokens, and encoded: exactly those tokens that the whole grid would give. The box changes with the step and
    is every one of them with the same chance, so this estimates the dense loss without bias. On clouds and meshes the
    drawn points are decoded and encoded with their weights: that is the loss of tokens that are themselves estimates,
    larger than the dense one by about their variance, and equal to it at ratio 1.

    Args:
        model: encoder and decoder.
        latent: tokens of the input.
        batch: what they were encoded from.
        ratio: of the nodes of a grid, at most so many are decoded, but at least one token and what has a say in it; 1
            is the dense loss. Clouds go by the drawn points.
        step: the global step, which chooses the box.

    Raises:
        ConfigError: a target field that is no input field.
    """
    if isinstance(model.encoder, GridEncoder):
        return _on_grid(model, model.encoder, latent, batch, ratio=ratio, step=step)
    return _on_points(model, latent, batch)


def _on_points(model: NeuralOperator, latent: Lattice, batch: SparseBatch) -> Float[torch.Tensor, ""]:
    points = batch.points_at(0)
    inputs = _pick(batch.inputs, points.index).clone()
    decoded = model.decode(latent, points.coords).transpose(1, 2)
    inputs[:, -1, list(model.problem.target_channels_in_input())] = decoded.to(inputs.dtype)
    if batch.input_mask is None:
        count = torch.full((len(batch),), batch.inputs.shape[-1], device=batch.inputs.device)
    else:
        count = batch.input_mask.sum(dim=1)
    stands_for = points.weights * count[:, None].to(points.weights.dtype)
    valid = None if batch.input_valid is None else _pick(batch.input_valid, points.index)
    again = model.encoder(model.with_validity(inputs, valid), points.coords, stands_for)
    errors = (again.values - latent.values.detach()).square().mean(dim=-1)
    seen = torch.ones_like(errors) if latent.occupied is None else latent.occupied.to(errors.dtype)
    real = seen * (batch.sample_ids >= 0)[:, None].to(errors.dtype)
    return (errors * real).sum() / real.sum().clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class _Box:
    """A box of tokens on one axis, inside the window of patches that is encoded for it.

    Attributes:
        tokens: numbers of the window's tokens, in order; on a periodic axis they may wrap around.
        first, length: of the box among them.
    """

    tokens: tuple[int, ...]
    first: int
    length: int

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the box's tokens."""
        return self.tokens[self.first : self.first + self.length]


def _on_grid(
    model: NeuralOperator, encoder: GridEncoder, latent: Lattice, batch: SparseBatch, *, ratio: float, step: int
) -> Float[torch.Tensor, ""]:
    resampled = tuple(batch.inputs.shape[3:]) != model.problem.grid_shape and encoder.config.resolution == "fixed"
    boxes = _choose_boxes(latent, encoder.reach, ratio=1.0 if resampled else ratio, step=step)
    assert batch.input_axes is not None
    patch = 1 if resampled else encoder.config.patch
    sizes = batch.inputs.shape[3:]
    nodes = [
        torch.arange(size, device=batch.inputs.device) if resampled else _nodes(box, patch, batch.inputs.device)
        for box, size in zip(boxes, sizes, strict=True)
    ]
    inputs, valid = _cut(batch.inputs, nodes), None if batch.input_valid is None else _cut(batch.input_valid, nodes)
    axes = tuple(axis[:, places] for axis, places in zip(batch.input_axes, nodes, strict=True))
    channels = list(model.problem.target_channels_in_input())
    decoded = model.decode(latent, product_positions(axes)).transpose(1, 2)
    inputs = inputs.clone()
    inputs[:, -1, channels] = decoded.unflatten(2, inputs.shape[3:]).to(inputs.dtype)
    encode = encoder if resampled else encoder.encode_window
    again = encode(model.with_validity(inputs, valid), axes)
    found = _cut_tokens(again, [range(box.first, box.first + box.length) for box in boxes])
    wanted = _cut_tokens(latent, [box.numbers for box in boxes])
    errors = (found - wanted.detach()).square().mean(dim=(1, 2))
    real = (batch.sample_ids >= 0).to(errors.dtype)
    return (errors * real).sum() / real.sum().clamp(min=1)


def _choose_boxes(latent: Lattice, reach: int, *, ratio: float, step: int) -> tuple[_Box, ...]:
    lengths = _box_lengths(latent.shape, reach, ratio)
    counts = [size // length for size, length in zip(latent.shape, lengths, strict=True)]
    number = int(generator(seed=0, stream=Stream.LOSS, words=(step, 0)).integers(math.prod(counts)))
    boxes = []
    for size, length, count, periodic in zip(latent.shape, lengths, counts, latent.periodic, strict=True):
        number, place = divmod(number, count)
        boxes.append(_place_box(size, length, place * length, reach, periodic=periodic))
    return tuple(boxes)


def _place_box(size: int, length: int, start: int, reach: int, *, periodic: bool) -> _Box:
    window = min(length + 2 * reach, size)
    if window == size:
        return _Box(tokens=tuple(range(size)), first=start, length=length)
    # Where the grid ends there is nothing beyond: the window stays inside, at its full length.
    low = start - reach if periodic else min(max(start - reach, 0), size - window)
    return _Box(tokens=tuple((low + place) % size for place in range(window)), first=start - low, length=length)


@functools.cache
def _box_lengths(shape: tuple[int, ...], reach: int, ratio: float) -> tuple[int, ...]:
    """Return the largest box that divides the lattice and whose window has at most a share `ratio` of all tokens."""
    divisors = [[length for length in range(1, size + 1) if size % length == 0] for size in shape]

    def window(lengths: tuple[int, ...]) -> int:
        return math.prod(min(length + 2 * reach, size) for length, size in zip(lengths, shape, strict=True))

    fitting = [lengths for lengths in itertools.product(*divisors) if window(lengths) <= ratio * math.prod(shape)]
    return max(fitting, key=lambda lengths: (math.prod(lengths), -window(lengths)), default=(1,) * len(shape))


def _nodes(box: _Box, patch: int, device: torch.device) -> Int[torch.Tensor, " node"]:
    tokens = torch.tensor(box.tokens, device=device)
    return (tokens[:, None] * patch + torch.arange(patch, device=device)).flatten()


def _cut(values: torch.Tensor, nodes: list[Int[torch.Tensor, " _"]]) -> torch.Tensor:
    for axis, places in enumerate(nodes, 3):
        values = values.index_select(axis, places)
    return values


def _cut_tokens(latent: Lattice, numbers: Sequence[Sequence[int]]) -> Float[torch.Tensor, "batch token width"]:
    values = latent.values.unflatten(1, latent.shape)
    for axis, places in enumerate(numbers, 1):
        values = values.index_select(axis, torch.tensor(list(places), device=values.device))
    return values.flatten(1, -2)


def _pick(values: torch.Tensor, index: Int[torch.Tensor, "batch query"]) -> torch.Tensor:
    """Return (B, T, C, Q): values at points, those of point 0 where the index is padding, whose weight is 0."""
    flat = values.flatten(3)
    nodes = index.long().clamp(min=0)[:, None, None].expand(-1, *flat.shape[1:3], -1)
    return flat.gather(3, nodes)
