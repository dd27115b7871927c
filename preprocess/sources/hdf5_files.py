"""HDF5 files: opened with clear errors, read data set by data set."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from ups_data.errors import SourceError, UnknownFormatError, suggest

if TYPE_CHECKING:
    import h5py

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def has_hdf5_magic(path: Path) -> bool:
    """Tell whether a file begins as HDF5 files do."""
    with path.open("rb") as file:
        return file.read(len(HDF5_MAGIC)) == HDF5_MAGIC


def open_hdf5(path: Path) -> h5py.File:
    """Open a file for reading; the caller closes it.

    Raises:
        UnknownFormatError: h5py, which reads it, is not installed.
        SourceError: no HDF5 file, damaged or cut short.
    """
    h5py = _import_h5py(path)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise SourceError(f"{path} is no HDF5 file, damaged or cut short: {error}") from error


def get_dataset(group: h5py.Group, name: str, *, path: Path) -> h5py.Dataset:
    """Return a data set of numbers by name.

    Raises:
        SourceError: not there, a group instead, empty, or no numbers; names file, data set and what is there.
    """
    h5py = _import_h5py(path)
    try:
        found = group[name]
    except KeyError as error:
        here = [_full_name(group, key) for key in group]
        raise SourceError(
            f"{path} has no data set {_full_name(group, name)!r}. {suggest(_full_name(group, name), here)}"
        ) from error
    where = f"{path.name}: {_full_name(group, name)}"
    if not isinstance(found, h5py.Dataset):
        raise SourceError(f"{where} is a group where a data set must stand")
    if found.shape is None or found.size == 0:
        raise SourceError(f"{where} has shape {found.shape} and holds nothing")
    if found.dtype.kind not in "biuf":
        raise SourceError(f"{where} holds {found.dtype} where real numbers must stand")
    return found


def get_group(parent: h5py.Group, name: str, *, path: Path) -> h5py.Group:
    """Return a group by name.

    Raises:
        SourceError: not there, or a data set instead; names file, group and what is there.
    """
    h5py = _import_h5py(path)
    found = parent.get(name)
    if found is None:
        raise SourceError(f"{path} has no group {_full_name(parent, name)!r}. {suggest(name, parent)}")
    if not isinstance(found, h5py.Group):
        raise SourceError(f"{path.name}: {_full_name(parent, name)} is a data set where a group must stand")
    return found


def read_attribute(item: h5py.HLObject, name: str, *, path: Path) -> Any:
    """Return an attribute of the file, a group or a data set.

    Raises:
        SourceError: not there, or unreadable; names file, item and attribute.
    """
    where = f"{path.name}: {str(item.name).lstrip('/') or 'the file'}"
    if name not in item.attrs:
        raise SourceError(f"{where} has no attribute {name!r}. {suggest(name, item.attrs)}")
    try:
        return item.attrs[name]
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise SourceError(f"{where}: attribute {name} cannot be read: {error}") from error


def read_part(dataset: h5py.Dataset, place: tuple[int | slice, ...], *, where: str) -> Shaped[np.ndarray, "..."]:
    """Read a part of a data set.

    Raises:
        SourceError: its bytes are damaged or cut short.
    """
    try:
        return np.asarray(dataset[place])
    except (OSError, RuntimeError) as error:
        raise SourceError(f"{where} cannot be read; the file is damaged or cut short: {error}") from error


def read_text(value: Any, *, where: str) -> str:
    """Return an attribute as text.

    Raises:
        SourceError: it is none.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if not isinstance(value, str):
        raise SourceError(f"{where} is a {type(value).__name__} where text must stand")
    return value


def _full_name(group: h5py.Group, name: str) -> str:
    return name if group.name == "/" else f"{str(group.name).lstrip('/')}/{name}"


def _import_h5py(path: Path) -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise UnknownFormatError(
            f'{path} is an HDF5 file, and h5py, which reads it, is not installed: pip install "ups-data[hdf5]"'
        ) from error
    return h5py
