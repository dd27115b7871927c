"""Values on a tensor-product lattice, and which of them are near a point.

Tokens of every encoder lie on such a lattice, and so do the nodes of a grid. Because the lattice is a product of axes,
the neighbours of a point are found axis by axis: O(Q k) work for Q points with k neighbours, however many tokens there
are. Offsets count in lattice spacings (fractional positions between neighbouring tokens), so uneven axes are fine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Bool, Float, Int

_LEAST_WINDOW = 1e-4  # keeps a token on the rim of the window finite in the logarithm


@dataclass(frozen=True, kw_only=True, eq=False)
class Lattice:
    """Values on a tensor-product lattice, in unit coordinates.

    Attributes:
        values: (B, L, E), in C order over the axes.
        axes: positions along each axis (B, m), rising, in unit coordinates.
        periodic: one flag an axis; the period is 1.
        occupied: (B, L), False where a token stands for nothing (no point of the cloud is near); None: all stand.
    """

    values: Float[torch.Tensor, "batch token width"]
    axes: tuple[Float[torch.Tensor, "batch _"], ...]
    periodic: tuple[bool, ...]
    occupied: Bool[torch.Tensor, "batch token"] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Tokens along each axis."""
        return tuple(axis.shape[1] for axis in self.axes)

    def with_values(self, values: Float[torch.Tensor, "batch token width"]) -> Self:
        """Return other values at the same positions."""
        return replace(self, values=values)

    def positions(self) -> Float[torch.Tensor, "batch token dim"]:
        """Return the position of every token, in unit coordinates."""
        return product_positions(self.axes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbourhood:
    """The lattice sites around some points: `window` along each axis, k = window ** D in all.

    Attributes:
        index: numbers of the sites (B, Q, k).
        offset: point minus site, in lattice spacings (B, Q, k, D).
        place: where the point lies, as a fractional site number on each axis (B, Q, D).
        half_width: reach of the window, in spacings; it may be less than asked where an axis has few sites.
    """

    index: Int[torch.Tensor, "batch query near"]
    offset: Float[torch.Tensor, "batch query near dim"]
    place: Float[torch.Tensor, "batch query dim"]
    half_width: tuple[float, ...]

    def window(self) -> Float[torch.Tensor, "batch query near"]:
        """Return the product over axes of hats, 1 at the site and 0 at the rim: what makes any mixture continuous."""
        reach = torch.tensor(self.half_width, dtype=self.offset.dtype, device=self.offset.device)
        return (1 - self.offset.abs() / reach).clamp_min(0).prod(dim=-1)

    def log_window(self) -> Float[torch.Tensor, "batch query near"]:
        """Return the logarithm of the window, bounded below."""
        return self.window().clamp_min(_LEAST_WINDOW).log()

    def gather(self, values: Float[torch.Tensor, "batch token width"]) -> Float[torch.Tensor, "batch query near width"]:
        """Return the values at the neighbours."""
        rows = self._rows(values)
        return values.flatten(0, 1)[rows.reshape(-1)].reshape(*rows.shape, values.shape[-1])

    def mix(
        self, values: Float[torch.Tensor, "batch token width"], shares: Float[torch.Tensor, "batch query near head"]
    ) -> Float[torch.Tensor, "batch query width"]:
        """Return the sum over neighbours of share times value, each head with its part of the width.

        Sums while it gathers, so (B, Q, k, E) is never built: several times as fast as gather, product and sum.
        """
        batch, tokens, width = values.shape
        heads = shares.shape[-1]
        rows = self._rows(values)[:, :, None] * heads
        bags = (rows + torch.arange(heads, device=values.device)[:, None]).flatten(0, 2)
        table = values.reshape(batch * tokens * heads, width // heads)
        weights = shares.transpose(2, 3).flatten(0, 2).to(values.dtype)
        mixed = torch.nn.functional.embedding_bag(bags, table, mode="sum", per_sample_weights=weights)
        return mixed.reshape(batch, -1, width)

    def _rows(self, values: Float[torch.Tensor, "batch token width"]) -> Int[torch.Tensor, "batch query near"]:
        """Return the numbers of the neighbours among the tokens of all samples, one after another."""
        batch, tokens, _ = values.shape
        return torch.arange(batch, device=values.device)[:, None, None] * tokens + self.index


def product_positions(axes: tuple[Float[torch.Tensor, "batch _"], ...]) -> Float[torch.Tensor, "batch site dim"]:
    """Return the positions of all sites of the product of some axes, in C order."""
    shape, parts = [axis.shape[1] for axis in axes], []
    for number, axis in enumerate(axes):
        along = [1] * len(axes)
        along[number] = axis.shape[1]
        parts.append(axis.reshape(-1, *along).expand(-1, *shape).flatten(1))
    return torch.stack(parts, dim=-1)


def find_neighbours(
    lattice_axes: tuple[Float[torch.Tensor, "batch _"], ...],
    periodic: tuple[bool, ...],
    points: Float[torch.Tensor, "batch query dim"],
    *,
    window: int,
) -> Neighbourhood:
    """Find the `window` nearest sites along each axis.

    Args:
        lattice_axes: positions along each axis, in unit coordinates.
        periodic: one flag an axis.
        points: in unit coordinates.
        window: sites along each axis: 2 are the corners of the cell around a point. Shorter axes give all they have.
    """
    index, offsets, places, half_width = None, [], [], []
    for number, axis in enumerate(lattice_axes):
        count = min(window, axis.shape[1])
        place = fractional_index(axis, points[..., number].contiguous(), periodic=periodic[number])
        sites, offset = _window_along(place, axis.shape[1], count, periodic=periodic[number])
        half_width.append(max(count, 2) / 2)
        offsets.append(offset)
        places.append(place)
        index = sites if index is None else (index[..., :, None] * axis.shape[1] + sites[..., None, :]).flatten(-2)
    assert index is not None
    return Neighbourhood(
        index=index, offset=_outer(offsets), place=torch.stack(places, dim=-1), half_width=tuple(half_width)
    )


def fractional_index(
    axis: Float[torch.Tensor, "batch site"], points: Float[torch.Tensor, "batch query"], *, periodic: bool
) -> Float[torch.Tensor, "batch query"]:
    """Return where points lie between the sites of an axis: i + 0.25 is a quarter of the way from site i to i + 1.

    A periodic axis runs from -1 to the number of sites; another one is continued evenly beyond its ends.
    """
    if periodic:
        points = points - torch.floor(points)
        before, behind = axis[:, -1:] - 1, axis[:, :1] + 1
    else:
        first, last = (axis[:, 1:2] - axis[:, :1], axis[:, -1:] - axis[:, -2:-1]) if axis.shape[1] > 1 else (1, 1)
        before, behind = axis[:, :1] - first, axis[:, -1:] + last
    sites = torch.cat([before, axis, behind], dim=1)
    left = (torch.searchsorted(sites, points, right=True) - 1).clamp(0, sites.shape[1] - 2)
    start, stop = torch.gather(sites, 1, left), torch.gather(sites, 1, left + 1)
    return left - 1 + (points - start) / (stop - start)


def _window_along(
    place: Float[torch.Tensor, "batch query"], sites: int, count: int, *, periodic: bool
) -> tuple[Int[torch.Tensor, "batch query near"], Float[torch.Tensor, "batch query near"]]:
    """Return the sites of the window along one axis and the offsets from them."""
    first = torch.floor(place if count % 2 == 0 else place + 0.5).to(torch.int64) - (count - 1) // 2
    if not periodic:
        first = first.clamp(0, sites - count)
    chosen = first[..., None] + torch.arange(count, device=place.device)
    return chosen % sites, place[..., None] - chosen


def _outer(offsets: list[Float[torch.Tensor, "batch query _"]]) -> Float[torch.Tensor, "batch query near dim"]:
    """Combine offsets along axes to offsets of the sites of the product, in C order."""
    counts = [part.shape[-1] for part in offsets]
    spread = []
    for number, part in enumerate(offsets):
        shape = [1] * len(counts)
        shape[number] = counts[number]
        spread.append(part.reshape(*part.shape[:2], *shape).expand(-1, -1, *counts).flatten(2))
    return torch.stack(spread, dim=-1)


def interpolate(
    nodes: Lattice, points: Float[torch.Tensor, "batch query dim"]
) -> Float[torch.Tensor, "batch query width"]:
    """Interpolate lattice values at points, linearly along each axis; beyond the end nodes the last value holds.

    A point on a node gets its value, to rounding.
    """
    inside = [
        points[..., number] if nodes.periodic[number] else points[..., number].clamp(axis[:, :1], axis[:, -1:])
        for number, axis in enumerate(nodes.axes)
    ]
    near = find_neighbours(nodes.axes, nodes.periodic, torch.stack(inside, dim=-1), window=2)
    weights = near.window()
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return (near.gather(nodes.values) * weights[..., None]).sum(dim=2)
