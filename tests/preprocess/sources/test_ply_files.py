"""Vertices and triangles of .ply files: text and both byte orders, whatever else stands there; damage told by place."""

from pathlib import Path

import numpy as np
import pytest
import pyvista

from preprocess.sources.ply_files import read_ply
from tests.preprocess.sources.specimens import write_ply
from ups_data.errors import SourceError

POINTS = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
FACES = np.array([[0, 1, 2], [6, 2, 1], [3, 4, 5]])


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_meshes_come_out_as_they_are(tmp_path: Path, kind: str) -> None:
    mesh = read_ply(write_ply(tmp_path / "a.ply", POINTS, kind=kind, faces=FACES))
    np.testing.assert_array_equal(mesh.points, POINTS.astype("float64"))
    np.testing.assert_array_equal(mesh.triangles, FACES)
    cloud = read_ply(write_ply(tmp_path / "b.ply", POINTS, kind=kind, faces=None))
    np.testing.assert_array_equal(cloud.points, POINTS.astype("float64"))
    assert cloud.triangles.shape == (0, 3)


@pytest.mark.parametrize("binary", [True, False])
def test_files_of_vtk_come_out_as_they_are(tmp_path: Path, binary: bool) -> None:
    sphere = pyvista.Icosphere(nsub=1)
    sphere.save(tmp_path / "a.ply", binary=binary)
    mesh = read_ply(tmp_path / "a.ply")
    np.testing.assert_allclose(mesh.points, sphere.points, atol=1e-5)
    np.testing.assert_array_equal(mesh.triangles, sphere.regular_faces)


@pytest.mark.parametrize("kind", ["ascii", "binary_big_endian"])
@pytest.mark.parametrize(
    ("faces", "message"),
    [
        (np.array([[0, 1, 2, 3]]), "face 0 has 4 vertices; triangles are read"),
        (np.array([[0, 1, 2], [4, 7, 5]]), "faces name vertices 0 to 7, and there are 7"),
    ],
)
def test_faces_that_make_no_sense_are_refused(tmp_path: Path, kind: str, faces: np.ndarray, message: str) -> None:
    with pytest.raises(SourceError, match=f"a.ply: {message}"):
        read_ply(write_ply(tmp_path / "a.ply", POINTS, kind=kind, faces=faces))


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_faces_cut_short_are_refused(tmp_path: Path, kind: str) -> None:
    path = write_ply(tmp_path / "a.ply", POINTS, kind=kind, faces=FACES)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(SourceError, match=r"a.ply is cut short"):
        read_ply(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"ply\n", b"plt\n", r"a.ply is no .ply file"),
        (b"binary_little_endian", b"binary_middle_endian", "names no format of binary_little_endian"),
        (b"element vertex 7", b"element vertex seven", "the header says 'element vertex seven'; a number of"),
        (b"element vertex 7", b"element vertex 0", "the header says 'element vertex 0'; a number of"),
        (b"element vertex 7", b"element vertex 99999999999999", "cut short: .* left for 99999999999999 vertices"),
        (b"element vertex 7", b"element corner 7", "the first element of the header must be vertex"),
        (b"property float z", b"property float w", "vertices have x, y, w, quality; x, y and z are wanted"),
        (b"property float z", b"property float128 z", "the header says 'property float128 z' of vertex; a type"),
        (b"element face 1", b"element face one", "the header says 'element face one'; a number of faces is wanted"),
        (b"vertex_indices", b"vertices", "one list of vertex_index or vertex_indices; there are face, faces with vert"),
        (b"property list uchar int v", b"property list int v", "says 'property list int vertex_indices' of face; a t"),
        (b"end_header\n", b"", "the header has no end_header"),
    ],
)
def test_headers_that_make_no_sense_are_refused(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    path = write_ply(tmp_path / "a.ply", POINTS)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(SourceError, match=message):
        read_ply(path)


@pytest.mark.parametrize("kind", ["ascii", "binary_big_endian"])
def test_a_file_cut_short_is_refused(tmp_path: Path, kind: str) -> None:
    path = write_ply(tmp_path / "a.ply", POINTS, kind=kind, faces=None)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SourceError, match=r"a.ply is cut short"):
        read_ply(path)


def test_points_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    points = POINTS.copy()
    points[3, 1] = np.inf
    with pytest.raises(SourceError, match=r"a.ply: vertex 3 holds inf; coordinates must be finite"):
        read_ply(write_ply(tmp_path / "a.ply", points))
    with pytest.raises(SourceError, match=r"b.ply cannot be read"):
        read_ply(tmp_path / "b.ply")
