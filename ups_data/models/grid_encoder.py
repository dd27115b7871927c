"""Full fields on a grid -> latent tokens."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import pydantic
import torch
from jaxtyping import Float

from ups_data.errors import ConfigError
from ups_data.models.convolution import LatticeConvolution, ResidualConvolutions
from ups_data.models.fourier import FourierFeatures, Frequencies
from ups_data.models.lattice import Lattice, interpolate, product_positions
from ups_data.models.problem import ProblemSpec
from ups_data.schema import Record


class GridEncoderConfig(Record):
    """How a grid becomes tokens.

    Attributes:
        patch: nodes along each axis that one token stands for.
        stem_blocks: residual blocks of two 3-wide convolutions over the tokens.
        frequencies: of the Fourier features that tell tokens where they are.
        resolution: what happens to a grid of another shape than the training grid: `fixed` interpolates it to the
            training grid first, so tokens keep their number and their scale; `free` cuts it into patches as it is.
    """

    patch: Annotated[int, pydantic.Field(ge=1)] = 4
    stem_blocks: Annotated[int, pydantic.Field(ge=0)] = 1
    frequencies: Frequencies = (1, 2)
    resolution: Literal["fixed", "free"] = "fixed"


class GridEncoder(torch.nn.Module):
    """Cuts a grid into patches, and makes one token of each.

    All frames and channels of a patch are stacked (pixel unshuffle), mapped to the width of the tokens, and mixed with
    the neighbouring patches by residual convolutions, wrapped around where an axis is periodic. Fourier features of the
    patch centres are added. On an axis whose nodes are uneven a token lies at the mean of its nodes.

    Args:
        config: settings.
        problem: dimensions, periodicity and channels.
        width: width of the tokens.
    """

    def __init__(self, config: GridEncoderConfig, problem: ProblemSpec, *, width: int) -> None:
        super().__init__()
        if problem.grid_shape is None:
            raise ConfigError(f"a grid encoder needs a grid, the problem has {problem.geometry}: use the point encoder")
        self.config, self.problem = config, problem
        self._check_shape(problem.grid_shape)
        channels = problem.num_input_frames * problem.num_encoded * config.patch**problem.dims
        self.embed = LatticeConvolution(channels, width, periodic=problem.periodic)
        blocks = [ResidualConvolutions(width, periodic=problem.periodic) for _ in range(config.stem_blocks)]
        self.stem = torch.nn.Sequential(*blocks)
        self.features = FourierFeatures(problem.periodic, config.frequencies)
        self.place = torch.nn.Linear(self.features.num_features, width)

    def forward(
        self,
        inputs: Float[torch.Tensor, "batch time_in channel *space"],
        axes: tuple[Float[torch.Tensor, "batch _"], ...],
    ) -> Lattice:
        """Encode fields.

        Args:
            inputs: normalised values (B, T_in, C, *space).
            axes: node coordinates of each axis (B, n), physical.

        Returns:
            Tokens (B, L, width), L the number of patches.

        Raises:
            ConfigError: grid sizes that are no multiples of the patch, or other frames or channels than trained on.
        """
        self._check_inputs(inputs)
        fields = inputs.flatten(1, 2)
        unit = tuple(self.problem.unit_axis(number, axis) for number, axis in enumerate(axes))
        if self.config.resolution == "fixed" and tuple(inputs.shape[3:]) != self.problem.grid_shape:
            fields, unit = self._resample(fields, unit)
        return self._to_tokens(fields, unit)

    @property
    def reach(self) -> int:
        """How many tokens away, along each axis, a patch still has a say in a token."""
        return 1 + 2 * self.config.stem_blocks

    def encode_window(
        self,
        inputs: Float[torch.Tensor, "batch time_in channel *space"],
        axes: tuple[Float[torch.Tensor, "batch _"], ...],
    ) -> Lattice:
        """Encode whole patches cut out of a grid, as they are: nothing is interpolated.

        Tokens are those of the whole grid but for `reach` of them at each end where the grid goes on, which see zeros
        or the other end instead of what lies beyond.

        Args:
            inputs: normalised values at the nodes of the patches.
            axes: their coordinates.
        """
        self._check_inputs(inputs)
        unit = tuple(self.problem.unit_axis(number, axis) for number, axis in enumerate(axes))
        return self._to_tokens(inputs.flatten(1, 2), unit)

    def _to_tokens(
        self, fields: Float[torch.Tensor, "batch channel *space"], unit: tuple[Float[torch.Tensor, "batch _"], ...]
    ) -> Lattice:
        self._check_shape(tuple(fields.shape[2:]))
        tokens = self.stem(self.embed(self._unshuffle(fields)))
        centres = tuple(axis.unflatten(1, (-1, self.config.patch)).mean(dim=2) for axis in unit)
        lattice = Lattice(values=tokens.flatten(2).transpose(1, 2), axes=centres, periodic=self.problem.periodic)
        return lattice.with_values(lattice.values + self.place(self.features(lattice.positions())))

    def _unshuffle(
        self, fields: Float[torch.Tensor, "batch channel *space"]
    ) -> Float[torch.Tensor, "batch stacked *lattice"]:
        """Move the nodes of each patch into the channels."""
        dims, patch = self.problem.dims, self.config.patch
        split = fields
        for number in range(dims):
            split = split.unflatten(2 + 2 * number, (-1, patch))
        order = [0, 1, *range(3, 3 + 2 * dims, 2), *range(2, 2 + 2 * dims, 2)]
        return split.permute(order).flatten(1, 1 + dims)

    def _resample(
        self, fields: Float[torch.Tensor, "batch channel *space"], unit: tuple[Float[torch.Tensor, "batch _"], ...]
    ) -> tuple[Float[torch.Tensor, "batch channel *trained"], tuple[Float[torch.Tensor, "batch _"], ...]]:
        """Interpolate fields to the nodes of the training grid; nodes that both grids have keep their values."""
        assert self.problem.grid_axes is not None
        assert self.problem.grid_shape is not None
        nodes = Lattice(values=fields.flatten(2).transpose(1, 2), axes=unit, periodic=self.problem.periodic)
        trained = tuple(
            self.problem.unit_axis(number, torch.tensor(axis, dtype=fields.dtype, device=fields.device)).expand(
                len(fields), -1
            )
            for number, axis in enumerate(self.problem.grid_axes)
        )
        values = interpolate(nodes, product_positions(trained))
        return values.transpose(1, 2).unflatten(2, self.problem.grid_shape), trained

    def _check_inputs(self, inputs: Float[torch.Tensor, "batch time_in channel *space"]) -> None:
        wanted = (self.problem.num_input_frames, self.problem.num_encoded)
        if tuple(inputs.shape[1:3]) != wanted or inputs.ndim != 3 + self.problem.dims:
            raise ConfigError(
                f"the encoder was made for {wanted[0]} frames of {wanted[1]} channels in {self.problem.dims}-D, inputs "
                f"have shape {tuple(inputs.shape)} (batch, frame, channel, *space)"
            )

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        patch = self.config.patch
        for name, size in zip(self.problem.axis_names, shape, strict=True):
            if size % patch:
                divisors = [number for number in range(1, size + 1) if size % number == 0]
                nearest = min(divisors, key=lambda divisor: abs(divisor - patch))
                raise ConfigError(
                    f"axis {name!r} has {size} nodes, no multiple of patch={patch}; set model.grid_encoder.patch "
                    f"to a common divisor of the grid {shape}, for example {math.gcd(*shape, nearest)}"
                )
