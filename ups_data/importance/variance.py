"""Importance by how much the field varies in time."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from ups_data.importance.base import Geometry, ImportanceMetric, Subject
from ups_data.importance.frame_moments import FrameMoments


class VarianceMetric(ImportanceMetric):
    """Standard deviation over frames, per channel; zero for a single frame."""

    def __init__(self, geometry: Geometry, subject: Subject) -> None:
        super().__init__(geometry, subject)
        self._moments = FrameMoments((subject.num_channels, *geometry.shape))

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the next frame."""
        self._moments.update(frame.astype(np.float64))

    def result(self) -> Float64[np.ndarray, "channel *space"]:
        """Return the standard deviations, in units of the channels."""
        return np.sqrt(self._moments.variance)
