"""Importance maps: from the frames of a trajectory to one non-negative weight a point."""

from ups_data.importance.base import CloudGeometry, Geometry, GridGeometry, ImportanceMetric
from ups_data.importance.recipe import METRICS, ImportanceMap, check_metrics, default_recipe

__all__ = [
    "METRICS",
    "CloudGeometry",
    "Geometry",
    "GridGeometry",
    "ImportanceMap",
    "ImportanceMetric",
    "check_metrics",
    "default_recipe",
]
