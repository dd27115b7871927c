"""What is measured on other points than those that are stored: their importance, and how far their values are off."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Bool, Float, Float64

from ups_data.schema import DeviationSpec


class Deviations:
    """Differences between what is known and what was made of other values, gathered channel by channel.

    Args:
        num_channels: channels of a frame.
    """

    def __init__(self, num_channels: int) -> None:
        self._moments = np.zeros((3, num_channels))

    def update(self, differences: Float64[np.ndarray, "time channel point"]) -> None:
        """Add differences; NaN where a value is missing, which counts for nothing."""
        sizes = np.abs(np.where(np.isnan(differences), 0.0, differences))
        self._moments[0] += np.count_nonzero(~np.isnan(differences), axis=(0, 2))
        # Frame by frame, so that sums do not depend on how many frames were read at once.
        for frame in sizes:
            self._moments[1] += np.square(frame).sum(axis=1)
        self._moments[2] = np.maximum(self._moments[2], sizes.max(axis=(0, 2), initial=0.0))

    def to_array(self) -> Float64[np.ndarray, "3 channel"]:
        """Return counts, sums of squares and the largest, for a file."""
        return self._moments.copy()

    @classmethod
    def records(
        cls, moments: Float64[np.ndarray, "trajectory 3 channel"], channels: tuple[str, ...]
    ) -> tuple[DeviationSpec, ...]:
        """Return what the arrays of all trajectories come to, in their order: rounding depends on it."""
        counts, squares, largest = np.zeros((3, len(channels)))
        for trajectory in moments:
            counts, squares = counts + trajectory[0], squares + trajectory[1]
            largest = np.maximum(largest, trajectory[2])
        return tuple(
            DeviationSpec(channel=channel, count=0)
            if not counts[number]
            else DeviationSpec(
                channel=channel,
                count=int(counts[number]),
                rms=float(np.sqrt(squares[number] / counts[number])),
                max=float(largest[number]),
            )
            for number, channel in enumerate(channels)
        )


class KnownImportance:
    """Importance that was measured elsewhere; of the frames it takes which points have values.

    It stands where an `ImportanceMap` stands; `num_preceding` frames before a block are kept for it, the least of all.

    Args:
        importance: of each point, positive; anything at points that lack every value.
    """

    num_preceding = 1

    def __init__(self, importance: Float64[np.ndarray, " point"]) -> None:
        self._importance = importance
        self._seen: Bool[np.ndarray, " point"] = np.zeros(importance.size, dtype=bool)

    def update(self, frame: Float[np.ndarray, "channel point"]) -> None:
        """Add the next frame; NaN where values are missing."""
        if not self._seen.all():
            self._seen |= ~np.isnan(frame).all(axis=0)

    @property
    def num_points(self) -> int:
        """Points that had a value in any frame so far."""
        return int(np.count_nonzero(self._seen))

    def result(self, measures: Float64[np.ndarray, " point"] | None = None) -> Float64[np.ndarray, " point"]:
        """Return the importance, of mean 1; NaN at points without a value in any frame.

        Args:
            measures: of the points' cells, where draws shall estimate integrals.
        """
        importance = np.where(self._seen, self._importance if measures is None else self._importance * measures, np.nan)
        return importance / np.nanmean(importance)


class Survey(ABC):
    """What is known of one trajectory before its own frames are read."""

    @abstractmethod
    def measure_block(self, block: int) -> KnownImportance:
        """Return the importance of a block of frames; blocks are asked for once each, in order."""

    @abstractmethod
    def deviations(self) -> Float64[np.ndarray, "3 channel"]:
        """Return how far values are off, see `Deviations.to_array`, once all blocks were measured."""
