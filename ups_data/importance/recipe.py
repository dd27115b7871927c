"""Combine metrics into the importance map of a trajectory."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from ups_data.errors import SchemaError, suggest
from ups_data.importance.base import ON_GRIDS_ONLY, Geometry, ImportanceMetric
from ups_data.importance.gradient import GradientMetric
from ups_data.importance.temporal_change import TemporalChangeMetric
from ups_data.schema import GeometryKind, ImportanceSpec

METRICS: dict[str, type[ImportanceMetric]] = {
    "gradient": GradientMetric,
    "temporal_change": TemporalChangeMetric,
}


def check_metrics(spec: ImportanceSpec, *, kind: GeometryKind = "grid") -> None:
    """Refuse a recipe that names a metric which does not exist, or not on this kind of geometry.

    Raises:
        SchemaError: naming the metric, and the nearest valid one or the one to take instead.
    """
    for name in spec.metrics:
        if name not in METRICS:
            raise SchemaError(f"there is no importance metric {name!r}. {suggest(name, METRICS)}")
        if METRICS[name].needs_grid and kind != "grid":
            raise SchemaError(f"importance metric {name!r} {ON_GRIDS_ONLY}")


def default_recipe(kind: GeometryKind) -> ImportanceSpec:
    """Return the recipe of every metric that exists on a kind of geometry, all of one weight."""
    return ImportanceSpec(
        metrics={name: 1.0 for name, metric in METRICS.items() if kind == "grid" or not metric.needs_grid}
    )


class ImportanceMap:
    """Gathers the importance of one trajectory frame by frame.

    Each channel's map of each metric is divided by its own mean before maps are added, so that a field with large
    numbers does not drown the rest; a channel or metric that is zero everywhere adds nothing. Where all are
    zero (a constant field), the importance is 1 everywhere.
    """

    def __init__(self, spec: ImportanceSpec, geometry: Geometry, num_channels: int) -> None:
        check_metrics(spec)
        self._spec = spec
        self._geometry = geometry
        self._metrics = {name: METRICS[name](geometry, num_channels) for name in spec.metrics}

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the next frame of the trajectory."""
        for metric in self._metrics.values():
            metric.update(frame)

    def result(self) -> Float64[np.ndarray, " point"]:
        """Return the map in point-id order, positive and of mean 1."""
        mixture = np.zeros(self._geometry.shape)
        for name, metric in self._metrics.items():
            mixture += self._spec.metrics[name] * _average_channels(metric.result())
        if mixture.any():
            mixture = (mixture / mixture.mean()) ** self._spec.exponent
            mixture = mixture / mixture.mean() + self._spec.floor
            mixture /= mixture.mean()
        else:
            mixture[...] = 1.0
        return mixture.reshape(-1)


def _average_channels(maps: Float64[np.ndarray, "channel *space"]) -> Float64[np.ndarray, "*space"]:
    means = maps.reshape(len(maps), -1).mean(axis=1)
    scaled = [channel / mean for channel, mean in zip(maps, means, strict=True) if mean > 0]
    return np.mean(scaled, axis=0) if scaled else np.zeros(maps.shape[1:])
