"""Frames of a trajectory as they will be stored, in chunks that fit into memory, and the check of their values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from preprocess.tasks.bench import Workbench
from ups_data.errors import SourceError

MAX_SIZE = 1e100
"""Largest size of a value: squares of values, and of their changes and gradients, must stay finite in float64."""


class FrameReader:
    """Frames of one trajectory in chunks of at most `block_bytes`; read once where all of them fit in one chunk."""

    def __init__(self, bench: Workbench, trajectory: int) -> None:
        self._source, self._trajectory = bench.source, trajectory
        self._info = bench.source.trajectories[trajectory]
        self.num_frames = self._info.num_frames
        plan = bench.partition.plan
        self._dtype = np.dtype(plan.dtype)
        self._may_miss = bench.may_miss
        self._shape = (plan.num_channels, *self._info.shape)
        self._length = int(max(1, bench.partition.block_bytes // bench.partition.frame_bytes[trajectory]))
        self._kept: Float[np.ndarray, "time channel *space"] | None = None

    def chunks(self, start: int, stop: int) -> Iterator[tuple[int, Float[np.ndarray, "time channel *space"]]]:
        """Yield frames [start, stop), each chunk after the number of its first frame.

        A chunk is read only, and holds until the next one is asked for: the source may reuse its memory.
        """
        for first in range(start, stop, self._length):
            yield first, self._read(first, min(first + self._length, stop))

    def checked_chunks(self) -> Iterator[tuple[int, Float[np.ndarray, "time channel *space"]]]:
        """Yield all frames, as `chunks` does, once their values are found to be sound.

        Raises:
            SourceError: a value is not finite, and not declared missing; names item, frame and point.
        """
        for start, chunk in self.chunks(0, self.num_frames):
            self._refuse_bad_values(start, chunk)
            yield start, chunk

    def _read(self, start: int, stop: int) -> Float[np.ndarray, "time channel *space"]:
        if self._kept is not None:
            return self._kept[start:stop]
        chunk = self._source.read_frames(self._trajectory, start, stop)
        if chunk.shape != (stop - start, *self._shape):
            raise SourceError(
                f"{self._source.name}: {self._info.item} gives frames of shape {chunk.shape}, "
                f"{(stop - start, *self._shape)} was announced"
            )
        if not np.can_cast(chunk.dtype, self._dtype, "safe"):
            raise SourceError(
                f"{self._source.name}: {self._info.item} gives values of dtype {chunk.dtype}, {self._source.dtype} was "
                f"announced, and storing them as {self._dtype} would round them"
            )
        chunk = np.ascontiguousarray(chunk, dtype=self._dtype)
        if stop - start == self.num_frames:
            self._kept = chunk
        return chunk

    def _refuse_bad_values(self, start: int, chunk: Float[np.ndarray, "time channel *space"]) -> None:
        limit = min(MAX_SIZE, float(np.finfo(chunk.dtype).max))
        # NaN compares as False, so this refuses it too. Frame by frame: a whole chunk would be held twice more.
        if all(_all_sound(frame, limit, self._may_miss) for frame in chunk):
            return
        sound = np.abs(chunk) <= limit
        sound[:, self._may_miss] |= np.isnan(chunk[:, self._may_miss])
        source = self._source
        frame, channel, *place = np.unravel_index(int(np.argmin(sound)), chunk.shape)
        names = [name for field in source.fields for name in field.channel_names]
        raise SourceError(
            f"{source.name}: {self._info.item}, frame {start + frame}, channel "
            f"{names[channel]}, point {tuple(map(int, place))} holds {chunk[frame, channel, *place]}; "
            f"{int((~sound).sum())} of {sound.size} values of this block are not finite or over {MAX_SIZE:g} in size. "
            f"Mend the source, or declare what is missing where its format can: missing values are never filled"
        )


def _all_sound(
    frame: Float[np.ndarray, "channel *space"], limit: float, may_miss: Bool[np.ndarray, " channel"]
) -> bool:
    # NaN compares as False, so this is not enough where values miss.
    if -limit <= frame.min() and frame.max() <= limit:
        return True
    sound = np.abs(frame) <= limit
    return bool((sound | (np.isnan(frame) & may_miss.reshape(-1, *[1] * (frame.ndim - 1)))).all())
