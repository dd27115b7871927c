"""Mean and variance over frames at every point, streaming, by the update of Welford (1962)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64


class FrameMoments:
    """Mean over the frames that were added, and mean squared deviation from it; the frames are not kept."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.num_frames = 0
        self.mean = np.zeros(shape)
        self._squares = np.zeros(shape)

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add one frame."""
        self.num_frames += 1
        deviation = frame - self.mean
        self.mean += deviation / self.num_frames
        self._squares += deviation * (frame - self.mean)

    @property
    def variance(self) -> Float64[np.ndarray, "channel *space"]:
        """Variance of the population, which is zero for a single frame."""
        # Deviations before and after an update have the same sign, but for rounding.
        return np.maximum(self._squares, 0.0) / max(self.num_frames, 1)
