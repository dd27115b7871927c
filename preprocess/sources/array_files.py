"""Arrays in `.npy`, `.npz`, HDF5 and Zarr files: described from their headers, read part by part, without pickle.

The points and the triangles of an STL file are arrays too; the file is read for their shapes already.
"""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from preprocess.sources.hdf5_files import HDF5_MAGIC, get_dataset, has_hdf5_magic, open_hdf5, read_part
from preprocess.sources.stl_files import STL_KEYS, is_stl, read_stl
from preprocess.sources.zarr_files import check_zarr_chunks, is_zarr, list_zarr_arrays, open_zarr_array, read_zarr_part
from ups_data.errors import SourceError, suggest

NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"
# What of a mapped file is in memory at once while it is copied.
_MAPPED_BYTES = 2**24


@runtime_checkable
class _ReadableBytes(Protocol):
    """What a header is read from: an open file, or an open member of an archive, which is no `typing.IO`."""

    def read(self, size: int = ..., /) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """One array in a file, known by its header; nothing of it is in memory.

    Attributes:
        path: the file, or the directory of Zarr.
        key: member of an `.npz` archive, full name in HDF5 or Zarr; None where a file has one array.
        shape, dtype: as the header says.
    """

    path: Path
    key: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def where(self) -> str:
        """File and key, for messages."""
        return self.path.name if self.key is None else f"{self.path.name}: {self.key}"

    def open(self) -> ArrayReader:
        """Return a reader of parts: an `.npy` file is mapped, an `.npz` member read whole, HDF5 and Zarr stay in place.

        Raises:
            SourceError: the file was cut short, damaged, or changed since it was described.
        """
        try:
            reader = self._open()
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise SourceError(f"{self.where} cannot be read: {error}") from error
        if reader.shape != self.shape or reader.dtype != self.dtype:
            raise SourceError(f"{self.where} changed while it was read; start again")
        return reader

    def load(self) -> Shaped[np.ndarray, "..."]:
        """Return the whole array.

        Raises:
            SourceError: as `open`.
        """
        return self.open().read(())

    def _open(self) -> ArrayReader:
        if is_zarr(self.path):
            return ArrayReader(self.where, open_zarr_array(self.path, self.key or ""), read_zarr_part)
        if has_hdf5_magic(self.path):
            return ArrayReader(self.where, get_dataset(open_hdf5(self.path), self.key or "", path=self.path), read_part)
        if is_stl(self.path):
            return ArrayReader(self.where, read_stl(self.path)[self.key or ""], _cut)
        if self.key is None:
            return ArrayReader(self.where, np.load(self.path, mmap_mode="r", allow_pickle=False), _cut_mapped)
        with np.load(self.path, allow_pickle=False) as archive:
            return ArrayReader(self.where, archive[self.key], _cut)


class ArrayReader:
    """An open array, of which parts are read.

    Attributes:
        shape, dtype: of the array.
    """

    def __init__(self, where: str, array: Any, cut: Callable[..., Shaped[np.ndarray, "..."]]) -> None:
        self._where, self._array, self._cut = where, array, cut
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)

    def read(self, place: tuple[int | slice, ...]) -> Shaped[np.ndarray, "..."]:
        """Read a part; `()` is all of it.

        Raises:
            SourceError: its bytes are damaged or cut short.
        """
        return self._cut(self._array, place, where=self._where)


def _cut(
    array: Shaped[np.ndarray, "..."],
    place: tuple[int | slice, ...],
    *,
    where: str,  # noqa: ARG001  called as those that read files are
) -> Shaped[np.ndarray, "..."]:
    # An array without axes would come out as a bare number.
    return np.asanyarray(array[place])


