"""The cells of a mesh in a described array: read, checked, and measured between the nodes of a trajectory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32, Int64

from preprocess.sources.array_description import CellKind, CellsEntry
from preprocess.sources.array_files import StoredArray
from preprocess.sources.mesh_points import MeshPoints, SizedCells, check_nodes, locate_points, simplex_cells
from preprocess.sources.vtk_files import measure_cells
from ups_data.errors import SourceError

# Type in VTK's numbering, nodes, and dimensions of each kind of cell.
_KINDS: dict[CellKind, tuple[int, int, int]] = {
    "line": (3, 2, 1),
    "triangle": (5, 3, 2),
    "quad": (9, 4, 2),
    "tetra": (10, 4, 3),
    "pyramid": (14, 5, 3),
    "wedge": (13, 6, 3),
    "hexahedron": (12, 8, 3),
}
# Cells whose corners are out of order cancel themselves; a mesh of a thin shell fills more than this of its box.
_LEAST_SHARE = 1e-9
_SIMPLICES = frozenset({"line", "triangle", "tetra"})


class ArrayCells:
    """Cells of one type; those of all trajectories, or of each.

    Args:
        entry: what the description says of them.
        array: connectivity.
        num_trajectories: of the data set.
        dims: axes of the domain.

    Raises:
        SourceError: an array of another shape or type, or cells that do not fit into the domain.
    """

    def __init__(self, entry: CellsEntry, array: StoredArray, *, num_trajectories: int, dims: int) -> None:
        self._entry, self._array = entry, array
        self._kind, corners, least_dims = _KINDS[entry.type]
        shape = array.shape
        if array.dtype.kind not in "iu" or shape[-1:] != (corners,) or len(shape) not in (2, 3):
            raise SourceError(
                f"{array.where} has shape {shape} and type {array.dtype}; cells of type {entry.type} are integers of "
                f"shape (cell, {corners}), or (trajectory, cell, {corners})"
            )
        if len(shape) == 3 and shape[0] != num_trajectories:
            raise SourceError(
                f"{array.where} has the cells of {shape[0]} trajectories, the fields have {num_trajectories}"
            )
        if dims < least_dims:
            raise SourceError(f"{array.where}: cells of type {entry.type} need {least_dims} axes, there are {dims}")
        self.notes: tuple[str, ...] = ()
        self._last: tuple[int, MeshPoints] | None = None

    @property
    def where(self) -> str:
        """Their array, for messages."""
        return self._array.where

    @property
    def num_cells(self) -> int:
        """Cells of a trajectory, as they are stored."""
        return self._array.shape[-2]

    @property
    def is_shared(self) -> bool:
        """Whether all trajectories have these cells."""
        return len(self._array.shape) == 2

    def locate(self, trajectory: int, read_nodes: Callable[[int], Float64[np.ndarray, "node dim"]]) -> MeshPoints:
        """Return the points of a mesh, with their measures; the last ones are kept.

        Raises:
            SourceError: a node that is not there, or faults that are not to be left out; see `locate_points`.
        """
        if self._last is None or self._last[0] != trajectory:
            self._last = None
            where = self.where if self.is_shared else f"{self.where} of trajectory {trajectory}"
            nodes = read_nodes(trajectory)
            check_nodes(nodes, where=where)
            located = locate_points(
                self._measure(nodes, self._read(trajectory, len(nodes), where), where),
                self._entry.location,
                drop_faulty=self._entry.drop_faulty,
                where=where,
            )
            self.notes = tuple(dict.fromkeys((*self.notes, *located.notes)))
            self._last = (trajectory, located)
        return self._last[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mesh behind: another process reads it itself."""
        return {**self.__dict__, "_last": None}

    def _read(self, trajectory: int, num_nodes: int, where: str) -> Int32[np.ndarray, "cell corner"]:
        first = self._entry.first
        corners: Int64[np.ndarray, "cell corner"] = np.asarray(
            self._array.open().read(() if self.is_shared else (trajectory,))
        )
        least, most = (int(corners.min()), int(corners.max())) if corners.size else (first, first)
        if least < first or most >= num_nodes + first:
            hint = "; do they count from 1? Then say `first: 1`" if (first, least, most) == (0, 1, num_nodes) else ""
            raise SourceError(
                f"{where} names nodes {least} to {most}, and there are {num_nodes}, counted from {first}{hint}"
            )
        return (corners.astype(np.int64) - first).astype(np.int32)

    def _measure(
        self, nodes: Float64[np.ndarray, "node dim"], corners: Int32[np.ndarray, "cell corner"], where: str
    ) -> SizedCells:
        if self._entry.type in _SIMPLICES:
            return simplex_cells(nodes, corners, where=where)
        cells = measure_cells(nodes, np.full(len(corners), self._kind, dtype=np.uint8), corners)
        room = float(np.prod(np.ptp(nodes, axis=0)))
        if nodes.shape[1] == _KINDS[self._entry.type][2] and corners.size and cells.sizes.sum() < _LEAST_SHARE * room:
            raise SourceError(
                f"{where}: the {len(corners)} cells of type {self._entry.type} fill {cells.sizes.sum():g} of a box of "
                f"{room:g}: are their corners in VTK's order?"
            )
        return cells
