"""One pass over the frames of a trajectory: importance of its blocks, and statistics."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Float64

from preprocess.sources.survey import KnownImportance, Survey
from preprocess.tasks.bench import Workbench
from preprocess.tasks.frames import FrameReader
from preprocess.tasks.ground import Ground
from ups_data.errors import SourceError
from ups_data.importance import ImportanceMap
from ups_data.statistics import FieldStatistics


def measure_blocks(
    bench: Workbench,
    trajectory: int,
    ground: Ground,
    frames: FrameReader,
    statistics: FieldStatistics,
    *,
    survey: Survey | None,
) -> Iterator[Float64[np.ndarray, " point"]]:
    """Go through all frames once: refuse bad values, add to `statistics`, yield the importance of each block.

    Args:
        bench: what every task needs.
        trajectory: its number.
        ground: its points.
        frames: its frames.
        statistics: of all frames that are counted.
        survey: where importance is measured if not on these points.

    Raises:
        SourceError: a value is not finite, or a block has no value at all.
    """
    plan = bench.partition.plan
    ranges = bench.partition.block_ranges(trajectory)
    measures = ground.measures if plan.estimand == "integral" else None
    begun: deque[ImportanceMap | KnownImportance] = deque()
    number, ended = 0, 0
    recent: deque[Float[np.ndarray, "channel *space"]] = deque(maxlen=1)
    for first, chunk in frames.checked_chunks():
        is_last = first + len(chunk) == frames.num_frames
        for place, frame in enumerate(chunk):
            if ended + len(begun) < len(ranges) and ranges[ended + len(begun)][0] == number:
                block = ended + len(begun)
                begun.append(
                    _begin_block(bench, trajectory, ground, ranges[block], recent)
                    if survey is None
                    else survey.measure_block(block)
                )
                if not number and len(ranges) > 1:
                    recent = deque(maxlen=begun[-1].num_preceding)
            if not is_last and 1 < len(chunk) <= place + (recent.maxlen or 0):
                frame = frame.copy()  # noqa: PLW2901  what outlives its chunk must not keep all of it
            if bench.counted[trajectory]:
                statistics.update(frame, recent[-1] if recent else None)
            recent.append(frame)
            for importance in begun:
                importance.update(frame)
            number += 1
            while number < frames.num_frames and sum(ranges[ended]) == number:
                yield _end_block(bench, trajectory, ranges[ended], begun.popleft(), measures)
                ended += 1
        del chunk, frame  # before the next ones are read
    recent.clear()  # before what ended with the last frame is dealt with
    while begun:
        yield _end_block(bench, trajectory, ranges[ended], begun.popleft(), measures)
        ended += 1


def _begin_block(
    bench: Workbench,
    trajectory: int,
    ground: Ground,
    frames: tuple[int, int],
    preceding: Sequence[Float[np.ndarray, "channel *space"]],
) -> ImportanceMap:
    """Begin the map of a block of frames, and tell it what it may know of the trajectory."""
    importance = ImportanceMap(bench.partition.plan.importance, ground.geometry, bench.partition.plan.subject)
    start, count = frames
    times = bench.source.trajectories[trajectory].times[start - len(preceding) : start + count]
    parameters = bench.partition.plan.parameters[trajectory]
    importance.begin(tuple(preceding), times.astype(np.float64), parameters)
    return importance


def _end_block(
    bench: Workbench,
    trajectory: int,
    frames: tuple[int, int],
    importance: ImportanceMap | KnownImportance,
    measures: Float64[np.ndarray, " point"] | None,
) -> Float64[np.ndarray, " point"]:
    """Return the map of a block of frames, if it has anything to draw."""
    if not importance.num_points:
        source, (start, count) = bench.source, frames
        raise SourceError(
            f"{source.name}: {source.trajectories[trajectory].item} lacks every value of frames {start} to "
            f"{start + count - 1}, so there is nothing to draw; leave these frames or the trajectory out"
        )
    return importance.result(measures)
