"""Small meshes of known measure, made by pyvista."""

from __future__ import annotations

import numpy as np
import pyvista

SQUARE = np.array([[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0], [4, 0.5, 0]], dtype="float32")
"""A rectangle of 2 x 1 and a triangle of area 1 beside it, in the plane z = 0."""


def plane() -> pyvista.UnstructuredGrid:
    """A quadrilateral and a triangle, without data."""
    return pyvista.UnstructuredGrid({9: np.array([[0, 1, 2, 3]]), 5: np.array([[1, 4, 2]])}, SQUARE.copy())


def with_data(grid: pyvista.UnstructuredGrid, *, seed: int = 0, time: float | None = None) -> pyvista.UnstructuredGrid:
    """Set a scalar and a vector at the nodes."""
    random = np.random.default_rng(seed)
    grid.point_data["p"] = random.normal(size=grid.n_points).astype("float32")
    grid.point_data["U"] = random.normal(size=(grid.n_points, 3)).astype("float32")
    if time is not None:
        grid.field_data["TimeValue"] = np.array([time])
    return grid


def box(size: int = 3) -> pyvista.UnstructuredGrid:
    """The unit cube in size^3 hexahedra, without data."""
    nodes = np.linspace(0.0, 1.0, size + 1)
    return pyvista.RectilinearGrid(nodes, nodes, nodes).cast_to_unstructured_grid()
