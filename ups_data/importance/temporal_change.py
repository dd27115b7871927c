"""Importance by the change from frame to frame."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ups_data.importance.base import Geometry, RootMeanSquareMetric, Subject

_SLAB_VALUES = 2**21


class TemporalChangeMetric(RootMeanSquareMetric):
    """Root mean square over steps of u(t + 1) - u(t), per channel; zero for a single frame."""

    def __init__(self, geometry: Geometry, subject: Subject) -> None:
        super().__init__(geometry, subject)
        self._previous: np.ndarray | None = None

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the squared change from the previous frame."""
        if self._previous is not None:
            size = len(frame[0])
            length = max(1, _SLAB_VALUES // max(1, frame[:, 0].size))
            for start in range(0, size, length):
                part = slice(start, min(start + length, size))
                change = frame[:, part].astype(np.float64) - self._previous[:, part]
                self.add_squares(np.square(change, out=change), part)
        self._previous = frame.copy()
