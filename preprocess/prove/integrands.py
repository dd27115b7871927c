"""Known integrands: what draws estimate, and the dense truth that they are held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from ups_data.storage import Store

VALUE, SQUARE, CHANGE, IMPORTANCE, WEIGHT_SUM = "value", "square", "change", "importance", "weight_sum"
FIELD_INTEGRANDS = (VALUE, SQUARE, CHANGE)
"""Those that depend on a field: what a recommendation goes by."""

_BLOCK_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Integrand:
    """One function over the points of a trajectory.

    Attributes:
        name: `value` (the field u), `square` (u^2), `change` ((u at the next frame - u)^2), `importance` (the map) or
            `weight_sum` (1 everywhere, which the sum of the weights estimates).
        channel: channel of the field, None for `importance` and `weight_sum`.
        frame: frame of the field, None for `importance` and `weight_sum`.
    """

    name: str
    channel: str | None = None
    frame: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """Integrands at every point of a trajectory, and what follows from all points.

    Attributes:
        integrands: one a column.
        values: (N, K), so that one gather serves all integrands of a draw.
        mean: what draws must estimate (K,).
        variance: over the points, divided by N - 1 (K,).
        largest: largest absolute value (K,).
        deviation: largest squared distance from the mean (K,).
    """

    integrands: tuple[Integrand, ...]
    values: Float64[np.ndarray, "point integrand"]
    mean: Float64[np.ndarray, " integrand"]
    variance: Float64[np.ndarray, " integrand"]
    largest: Float64[np.ndarray, " integrand"]
    deviation: Float64[np.ndarray, " integrand"]

    @classmethod
    def of(cls, columns: list[tuple[Integrand, Float64[np.ndarray, " point"]]]) -> Truth:
        """Gather integrands, given with their values at all points in point-id order."""
        values = np.stack([column for _, column in columns], axis=1)
        mean = values.mean(axis=0)
        squares = np.square(values - mean)
        return cls(
            integrands=tuple(integrand for integrand, _ in columns),
            values=values,
            mean=mean,
            variance=squares.sum(axis=0) / max(1, len(values) - 1),
            largest=np.abs(values).max(axis=0),
            deviation=squares.max(axis=0),
        )


def choose_frames(num_frames: int, wanted: int) -> tuple[int, ...]:
    """Return up to `wanted` frames, evenly spread; each but that of a steady problem has a next one."""
    return choose_evenly(max(1, num_frames - 1), wanted)


def choose_evenly(count: int, wanted: int) -> tuple[int, ...]:
    """Return up to `wanted` of the numbers 0 to count - 1, evenly spread from the first to the last."""
    return tuple(np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int)).tolist())


def read_truths(store: Store, trajectory: int, frames: tuple[int, ...]) -> Iterator[Truth]:
    """Yield the integrands of a trajectory in blocks of frames of at most 256 MiB, but at least one frame.

    The first block has `importance` and `weight_sum` too.
    """
    frame_bytes = 3 * len(store.manifest.channel_names) * store.num_points(trajectory) * 8
    length = max(1, _BLOCK_BYTES // frame_bytes)
    for start in range(0, len(frames), length):
        columns = _static_columns(store, trajectory) if start == 0 else []
        for frame in frames[start : start + length]:
            columns.extend(_frame_columns(store, trajectory, frame))
        yield Truth.of(columns)


def count_blocks(store: Store, trajectory: int, frames: tuple[int, ...]) -> int:
    """Return how many blocks `read_truths` yields."""
    frame_bytes = 3 * len(store.manifest.channel_names) * store.num_points(trajectory) * 8
    return -(-len(frames) // max(1, _BLOCK_BYTES // frame_bytes))


def _static_columns(store: Store, trajectory: int) -> list[tuple[Integrand, Float64[np.ndarray, " point"]]]:
    importance = store.importance(trajectory).astype(np.float64)
    return [(Integrand(name=WEIGHT_SUM), np.ones(importance.size)), (Integrand(name=IMPORTANCE), importance)]


def _frame_columns(
    store: Store, trajectory: int, frame: int
) -> Iterator[tuple[Integrand, Float64[np.ndarray, " point"]]]:
    steps = [frame, frame + 1] if frame + 1 < store.num_frames(trajectory) else [frame]
    dense = store.read_dense(trajectory, steps).astype(np.float64)
    for number, channel in enumerate(store.manifest.channel_names):
        values = dense[0, number]
        yield Integrand(name=VALUE, channel=channel, frame=frame), values
        yield Integrand(name=SQUARE, channel=channel, frame=frame), np.square(values)
        if len(steps) == 2:
            yield Integrand(name=CHANGE, channel=channel, frame=frame), np.square(dense[1, number] - values)
