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
class AlikeCells:
    """Cells of one type and number of nodes.

    Attributes:
        kind: the type.
        cells: their numbers (M,).
        corners: their nodes (M, K).
    """

    kind: int
    cells: Int64[np.ndarray, " cell"]
    corners: Int32[np.ndarray, "cell corner"]


@dataclass(frozen=True, kw_only=True, eq=False)
class OuterFaces:
    """Faces, each of one cell.

    Attributes:
        faces: their nodes (F, K).
        cells: the number of the cell of each (F,).
    """

    faces: Int32[np.ndarray, "face corner"]
    cells: Int64[np.ndarray, " face"]


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
        return {size: outer.faces for size, outer in self.outer_faces_of_cells().items()}

    def outer_faces_of_cells(self) -> dict[int, OuterFaces]:
        """Return the faces that belong to one cell only, and that cell, by their number of nodes; see `outer_faces`."""
        found: dict[int, list[OuterFaces]] = defaultdict(list)
        for alike in self.cells_by_kind():
            for face in _faces_of(alike.kind, alike.corners.shape[1]):
                found[len(face)].append(OuterFaces(faces=alike.corners[:, list(face)], cells=alike.cells))
        return {size: _once(parts) for size, parts in sorted(found.items())}

    def cells_by_kind(self) -> Iterator[AlikeCells]:
        """Yield all cells of one type and number of nodes together."""
        counts = np.diff(self.offsets)
        kinds = np.unique(np.stack([self.types.astype(np.int64), counts]), axis=1)
        for kind, count in kinds.T.tolist():
            cells = np.flatnonzero((self.types == kind) & (counts == count))
            corners = self.connectivity[self.offsets[cells][:, None] + np.arange(count)]
            yield AlikeCells(kind=kind, cells=cells, corners=corners)


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


def _once(parts: list[OuterFaces]) -> OuterFaces:
    """Return those faces whose nodes, in whatever order, no other one has."""
    faces, cells = (np.concatenate([getattr(part, name) for part in parts]) for name in ("faces", "cells"))
    _, first, counts = np.unique(np.sort(faces, axis=1), axis=0, return_index=True, return_counts=True)
    chosen = np.sort(first[counts == 1])
    return OuterFaces(faces=faces[chosen], cells=cells[chosen])
