"""Known integrands: what draws estimate, and the dense truth that they are held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from ups_data.storage import Store

VALUE, SQUARE, CHANGE, IMPORTANCE, WEIGHT_SUM = "value", "square", "change", "importance", "weight_sum"
FIELD_INTEGRANDS = (VALUE, SQUARE, CHANGE)
"""Those that depend on a field: what a recommendation goes by."""

_BLOCK_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Integrand:
    """One function over the points of a trajectory.

    Attributes:
        name: `value` (the field u), `square` (u^2), `change` ((u - u at the frame before)^2), `importance` (the map) or
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
        num_points: points that draws may take, n.
        values: (N, K), so that one gather serves all integrands of a draw; zero at points that no draw may take.
        mean: what draws must estimate (K,).
        variance: over the n points, divided by n - 1 (K,).
        largest: largest absolute value (K,).
        deviation: largest squared distance from the mean (K,).
    """

    integrands: tuple[Integrand, ...]
    num_points: int
    values: Float64[np.ndarray, "point integrand"]
    mean: Float64[np.ndarray, " integrand"]
    variance: Float64[np.ndarray, " integrand"]
    largest: Float64[np.ndarray, " integrand"]
    deviation: Float64[np.ndarray, " integrand"]

    @classmethod
    def of(
        cls, columns: list[tuple[Integrand, Float64[np.ndarray, " point"]]], drawn: Int64[np.ndarray, " drawn"]
    ) -> Truth:
        """Gather integrands, given with their values at all points in point-id order, over the points in `drawn`."""
        values = np.stack([column for _, column in columns], axis=1)
        mean = values[drawn].mean(axis=0)
        squares = np.square(values[drawn] - mean)
        return cls(
            integrands=tuple(integrand for integrand, _ in columns),
            num_points=drawn.size,
            values=values,
            mean=mean,
            variance=squares.sum(axis=0) / max(1, drawn.size - 1),
            largest=np.abs(values).max(axis=0),
            deviation=squares.max(axis=0),
        )


def choose_frames(num_frames: int, wanted: int) -> tuple[int, ...]:
    """Return up to `wanted` frames, evenly spread; each but that of a steady problem has one before it."""
    if num_frames == 1:
        return (0,)
    return tuple(1 + place for place in choose_evenly(num_frames - 1, wanted))


def choose_evenly(count: int, wanted: int) -> tuple[int, ...]:
    """Return up to `wanted` of the numbers 0 to count - 1, evenly spread from the first to the last."""
    return tuple(np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int)).tolist())


def frames_by_block(store: Store, trajectory: int, frames: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    """Return the frames that belong to each block, of those blocks that have any."""
    blocks = [store.block_of(trajectory, [frame]) for frame in frames]
    pairs = list(zip(blocks, frames, strict=True))
    return {block: tuple(frame for owner, frame in pairs if owner == block) for block in sorted(set(blocks))}


def read_truths(store: Store, trajectory: int, block: int, frames: tuple[int, ...]) -> Iterator[Truth]:
    """Yield the integrands of a block of a trajectory, frames in parts of at most 256 MiB, but at least one frame.

    The first part has `importance` and `weight_sum` too. Missing values count as zero, as in a loss; where the store is
    for integrals, integrands are multiplied by n times the measure of the points' cells, whose mean is the integral.
    """
    drawn = store.drawn_points(trajectory, block)
    factor = np.zeros(store.num_points(trajectory))
    factor[drawn] = 1.0
    if store.manifest.estimand == "integral":
        factor *= drawn.size * store.measures(trajectory)
    for start in range(0, len(frames), _part_length(store, trajectory)):
        columns = _static_columns(store, trajectory, block) if start == 0 else []
        for frame in frames[start : start + _part_length(store, trajectory)]:
            columns.extend(_frame_columns(store, trajectory, frame))
        scaled = [(integrand, factor * np.nan_to_num(values, nan=0.0)) for integrand, values in columns]
        yield Truth.of(scaled, drawn)


def count_parts(store: Store, trajectory: int, frames: tuple[int, ...]) -> int:
    """Return how many parts `read_truths` yields for all blocks together."""
    length = _part_length(store, trajectory)
    return sum(-(-len(part) // length) for part in frames_by_block(store, trajectory, frames).values())


def _part_length(store: Store, trajectory: int) -> int:
    frame_bytes = 3 * len(store.manifest.channel_names) * store.num_points(trajectory) * 8
    return max(1, _BLOCK_BYTES // frame_bytes)


def _static_columns(store: Store, trajectory: int, block: int) -> list[tuple[Integrand, Float64[np.ndarray, " point"]]]:
    importance = store.importance(trajectory, block).astype(np.float64)
    return [(Integrand(name=WEIGHT_SUM), np.ones(importance.size)), (Integrand(name=IMPORTANCE), importance)]


def _frame_columns(
    store: Store, trajectory: int, frame: int
) -> Iterator[tuple[Integrand, Float64[np.ndarray, " point"]]]:
    steps = [frame, frame - 1] if frame else [frame]
    dense = store.read_dense(trajectory, steps).astype(np.float64)
    for number, channel in enumerate(store.manifest.channel_names):
        values = dense[0, number]
        yield Integrand(name=VALUE, channel=channel, frame=frame), values
        yield Integrand(name=SQUARE, channel=channel, frame=frame), np.square(values)
        if len(steps) == 2:
            yield Integrand(name=CHANGE, channel=channel, frame=frame), np.square(dense[1, number] - values)
