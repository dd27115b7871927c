"""Steps in time: latent tokens -> latent tokens, conditioned on time, step and parameters."""

from __future__ import annotations

from typing import Annotated

import pydantic
import torch
from jaxtyping import Float

from ups_data.models.convolution import LatticeConvolution
from ups_data.models.lattice import Lattice
from ups_data.schema import Record


class LatentOperatorConfig(Record):
    """How tokens are advanced.

    Attributes:
        blocks: number of blocks.
        heads: attention heads; they divide the width of the tokens.
        attention: whether tokens attend to all tokens; without it they mix with their neighbours only.
        convolution: whether tokens mix with their lattice neighbours by a 3-wide convolution.
        expansion: width of the inner layer of a block's network, over the width of the tokens.
    """

    blocks: Annotated[int, pydantic.Field(ge=1)] = 2
    heads: Annotated[int, pydantic.Field(ge=1)] = 4
    attention: bool = True
    convolution: bool = True
    expansion: Annotated[int, pydantic.Field(ge=1)] = 2


class ConditionedNorm(torch.nn.Module):
    """Layer norm whose scale and shift depend on the condition (W. Peebles and S. Xie, 2023, adaptive layer norm)."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(width, elementwise_affine=False)
        self.scale_shift = torch.nn.Linear(condition, 2 * width)
        torch.nn.init.zeros_(self.scale_shift.weight)
        torch.nn.init.zeros_(self.scale_shift.bias)

    def forward(
        self, tokens: Float[torch.Tensor, "batch token width"], condition: Float[torch.Tensor, "batch condition"]
    ) -> Float[torch.Tensor, "batch token width"]:
        """Normalise tokens."""
        scale, shift = self.scale_shift(condition)[:, None].chunk(2, dim=-1)
        return self.norm(tokens) * (1 + scale) + shift


class LatentBlock(torch.nn.Module):
    """Convolution over lattice neighbours, attention to all tokens, and a network for each token; each residual."""

    def __init__(self, config: LatentOperatorConfig, *, width: int, condition: int, periodic: tuple[bool, ...]) -> None:
        super().__init__()
        self.heads = config.heads
        if config.convolution:
            self.near_norm = ConditionedNorm(width, condition)
            self.near = LatticeConvolution(width, width, periodic=periodic)
        if config.attention:
            self.far_norm = ConditionedNorm(width, condition)
            self.projection = torch.nn.Linear(width, 3 * width)
            self.far = torch.nn.Linear(width, width)
        self.config = config
        self.token_norm = ConditionedNorm(width, condition)
        hidden = config.expansion * width
        self.network = torch.nn.Sequential(
            torch.nn.Linear(width, hidden), torch.nn.GELU(), torch.nn.Linear(hidden, width)
        )

    def forward(self, lattice: Lattice, condition: Float[torch.Tensor, "batch condition"]) -> Lattice:
        """Mix tokens."""
        values = lattice.values
        if self.config.convolution:
            spread = self.near_norm(values, condition).transpose(1, 2).unflatten(2, lattice.shape)
            values = values + self.near(torch.nn.functional.gelu(spread)).flatten(2).transpose(1, 2)
        if self.config.attention:
            values = values + self._attend(self.far_norm(values, condition), lattice)
        return lattice.with_values(values + self.network(self.token_norm(values, condition)))

    def _attend(
        self, values: Float[torch.Tensor, "batch token width"], lattice: Lattice
    ) -> Float[torch.Tensor, "batch token width"]:
        split = self.projection(values).unflatten(2, (3, self.heads, -1))
        queries, keys, contents = (part.transpose(1, 2) for part in split.unbind(dim=2))
        seen = None if lattice.occupied is None else lattice.occupied[:, None, None]
        mixed = torch.nn.functional.scaled_dot_product_attention(queries, keys, contents, attn_mask=seen)
        return self.far(mixed.transpose(1, 2).flatten(2))


class LatentOperator(torch.nn.Module):
    """Advances tokens by one step in time.

    The condition is made of the time, the step dt and the parameters of the trajectory, all of order one. One operator
    serves every step: a rollout applies it again and again, so the steps of a rollout may differ in length.

    Args:
        config: settings.
        width: width of the tokens.
        num_parameters: parameters of a trajectory.
        periodic: one flag an axis of the lattice.
    """

    def __init__(
        self, config: LatentOperatorConfig, *, width: int, num_parameters: int, periodic: tuple[bool, ...]
    ) -> None:
        super().__init__()
        self.condition = torch.nn.Sequential(torch.nn.Linear(2 + num_parameters, width), torch.nn.GELU())
        self.blocks = torch.nn.ModuleList(
            LatentBlock(config, width=width, condition=width, periodic=periodic) for _ in range(config.blocks)
        )
        self.norm = torch.nn.LayerNorm(width)

    def forward(
        self,
        tokens: Lattice,
        *,
        time: Float[torch.Tensor, " batch"],
        step: Float[torch.Tensor, " batch"],
        parameters: Float[torch.Tensor, "batch parameter"],
    ) -> Lattice:
        """Return the tokens one step later.

        Args:
            tokens: the state at `time`.
            time: of the state, in the problem's time scale (B,).
            step: dt, in the same scale (B,); 0 for a steady problem.
            parameters: normalised (B, K).
        """
        condition = self.condition(torch.cat([time[:, None], step[:, None], parameters], dim=-1))
        for block in self.blocks:
            tokens = block(tokens, condition)
        return tokens.with_values(self.norm(tokens.values))
