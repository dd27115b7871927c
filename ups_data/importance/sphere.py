"""Lengths on a sphere: latitudes and longitudes as arcs of its great circles and parallels, radius 1.

Along a meridian a radian is an arc of length 1; along the parallel at latitude p one of cos(p), 0 at the poles.
A third axis (depth, pressure) stands upright on a thin shell: it changes no length along the sphere.

At a pole itself, one place with a node for every longitude, what is divided by that 0 is that of the row beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Float64

from ups_data.importance.base import GridGeometry
from ups_data.importance.differences import axis_derivative, second_derivative
from ups_data.schema import AxisSpec
from ups_data.scratch import Scratch

# A node this near to a pole, in radians, is the pole: 6 m on Earth.
_AT_POLE = 1e-6
_LATITUDES = ("latitude", "colatitude")


@dataclass(frozen=True, kw_only=True, eq=False)
class Arcs:
    """A grid whose angles are in radians, and the radii of the circles that they run along.

    Attributes:
        geometry: the grid; what is no angle is as it was.
        longitude, latitude: numbers of these axes; a colatitude is a latitude too. None where the grid has not both.
        radii: of the parallels (latitude node,); empty where there are none.
        slope: derivative of the radii along the latitude axis (latitude node,).
    """

    geometry: GridGeometry
    longitude: int | None
    latitude: int | None
    radii: Float64[np.ndarray, " node"]
    slope: Float64[np.ndarray, " node"]

    @classmethod
    def of(cls, geometry: GridGeometry, specs: tuple[AxisSpec, ...]) -> Self:
        """Measure a grid; without `specs`, or with linear axes alone, nothing is changed."""
        nothing = np.empty(0)
        if all(spec.kind == "linear" for spec in specs):
            return cls(geometry=geometry, longitude=None, latitude=None, radii=nothing, slope=nothing)
        units = [1.0 if spec.kind == "linear" else spec.radian for spec in specs]
        turned = GridGeometry(
            axes=tuple(axis / unit for axis, unit in zip(geometry.axes, units, strict=True)),
            periods=tuple(
                None if period is None else period / unit for period, unit in zip(geometry.periods, units, strict=True)
            ),
            spacings=tuple(
                None if spacing is None else spacing / unit
                for spacing, unit in zip(geometry.spacings, units, strict=True)
            ),
        )
        kinds = [spec.kind for spec in specs]
        latitude = next((number for number, kind in enumerate(kinds) if kind in _LATITUDES), None)
        if "longitude" not in kinds or latitude is None:
            return cls(geometry=turned, longitude=None, latitude=None, radii=nothing, slope=nothing)
        angles = turned.axes[latitude]
        sine, cosine = np.sin(angles), np.cos(angles)
        from_equator = kinds[latitude] == "latitude"
        return cls(
            geometry=turned,
            longitude=kinds.index("longitude"),
            latitude=latitude,
            radii=cosine if from_equator else sine,
            slope=-sine if from_equator else cosine,
        )

    @property
    def longitude_first(self) -> tuple[int, ...]:
        """The axes, the longitude before all others: second derivatives take it first."""
        axes = range(len(self.geometry.axes))
        return tuple(sorted(axes, key=lambda axis: axis != self.longitude))

    def radius(self, axis: int) -> Float64[np.ndarray, "*ones"] | float:
        """Return what a radian along an axis is long, to multiply fields with."""
        return self._along_latitude(self.radii) if axis == self.longitude else 1.0

    def divisor(self, axis: int) -> Float64[np.ndarray, "*ones"] | float:
        """Return the same to divide by: NaN at the poles."""
        if axis != self.longitude:
            return 1.0
        return self._along_latitude(np.where(self._poles, np.nan, self.radii))

    def derivative(
        self,
        values: Float64[np.ndarray, "channel *space"],
        axis: int,
        *,
        scratch: Scratch | None = None,
        out: Float64[np.ndarray, "channel *space"] | None = None,
    ) -> Float64[np.ndarray, "channel *space"]:
        """Differentiate along the arcs of an axis, as `axis_derivative`; NaN at poles along the parallel."""
        derivative = axis_derivative(values, self.geometry, axis, scratch=scratch, out=out)
        return derivative if axis != self.longitude else derivative / self.divisor(axis)

    def second_derivative(
        self, values: Float64[np.ndarray, "channel *space"], axis: int
    ) -> Float64[np.ndarray, "channel *space"]:
        """Return the second covariant derivative along an axis; NaN at poles along the parallel."""
        second = second_derivative(values, self.geometry, axis)
        if axis != self.longitude or self.latitude is None:
            return second
        towards = axis_derivative(values, self.geometry, self.latitude)
        bend = self._along_latitude(self.slope) / self.divisor(axis)
        return second / np.square(self.divisor(axis)) + bend * towards

    def fill_poles(
        self, found: Float64[np.ndarray, "map *space"], values: Float64[np.ndarray, "channel *space"]
    ) -> Float64[np.ndarray, "map *space"]:
        """Put at the poles what the row beside has; 0 where that is not known, NaN where the value is missing."""
        if self.latitude is None or not self._poles.any():
            return found
        rows, known = np.moveaxis(found, self.latitude + 1, 0), np.moveaxis(values, self.latitude + 1, 0)
        last = len(rows) - 1
        for pole in np.flatnonzero(self._poles).tolist():
            beside = rows[min(pole + 1, last) if pole == 0 else pole - 1]
            there = np.where(np.isnan(beside), 0.0, beside)
            rows[pole] = np.where(np.isnan(known[pole]), np.nan, there)
        return found

    @property
    def _poles(self) -> Bool[np.ndarray, " node"]:
        return np.abs(self.radii) < _AT_POLE

    def _along_latitude(self, values: Float64[np.ndarray, " node"]) -> Float64[np.ndarray, "*ones"]:
        assert self.latitude is not None
        shape = [1] * (len(self.geometry.axes) + 1)
        shape[self.latitude + 1] = values.size
        return values.reshape(shape)


def is_on_sphere(specs: tuple[AxisSpec, ...]) -> bool:
    """Tell whether coordinates are a longitude and a latitude or colatitude, and nothing else."""
    return sorted(spec.kind for spec in specs) in [["latitude", "longitude"], ["colatitude", "longitude"]]


def on_unit_sphere(
    coordinates: Float[np.ndarray, "point dim"], specs: tuple[AxisSpec, ...]
) -> Float[np.ndarray, "point space"]:
    """Return the places of longitudes and latitudes in space (N, 3); other coordinates as they are."""
    if not is_on_sphere(specs):
        return coordinates
    angles = {spec.kind: coordinates[:, number] / spec.radian for number, spec in enumerate(specs)}
    latitude = angles["latitude"] if "latitude" in angles else np.pi / 2 - angles["colatitude"]
    radius, longitude = np.cos(latitude), angles["longitude"]
    return np.stack([radius * np.cos(longitude), radius * np.sin(longitude), np.sin(latitude)], axis=1)
