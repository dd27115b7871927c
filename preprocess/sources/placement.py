"""Places for points between the nodes of a grid: a low-discrepancy set over the domain, one of its own a trajectory.

The i-th of N points has in axis d the place frac(s_d + i * g^-(d+1)) between the ends of the axis, with g the root of
g^(D+1) = g + 1 (the golden ratio in one dimension; Roberts 2018 in more) and s a shift that is uniform over the unit
cube (Cranley and Patterson 1976), keyed by (seed, trajectory). Each point alone is so uniform over the domain, hence
the mean over the set is an unbiased estimate of the mean over the continuous domain, and all together fill it far more
evenly than random points would.

Sums are taken modulo 2^64, exactly, so that the millionth point lies as well as the first.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from ups_data.coordinates import cell_lengths
from ups_data.importance import GridGeometry
from ups_data.random import Stream, generator
from ups_data.schema import AxisSpec

_ROOTS = {1: 1.6180339887498949, 2: 1.3247179572447460, 3: 1.2207440846057596}
_WORD = 2**64


def place_points(
    grid: GridGeometry, specs: tuple[AxisSpec, ...], count: int, *, seed: int, trajectory: int
) -> Float64[np.ndarray, "point dim"]:
    """Return the coordinates of the points of one trajectory.

    They lie between the first and the last node of each axis, on a periodic one anywhere in the period that begins at
    the extent's lower end, and evenly in the measure of the domain: in the sine of a latitude, not in the latitude. On
    an axis of one node all lie at that node.

    Args:
        grid: the nodes.
        specs: extents and kinds of the axes.
        count: points, N.
        seed: first key of the shift.
        trajectory: second key of the shift.
    """
    shifts = generator(seed=seed, stream=Stream.OFF_GRID, words=(trajectory, 0)).integers(
        0, _WORD, size=len(specs), dtype=np.uint64
    )
    numbers = np.arange(count, dtype=np.uint64)
    points = np.empty((count, len(specs)))
    step = 1.0
    for axis, (nodes, spec) in enumerate(zip(grid.axes, specs, strict=True)):
        step /= _ROOTS[len(specs)]
        sums = shifts[axis] + numbers * np.uint64(step * _WORD)
        # 53 bits, so that no place is rounded up to 1.
        unit = (sums >> np.uint64(11)).astype(np.float64) * 2.0**-53
        points[:, axis] = _along_axis(unit, nodes, spec)
    return points


def domain_measure(grid: GridGeometry, specs: tuple[AxisSpec, ...]) -> float:
    """Return the length, area or volume that the points are spread over, in the units of `ups_data.coordinates`.

    An axis of one node counts with the whole extent of the domain, as the node's own cell does.
    """
    product = 1.0
    for nodes, spec in zip(grid.axes, specs, strict=True):
        if nodes.size == 1:
            product *= float(cell_lengths(nodes, spec).sum())
            continue
        lower, upper = _ends(nodes, spec)
        ends = np.array([lower, upper]) if spec.kind == "linear" else np.array([lower, upper]) / spec.radian
        product *= float(np.abs(np.diff(_straighten(ends, spec)))[0])
    return product


def _along_axis(
    unit: Float64[np.ndarray, " point"], nodes: Float64[np.ndarray, " node"], spec: AxisSpec
) -> Float64[np.ndarray, " point"]:
    if nodes.size == 1:
        return np.full(unit.shape, nodes[0])
    lower, upper = _ends(nodes, spec)
    if spec.kind in {"linear", "longitude"}:
        places = lower + unit * (upper - lower)
    else:
        first, last = _straighten(np.array([lower, upper]) / spec.radian, spec)
        even = first + unit * (last - first)
        places = (np.arcsin(even) if spec.kind == "latitude" else np.arccos(even)) * spec.radian
    if spec.periodic:
        # Rounding may reach the upper end, which is the lower one.
        return np.where(places < upper, places, lower)
    return np.clip(places, lower, upper)


def _ends(nodes: Float64[np.ndarray, " node"], spec: AxisSpec) -> tuple[float, float]:
    return (spec.lower, spec.upper) if spec.periodic else (float(nodes[0]), float(nodes[-1]))


def _straighten(angles: Float64[np.ndarray, " n"], spec: AxisSpec) -> Float64[np.ndarray, " n"]:
    """Return what grows evenly with the measure: an angle's sine or cosine, where it does not do so itself."""
    if spec.kind == "latitude":
        return np.sin(angles)
    return np.cos(angles) if spec.kind == "colatitude" else angles
