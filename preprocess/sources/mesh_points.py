"""The points of a mesh: nodes or centres of cells, each with its share of length, area or volume.

A cell that must not count, because it has no extent or stands there twice, and a node that no cell has, which would get
no share, are refused with their number, or left out where the user says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, Shaped, UInt8

from preprocess.sources.axes import grid_axis
from ups_data.errors import SourceError
from ups_data.mesh import Mesh, PointLocation
from ups_data.schema import AxisSpec

SIMPLEX_TYPES = {2: 3, 3: 5, 4: 10}
"""Type in VTK's numbering of the cell that has so many nodes: line, triangle, tetrahedron."""

_AXES = ("x", "y", "z")
# Cells this much smaller than the largest have no extent but that of rounding.
_RELATIVE_NOTHING = 1e-30
_MAX_NODES = 2**31 - 1
_HINT = "say --option drop_faulty=true to leave them out"


@dataclass(frozen=True, kw_only=True, eq=False)
class SizedCells:
    """Nodes and cells as a file holds them.

    Attributes:
        nodes: coordinates (V, D).
        types, offsets, connectivity: as in `ups_data.mesh.Mesh`.
        sizes: length, area or volume of each cell (M,), never negative.
        centres: of the cells (M, D).
    """

    nodes: Float64[np.ndarray, "node dim"]
    types: UInt8[np.ndarray, " cell"]
    offsets: Int64[np.ndarray, " offset"]
    connectivity: Int32[np.ndarray, " corner"]
    sizes: Float64[np.ndarray, " cell"]
    centres: Float64[np.ndarray, "cell dim"]

    @property
    def num_corners(self) -> Int64[np.ndarray, " cell"]:
        """Nodes of each cell."""
        return np.diff(self.offsets)


@dataclass(frozen=True, kw_only=True, eq=False)
class MeshPoints:
    """The points that a trajectory on a mesh has.

    Attributes:
        mesh: nodes and cells, without what was left out.
        coordinates: of the points (N, D).
        measures: of the points (N,), all positive; they add up to the measure of the mesh.
        rows: which rows of the file's arrays the points are (N,); all of them in order where nothing was left out.
        notes: what was left out.
    """

    mesh: Mesh
    coordinates: Float64[np.ndarray, "point dim"]
    measures: Float64[np.ndarray, " point"]
    rows: Int64[np.ndarray, " point"]
    notes: tuple[str, ...]

    @property
    def box(self) -> Float64[np.ndarray, "2 dim"]:
        """Least and largest coordinates of the nodes: centres of cells may lie in a plane where their nodes do not."""
        return np.stack([self.mesh.nodes.min(axis=0), self.mesh.nodes.max(axis=0)])


def locate_points(cells: SizedCells, location: PointLocation, *, drop_faulty: bool, where: str) -> MeshPoints:
    """Return the points of a mesh.

    A node gets an equal share of each of its cells, the centre of a cell all of it.

    Args:
        cells: the mesh.
        location: what the points are.
        drop_faulty: leave out cells without extent, cells that stand there twice (but the first of them), and, where
            points are nodes, nodes of no cell; otherwise they are refused.
        where: file, for messages.

    Raises:
        SourceError: a coordinate that is not finite, faults, or no cell left.
    """
    check_nodes(cells.nodes, where=where)
    flat, repeated = _without_extent(cells.sizes), find_repeated(cells)
    notes = []
    for faulty, what in ((flat, "cells without extent"), (repeated & ~flat, "cells that stand there twice")):
        if faulty.any():
            notes.append(_judge(faulty, what, drop_faulty=drop_faulty, where=where))
    kept = np.flatnonzero(~(flat | repeated))
    if not kept.size:
        raise SourceError(f"{where}: none of the {len(cells.types)} cells has an extent")
    if kept.size < len(cells.types):
        cells = take_cells(cells, kept)
    if location == "cells":
        mesh = _as_mesh(cells, location)
        return MeshPoints(mesh=mesh, coordinates=cells.centres, measures=cells.sizes, rows=kept, notes=tuple(notes))
    used = np.zeros(len(cells.nodes), dtype=bool)
    used[cells.connectivity] = True
    if not used.all():
        notes.append(_judge(~used, "nodes that belong to no cell", drop_faulty=drop_faulty, where=where))
        cells = _take_nodes(cells, used)
    mesh, shares = _as_mesh(cells, location), share_sizes(cells)
    return MeshPoints(
        mesh=mesh, coordinates=cells.nodes, measures=shares, rows=np.flatnonzero(used), notes=tuple(notes)
    )


def check_nodes(nodes: Float64[np.ndarray, "node dim"], *, where: str) -> None:
    """Refuse coordinates that are not finite, and more nodes than can be numbered.

    Raises:
        SourceError: naming the first such node.
    """
    if not 1 <= len(nodes) <= _MAX_NODES:
        raise SourceError(f"{where} has {len(nodes)} nodes; a mesh has 1 to {_MAX_NODES}")
    finite = np.isfinite(nodes)
    if not finite.all():
        node, axis = map(int, np.unravel_index(int(np.argmin(finite)), nodes.shape))
        raise SourceError(
            f"{where}: coordinate {axis} of node {node} is {nodes[node, axis]}, and {int((~finite).sum())} are not "
            f"finite; coordinates must be"
        )


