"""Importance by the size of the spatial gradient."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ups_data.importance.base import Geometry, GridGeometry, RootMeanSquareMetric, Subject
from ups_data.importance.differences import channel_slabs
from ups_data.importance.least_squares import CloudGradient
from ups_data.importance.sphere import Arcs, on_unit_sphere


class GradientMetric(RootMeanSquareMetric):
    """Root mean square over frames of |grad u|, per channel, in units of the channel per unit of length.

    By differences on grids, by least squares over the nearest neighbours on scattered points. Latitudes and longitudes
    count as arcs of the unit sphere.
    """

    def __init__(self, geometry: Geometry, subject: Subject) -> None:
        super().__init__(geometry, subject)
        self._cloud = (
            None
            if isinstance(geometry, GridGeometry)
            else CloudGradient(on_unit_sphere(geometry.coordinates, subject.specs))
        )

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the squared gradient of one frame."""
        if self._cloud is not None:
            self.add_squares(self._cloud.squared_norm(frame.astype(np.float64)))
        elif isinstance(self.geometry, GridGeometry):
            for channel, part, own, values, geometry in channel_slabs(frame, self.geometry, self.scratch):
                arcs = Arcs.of(geometry, self.subject.specs)
                squares = self.scratch.take("squares", values.shape)
                for axis in range(len(geometry.axes)):
                    memory = self.scratch.take("derivative", values.shape) if axis else squares
                    derivative = arcs.derivative(values, axis, scratch=self.scratch, out=memory)
                    np.square(derivative, out=memory)
                    if axis:
                        squares += memory
                squares = arcs.fill_poles(squares, values)[:, own]
                self.add_squares(squares, part, only=channel, num_maps=len(frame))
