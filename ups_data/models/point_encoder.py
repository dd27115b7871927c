"""Clouds and meshes -> latent tokens, whatever the order of the nodes."""

from __future__ import annotations

from typing import Annotated

import pydantic
import torch
import torch.utils.checkpoint
from jaxtyping import Bool, Float

from ups_data.errors import ConfigError
from ups_data.models.convolution import ResidualConvolutions
from ups_data.models.fourier import FourierFeatures, Frequencies
from ups_data.models.lattice import Lattice, find_neighbours, product_positions
from ups_data.models.problem import ProblemSpec
from ups_data.schema import Record

_EMPTY = 1e-6  # a token with less than this share of a point stands for nothing


def chunk_points(device: torch.device) -> int:
    """Return how many points of all samples have their messages in memory at once, in space 8 KiB a point by default.

    A processor is four times faster where they stay in its caches and in memory that it has; a GPU, and compiled code,
    which has every chunk in it, are so with few chunks.
    """
    return 2**12 if device.type == "cpu" and not torch.compiler.is_compiling() else 2**17


class PointEncoderConfig(Record):
    """How points become tokens.

    Attributes:
        lattice: tokens along each axis of the domain's box; one number for all axes, or one each.
        hidden: width of the network that makes a message of each point.
        stem_blocks: residual blocks of two 3-wide convolutions over the tokens.
        frequencies: of the Fourier features that tell points and tokens where they are.
    """

    lattice: Annotated[
        tuple[Annotated[int, pydantic.Field(ge=1)], ...], pydantic.Field(strict=False, min_length=1, max_length=3)
    ] = (8,)
    hidden: Annotated[int, pydantic.Field(ge=1)] = 64
    stem_blocks: Annotated[int, pydantic.Field(ge=0)] = 1
    frequencies: Frequencies = (1, 2, 4)


