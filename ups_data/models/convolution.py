"""Convolutions on lattices in one, two or three dimensions, wrapped around where an axis is periodic."""

from __future__ import annotations

import torch
from jaxtyping import Float

_CONVOLUTIONS: dict[int, type[torch.nn.Conv1d] | type[torch.nn.Conv2d] | type[torch.nn.Conv3d]] = {
    1: torch.nn.Conv1d,
    2: torch.nn.Conv2d,
    3: torch.nn.Conv3d,
}


def pad_axes(
    values: Float[torch.Tensor, "batch channel *space"], periodic: tuple[bool, ...], *, width: int
) -> Float[torch.Tensor, "batch channel *padded"]:
    """Pad every axis by `width` at both ends: by what lies across the seam if it is periodic, else by zeros."""
    for number, wraps in enumerate(periodic):
        axis = number + 2
        size = values.shape[axis]
        if wraps:
            seam = torch.arange(-width, size + width, device=values.device) % size
            values = values.index_select(axis, seam)
        else:
            pads = [0, 0] * (len(periodic) - number - 1) + [width, width]
            values = torch.nn.functional.pad(values, pads)
    return values


class LatticeConvolution(torch.nn.Module):
    """A convolution that keeps the shape of the lattice.

    Args:
        channels_in, channels_out: channels.
        periodic: one flag an axis; their number is the number of dimensions.
        kernel: odd size along each axis.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        periodic: tuple[bool, ...],
        kernel: int = 3,
    ) -> None:
        super().__init__()
        self.periodic = periodic
        self.width = kernel // 2
        self.convolution = _CONVOLUTIONS[len(periodic)](channels_in, channels_out, kernel)

    def forward(self, values: Float[torch.Tensor, "batch channel *space"]) -> Float[torch.Tensor, "batch out *space"]:
        """Convolve (B, C, *space)."""
        return self.convolution(pad_axes(values, self.periodic, width=self.width))


class ResidualConvolutions(torch.nn.Module):
    """x + conv(gelu(conv(gelu(x)))): the small stem of the grid encoder."""

    def __init__(self, channels: int, *, periodic: tuple[bool, ...]) -> None:
        super().__init__()
        self.first = LatticeConvolution(channels, channels, periodic=periodic)
        self.second = LatticeConvolution(channels, channels, periodic=periodic)

    def forward(
        self, values: Float[torch.Tensor, "batch channel *space"]
    ) -> Float[torch.Tensor, "batch channel *space"]:
        """Convolve (B, C, *space)."""
        gelu = torch.nn.functional.gelu
        return values + self.second(gelu(self.first(gelu(values))))
