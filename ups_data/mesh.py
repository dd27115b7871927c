"""Cells between points, in the numbering of VTK."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8

from ups_data.errors import SchemaError

PointLocation = Literal["nodes", "cells"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mesh:
    """Nodes, and the cells between them; any mixture of types, as `vtkUnstructuredGrid` holds it.

    Attributes:
        location: what the points of the trajectory are: the `nodes`, in their order, or the centres of the `cells`.
        nodes: physical coordinates (V, D).
        types: number of each cell's type in VTK: 3 line, 5 triangle, 9 quadrilateral, 10 tetrahedron, ... (M,).
        offsets: where the nodes of each cell begin in `connectivity`, and its length (M + 1,).
        connectivity: node numbers, cell after cell, in VTK's order within a cell.

    Raises:
        SchemaError: offsets that do not rise from 0 to the length of `connectivity`, or a node that is not there.
    """

    location: PointLocation
    nodes: Float64[np.ndarray, "node dim"]
    types: UInt8[np.ndarray, " cell"]
    offsets: Int64[np.ndarray, " offset"]
    connectivity: Int32[np.ndarray, " corner"]

    def __post_init__(self) -> None:
        offsets, corners = self.offsets, self.connectivity
        if len(offsets) != len(self.types) + 1 or offsets[0] != 0 or offsets[-1] != corners.size:
            raise SchemaError(
                f"a mesh of {len(self.types)} cells needs offsets from 0 to the {corners.size} entries of its "
                f"connectivity, got {len(offsets)} of them"
            )
        empty = np.flatnonzero(np.diff(offsets) < 1)
        if empty.size:
            raise SchemaError(f"cell {empty[0]} of a mesh has no node")
        if corners.size and not (corners.min() >= 0 and corners.max() < len(self.nodes)):
            raise SchemaError(
                f"cells of a mesh name nodes {corners.min()} to {corners.max()}, and it has {len(self.nodes)}"
            )

    @property
    def num_cells(self) -> int:
        """Number of cells."""
        return len(self.types)

    def take_axes(self, axes: Sequence[int]) -> Mesh:
        """Return the same cells between nodes of fewer coordinates, those of the given axes."""
        return replace(self, nodes=np.ascontiguousarray(self.nodes[:, list(axes)]))
