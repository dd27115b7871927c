"""From latent tokens to fields at any points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import pydantic
import torch
from jaxtyping import Float

from ups_data.errors import ConfigError
from ups_data.models.fourier import FourierFeatures, Frequencies
from ups_data.models.lattice import Lattice, Neighbourhood, find_neighbours
from ups_data.schema import Record

_KEY_WIDTH = 16  # of a head: enough to tell a handful of neighbours apart
_HARMONICS = (1, 2)


class DecoderConfig(Record):
    """How points are answered.

    Attributes:
        layers: cross-attention layers.
        heads: attention heads; they divide the width of the tokens.
        attention: `local` attends to the tokens around a query, `global` to all of them (for comparison).
        window: tokens along each axis that a query attends to (`local`); 2 are the corners of the cell around it.
        frequencies: of the Fourier features that tell queries where they are in the domain.
    """

    layers: Annotated[int, pydantic.Field(ge=1)] = 1
    heads: Annotated[int, pydantic.Field(ge=1)] = 1
    attention: Literal["local", "global"] = "local"
    window: Annotated[int, pydantic.Field(ge=2)] = 2
    frequencies: Frequencies = (1, 2, 4)


class AnyPointDecoder(torch.nn.Module):
    """Answers at any points, each with coordinates of its own: (B, Q, D) and tokens -> {field: (B, Q, C)}.

    With `attention="local"` a query attends to the tokens around it: O(Q k) for k = window ** D. It knows from the
    first step which tokens matter, where plain cross-attention has to learn that from sparse queries and may never do
    so. Its answer is continuous in space. Queries do not see one another: they may be decoded in parts, and padding
    harms nobody.

    Args:
        config: settings.
        output_channels: channels of each field by name; one head a field.
        periodic: one flag an axis.
        width: width of the tokens.
    """

    def __init__(
        self, config: DecoderConfig, output_channels: Mapping[str, int], *, periodic: tuple[bool, ...], width: int
    ) -> None:
        super().__init__()
        if width % config.heads:
            raise ConfigError(f"model.width={width} is no multiple of model.decoder.heads={config.heads}")
        self.config = config
        self.features = FourierFeatures(periodic, config.frequencies)
        self.start = torch.nn.Linear(self.features.num_features, width)
        layer = LocalLayer if config.attention == "local" else GlobalLayer
        self.layers = torch.nn.ModuleList(
            layer(width=width, heads=config.heads, dims=len(periodic)) for _ in range(config.layers)
        )
        self.norm = torch.nn.LayerNorm(width)
        # Field names may hold dots, which the names of modules may not.
        self.fields = tuple(output_channels)
        self.heads = torch.nn.ModuleList(_network(width, count) for count in output_channels.values())

    def forward(
        self, points: Float[torch.Tensor, "batch query dim"], latent: Lattice
    ) -> dict[str, Float[torch.Tensor, "batch query _"]]:
        """Decode.

        Args:
            points: unit coordinates (B, Q, D).
            latent: tokens (B, L, E).

        Returns:
            Normalised values (B, Q, C) of each field by name.
        """
        near = find_neighbours(latent.axes, latent.periodic, points, window=self.config.window)
        hidden = self.start(self.features(points))
        for layer in self.layers:
            hidden = layer(hidden, latent, near)
        hidden = self.norm(hidden)
        return {name: head(hidden) for name, head in zip(self.fields, self.heads, strict=True)}


class LocalLayer(torch.nn.Module):
    """Attention of every query to the tokens of its window, and a network for each query; each residual.

    The shares of the tokens vanish at the rim of the window, so what is taken is continuous. It is then modulated by
    where in its cell of the lattice the query lies (sines and cosines of its place, in lattice spacings): a token thus
    describes the field around it, and not only at it.
    """

    def __init__(self, *, width: int, heads: int, dims: int) -> None:
        super().__init__()
        self.heads = heads
        self.token_norm, self.network_norm = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.query = torch.nn.Linear(width, heads * _KEY_WIDTH)
        self.key = torch.nn.Linear(width, heads * _KEY_WIDTH)
        self.value = torch.nn.Linear(width, width)
        self.modulation = torch.nn.Linear(2 * len(_HARMONICS) * dims, width)
        self.network = _network(width, width)

    def forward(
        self, hidden: Float[torch.Tensor, "batch query width"], latent: Lattice, near: Neighbourhood
    ) -> Float[torch.Tensor, "batch query width"]:
        """Let queries take from their tokens."""
        tokens = self.token_norm(latent.values)
        queries = self.query(hidden).unflatten(-1, (self.heads, _KEY_WIDTH))
        keys = near.gather(self.key(tokens)).unflatten(-1, (self.heads, _KEY_WIDTH))
        logits = (queries[:, :, None] * keys).sum(dim=-1) * _KEY_WIDTH**-0.5
        shares = (logits + near.log_window()[..., None]).softmax(dim=2)
        taken = near.mix(self.value(tokens), shares)
        phases = [2 * math.pi * number * near.place for number in _HARMONICS]
        within = torch.cat([wave(phase) for phase in phases for wave in (torch.sin, torch.cos)], dim=-1)
        hidden = hidden + taken * (1 + self.modulation(within))
        return hidden + self.network(self.network_norm(hidden))


class GlobalLayer(torch.nn.Module):
    """Plain cross-attention of every query to all tokens, and a network for each query; each residual."""

    def __init__(self, *, width: int, heads: int, dims: int) -> None:  # noqa: ARG002  made as the local layer is
        super().__init__()
        self.heads = heads
        self.query_norm, self.token_norm = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.query = torch.nn.Linear(width, width)
        self.keys_values = torch.nn.Linear(width, 2 * width)
        self.merge = torch.nn.Linear(width, width)
        self.network_norm = torch.nn.LayerNorm(width)
        self.network = _network(width, width)

    def forward(
        self,
        hidden: Float[torch.Tensor, "batch query width"],
        latent: Lattice,
        near: Neighbourhood,  # noqa: ARG002  called as the local layer is
    ) -> Float[torch.Tensor, "batch query width"]:
        """Let queries take from all tokens."""
        keys, values = self.keys_values(self.token_norm(latent.values)).chunk(2, dim=-1)
        parts = (self.query(self.query_norm(hidden)), keys, values)
        queries, keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        seen = None if latent.occupied is None else latent.occupied[:, None, None]
        taken = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
        hidden = hidden + self.merge(taken.transpose(1, 2).flatten(2))
        return hidden + self.network(self.network_norm(hidden))


def _network(width: int, channels_out: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.GELU(), torch.nn.Linear(width, channels_out))
