"""What the reader's process tells: bits as they are, and nothing believed that is not checked."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess.sources.vtk_files import read_vtk
from preprocess.sources.vtk_messages import pack_file, read_message, unpack_file, write_message
from tests.preprocess.sources.meshes import plane, with_data
from ups_data.errors import SourceError


def read_back(content: bytes, max_bytes: int = 1000) -> Any:
    stream = io.BytesIO(content)

    def read_into(view: memoryview) -> None:
        if stream.readinto(view) != len(view):
            raise EOFError

    return read_message(read_into, max_bytes)


def test_arrays_come_back_bit_for_bit() -> None:
    arrays = {
        ("a", "x"): np.array([[1.5, np.nan], [-0.0, np.inf]]),
        ("a", "text"): np.array(["wall", "in"]),
        ("b", "x"): np.empty((0, 3), dtype="f4"),
        ("b", "turned"): np.arange(6, dtype=">i2").reshape(2, 3).T,
        ("b", "number"): np.array(7, dtype="u1"),
    }
    stream = io.BytesIO()
    write_message(stream, {"time": None}, arrays)
    header, back = read_back(stream.getvalue())
    assert header == {"time": None}
    assert list(back) == list(arrays)
    for key, values in arrays.items():
        assert (back[key].dtype, back[key].shape) == (values.dtype, values.shape)
        assert back[key].tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([["a", "x", "|O", [1]]], r"array 'x' of type '\|O'"),
        ([["a", "x", "<f8", [-1]]], r"array 'x' of type '<f8' and shape \[-1\]"),
        ([["a", "x", "<f8", ["3"]]], "array 'x' of type"),
        ([["a", "x", "<f8", [2**60]]], "arrays of more than 1000 bytes"),
        ([["a", "x", "<f8", [60]], ["a", "y", "<f8", [70]]], "arrays of more than 1000 bytes"),
        ([["a", "x"]], "not enough values"),
    ],
)
def test_headers_are_not_believed(listed: Any, message: str) -> None:
    head = json.dumps({"arrays": listed}).encode()
    with pytest.raises(ValueError, match=message):
        read_back(len(head).to_bytes(8, "little") + head + bytes(480))
    with pytest.raises(ValueError, match="a header of"):
        read_back(b"\xff" * 8)


def test_parts_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.vtu"
    with_data(plane()).save(path)
    header, arrays = pack_file(read_vtk(path))
    assert unpack_file(header, arrays, path).at_nodes.keys() == {"p", "U"}
    changes: dict[tuple[str, str], Any] = {
        ("cells", "connectivity"): lambda values: values + 1,
        ("cells", "offsets"): lambda values: values[::-1],
        ("cells", "types"): lambda values: values[:1],
        ("cells", "nodes"): lambda values: values[:, :2],
        ("cells", "dims"): lambda values: values[:0],
        ("at_nodes", "p"): lambda values: values[:-1],
    }
    for key, change in changes.items():
        with pytest.raises(SourceError, match=r"a.vtu is damaged: "):
            unpack_file(header, {**arrays, key: change(arrays[key])}, path)
    for key in arrays:
        if key[0] == "cells":
            with pytest.raises(SourceError, match=r"a.vtu is damaged: VTK's reader told no mesh"):
                unpack_file(header, {other: values for other, values in arrays.items() if other != key}, path)
