"""Importance by the size of the spatial gradient."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from ups_data.importance.base import CloudGeometry, Geometry, GridGeometry, RootMeanSquareMetric, Subject
from ups_data.importance.differences import channel_slabs, even_squared_gradient
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
            else geometry.once((CloudGradient, subject.specs), lambda: _on_cloud(geometry, subject))
        )

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the squared gradient of one frame."""
        if self._cloud is not None:
            for points, squares in self._cloud.squared_norms(frame):
                self.add_squares(squares, points)
        elif isinstance(self.geometry, GridGeometry):
            for channel, part, own, values, geometry in channel_slabs(frame, self.geometry, self.scratch):
                squares = self._squares(values, geometry)[:, own]
                self.add_squares(squares, part, only=channel, num_maps=len(frame))

    def _squares(
        self, values: Float64[np.ndarray, "channel *space"], geometry: GridGeometry
    ) -> Float64[np.ndarray, "channel *space"]:
        """Return the squared gradient of a slab."""
        arcs = Arcs.of(geometry, self.subject.specs)
        # With a longitude, lengths along its axis differ from row to row.
        squares = even_squared_gradient(values, arcs.geometry, self.scratch) if arcs.longitude is None else None
        if squares is None:
            return self._squares_of_arcs(values, arcs)
        # A missing value makes the squares beside it NaN, and so the least of all, which is found faster than each.
        if np.isnan(squares.min()):
            unknown = np.isnan(squares) | np.isnan(values)
            squares[unknown] = self._squares_of_arcs(values, arcs)[unknown]
        return squares

    def _squares_of_arcs(
        self, values: Float64[np.ndarray, "channel *space"], arcs: Arcs
    ) -> Float64[np.ndarray, "channel *space"]:
        """Return it where nodes lie unevenly, on a sphere, or beside missing values."""
        squares = self.scratch.take("squares of arcs", values.shape)
        for axis in range(len(arcs.geometry.axes)):
            memory = self.scratch.take("derivative", values.shape) if axis else squares
            derivative = arcs.derivative(values, axis, scratch=self.scratch, out=memory)
            np.square(derivative, out=memory)
            if axis:
                squares += memory
        return arcs.fill_poles(squares, values)


def _on_cloud(geometry: CloudGeometry, subject: Subject) -> CloudGradient:
    return CloudGradient(on_unit_sphere(geometry.coordinates, subject.specs), geometry.order, geometry.folder)
