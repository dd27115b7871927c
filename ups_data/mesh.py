"""Cells between points, in the numbering of VTK."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8

from ups_data.errors import SchemaError

PointLocation = Literal["nodes", "cells"]

_TRIANGLE, _SQUARE, _PIXEL = (
    ((0, 1), (1, 2), (2, 0)),
    ((0, 1), (1, 2), (2, 3), (3, 0)),
    ((0, 1), (1, 3), (3, 2), (2, 0)),
)
_TETRAHEDRON = ((0, 1, 3), (1, 2, 3), (2, 0, 3), (0, 2, 1))
_VOXEL = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
_HEXAHEDRON = ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (3, 7, 6, 2), (0, 4, 7, 3), (1, 2, 6, 5))
_WEDGE = ((0, 1, 2), (3, 5, 4), (0, 3, 4, 1), (1, 4, 5, 2), (2, 5, 3, 0))
_PYRAMID = ((0, 3, 2, 1), (0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4))
_POLYLINE, _STRIP, _POLYGON = 4, 6, 7

# Faces of a cell by its type: nodes of a line, edges of a surface's cell, faces of a solid. Of cells with nodes between
# their corners those of the corners.
_FACES: dict[int, tuple[tuple[int, ...], ...]] = {
    **dict.fromkeys((3, 21, 35), ((0,), (1,))),
    **dict.fromkeys((5, 22, 34), _TRIANGLE),
    8: _PIXEL,
    **dict.fromkeys((9, 23, 28, 30), _SQUARE),
    **dict.fromkeys((10, 24), _TETRAHEDRON),
    11: _VOXEL,
    **dict.fromkeys((12, 25, 29, 33), _HEXAHEDRON),
    **dict.fromkeys((13, 26, 31, 32), _WEDGE),
    **dict.fromkeys((14, 27, 37), _PYRAMID),
}


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

    def outer_faces(self) -> dict[int, Int32[np.ndarray, "face corner"]]:
        """Return the faces that belong to one cell only, by their number of nodes.

        They are the ends of lines, the edges around surfaces, the faces around solids. A closed surface has none.

        Raises:
            SchemaError: cells whose faces their nodes do not tell, as those of polyhedra.
        """
        found: dict[int, list[Int32[np.ndarray, "face corner"]]] = defaultdict(list)
        for corners, faces in self._faces_by_kind():
            for face in faces:
                found[len(face)].append(corners[:, list(face)])
        return {size: _once(np.concatenate(parts)) for size, parts in sorted(found.items())}

    def _faces_by_kind(self) -> Iterator[tuple[Int32[np.ndarray, "cell corner"], tuple[tuple[int, ...], ...]]]:
        """Yield the corners of all cells of one type and size, and the faces that such a cell has."""
        counts = np.diff(self.offsets)
        kinds = np.unique(np.stack([self.types.astype(np.int64), counts]), axis=1)
        for kind, count in kinds.T.tolist():
            cells = np.flatnonzero((self.types == kind) & (counts == count))
            yield self.connectivity[self.offsets[cells][:, None] + np.arange(count)], _faces_of(kind, count)


def _faces_of(kind: int, count: int) -> tuple[tuple[int, ...], ...]:
    if kind == _POLYLINE:
        return ((0,), (count - 1,))
    if kind == _POLYGON:
        return tuple((corner, (corner + 1) % count) for corner in range(count))
    if kind == _STRIP:
        return ((0, 1), *((corner, corner + 2) for corner in range(count - 2)), (count - 2, count - 1))
    if kind not in _FACES or max(map(max, _FACES[kind])) >= count:
        raise SchemaError(f"a mesh has a cell of VTK's type {kind} with {count} nodes, whose faces these do not tell")
    return _FACES[kind]


def _once(faces: Int32[np.ndarray, "face corner"]) -> Int32[np.ndarray, "outer corner"]:
    """Return those faces whose nodes, in whatever order, no other one has."""
    _, first, counts = np.unique(np.sort(faces, axis=1), axis=0, return_index=True, return_counts=True)
    return faces[np.sort(first[counts == 1])]
