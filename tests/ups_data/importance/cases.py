"""Geometries, and what the maps over them are measured on."""

from __future__ import annotations

import numpy as np

from ups_data.importance import CloudGeometry, Geometry, GridGeometry, ImportanceMap, ImportanceMetric, Subject
from ups_data.schema import FieldSpec, ImportanceSpec

NODES = np.arange(64) / 64
PERIODIC = GridGeometry(axes=(NODES,), periods=(1.0,))
BOUNDED = GridGeometry(axes=(NODES,), periods=(None,))


def subject_of(geometry: Geometry, num_channels: int = 1, *fields: FieldSpec) -> Subject:
    """Describe data on a geometry: scalars unless fields are given."""
    on_grid = isinstance(geometry, GridGeometry)
    dims = len(geometry.axes) if isinstance(geometry, GridGeometry) else geometry.coordinates.shape[1]
    return Subject(
        kind="grid" if on_grid else "points",
        axes=("x", "y", "z")[:dims],
        fields=fields or tuple(FieldSpec(name=f"u{channel}") for channel in range(num_channels)),
    )


def maps_of(metric: type[ImportanceMetric], frames: np.ndarray, geometry: Geometry, *fields: FieldSpec) -> np.ndarray:
    """Return the maps of one metric over frames (T, C, *space)."""
    measured = metric(geometry, subject_of(geometry, frames.shape[1], *fields))
    for frame in frames:
        measured.update(frame)
    return measured.result()


def importance_of(frames: np.ndarray, geometry: Geometry, spec: ImportanceSpec) -> np.ndarray:
    """Return the map that a recipe makes of frames (T, C, *space)."""
    gathered = ImportanceMap(spec, geometry, subject_of(geometry, frames.shape[1]))
    for frame in frames:
        gathered.update(frame)
    return gathered.result()


def random_nodes(count: int, seed: int = 0) -> np.ndarray:
    """Return uneven nodes on [0, 1), the closest of them far enough apart for sound differences."""
    steps = np.random.default_rng(seed).uniform(0.5, 1.5, size=count)
    return (np.cumsum(steps) - steps[0]) / steps.sum()


def cloud_of(num_points: int, dims: int, seed: int = 0) -> CloudGeometry:
    """Return points scattered in the unit cube."""
    return CloudGeometry(coordinates=np.random.default_rng(seed).uniform(size=(num_points, dims)))
