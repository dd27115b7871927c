"""First and second derivatives along the axes of a grid, exact where the spacing is uneven, across periodic seams.

Taken by slopes between neighbours: those of a constant field are exactly zero, where the formulas that weight values
leave rounding, which a map of mean 1 would blow up.

Missing values are NaN. A derivative is taken from one side where the value on the other one is missing, is zero where
nothing tells it, and is NaN where the value itself is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float64

from ups_data.importance.base import GridGeometry
from ups_data.scratch import Scratch

_HALO = 2
# Of float64: a slab and what is worked out from it stay in the processor's cache.
_SLAB_VALUES = 2**17


def axis_derivative(
    values: Float64[np.ndarray, "channel *space"],
    geometry: GridGeometry,
    axis: int,
    *,
    scratch: Scratch | None = None,
    out: Float64[np.ndarray, "channel *space"] | None = None,
) -> Float64[np.ndarray, "channel *space"]:
    """Differentiate along one axis to second order, across the seam where the axis is periodic.

    Inner nodes: the three-point formula for uneven spacing, of which half the change over two steps is left where nodes
    lie evenly. Ends of an axis that is not periodic: one-sided, to first order. An axis of one node: zero.

    Args:
        values: the field.
        geometry: the grid.
        axis: which of its axes.
        scratch: memory for what is worked out on the way.
        out: memory that the derivative may be put in.
    """
    if geometry.axes[axis].size == 1:
        return np.zeros_like(values)
    derivative = np.empty(values.shape) if out is None else out
    wraps, spacing = geometry.periods[axis] is not None, geometry.spacings[axis]
    if spacing is None:
        _put_uneven(derivative, values, geometry, axis, scratch or Scratch())
    else:
        _put_even(derivative, values, axis, wraps=wraps)
        derivative *= 0.5 / spacing
    # One NaN makes the least value NaN, which is found faster than each of them.
    if np.isnan(values.min()):
        derivative[np.isnan(values)] = np.nan
        _, slopes = _slopes(values, geometry, axis)
        filled = _fill_from_one_side(np.moveaxis(derivative, axis + 1, -1), slopes, wraps=wraps)
        return _settle(np.moveaxis(filled, -1, axis + 1), values)
    return derivative


def even_squared_gradient(
    values: Float64[np.ndarray, "channel *space"], geometry: GridGeometry, scratch: Scratch
) -> Float64[np.ndarray, "channel *space"] | None:
    """Return |grad u|^2 in the fewest passes where nodes lie evenly along every axis, None where they do not.

    It is NaN beside missing values, along any axis, and knows nothing of that of the node itself: for both
    there is `axis_derivative`.
    """
    if None in geometry.spacings:
        return None
    first, *_ = spacings = [spacing for spacing in geometry.spacings if spacing is not None]
    squares = scratch.take("squares", values.shape)
    for axis, spacing in enumerate(spacings):
        changes = scratch.take("changes", values.shape) if axis else squares
        _put_even(changes, values, axis, wraps=geometry.periods[axis] is not None)
        if spacing != first:
            changes *= first / spacing
        np.square(changes, out=changes)
        if axis:
            squares += changes
    squares *= (0.5 / first) ** 2
    return squares


def _put_even(
    derivative: Float64[np.ndarray, "channel *space"],
    values: Float64[np.ndarray, "channel *space"],
    axis: int,
    *,
    wraps: bool,
) -> None:
    """Put the change over two steps, where nodes lie evenly: the derivative times twice the spacing."""
    # All of an array that lies in one piece at once, whatever the axis: rows of the last one are short. What comes of
    # nodes at both ends of a row, which are no neighbours, is replaced below.
    step = math.prod(values.shape[axis + 2 :])
    flat, changes = values.reshape(-1), derivative.reshape(-1)
    assert derivative.flags.c_contiguous
    np.subtract(flat[2 * step :], flat[: -2 * step], out=changes[step:-step])
    first, second, last_but_one, last = (_node(values, axis, number) for number in (0, 1, -2, -1))
    _node(derivative, axis, 0)[...] = second - last if wraps else 2 * (second - first)
    _node(derivative, axis, -1)[...] = first - last_but_one if wraps else 2 * (last - last_but_one)


def _put_uneven(
    derivative: Float64[np.ndarray, "channel *space"],
    values: Float64[np.ndarray, "channel *space"],
    geometry: GridGeometry,
    axis: int,
    scratch: Scratch,
) -> None:
    """Differentiate by the changes before a node and after it, weighted by the steps."""
    steps, changes = _changes(values, geometry, axis, scratch)
    # Along `axis`, so that memory is read in order.
    sums = steps[:-1] + steps[1:]
    before, after = steps[1:] / steps[:-1] / sums, steps[:-1] / steps[1:] / sums
    wraps = geometry.periods[axis] is not None
    if not wraps:
        for end in (slice(0, 1), slice(-1, None)):
            _along(derivative, axis, end)[...] = _along(changes, axis, end) / steps[end]
    inner = _along(derivative, axis, slice(None) if wraps else slice(1, -1))
    later = _along(changes, axis, slice(1, None))
    np.multiply(_along(changes, axis, slice(None, -1)), _shaped(before, values, axis), out=inner)
    later *= _shaped(after, values, axis)
    inner += later


def _changes(
    values: Float64[np.ndarray, "channel *space"], geometry: GridGeometry, axis: int, scratch: Scratch
) -> tuple[Float64[np.ndarray, " step"], Float64[np.ndarray, "channel *steps"]]:
    """Return the steps from node to node along an axis and the changes over them; both steps of a seam included."""
    nodes, period = geometry.axes[axis], geometry.periods[axis]
    shape = list(values.shape)
    shape[axis + 1] += -1 if period is None else 1
    changes = scratch.take("changes", shape)
    np.subtract(
        _along(values, axis, slice(1, None)),
        _along(values, axis, slice(None, -1)),
        out=changes if period is None else _along(changes, axis, slice(1, -1)),
    )
    if period is not None:
        nodes = np.concatenate([nodes[-1:] - period, nodes, nodes[:1] + period])
        for end in (slice(0, 1), slice(-1, None)):
            seam = _along(changes, axis, end)
            np.subtract(_along(values, axis, slice(0, 1)), _along(values, axis, slice(-1, None)), out=seam)
    return np.diff(nodes), changes


def _along(
    values: Float64[np.ndarray, "channel *space"], axis: int, part: slice
) -> Float64[np.ndarray, "channel *part"]:
    """Return a part of the nodes of one axis."""
    return values[(slice(None),) * (axis + 1) + (part,)]


def _node(
    values: Float64[np.ndarray, "channel *space"], axis: int, number: int
) -> Float64[np.ndarray, "channel *rest"]:
    """Return one node of one axis."""
    return values[(slice(None),) * (axis + 1) + (number,)]


def _shaped(
    weights: Float64[np.ndarray, " node"], values: Float64[np.ndarray, "channel *space"], axis: int
) -> Float64[np.ndarray, "..."]:
    """Return weights of the nodes of one axis in a shape that broadcasts."""
    return weights.reshape(-1, *[1] * (values.ndim - axis - 2))


def second_derivative(
    values: Float64[np.ndarray, "channel *space"], geometry: GridGeometry, axis: int
) -> Float64[np.ndarray, "channel *space"]:
    """Differentiate twice along one axis, across the seam where the axis is periodic.

    Inner nodes: the three-point formula, exact for parabolas on any spacing, to second order on an even and to first
    order on an uneven one. Ends of an axis that is not periodic: as at the node beside. An axis of one node, or of two
    that do not wrap, has second derivative zero.
    """
    size, period = geometry.axes[axis].size, geometry.periods[axis]
    if size == 1 or (size == 2 and period is None):
        return np.zeros_like(values)
    steps, slopes = _slopes(values, geometry, axis)
    inner = np.diff(slopes, axis=-1) / ((steps[:-1] + steps[1:]) / 2)
    if period is None:
        inner = np.concatenate([inner[..., :1], inner, inner[..., -1:]], axis=-1)
    return _settle(np.moveaxis(inner, -1, axis + 1), values)


def _fill_from_one_side(
    inner: Float64[np.ndarray, "*rest node"], slopes: Float64[np.ndarray, "*rest step"], *, wraps: bool
) -> Float64[np.ndarray, "*rest node"]:
    """Put the slope of the side that is known where the other one is missing."""
    unknown = np.full_like(inner[..., :1], np.nan)
    left = slopes[..., :-1] if wraps else np.concatenate([unknown, slopes], axis=-1)
    right = slopes[..., 1:] if wraps else np.concatenate([slopes, unknown], axis=-1)
    return np.where(np.isnan(inner), np.where(np.isnan(left), right, left), inner)


def _settle(
    derivative: Float64[np.ndarray, "channel *space"], values: Float64[np.ndarray, "channel *space"]
) -> Float64[np.ndarray, "channel *space"]:
    """Make zero what is not known where the value is."""
    unknown = np.isnan(derivative)
    return np.where(unknown & ~np.isnan(values), 0.0, derivative) if unknown.any() else derivative


def slabs(
    frame: Float[np.ndarray, "channel *space"], geometry: GridGeometry, scratch: Scratch
) -> Iterator[tuple[slice, slice, Float64[np.ndarray, "channel *slab"], GridGeometry]]:
    """Cut a frame across its first axis into slabs, so that derivatives need little memory.

    A slab has two more nodes at each end, across the seam where the axis is periodic: derivatives of up to second order
    at its own nodes are those of the whole frame, to the bit.

    Yields:
        Which nodes of the first axis the slab is for, which of its own nodes these are, its values in float64, which
        hold until the next slab, and its geometry.
    """
    nodes, period = geometry.axes[0], geometry.periods[0]
    size = nodes.size
    length = max(1, _SLAB_VALUES // max(1, frame[:, 0].size))
    if length >= size:
        values = scratch.take("values", frame.shape)
        values[...] = frame
        yield slice(0, size), slice(0, size), values, geometry
        return
    for start in range(0, size, length):
        stop = min(start + length, size)
        low, high = start - _HALO, stop + _HALO
        if period is None:
            low, high = max(low, 0), min(high, size)
        places = np.arange(low, high)
        turns = places // size
        shifted = nodes[places % size] + turns * (period or 0.0)
        part = GridGeometry(
            axes=(shifted, *geometry.axes[1:]), periods=(None, *geometry.periods[1:]), spacings=geometry.spacings
        )
        inside = low >= 0 and high <= size
        values = scratch.take("values", (len(frame), high - low, *frame.shape[2:]))
        values[...] = frame[:, slice(low, high) if inside else places % size]
        yield slice(start, stop), slice(start - low, stop - low), values, part


def channel_slabs(
    frame: Float[np.ndarray, "channel *space"], geometry: GridGeometry, scratch: Scratch
) -> Iterator[tuple[int, slice, slice, Float64[np.ndarray, "1 *slab"], GridGeometry]]:
    """Cut each channel of a frame into slabs, one channel after another: fewer nodes are in two slabs.

    Yields:
        The channel, and what `slabs` yields of it.
    """
    for channel in range(len(frame)):
        for slab in slabs(frame[channel : channel + 1], geometry, scratch):
            yield channel, *slab


def _slopes(
    values: Float64[np.ndarray, "channel *space"], geometry: GridGeometry, axis: int
) -> tuple[Float64[np.ndarray, " step"], Float64[np.ndarray, "*rest step"]]:
    """Return the steps from node to node and the slopes over them, the axis last; both steps of a seam included."""
    nodes, period = geometry.axes[axis], geometry.periods[axis]
    along = np.moveaxis(values, axis + 1, -1)
    if period is not None:
        nodes = np.concatenate([nodes[-1:] - period, nodes, nodes[:1] + period])
        along = np.concatenate([along[..., -1:], along, along[..., :1]], axis=-1)
    steps = np.diff(nodes)
    return steps, np.diff(along, axis=-1) / steps