def describe_box(
    box: Float64[np.ndarray, "2 dim"], *, where: str
) -> tuple[tuple[AxisSpec, ...], list[int], tuple[str, ...]]:
    """Describe the axes of points by the box around them all; those along which it has no extent are left out.

    Returns:
        Axes x, y and z, the numbers of those that are kept, and notes on the others.

    Raises:
        SourceError: all points at one place.
    """
    kept = [axis for axis in range(box.shape[1]) if box[1, axis] > box[0, axis]]
    if not kept:
        raise SourceError(f"{where}: all points lie at {box[0].tolist()}")
    axes = tuple(grid_axis(_AXES[axis], box[:, axis], periodic=False, where=f"{where}: {_AXES[axis]}") for axis in kept)
    notes = (
        f"axis {_AXES[axis]} left out: every point lies at {_AXES[axis]} = {box[0, axis]!s}"
        for axis in range(box.shape[1])
        if axis not in kept
    )
    return axes, kept, tuple(notes)


def share_sizes(cells: SizedCells) -> Float64[np.ndarray, " node"]:
    """Divide the measure of each cell equally among its nodes."""
    shares = np.repeat(cells.sizes / cells.num_corners, cells.num_corners)
    return np.bincount(cells.connectivity, weights=shares, minlength=len(cells.nodes))


def find_repeated(cells: SizedCells) -> Bool[np.ndarray, " cell"]:
    """Tell which cells have the nodes of an earlier one, in whatever order."""
    repeated = np.zeros(len(cells.types), dtype=bool)
    for numbers, corners in _by_corners(cells):
        _, first = np.unique(np.sort(corners, axis=1), axis=0, return_index=True)
        mask = np.ones(len(numbers), dtype=bool)
        mask[first] = False
        repeated[numbers] = mask
    return repeated


def take_cells(cells: SizedCells, chosen: Int64[np.ndarray, " chosen"]) -> SizedCells:
    """Return the cells of the given numbers, in their order; nodes stay."""
    starts, counts = cells.offsets[:-1][chosen], cells.num_corners[chosen]
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
    places = np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1])
    return SizedCells(
        nodes=cells.nodes,
        types=cells.types[chosen],
        offsets=offsets,
        connectivity=cells.connectivity[places],
        sizes=cells.sizes[chosen],
        centres=cells.centres[chosen],
    )


def simplex_cells(
    nodes: Float64[np.ndarray, "node dim"], corners: Shaped[np.ndarray, "cell corner"], *, where: str
) -> SizedCells:
    """Return lines, triangles or tetrahedra with their measures, in a space of any dimension.

    The measure of a simplex of k edges e from its first node is sqrt(det(e e^T)) / k!.

    Raises:
        SourceError: a node that is not there, or cells of another number of nodes.
    """
    count = corners.shape[1]
    if corners.dtype.kind not in "iu" or count not in SIMPLEX_TYPES or count - 1 > nodes.shape[1]:
        raise SourceError(
            f"{where} holds cells of {count} nodes ({corners.dtype}) in {nodes.shape[1]} dimensions; lines (2), "
            f"triangles (3) and tetrahedra (4) are read"
        )
    if corners.size and not (corners.min() >= 0 and corners.max() < len(nodes)):
        raise SourceError(f"{where} names nodes {corners.min()} to {corners.max()}, and there are {len(nodes)}")
    points = nodes[corners]
    edges = points[:, 1:] - points[:, :1]
    squares = np.linalg.det(edges @ edges.transpose(0, 2, 1))
    return SizedCells(
        nodes=nodes,
        types=np.full(len(corners), SIMPLEX_TYPES[count], dtype=np.uint8),
        offsets=np.arange(len(corners) + 1, dtype=np.int64) * count,
        connectivity=corners.astype(np.int32).reshape(-1),
        sizes=np.sqrt(np.maximum(squares, 0.0)) / {2: 1.0, 3: 2.0, 4: 6.0}[count],
        centres=points.mean(axis=1),
    )


def _by_corners(cells: SizedCells) -> Iterator[tuple[Int64[np.ndarray, " chosen"], Int32[np.ndarray, "chosen corner"]]]:
    """Go through the cells by their number of nodes."""
    counts = cells.num_corners
    for count in np.unique(counts).tolist():
        numbers = np.flatnonzero(counts == count)
        yield numbers, cells.connectivity[cells.offsets[:-1][numbers][:, None] + np.arange(count)]


def _without_extent(sizes: Float64[np.ndarray, " cell"]) -> Bool[np.ndarray, " cell"]:
    # Written so that NaN, the size of a cell that has none, counts too.
    return ~(sizes > _RELATIVE_NOTHING * np.max(sizes, initial=0.0, where=np.isfinite(sizes)))


def _judge(faulty: Bool[np.ndarray, " _"], what: str, *, drop_faulty: bool, where: str) -> str:
    count, first = int(faulty.sum()), int(np.argmax(faulty))
    if not drop_faulty:
        raise SourceError(f"{where} has {count} of {faulty.size} {what}, the first is number {first}; {_HINT}")
    return f"{where}: {count} of {faulty.size} {what} were left out"


def _take_nodes(cells: SizedCells, used: Bool[np.ndarray, " node"]) -> SizedCells:
    numbers = (np.cumsum(used) - 1).astype(np.int32)
    return SizedCells(
        nodes=cells.nodes[used],
        types=cells.types,
        offsets=cells.offsets,
        connectivity=numbers[cells.connectivity],
        sizes=cells.sizes,
        centres=cells.centres,
    )


def _as_mesh(cells: SizedCells, location: PointLocation) -> Mesh:
    return Mesh(
        location=location,
        nodes=cells.nodes,
        types=cells.types,
        offsets=cells.offsets,
        connectivity=cells.connectivity,
    )
