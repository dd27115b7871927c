"""Streaming, mergeable moments in float64, and the invertible normaliser that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64

from ups_data.schema import ChannelStatistics
from ups_data.scratch import Scratch


@dataclass(kw_only=True)
class Moments:
    """Count, mean, second central moment, minimum and maximum of each channel.

    Blocks are merged by the pairwise update of Chan, Golub and LeVeque (1979), so the result does not depend on
    the size of the blocks but for rounding, and workers can merge theirs.

    Attributes:
        count, mean, m2, min, max: one entry a channel.
    """

    count: Int64[np.ndarray, " channel"]
    mean: Float64[np.ndarray, " channel"]
    m2: Float64[np.ndarray, " channel"]
    min: Float64[np.ndarray, " channel"]
    max: Float64[np.ndarray, " channel"]

    @classmethod
    def empty(cls, num_channels: int) -> Moments:
        """Return the moments of no values."""
        return cls(
            count=np.zeros(num_channels, dtype=np.int64),
            mean=np.zeros(num_channels),
            m2=np.zeros(num_channels),
            min=np.full(num_channels, np.inf),
            max=np.full(num_channels, -np.inf),
        )

    @classmethod
    def of(
        cls,
        values: Float[np.ndarray, "channel *rest"],
        minus: Float[np.ndarray, "channel *rest"] | None = None,
        *,
        scratch: Scratch | None = None,
    ) -> Moments:
        """Return the moments of a block, or of its difference from another one; NaN is a missing value, not counted.

        In float64, two passes over parts that stay in the processor's cache, which are then merged.

        Args:
            values: the block.
            minus: the other one.
            scratch: memory for the parts.
        """
        flat = values.reshape(len(values), -1)
        other = None if minus is None else minus.reshape(len(minus), -1)
        moments: Moments | None = None
        length, scratch = max(1, _PART_VALUES // len(values)), scratch or Scratch()
        for start in range(0, flat.shape[1], length):
            stop = min(start + length, flat.shape[1])
            if other is None:
                # Their extremes are those of the values as they are, which are half as long.
                extremes = flat[:, start:stop]
                part = scratch.take("part", extremes.shape)
                part[...] = extremes
            else:
                extremes = part = scratch.difference(flat[:, start:stop], other[:, start:stop])
            found = cls._of_part(part, extremes.min(axis=1), extremes.max(axis=1))
            moments = found if moments is None else moments.merge(found)
        return cls.empty(len(values)) if moments is None else moments

    @classmethod
    def _of_part(
        cls,
        part: Float64[np.ndarray, "channel value"],
        low: Float[np.ndarray, " channel"],
        high: Float[np.ndarray, " channel"],
    ) -> Moments:
        """Return the moments of an array, which is changed, with its extremes, NaN where any value is."""
        sums = part.sum(axis=1)
        count = np.full(len(part), part.shape[1], dtype=np.int64)
        # One NaN makes all three NaN: most parts have none, and need no second look at every value.
        there = None
        if np.isnan(sums).any():
            there = ~np.isnan(part)
            count, sums = there.sum(axis=1), np.where(there, part, 0.0).sum(axis=1)
            low = np.where(there, part, np.inf).min(axis=1)
            high = np.where(there, part, -np.inf).max(axis=1)
        mean = sums / np.maximum(count, 1)
        part -= mean[:, None]
        if there is not None:
            part[~there] = 0.0
        np.square(part, out=part)
        return cls(count=count, mean=mean, m2=part.sum(axis=1), min=low.astype(np.float64), max=high.astype(np.float64))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets of values."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        delta = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + delta * share,
            m2=self.m2 + other.m2 + np.square(delta) * self.count * share,
            min=np.minimum(self.min, other.min),
            max=np.maximum(self.max, other.max),
        )

    @property
    def std(self) -> Float64[np.ndarray, " channel"]:
        """Standard deviation of the population."""
        return np.sqrt(self.m2 / np.maximum(self.count, 1))

    @property
    def rms(self) -> Float64[np.ndarray, " channel"]:
        """Root mean square."""
        return np.sqrt(self.m2 / np.maximum(self.count, 1) + np.square(self.mean))


# 512 KiB of float64.
_PART_VALUES = 2**16
_MOMENTS = ("count", "mean", "m2", "min", "max")


class FieldStatistics:
    """Moments of values and of frame-to-frame changes, gathered frame by frame within each trajectory.

    Rounding depends on the order of merging. A conversion merges the frames of a trajectory in order, then the
    trajectories in order, so that its statistics are the same bits whoever gathered which of them.
    """

    def __init__(self, num_channels: int) -> None:
        self.values = Moments.empty(num_channels)
        self.deltas = Moments.empty(num_channels)
        self._scratch = Scratch()

    def update(
        self, frame: Float[np.ndarray, "channel *space"], previous: Float[np.ndarray, "channel *space"] | None
    ) -> None:
        """Add one frame, and its change from the `previous` frame of the same trajectory."""
        self.values = self.values.merge(Moments.of(frame, scratch=self._scratch))
        if previous is not None:
            self.deltas = self.deltas.merge(Moments.of(frame, previous, scratch=self._scratch))

    def merge(self, other: FieldStatistics) -> None:
        """Add what `other` gathered."""
        self.values, self.deltas = self.values.merge(other.values), self.deltas.merge(other.deltas)

    def to_array(self) -> Float64[np.ndarray, "2 moment channel"]:
        """Return all moments as one array; counts are exact up to 2**53."""
        return np.stack([[getattr(part, name) for name in _MOMENTS] for part in (self.values, self.deltas)])

    @classmethod
    def from_array(cls, content: Float64[np.ndarray, "2 moment channel"]) -> FieldStatistics:
        """Undo `to_array`."""
        statistics = cls(content.shape[-1])
        values, deltas = (dict(zip(_MOMENTS, part, strict=True)) for part in content)
        statistics.values = Moments(**{**values, "count": values["count"].astype(np.int64)})
        statistics.deltas = Moments(**{**deltas, "count": deltas["count"].astype(np.int64)})
        return statistics

    def records(self, channel_names: tuple[str, ...]) -> tuple[ChannelStatistics, ...]:
        """Return one schema record a channel."""
        return tuple(self._record(channel, name) for channel, name in enumerate(channel_names))

    def _record(self, channel: int, name: str) -> ChannelStatistics:
        values, deltas = self.values, self.deltas
        changes: dict[str, Any] = {}
        if deltas.count[channel]:
            changes = {
                "delta_mean": float(deltas.mean[channel]),
                "delta_std": float(deltas.std[channel]),
                "delta_rms": float(deltas.rms[channel]),
                "delta_min": float(deltas.min[channel]),
                "delta_max": float(deltas.max[channel]),
            }
        return ChannelStatistics(
            channel=name,
            count=int(values.count[channel]),
            mean=float(values.mean[channel]),
            std=float(values.std[channel]),
            rms=float(values.rms[channel]),
            min=float(values.min[channel]),
            max=float(values.max[channel]),
            **changes,
        )


def pool_statistics(parts: Sequence[Sequence[ChannelStatistics]]) -> tuple[ChannelStatistics, ...]:
    """Return the statistics of several stores as if they were one: every value counts alike, whichever store it is of.

    Changes from frame to frame are left out: the records do not tell how many there were.

    Args:
        parts: records of the same channels, in the same order, of each store.
    """
    return tuple(_pool(records) for records in zip(*parts, strict=True))


def _pool(records: tuple[ChannelStatistics, ...]) -> ChannelStatistics:
    count = np.array([record.count for record in records], dtype=np.int64)
    shares = count / count.sum()
    means = np.array([record.mean for record in records])
    mean = float(shares @ means)
    spread = np.square([record.std for record in records]) + np.square(means - mean)
    return ChannelStatistics(
        channel=records[0].channel,
        count=int(count.sum()),
        mean=mean,
        std=float(np.sqrt(shares @ spread)),
        rms=float(np.sqrt(shares @ np.square([record.rms for record in records]))),
        min=min(record.min for record in records),
        max=max(record.max for record in records),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Normaliser:
    """The invertible map y = (x - mean) / scale, one pair a channel.

    `scale` is the standard deviation, and 1 for a channel that is constant over the train split.
    """

    mean: Float64[np.ndarray, " channel"]
    scale: Float64[np.ndarray, " channel"]

    @classmethod
    def from_statistics(cls, records: tuple[ChannelStatistics, ...]) -> Normaliser:
        """Take mean and standard deviation of the given channels."""
        std = np.array([record.std for record in records])
        return cls(mean=np.array([record.mean for record in records]), scale=np.where(std > 0, std, 1.0))

    @classmethod
    def identity(cls, num_channels: int) -> Normaliser:
        """Return the map that changes nothing."""
        return cls(mean=np.zeros(num_channels), scale=np.ones(num_channels))
