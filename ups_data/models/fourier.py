"""Features of coordinates that respect periodicity."""

from __future__ import annotations

import math
from typing import Annotated

import pydantic
import torch
from jaxtyping import Float

# lists, as YAML and JSON have them, are taken for tuples
Frequencies = Annotated[tuple[Annotated[int, pydantic.Field(ge=1)], ...], pydantic.Field(strict=False)]
"""Whole numbers of a Fourier expansion, in a configuration."""


class FourierFeatures(torch.nn.Module):
    """Sines and cosines of unit coordinates, axis by axis.

    On a periodic axis of period 1 they are sin(2 pi f x) and cos(2 pi f x): whole numbers f wrap around. On another
    axis they are sin(pi f x), cos(pi f x) and x itself, so that the lowest frequency tells both ends apart.

    Args:
        periodic: one flag an axis.
        frequencies: whole numbers f, the same for every axis.
    """

    rates: torch.Tensor
    straight: torch.Tensor

    def __init__(self, periodic: tuple[bool, ...], frequencies: tuple[int, ...]) -> None:
        super().__init__()
        self.periodic = periodic
        self.frequencies = frequencies
        turns = [2 * math.pi if wraps else math.pi for wraps in periodic]
        rates = torch.tensor(turns)[:, None] * torch.tensor(frequencies, dtype=torch.float32)
        self.register_buffer("rates", rates, persistent=False)
        straight = [axis for axis, wraps in enumerate(periodic) if not wraps]
        self.register_buffer("straight", torch.tensor(straight, dtype=torch.int64), persistent=False)

    @property
    def num_features(self) -> int:
        """Length of a feature vector."""
        return 2 * len(self.periodic) * len(self.frequencies) + self.periodic.count(False)

    def forward(self, points: Float[torch.Tensor, "*rest dim"]) -> Float[torch.Tensor, "*rest feature"]:
        """Return the features of points given in unit coordinates."""
        phases = (points[..., None] * self.rates.to(points.dtype)).flatten(-2)
        return torch.cat([torch.sin(phases), torch.cos(phases), 2 * points[..., self.straight] - 1], dim=-1)
