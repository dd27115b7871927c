"""Power by wave number, on uniform periodic grids."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from ups_data.storage import Store

_EVEN = 1e-6  # of a step: how much the steps of a uniform axis may differ, by rounding of stored coordinates


def uniform_lengths(store: Store, trajectory: int) -> tuple[float, ...] | None:
    """Return the periods of the axes, None where there is no spectrum: scattered points, uneven or open axes."""
    geometry = store.manifest.geometry
    if geometry.kind != "grid" or not all(axis.periodic for axis in geometry.axes):
        return None
    lengths = []
    for axis, nodes in zip(geometry.axes, store.axes(trajectory), strict=True):
        length = axis.upper - axis.lower
        step = length / nodes.size
        if nodes.size > 1 and np.abs(np.diff(nodes) - step).max() > _EVEN * step:
            return None
        lengths.append(length)
    return tuple(lengths)


def power_spectrum(
    values: Float[np.ndarray, "channel *space"], lengths: tuple[float, ...]
) -> tuple[Float64[np.ndarray, " band"], Float64[np.ndarray, " band"]]:
    """Return the power of a field by the size of the wave vector, added up over its channels.

    The power of a band is the sum of |u_k|^2 over the wave vectors k whose size rounds to its wave number, u_k being
    the mean over nodes of u(x) exp(-2 pi i k x). All bands add up to the mean square of the field (Parseval).

    Args:
        values: on a uniform periodic grid.
        lengths: period of each axis.

    Returns:
        Wave numbers of the bands, 0 first, in cycles per unit of length, spaced by 1 / the longest period; and powers.
    """
    shape = values.shape[1:]
    coefficients = np.fft.fftn(values.astype(np.float64), axes=tuple(range(1, values.ndim)), norm="forward")
    power = np.square(np.abs(coefficients)).sum(axis=0)
    waves = [np.fft.fftfreq(size, d=length / size) for size, length in zip(shape, lengths, strict=True)]
    sizes = np.sqrt(sum(np.square(part) for part in np.meshgrid(*waves, indexing="ij")))
    spacing = 1 / max(lengths)
    bands = np.rint(sizes / spacing).astype(np.int64)
    powers = np.bincount(bands.ravel(), weights=power.ravel())
    return spacing * np.arange(len(powers)), powers
