"""Importance by the change from frame to frame.

A model that predicts frame t from those before it is asked for the step from t - 1 to t. So a block of frames counts
the step that leads to its first frame too, and not the one that leads out of its last.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ups_data.importance.base import Geometry, RootMeanSquareMetric, Subject

# Of float64: what is worked out stays in the processor's cache.
_SLAB_VALUES = 2**17


class TemporalChangeMetric(RootMeanSquareMetric):
    """Root mean square of the steps u(t) - u(t - 1) that lead to the frames, per channel; zero where there are none."""

    def __init__(self, geometry: Geometry, subject: Subject) -> None:
        super().__init__(geometry, subject)
        self._previous: np.ndarray | None = None

    def precede(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Take the frame from which the first step comes."""
        self._previous = frame

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the squared change from the previous frame."""
        if self._previous is not None:
            size = len(frame[0])
            length = max(1, _SLAB_VALUES // max(1, frame[:, 0].size))
            for start in range(0, size, length):
                part = slice(start, min(start + length, size))
                change = self.scratch.difference(frame[:, part], self._previous[:, part])
                self.add_squares(np.square(change, out=change), part)
        self.precede(frame)