def _cut_mapped(
    array: Any,
    place: tuple[int | slice, ...],
    *,
    where: str,  # noqa: ARG001  called as those that read files are
) -> Shaped[np.ndarray, "..."]:
    """Copy a part of a mapped file, and let go of its pages on the way: they would count as memory of this process."""
    mapped = np.asarray(array[place])
    part = np.empty(mapped.shape, mapped.dtype)
    source, copy = (mapped.reshape(-1), part.reshape(-1)) if mapped.flags.c_contiguous else (mapped, part)
    length = max(1, _MAPPED_BYTES // max(1, source[:1].nbytes))
    for start in range(0, len(source), length):
        copy[start : start + length] = source[start : start + length]
        array._mmap.madvise(mmap.MADV_DONTNEED)  # noqa: SLF001  numpy keeps the mapping nowhere else
    return part


def find_array(path: Path, key: str | None) -> StoredArray:
    """Describe an array from its header.

    Args:
        path: an `.npy` file, an `.npz` archive, an HDF5 or STL file or the directory of a Zarr array or group.
        key: member of the archive, full name of the data set or array, `points` or `triangles` of STL; may be left out
            where there is one only.

    Raises:
        SourceError: no such file or member, no array file, pickled objects, or fewer bytes than the header promises.
    """
    if is_zarr(path):
        return _find_in_zarr(path, key)
    magic = _read_magic(path)
    if magic.startswith(NPY_MAGIC):
        return _find_in_npy(path, key)
    if magic.startswith(ZIP_MAGIC):
        return _find_in_npz(path, key)
    if magic == HDF5_MAGIC[: len(magic)] and has_hdf5_magic(path):
        return _find_in_hdf5(path, key)
    if is_stl(path):
        return _find_in_stl(path, key)
    raise SourceError(
        f"{path} is no NumPy .npy file or .npz archive, no HDF5 or STL file and no Zarr directory (it begins with "
        f"{magic!r})"
    )


def list_arrays(path: Path) -> tuple[StoredArray, ...]:
    """Describe all arrays of a file.

    Raises:
        SourceError: as `find_array`.
    """
    if is_zarr(path):
        return tuple(_find_in_zarr(path, key) for key in list_zarr_arrays(path))
    if _read_magic(path).startswith(NPY_MAGIC):
        return (find_array(path, None),)
    if has_hdf5_magic(path):
        return tuple(_find_in_hdf5(path, key) for key in _list_datasets(path))
    with _open_archive(path) as archive:
        keys = _keys_of(archive)
    return tuple(find_array(path, key) for key in keys)


def _read_magic(path: Path) -> bytes:
    if not path.is_file():
        raise SourceError(f"{path} is {'a directory' if path.is_dir() else 'not there'}; a file of arrays is wanted")
    with path.open("rb") as file:
        return file.read(len(NPY_MAGIC))


def _find_in_npy(path: Path, key: str | None) -> StoredArray:
    if key is not None:
        raise SourceError(f"{path} is an .npy file, which has no keys; leave out key {key!r}")
    with path.open("rb") as file:
        shape, dtype = _read_header(file, path.name)
        promised = file.tell() + _num_bytes(shape, dtype)
    if path.stat().st_size < promised:
        raise SourceError(
            f"{path} is cut short: {path.stat().st_size} bytes, its header promises {promised} (shape {shape}, {dtype})"
        )
    return StoredArray(path=path, key=None, shape=shape, dtype=dtype)


def _find_in_npz(path: Path, key: str | None) -> StoredArray:
    with _open_archive(path) as archive:
        key = _choose_key(path, _keys_of(archive), key)
        where = f"{path.name}: {key}"
        member = archive.getinfo(f"{key}.npy")
        try:
            with archive.open(member) as file:
                shape, dtype = _read_header(file, where)
                promised = file.tell() + _num_bytes(shape, dtype)
        except (OSError, RuntimeError, zipfile.BadZipFile) as error:
            raise SourceError(f"{where} cannot be read: {error}") from error
    if member.file_size != promised:
        raise SourceError(f"{where} has {member.file_size} bytes, its header promises {promised}")
    return StoredArray(path=path, key=key, shape=shape, dtype=dtype)


def _find_in_zarr(path: Path, key: str | None) -> StoredArray:
    if key is None:
        key = _choose_key(path, list_zarr_arrays(path), None)
    array = open_zarr_array(path, key)
    check_zarr_chunks(path, key, array)
    return StoredArray(path=path, key=key or None, shape=tuple(array.shape), dtype=np.dtype(array.dtype))


def _find_in_hdf5(path: Path, key: str | None) -> StoredArray:
    with open_hdf5(path) as file:
        if key is None or key not in file:
            key = _choose_key(path, _list_datasets(path), key)
        dataset = get_dataset(file, key, path=path)
        return StoredArray(path=path, key=key, shape=tuple(dataset.shape), dtype=dataset.dtype)


def _find_in_stl(path: Path, key: str | None) -> StoredArray:
    key = _choose_key(path, STL_KEYS, key)
    array = read_stl(path)[key]
    return StoredArray(path=path, key=key, shape=array.shape, dtype=array.dtype)


def _list_datasets(path: Path) -> tuple[str, ...]:
    names: list[str] = []
    with open_hdf5(path) as file:
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
    return tuple(names)


def _open_archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path} is a damaged or cut-short archive: {error}") from error


def _keys_of(archive: zipfile.ZipFile) -> tuple[str, ...]:
    return tuple(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))


def _choose_key(path: Path, keys: tuple[str, ...], key: str | None) -> str:
    if key is None:
        if len(keys) == 1:
            return keys[0]
        raise SourceError(f"{path} holds {len(keys)} arrays, so a key must be named. {suggest('', keys)}")
    if key not in keys:
        raise SourceError(f"{path} has no array {key!r}. {suggest(key, keys)}")
    return key


def _read_header(file: _ReadableBytes, where: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise SourceError(f"{where} has .npy version {version}; 1.0 and 2.0 are read")
        shape, _, dtype = readers[version](file)
    except SourceError:
        raise
    except (ValueError, EOFError, OSError) as error:
        raise SourceError(f"{where} has no valid .npy header: {error}") from error
    if dtype.hasobject:
        raise SourceError(f"{where} holds pickled Python objects, which are never loaded; store numbers")
    return shape, dtype


def _num_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    count = dtype.itemsize
    for size in shape:
        count *= size
    return count
