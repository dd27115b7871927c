"""Two stores of the same trajectories on different points, such as a grid and points between its nodes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ups_data.errors import DatasetError
from ups_data.storage.base import Store


def check_same_trajectories(store: Store, other: Store) -> None:
    """Refuse two stores unless frame t of trajectory n is the same state of the same simulation in both.

    Names and units of fields and axes, extents, splits, times and parameters are compared; values cannot be, as the
    points differ.

    Raises:
        DatasetError: naming what differs first.
    """
    for what, ours, theirs in _differences(store, other):
        raise DatasetError(
            f"queries of {other.location} do not belong to {store.location}: {what} {theirs}, against {ours}. Convert "
            f"both from the same source with the same splits and seed"
        )


def _differences(store: Store, other: Store) -> Iterator[tuple[str, object, object]]:
    ours, theirs = store.manifest, other.manifest
    yield from _unless_equal("its fields are", [*map(repr, ours.fields)], [*map(repr, theirs.fields)])
    axes = [(axis.name, axis.lower, axis.upper, axis.periodic, axis.unit, axis.kind) for axis in ours.geometry.axes]
    others = [(axis.name, axis.lower, axis.upper, axis.periodic, axis.unit, axis.kind) for axis in theirs.geometry.axes]
    yield from _unless_equal("its axes are", axes, others)
    yield from _unless_equal("its trajectories are", len(store), len(other))
    yield from _unless_equal("its splits are", list(ours.splits), list(theirs.splits))
    yield from _unless_equal(
        "its parameters are",
        [(parameter.name, parameter.unit) for parameter in ours.parameters],
        [(parameter.name, parameter.unit) for parameter in theirs.parameters],
    )
    for name in ("split", "num_frames", "parameters"):
        mine, his = getattr(store.tables, name), getattr(other.tables, name)
        differ = (mine != his).reshape(len(mine), -1).any(axis=1)
        if differ.any():
            trajectory = int(np.argmax(differ))
            yield f"{name} of trajectory {trajectory} is", mine[trajectory].tolist(), his[trajectory].tolist()
    differ = store.tables.times != other.tables.times
    if differ.any():
        place = int(np.argmax(differ))
        trajectory = int(np.searchsorted(store.tables.frame_offsets, place, side="right")) - 1
        yield f"a time of trajectory {trajectory} is", store.tables.times[place], other.tables.times[place]


def _unless_equal(what: str, ours: object, theirs: object) -> Iterator[tuple[str, object, object]]:
    if ours != theirs:
        yield what, ours, theirs