class PointEncoder(torch.nn.Module):
    """Gathers the points of a cloud at supernodes on a regular lattice over the domain's box.

    A point sends one message for each of the 2^D supernodes around it: a small network of its values, its Fourier
    features and its offset from the supernode. A token is the mean of the messages that it receives, each weighted by a
    hat of the offset (the weights of multilinear interpolation), so tokens change continuously when points move. Sums
    over points know no order: permuting the points changes tokens by rounding only. O(N 2^D) for N points. Messages of
    large clouds are made chunk by chunk, and once more for the gradient, so that memory does not grow with N 2^D.

    Args:
        config: settings.
        problem: dimensions, periodicity and channels.
        width: width of the tokens.
    """

    def __init__(self, config: PointEncoderConfig, problem: ProblemSpec, *, width: int) -> None:
        super().__init__()
        self.config, self.problem = config, problem
        self.shape = config.lattice * problem.dims if len(config.lattice) == 1 else config.lattice
        if len(self.shape) != problem.dims:
            raise ConfigError(
                f"lattice={list(config.lattice)} has {len(config.lattice)} entries for {problem.dims} axes "
                f"{problem.axis_names}; give one number for all axes, or one each"
            )
        self.features = FourierFeatures(problem.periodic, config.frequencies)
        channels = problem.num_input_frames * problem.num_encoded + self.features.num_features
        self.of_point = torch.nn.Linear(channels, config.hidden)
        self.of_offset = torch.nn.Linear(problem.dims, config.hidden, bias=False)
        self.message = torch.nn.Linear(config.hidden, width)
        blocks = [ResidualConvolutions(width, periodic=problem.periodic) for _ in range(config.stem_blocks)]
        self.stem = torch.nn.Sequential(*blocks)
        self.place = torch.nn.Linear(self.features.num_features + 1, width)

    def forward(
        self,
        inputs: Float[torch.Tensor, "batch time_in channel point"],
        coords: Float[torch.Tensor, "batch point dim"],
        mask: Bool[torch.Tensor, "batch point"] | Float[torch.Tensor, "batch point"] | None = None,
    ) -> Lattice:
        """Encode clouds.

        Args:
            inputs: normalised values (B, T_in, C, N).
            coords: physical coordinates (B, N, D).
            mask: False on padding (B, N). Or how many points each one stands for, 0 on padding: drawn points with their
                weights times N estimate the tokens of all N.

        Returns:
            Tokens (B, L, width); `occupied` is False where a supernode has no point near it.
        """
        unit = self.problem.unit_coordinates(coords)
        axes = tuple(axis.expand(len(unit), -1) for axis in self._supernode_axes(unit))
        means, shares = self._gather_means(inputs, unit, mask, axes)
        values = self.message(means) * (shares > _EMPTY)
        lattice = Lattice(values=values, axes=axes, periodic=self.problem.periodic, occupied=shares[..., 0] > _EMPTY)
        return self._mix(lattice, shares)

    def _supernode_axes(self, like: torch.Tensor) -> list[Float[torch.Tensor, "1 _"]]:
        return [((torch.arange(size, dtype=like.dtype, device=like.device) + 0.5) / size)[None] for size in self.shape]

    def _gather_means(
        self,
        inputs: Float[torch.Tensor, "batch time_in channel point"],
        unit: Float[torch.Tensor, "batch point dim"],
        mask: Bool[torch.Tensor, "batch point"] | Float[torch.Tensor, "batch point"] | None,
        axes: tuple[Float[torch.Tensor, "batch _"], ...],
    ) -> tuple[Float[torch.Tensor, "batch token width"], Float[torch.Tensor, "batch token 1"]]:
        """Return the weighted mean of the messages at each token, and the sum of the weights."""
        size = max(chunk_points(unit.device) // len(unit), 1)
        if unit.shape[1] <= size:
            sums = self._sum_messages(inputs, unit, mask, axes)
        else:
            masks = [None] * -(-unit.shape[1] // size) if mask is None else mask.split(size, dim=1)
            chunks = zip(inputs.split(size, dim=-1), unit.split(size, dim=1), masks, strict=True)
            sums = unit.new_zeros(())
            for chunk in chunks:
                sums = sums + torch.utils.checkpoint.checkpoint(
                    self._sum_messages, *chunk, axes, use_reentrant=False, preserve_rng_state=False
                )
        shares = sums[..., -1:]
        return sums[..., :-1] / shares.clamp_min(_EMPTY), shares

    def _sum_messages(
        self,
        inputs: Float[torch.Tensor, "batch time_in channel point"],
        unit: Float[torch.Tensor, "batch point dim"],
        mask: Bool[torch.Tensor, "batch point"] | Float[torch.Tensor, "batch point"] | None,
        axes: tuple[Float[torch.Tensor, "batch _"], ...],
    ) -> Float[torch.Tensor, "batch token width_and_1"]:
        """Return the weighted sum of the messages of some points at each token, and behind it that of the weights."""
        near = find_neighbours(axes, self.problem.periodic, unit, window=2)
        hats = near.window() if mask is None else near.window() * mask[..., None]
        of_point = self.of_point(torch.cat([inputs.flatten(1, 2).transpose(1, 2), self.features(unit)], dim=-1))
        messages = torch.nn.functional.gelu(of_point[:, :, None] + self.of_offset(near.offset))
        batch, width, tokens = len(messages), messages.shape[-1], torch.Size(self.shape).numel()
        weighted = torch.cat([messages * hats[..., None], hats[..., None]], dim=-1).flatten(1, 2)
        rows = (torch.arange(batch, device=unit.device)[:, None, None] * tokens + near.index).reshape(-1)
        sums = weighted.new_zeros(batch * tokens, width + 1).index_add(0, rows, weighted.flatten(0, 1))
        return sums.unflatten(0, (batch, tokens))

    def _mix(self, lattice: Lattice, shares: Float[torch.Tensor, "batch token 1"]) -> Lattice:
        """Add where tokens are and how crowded they are, and mix neighbours."""
        crowd = torch.log1p(shares)
        places = self.place(torch.cat([self.features(product_positions(lattice.axes)), crowd], dim=-1))
        values = (lattice.values + places).transpose(1, 2).unflatten(2, self.shape)
        return lattice.with_values(self.stem(values).flatten(2).transpose(1, 2))
