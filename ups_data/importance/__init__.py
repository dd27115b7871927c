"""Importance maps: from the frames of a trajectory to one non-negative weight a point."""

from ups_data.importance.base import (
    CloudGeometry,
    Geometry,
    GridGeometry,
    ImportanceMetric,
    RootMeanSquareMetric,
    Subject,
)
from ups_data.importance.recipe import (
    DEFAULT_METRICS,
    METRICS,
    ImportanceMap,
    check_metrics,
    default_recipe,
    pin_recipe,
)

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "CloudGeometry",
    "Geometry",
    "GridGeometry",
    "ImportanceMap",
    "ImportanceMetric",
    "RootMeanSquareMetric",
    "Subject",
    "check_metrics",
    "default_recipe",
    "pin_recipe",
]
