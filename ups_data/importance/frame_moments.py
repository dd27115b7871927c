"""Mean and variance over frames at every point, streaming, by the update of Welford (1962)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64


class FrameMoments:
    """Mean over the frames that were added, and mean squared deviation from it; the frames are not kept."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        # One number where no value is ever missing, else one of each value.
        self.num_frames: int | Int64[np.ndarray, "channel *space"] = 0
        self.mean = np.zeros(shape)
        self._squares = np.zeros(shape)

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add one frame; NaN where a value is missing, and not counted."""
        deviation = frame - self.mean
        missing = np.isnan(deviation)
        if missing.any():
            deviation[missing] = 0.0
            self.num_frames = self.num_frames + ~missing
            self.mean += deviation / np.maximum(self.num_frames, 1)
            self._squares += deviation * np.where(missing, 0.0, frame - self.mean)
            return
        self.num_frames = self.num_frames + 1
        self.mean += deviation / self.num_frames
        self._squares += deviation * (frame - self.mean)

    @property
    def variance(self) -> Float64[np.ndarray, "channel *space"]:
        """Variance of the population, zero for a single frame and where there was none."""
        # Deviations before and after an update have the same sign, but for rounding.
        return np.maximum(self._squares, 0.0) / np.maximum(self.num_frames, 1)
