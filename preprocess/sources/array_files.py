"""Arrays in `.npy` and `.npz` files: described from their headers, read without pickle."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from ups_data.errors import SourceError, suggest

NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"


@runtime_checkable
class _ReadableBytes(Protocol):
    """What a header is read from: an open file, or an open member of an archive, which is no `typing.IO`."""

    def read(self, size: int = ..., /) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """One array in a file, known by its header; nothing of it is in memory.

    Attributes:
        path: the file.
        key: member of an `.npz` archive, None for `.npy`.
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

    def load(self) -> Shaped[np.ndarray, "..."]:
        """Return the array: mapped from an `.npy` file, read whole from an `.npz` archive.

        Raises:
            SourceError: the file was cut short, damaged, or changed since it was described.
        """
        try:
            array = self._load()
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise SourceError(f"{self.where} cannot be read: {error}") from error
        if array.shape != self.shape or array.dtype != self.dtype:
            raise SourceError(f"{self.where} changed while it was read; start again")
        return array

    def _load(self) -> Shaped[np.ndarray, "..."]:
        if self.key is None:
            return np.load(self.path, mmap_mode="r", allow_pickle=False)
        with np.load(self.path, allow_pickle=False) as archive:
            return archive[self.key]


def find_array(path: Path, key: str | None) -> StoredArray:
    """Describe an array from its header.

    Args:
        path: an `.npy` file or an `.npz` archive.
        key: member of the archive; may be left out where it has one only.

    Raises:
        SourceError: no such file or member, no NumPy file, pickled objects, or fewer bytes than the header promises.
    """
    magic = _read_magic(path)
    if magic.startswith(NPY_MAGIC):
        return _find_in_npy(path, key)
    if magic.startswith(ZIP_MAGIC):
        return _find_in_npz(path, key)
    raise SourceError(f"{path} is neither a NumPy .npy file nor an .npz archive (it begins with {magic!r})")


def list_arrays(path: Path) -> tuple[StoredArray, ...]:
    """Describe all arrays of a file.

    Raises:
        SourceError: as `find_array`.
    """
    if _read_magic(path).startswith(NPY_MAGIC):
        return (find_array(path, None),)
    with _open_archive(path) as archive:
        keys = _keys_of(archive)
    return tuple(find_array(path, key) for key in keys)


def _read_magic(path: Path) -> bytes:
    if not path.is_file():
        raise SourceError(f"{path} is {'a directory' if path.is_dir() else 'not there'}; a NumPy file is wanted")
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
