"""NumPy files: described from headers, never unpickled, refused when cut short."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from preprocess.sources.array_files import find_array, list_arrays
from ups_data.errors import SourceError


class Bomb:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("exploded"),)


def save(path: Path, values: np.ndarray) -> Path:
    np.save(path, values, allow_pickle=True)
    return path


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "i2", "?"])
def test_npy_is_described_and_read(tmp_path: Path, dtype: str, order: str) -> None:
    values = np.asarray(np.arange(24).reshape(2, 3, 4), dtype=dtype, order=order)
    array = find_array(save(tmp_path / "a.npy", values), None)
    assert (array.shape, array.dtype, array.where) == ((2, 3, 4), np.dtype(dtype), "a.npy")
    loaded = array.load()
    # Pages of a mapped file that stay behind would count as memory of the process.
    assert not isinstance(loaded, np.memmap)
    np.testing.assert_array_equal(loaded, values)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_npz_members(tmp_path: Path, write: object) -> None:
    write(tmp_path / "a.npz", u=np.arange(6).reshape(2, 3), v=np.ones(4, dtype="f4"))
    arrays = list_arrays(tmp_path / "a.npz")
    assert [(array.key, array.shape) for array in arrays] == [("u", (2, 3)), ("v", (4,))]
    assert arrays[0].where == "a.npz: u"
    np.testing.assert_array_equal(arrays[0].load(), np.arange(6).reshape(2, 3))


def test_key_rules(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", pressure=np.ones(2), velocity=np.ones(2))
    np.savez(tmp_path / "one.npz", only=np.ones(2))
    assert find_array(tmp_path / "one.npz", None).key == "only"
    with pytest.raises(SourceError, match=r"holds 2 arrays, so a key must be named. Valid names: pressure, velocity"):
        find_array(tmp_path / "two.npz", None)
    with pytest.raises(SourceError, match=r"has no array 'presure'. Did you mean 'pressure'"):
        find_array(tmp_path / "two.npz", "presure")
    with pytest.raises(SourceError, match=r"is an .npy file, which has no keys; leave out key 'u'"):
        find_array(save(tmp_path / "a.npy", np.ones(2)), "u")


@pytest.mark.parametrize("kept", [0, 5, 40, 127, 128, 200, 1151])
def test_npy_cut_short(tmp_path: Path, kept: int) -> None:
    path = save(tmp_path / "a.npy", np.zeros(128))
    content = path.read_bytes()
    assert len(content) == 1152
    path.write_bytes(content[:kept])
    with pytest.raises(SourceError, match=r"a\.npy"):
        find_array(path, None)


@pytest.mark.parametrize("kept", [10, 100, 600, -1])
def test_npz_cut_short(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, u=np.zeros(128))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SourceError, match="a damaged or cut-short archive"):
        find_array(path, "u")


def test_npz_with_a_flipped_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, u=np.zeros(128))
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a.npz: u cannot be read"):
        find_array(path, "u").load()


def test_npz_member_that_lies_about_its_size(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("u.npy", header.getvalue() + b"\0" * 64)
    with pytest.raises(SourceError, match=r"a.npz: u has 192 bytes, its header promises 8796093022336"):
        find_array(tmp_path / "a.npz", "u")


def test_pickles_are_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    objects = np.array([Bomb()], dtype=object)
    np.savez(tmp_path / "a.npz", u=objects)
    for path, key in ((save(tmp_path / "a.npy", objects), None), (tmp_path / "a.npz", "u")):
        with pytest.raises(SourceError, match="pickled Python objects, which are never loaded"):
            find_array(path, key)
    assert not Path("exploded").exists()


def test_changed_file_is_noticed(tmp_path: Path) -> None:
    array = find_array(save(tmp_path / "a.npy", np.zeros(4)), None)
    save(tmp_path / "a.npy", np.zeros(5))
    with pytest.raises(SourceError, match="changed while it was read"):
        array.load()


def test_no_numpy_file(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"hello, world")
    with pytest.raises(
        SourceError, match=r"is no NumPy .npy file or .npz archive, no HDF5 or STL file and no Zarr directory"
    ):
        find_array(tmp_path / "a.npy", None)
    with pytest.raises(SourceError, match="is not there; a file of arrays is wanted"):
        find_array(tmp_path / "b.npy", None)
    with pytest.raises(SourceError, match="is a directory; a file of arrays is wanted"):
        find_array(tmp_path, None)
