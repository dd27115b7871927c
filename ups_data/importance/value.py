"""Importance by how far the field is from its mean."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from ups_data.importance.base import Geometry, ImportanceMetric, Subject
from ups_data.importance.frame_moments import FrameMoments


class ValueMetric(ImportanceMetric):
    """Root mean square over frames of |u - c|, per channel, where c is the channel's mean over points and frames.

    That mean is known at the end only: the mean over frames of (u - c)^2 is the variance at the point plus the square
    of the distance of its mean from c.
    """

    def __init__(self, geometry: Geometry, subject: Subject) -> None:
        super().__init__(geometry, subject)
        self._moments = FrameMoments((subject.num_channels, *geometry.shape))

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the next frame."""
        self._moments.update(frame.astype(np.float64))

    def result(self) -> Float64[np.ndarray, "channel *space"]:
        """Return the distances, in units of the channels."""
        mean = self._moments.mean.reshape(len(self._moments.mean), -1)
        there = np.broadcast_to(np.asarray(self._moments.num_frames) > 0, self._moments.mean.shape)
        there = there.reshape(mean.shape)
        # Counted from a first point: the mean of a constant is rounded, its distance from itself is not.
        relative = mean - np.take_along_axis(mean, np.argmax(there, axis=1)[:, None], axis=1)
        total = np.where(there, relative, 0.0).sum(axis=1, keepdims=True)
        distance = np.where(there, relative - total / np.maximum(there.sum(axis=1, keepdims=True), 1), 0.0)
        return np.sqrt(self._moments.variance + np.square(distance).reshape(self._moments.mean.shape))
