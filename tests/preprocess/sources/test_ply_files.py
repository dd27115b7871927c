"""Vertices of .ply files: ASCII and both byte orders, whatever else stands in the file; damage told by place."""

from pathlib import Path

import numpy as np
import pytest

from preprocess.sources.ply_files import read_ply_points
from tests.preprocess.sources.specimens import write_ply
from ups_data.errors import SourceError

POINTS = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_points_come_out_as_they_are(tmp_path: Path, kind: str) -> None:
    write_ply(tmp_path / "a.ply", POINTS, kind=kind)
    np.testing.assert_array_equal(read_ply_points(tmp_path / "a.ply"), POINTS.astype("float64"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"ply\n", b"plt\n", r"a.ply is no .ply file"),
        (b"binary_little_endian", b"binary_middle_endian", "names no format of binary_little_endian"),
        (b"element vertex 7", b"element vertex seven", "the header says 'element vertex seven'; a number of"),
        (b"element vertex 7", b"element vertex 0", "the header says 'element vertex 0'; a number of"),
        (b"element vertex 7", b"element vertex 99999999999999", "cut short: .* for 99999999999999 vertices"),
        (b"element vertex 7", b"element corner 7", "the first element of the header must be vertex"),
        (b"property float z", b"property float w", "vertices have x, y, w, quality; x, y and z are wanted"),
        (b"property float z", b"property float128 z", "the header says 'property float128 z' of vertices"),
        (b"end_header\n", b"", "the header has no end_header"),
    ],
)
def test_headers_that_make_no_sense_are_refused(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    path = write_ply(tmp_path / "a.ply", POINTS)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(SourceError, match=message):
        read_ply_points(path)


@pytest.mark.parametrize("kind", ["ascii", "binary_big_endian"])
def test_a_file_cut_short_is_refused(tmp_path: Path, kind: str) -> None:
    path = write_ply(tmp_path / "a.ply", POINTS, kind=kind, faces=False)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SourceError, match=r"a.ply is cut short"):
        read_ply_points(path)


def test_points_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    points = POINTS.copy()
    points[3, 1] = np.inf
    with pytest.raises(SourceError, match=r"a.ply: vertex 3 holds inf; coordinates must be finite"):
        read_ply_points(write_ply(tmp_path / "a.ply", points))
    with pytest.raises(SourceError, match=r"b.ply cannot be read"):
        read_ply_points(tmp_path / "b.ply")
