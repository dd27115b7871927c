"""HDF5 files: opened, searched and read with errors that name the place."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from preprocess.sources.hdf5_files import get_dataset, has_hdf5_magic, open_hdf5, read_part, read_text
from ups_data.errors import SourceError

WriteHDF5 = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[3]


def test_magic(write_hdf5: WriteHDF5, tmp_path: Path) -> None:
    assert has_hdf5_magic(write_hdf5("a.h5", {"u": np.arange(3)}))
    (tmp_path / "b.h5").write_text("no HDF5")
    assert not has_hdf5_magic(tmp_path / "b.h5")


def test_a_part_is_read(write_hdf5: WriteHDF5) -> None:
    values = np.arange(24).reshape(4, 6)
    path = write_hdf5("a.h5", {"g/u": values})
    with open_hdf5(path) as file:
        dataset = get_dataset(file["g"], "u", path=path)
        np.testing.assert_array_equal(read_part(dataset, (slice(1, 3), 2), where="u"), values[1:3, 2])


def test_what_is_no_data_set_of_numbers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["g/u"] = np.arange(3)
        file["g/text"] = ["a", "b"]
        file["g/nothing"] = h5py.Empty("f4")
    with open_hdf5(path) as file:
        for name, message in [
            ("v", r"has no data set 'g/v'. .*Valid names: .*g/u"),
            ("text", "a.h5: g/text holds object where real numbers must stand"),
            ("nothing", "a.h5: g/nothing has shape None and holds nothing"),
        ]:
            with pytest.raises(SourceError, match=message):
                get_dataset(file["g"], name, path=path)
        with pytest.raises(SourceError, match=r"a.h5: g is a group where a data set must stand"):
            get_dataset(file, "g", path=path)
        with pytest.raises(SourceError, match=r"has no data set 'h'. Valid names: g\."):
            get_dataset(file, "h", path=path)


def test_no_hdf5_file(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    with pytest.raises(SourceError, match=r"a.h5 is no HDF5 file, damaged or cut short"):
        open_hdf5(tmp_path / "a.h5")


def test_text() -> None:
    assert read_text(b"caf\xc3\xa9", where="f") == "café"
    assert read_text("x", where="f") == "x"
    with pytest.raises(SourceError, match="f: config is a float where text must stand"):
        read_text(1.0, where="f: config")


def test_a_missing_h5py_is_told(write_hdf5: WriteHDF5) -> None:
    """In a process of its own, where h5py cannot be imported."""
    path = write_hdf5("a.h5", {"tensor": np.zeros((2, 3, 4))})
    code = "import sys; sys.modules['h5py'] = None; from preprocess.cli import main; main()"
    command = [sys.executable, "-c", code, "convert", str(path), str(path.parent / "s")]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert result.returncode == 2
    assert 'h5py, which reads it, is not installed: pip install "ups-data[hdf5]"' in result.stderr
    assert not (path.parent / "s").exists()
