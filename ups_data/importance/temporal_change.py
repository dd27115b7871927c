"""Importance by the change from frame to frame."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ups_data.importance.base import Geometry, RootMeanSquareMetric, Subject


class TemporalChangeMetric(RootMeanSquareMetric):
    """Root mean square over steps of u(t + 1) - u(t), per channel; zero for a single frame."""

    def __init__(self, geometry: Geometry, subject: Subject) -> None:
        super().__init__(geometry, subject)
        self._previous: np.ndarray | None = None

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the squared change from the previous frame."""
        frame = frame.astype(np.float64)
        if self._previous is not None:
            self.add_squares(np.square(frame - self._previous))
        self._previous = frame
