"""A mesh checks that its cells name nodes that are there."""

import numpy as np
import pytest
import pyvista

from ups_data.errors import SchemaError
from ups_data.mesh import Mesh


def make_mesh(**changes):
    """Two triangles and a quadrilateral over five nodes."""
    parts = {
        "location": "nodes",
        "nodes": np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]),
        "types": np.array([5, 5, 9], dtype=np.uint8),
        "offsets": np.array([0, 3, 6, 10]),
        "connectivity": np.array([0, 1, 2, 1, 3, 2, 0, 1, 4, 3], dtype=np.int32),
    }
    return Mesh(**{**parts, **changes})


def test_a_mesh_counts_its_cells():
    assert make_mesh().num_cells == 3


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"offsets": np.array([0, 3, 6])}, "got 3 of them"),
        ({"offsets": np.array([0, 3, 6, 9])}, "10 entries"),
        ({"offsets": np.array([0, 3, 3, 10])}, "cell 1 of a mesh has no node"),
        ({"connectivity": np.array([0, 1, 2, 1, 3, 2, 0, 1, 5, 3], dtype=np.int32)}, "0 to 5, and it has 5"),
        ({"connectivity": np.array([0, 1, 2, 1, 3, 2, 0, -1, 4, 3], dtype=np.int32)}, "-1 to 4, and it has 5"),
    ],
)
def test_cells_that_do_not_fit_are_refused(changes, match):
    with pytest.raises(SchemaError, match=match):
        make_mesh(**changes)


def pyvista_cells():
    """One cell of every type whose faces are known here, and the types themselves."""
    for kind, count in {5: 3, 7: 6, 8: 4, 9: 4, 10: 4, 11: 8, 12: 8, 13: 6, 14: 5, 24: 10, 25: 20}.items():
        nodes = np.random.default_rng(kind).uniform(size=(count, 3))
        yield pyvista.UnstructuredGrid({kind: np.arange(count)[None]}, nodes)


def corners_of(face):
    """Return the corners of a face: as many as it has edges, or two of an edge."""
    return face.point_ids[: face.n_edges or 2]


def test_faces_are_those_that_vtk_gives_a_cell():
    for grid in pyvista_cells():
        cell = grid.get_cell(0)
        theirs = [cell.get_face(number) for number in range(cell.n_faces)]
        theirs = theirs or [cell.get_edge(number) for number in range(cell.n_edges)]
        mesh = Mesh(
            location="nodes",
            nodes=np.asarray(grid.points, dtype=np.float64),
            types=grid.celltypes.astype(np.uint8),
            offsets=np.array([0, grid.n_points]),
            connectivity=np.arange(grid.n_points, dtype=np.int32),
        )
        # VTK lists the nodes of a face from anywhere, and those between corners, which are not of ours, last.
        found = sorted(sorted(face) for faces in mesh.outer_faces().values() for face in faces.tolist())
        assert found == sorted(sorted(corners_of(face)) for face in theirs), grid.celltypes


def test_outer_faces_of_a_mixture():
    faces = make_mesh().outer_faces()
    assert {frozenset(face) for face in faces[2].tolist()} == {
        frozenset(face) for face in ((0, 2), (2, 3), (1, 3), (1, 4), (3, 4), (0, 3))
    }


def test_cells_whose_faces_are_not_told_are_refused():
    with pytest.raises(SchemaError, match="type 42 with 3 nodes, whose faces these do not tell"):
        make_mesh(types=np.array([42, 5, 9], dtype=np.uint8)).outer_faces()


def test_outer_faces_tell_their_cells():
    outer = make_mesh().outer_faces_of_cells()[2]
    found = {tuple(sorted(face)): cell for face, cell in zip(outer.faces.tolist(), outer.cells.tolist(), strict=True)}
    assert found == {(0, 2): 0, (1, 3): 1, (2, 3): 1, (1, 4): 2, (3, 4): 2, (0, 3): 2}
