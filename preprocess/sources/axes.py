"""Node coordinates and frame times of a source: checked, and turned into axes of the schema."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

from ups_data.errors import SourceError
from ups_data.schema import AxisKind, AxisSpec

_UNIFORM_TOLERANCE = 1e-3
"""Largest deviation of a node from a uniform grid, in spacings: float32 coordinates of 10^4 nodes stay below it."""


def read_increasing(values: Shaped[np.ndarray, "..."], *, where: str) -> Float64[np.ndarray, " node"]:
    """Return coordinates or times as float64, refusing whatever is not a strictly increasing row of numbers.

    Raises:
        SourceError: naming `where`, the rule, and the first entry that breaks it.
    """
    if values.dtype.kind not in "iuf":
        raise SourceError(f"{where} holds {values.dtype} where numbers must stand")
    if values.ndim != 1 or values.size < 1:
        raise SourceError(f"{where} has shape {values.shape}; one row of at least one number is wanted")
    numbers = values.astype(np.float64)
    _refuse_subnormal(values, where)
    if not np.isfinite(numbers).all():
        place = int(np.argmin(np.isfinite(numbers)))
        raise SourceError(f"{where} holds {numbers[place]} at entry {place}; every entry must be finite")
    steps = np.diff(numbers)
    if (steps <= 0).any():
        place = int(np.argmax(steps <= 0))
        raise SourceError(
            f"{where} must increase strictly, but entry {place} is {numbers[place]} and entry {place + 1} is "
            f"{numbers[place + 1]}"
        )
    return numbers


def _refuse_subnormal(values: Shaped[np.ndarray, " node"], where: str) -> None:
    """Refuse what round numbers become when their bytes are read in the wrong order."""
    if values.dtype.kind != "f":
        return
    subnormal = (values != 0) & (np.abs(values) < np.finfo(values.dtype).tiny)
    if subnormal.any():
        place = int(np.argmax(subnormal))
        raise SourceError(
            f"{where} holds the subnormal number {values[place]} at entry {place}; no coordinate is that small: its "
            f"bytes may have been written in the other order"
        )


def uniform_period(nodes: Float64[np.ndarray, " node"], *, where: str) -> float:
    """Return the period of a uniform periodic grid that stores one node a cell: nodes times spacing.

    Raises:
        SourceError: fewer than two nodes, or nodes that are not evenly spaced.
    """
    if nodes.size < 2:
        raise SourceError(f"{where} has one node only; the period of a periodic axis cannot be told from it")
    spacing = (nodes[-1] - nodes[0]) / (nodes.size - 1)
    deviation = np.abs(nodes - (nodes[0] + spacing * np.arange(nodes.size))).max() / spacing
    if deviation > _UNIFORM_TOLERANCE:
        raise SourceError(
            f"{where} is periodic and not evenly spaced (a node is off by {deviation:.2g} spacings), so its period "
            f"cannot be told from its nodes; state its extent"
        )
    return float(spacing * nodes.size)


def goes_around(nodes: Float64[np.ndarray, " node"], unit: str | None) -> bool:
    """Tell whether longitudes have one node for every equal cell of the whole circle."""
    if nodes.size < 2:
        return False
    spacing = (nodes[-1] - nodes[0]) / (nodes.size - 1)
    return bool(abs(nodes.size * spacing - circle_of(unit)) < 1e-3 * spacing)


def circle_of(unit: str | None) -> float:
    """Return a whole turn in radians, or else in degrees."""
    return 2 * math.pi if (unit or "").lower().startswith("rad") else 360.0


def grid_axis(
    name: str,
    nodes: Float64[np.ndarray, " node"],
    *,
    periodic: bool,
    where: str,
    unit: str | None = None,
    extent: tuple[float, float] | None = None,
    kind: AxisKind = "linear",
) -> AxisSpec:
    """Describe a grid axis by its nodes.

    Args:
        name: name of the axis.
        nodes: increasing coordinates.
        periodic: whether fields wrap around.
        where: file and item, for messages.
        unit: of the coordinates.
        extent: of the domain; by default first to last node, or one period from the first node on. Of angles on a
            sphere half a cell more at either end, to the pole where no further cell has room before it, and never more
            than once around.
        kind: whether the coordinate is a length, or which angle.

    Raises:
        SourceError: one node only, uneven nodes on a periodic axis without extent, nodes outside of the extent, a
            periodic axis that stores its first node twice, or an angle without unit or beyond a pole.
    """
    if kind != "linear":
        _check_angles(name, nodes, unit, kind, where)
    lower, upper = extent or _extent_of(nodes, periodic, where, kind, unit)
    if not lower < upper:
        raise SourceError(f"{where}: the extent of axis {name!r} is [{lower}, {upper}]; it must have a length")
    slack = 1e-6 * (upper - lower)
    if nodes[0] < lower - slack or nodes[-1] > upper + slack:
        raise SourceError(
            f"{where}: the nodes of axis {name!r} run from {nodes[0]} to {nodes[-1]}, outside of [{lower}, {upper}]"
        )
    if periodic and nodes[-1] - nodes[0] > (upper - lower) * (1 - 1e-9):
        raise SourceError(
            f"{where}: axis {name!r} is periodic with period {upper - lower}, so the node at {nodes[-1]} repeats the "
            f"one at {nodes[0]}; leave the repeated node out of the arrays"
        )
    return AxisSpec(name=name, lower=float(lower), upper=float(upper), periodic=periodic, unit=unit, kind=kind)


def shared_axis(
    name: str,
    rows: Iterable[Float64[np.ndarray, " _"]],
    *,
    periodic: bool,
    where: str,
    hint: str = "",
    unit: str | None = None,
    kind: AxisKind = "linear",
) -> AxisSpec:
    """Describe an axis by the nodes that each trajectory has along it: its extent covers them all.

    Args:
        name: name of the axis.
        rows: increasing coordinates of every trajectory; equal ones are looked at once.
        periodic: whether fields wrap around.
        where: file and item, for messages.
        hint: what else to say where periods differ.
        unit: of the coordinates.
        kind: whether the coordinate is a length, or which angle.

    Raises:
        SourceError: as `grid_axis`, and trajectories of different periods.
    """
    extents: dict[bytes, tuple[float, float]] = {}
    for nodes in rows:
        if nodes.tobytes() not in extents:
            spec = grid_axis(name, nodes, periodic=periodic, where=where, unit=unit, kind=kind)
            extents[nodes.tobytes()] = (spec.lower, spec.upper)
    found = sorted(set(extents.values()))
    if periodic and len(found) > 1:
        raise SourceError(f"{where}: trajectories have different periods along {name}: {found[:4]}{hint}")
    lower, upper = found[0][0], max(high for _, high in found)
    return AxisSpec(name=name, lower=lower, upper=upper, periodic=periodic, unit=unit, kind=kind)


def _extent_of(
    nodes: Float64[np.ndarray, " node"], periodic: bool, where: str, kind: AxisKind, unit: str | None
) -> tuple[float, float]:
    if periodic:
        around = kind == "longitude" and goes_around(nodes, unit)
        period = circle_of(unit) if around else uniform_period(nodes, where=where)
        return float(nodes[0]), float(nodes[0]) + period
    if nodes.size < 2:
        raise SourceError(f"{where} has one node only, so the domain has no extent along it; state its extent")
    if kind != "linear":
        return _extent_of_angles(nodes, kind, unit)
    return float(nodes[0]), float(nodes[-1])


def _extent_of_angles(nodes: Float64[np.ndarray, " node"], kind: AxisKind, unit: str | None) -> tuple[float, float]:
    """Reach half a cell beyond the outer nodes, within the poles and once around."""
    circle = circle_of(unit)
    lower, upper = nodes[0] - (nodes[1] - nodes[0]) / 2, nodes[-1] + (nodes[-1] - nodes[-2]) / 2
    if kind == "longitude":
        # What would be covered twice is taken from both ends: a grid with nodes at 0 and at 360 covers 0 to 360.
        excess = max(0.0, upper - lower - circle) / 2
        return float(min(lower + excess, nodes[0])), float(max(upper - excess, nodes[-1]))
    first, last = (-circle / 4, circle / 4) if kind == "latitude" else (0.0, circle / 2)
    # The outer nodes of a Gaussian grid lie 0.77 cells from the poles, and their cells reach them.
    lower = first if nodes[0] - first < 0.8 * (nodes[1] - nodes[0]) else lower
    upper = last if last - nodes[-1] < 0.8 * (nodes[-1] - nodes[-2]) else upper
    # Nodes may lie beyond a pole by the rounding of their file.
    return float(min(max(lower, first), nodes[0])), float(max(min(upper, last), nodes[-1]))


def _check_angles(name: str, nodes: Float64[np.ndarray, " node"], unit: str | None, kind: AxisKind, where: str) -> None:
    if not (unit or "").lower().startswith(("deg", "rad")):
        raise SourceError(f"{where}: axis {name!r} is a {kind}, so its unit must be degrees or radians, not {unit!r}")
    quarter = circle_of(unit) / 4
    lower, upper = {"latitude": (-quarter, quarter), "colatitude": (0.0, 2 * quarter)}.get(kind, (-np.inf, np.inf))
    slack = 1e-6 * quarter
    if nodes[0] < lower - slack or nodes[-1] > upper + slack:
        raise SourceError(
            f"{where}: axis {name!r} is a {kind}, and its nodes run from {nodes[0]} to {nodes[-1]} {unit}, beyond "
            f"{lower:g} to {upper:g}"
        )
    if nodes[-1] - nodes[0] > 4 * quarter * (1 + 1e-6):
        raise SourceError(
            f"{where}: axis {name!r} is a longitude that runs from {nodes[0]} to {nodes[-1]} {unit}, more than once "
            f"around"
        )


def first_times(
    values: Shaped[np.ndarray, "..."], num_frames: int, *, where: str
) -> tuple[Float64[np.ndarray, " time"], str | None]:
    """Return the times of the first `num_frames` frames; files of PDEBench carry one more, the end of the last step.

    Returns:
        The times, and a note where one was left out.

    Raises:
        SourceError: fewer times than frames, more than one too many, or times that do not increase.
    """
    times = read_increasing(values, where=where)
    if times.size not in {num_frames, num_frames + 1}:
        raise SourceError(f"{where} has {times.size} times for {num_frames} frames; as many, or one more, are wanted")
    if times.size == num_frames:
        return times, None
    return times[:num_frames], f"{where} has {times.size} times for {num_frames} frames; the last one was left out"


def as_float(value: Any, *, where: str) -> float:
    """Return a scalar parameter as a finite float.

    Raises:
        SourceError: not one finite number.
    """
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise SourceError(f"{where} is {value!r:.100}; one finite number is wanted")
    return float(array.reshape(()))
