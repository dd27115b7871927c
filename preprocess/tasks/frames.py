"""Frames of a trajectory as they will be stored, in chunks that fit into memory, and the check of their values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Float64

from preprocess.tasks.bench import Workbench
from ups_data.errors import SourceError
from ups_data.rounding import measure_errors, round_values
from ups_data.storage.codec import checksum

MAX_SIZE = 1e100
"""Largest size of a value: squares of values, and of their changes and gradients, must stay finite in float64."""


class FrameReader:
    """Frames of one trajectory in chunks of at most `block_bytes`; read once where all of them fit in one chunk.

    Attributes:
        num_frames: frames of the trajectory.
        rounding_errors: largest absolute and relative error of each channel in all frames that were checked.
    """

    rounding_errors: Float64[np.ndarray, "2 channel"]

    def __init__(self, bench: Workbench, trajectory: int) -> None:
        self._source, self._trajectory = bench.source, trajectory
        self._info = bench.source.trajectories[trajectory]
        self.num_frames = self._info.num_frames
        plan = bench.partition.plan
        self._dtype, self._rule = np.dtype(plan.dtype), plan.rounding
        self.rounding_errors = np.zeros((2, plan.num_channels))
        self._may_miss = bench.source.may_miss
        self._shape = (plan.num_channels, *self._info.shape)
        self._length = int(max(1, bench.partition.block_bytes // bench.partition.frame_bytes[trajectory]))
        self._kept: Float[np.ndarray, "time channel *space"] | None = None

    def chunks(self, start: int, stop: int) -> Iterator[tuple[int, Float[np.ndarray, "time channel *space"]]]:
        """Yield frames [start, stop), each chunk, which is read only, after the number of its first frame."""
        for first in range(start, stop, self._length):
            yield first, self._read(first, min(first + self._length, stop), check=False)

    def checked_chunks(self) -> Iterator[tuple[int, Float[np.ndarray, "time channel *space"]]]:
        """Yield all frames, as `chunks` does, once their values are found to be sound, and note what rounding costs.

        A chunk of a single frame keeps its values while the next one is read, and used: it is too large to be copied.

        Raises:
            SourceError: a value is not finite, and not declared missing, or too large to be rounded as asked; names
                item, frame and point. Or the source read a frame into the memory of the one before.
        """
        before: tuple[Float[np.ndarray, "1 channel *space"], bytes] | None = None
        for first in range(0, self.num_frames, self._length):
            chunk = self._read(first, min(first + self._length, self.num_frames), check=True)
            if before and np.may_share_memory(before[0], chunk) and _seal(before[0]) != before[1]:
                raise SourceError(
                    f"{self._source.name}: {self._info.item}, frame {first} was read into the memory of frame "
                    f"{first - 1}: what `read_frames` returned before must keep its values"
                )
            before = None
            yield first, chunk
            if self._length == 1 and first + 1 < self.num_frames:
                before = (chunk, _seal(chunk))
            del chunk  # before the next one is read

    def _read(self, start: int, stop: int, *, check: bool) -> Float[np.ndarray, "time channel *space"]:
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
        if check:
            self._refuse_bad_values(start, chunk)
        if self._rule is not None:
            chunk = self._round(start, chunk, check=check)
        if stop - start == self.num_frames:
            self._kept = chunk
        return chunk

    def _round(
        self, start: int, chunk: Float[np.ndarray, "time channel *space"], *, check: bool
    ) -> Float[np.ndarray, "time channel *space"]:
        """Return rounded frames, made one by one: a whole chunk would be held twice more."""
        assert self._rule is not None
        rounded = np.empty_like(chunk)
        for number, frame in enumerate(chunk):
            rounded[number] = round_values(frame, self._rule)
            if check:
                self._refuse_overflow(start + number, frame, rounded[number])
                errors = measure_errors(frame, rounded[number])
                np.maximum(self.rounding_errors, errors, out=self.rounding_errors)
        return rounded

    def _refuse_overflow(
        self, number: int, frame: Float[np.ndarray, "channel *space"], rounded: Float[np.ndarray, "channel *space"]
    ) -> None:
        over = np.isinf(rounded)
        if over.any():
            channel, *place = np.unravel_index(int(np.argmax(over)), over.shape)
            names = [name for field in self._source.fields for name in field.channel_names]
            raise SourceError(
                f"{self._source.name}: {self._info.item}, frame {number}, channel {names[channel]}, point "
                f"{tuple(map(int, place))} holds {frame[channel, *place]}, which is too large to be rounded as asked; "
                f"keep mantissa bits instead of a float16, more of them, or leave rounding out"
            )

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


def _seal(chunk: Float[np.ndarray, "time channel *space"]) -> bytes:
    # As bytes, which are checked part by part: of frames in one piece the whole would be copied.
    return checksum(chunk.reshape(-1).view(np.uint8).data)


def _all_sound(
    frame: Float[np.ndarray, "channel *space"], limit: float, may_miss: Bool[np.ndarray, " channel"]
) -> bool:
    # NaN compares as False, so this is not enough where values miss.
    if -limit <= frame.min() and frame.max() <= limit:
        return True
    sound = np.abs(frame) <= limit
    return bool((sound | (np.isnan(frame) & may_miss.reshape(-1, *[1] * (frame.ndim - 1)))).all())
