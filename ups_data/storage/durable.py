"""Files that are whole or not there: written under another name, synced, renamed, and their directory synced."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ups_data.errors import StoreError

FileContent = bytes | memoryview | Iterable[bytes]
"""Content of a file, at once or in parts."""


def write_durably(path: Path, content: FileContent, *, dest: Path, staging: Path | None = None) -> None:
    """Write a file under another name, sync it, give it its name, and sync the directories that this changed.

    Args:
        path: the file.
        content: all of it.
        dest: the store that it is for, for the message.
        staging: an existing directory of the same file system where the file is written; beside its place if None.

    Raises:
        StoreError: the disk is full, read-only, or failed, or `staging` is gone; nothing of the file is left.
    """
    try:
        with _staged(path, content, staging=staging, sync=True) as (staged, made):
            staged.replace(path)
        # Together, so that a file system that keeps a journal writes it once for the name and for new directories.
        for folder in (path.parent, *made):
            sync_directory(folder)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; nothing at {dest} was changed") from error


def write_all_durably(files: Mapping[Path, bytes | memoryview], *, dest: Path) -> None:
    """Write small files in the order of `write_durably`: all synced, then all named, then each directory synced.

    A file system that keeps a journal writes it a few times for all of them, and not a few times for each.

    Raises:
        StoreError: the disk is full, read-only, or failed; files that have their names are whole, of others nothing is
            left.
    """
    staged: dict[Path, Path] = {}
    folders: set[Path] = set()
    path = dest
    try:
        for path, content in files.items():
            folders.update(_make_directory(path.parent))
            staged[path] = _staged_name(path, path.parent)
            staged[path].write_bytes(content)
        for name in staged.values():
            _sync(name)
        for path, name in staged.items():
            name.replace(path)
            folders.add(path.parent)
        for path in folders:
            sync_directory(path)
    except BaseException as error:
        for name in staged.values():
            with suppress(OSError):  # what went wrong first is what must be told
                name.unlink(missing_ok=True)
        if isinstance(error, OSError):
            told = error.strerror or error
            raise StoreError(f"cannot write {path}: {told}; nothing at {dest} was changed") from error
        raise


def write_scratch(path: Path, content: FileContent, *, staging: Path) -> None:
    """Write a file as `write_durably` does, but sync nothing: a power cut may take it, or a part of it.

    Raises:
        StoreError: the disk is full, read-only, or failed, or `staging` is gone; nothing of the file is left.
    """
    try:
        with _staged(path, content, staging=staging, sync=False) as (staged, _):
            staged.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def move_durably(path: Path, place: Path, *, dest: Path) -> None:
    """Give a file that is synced another name of the same file system, in the place of what has it, and sync that.

    Raises:
        StoreError: the disk is read-only or failed.
    """
    try:
        for folder in _make_directory(place.parent):
            sync_directory(folder)
        path.replace(place)
        sync_directory(place.parent)
    except OSError as error:
        raise StoreError(f"cannot write {place}: {error.strerror or error}; repair {dest} again") from error


def sync_directory(path: Path) -> None:
    """Sync the names in a directory."""
    _sync(path)


@contextmanager
def _staged(path: Path, content: FileContent, *, staging: Path | None, sync: bool) -> Iterator[tuple[Path, list[Path]]]:
    """Write a file under a name that nobody else has, be it on another machine, and remove what is left of it.

    Yields:
        It, and the directories whose names changed to make room for it: to be synced.
    """
    staged = _staged_name(path, path.parent if staging is None else staging)
    made = _make_directory(path.parent) if staging is None else []
    try:
        with staged.open("wb") as handle:
            handle.writelines([content] if isinstance(content, bytes | memoryview) else content)
            handle.flush()
            if sync:
                os.fsync(handle.fileno())
        # After the file, which is refused where `staging` is gone: then nothing shall be made there.
        made += _make_directory(path.parent)
        yield staged, made
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def _staged_name(path: Path, folder: Path) -> Path:
    return folder / f".{path.name}.{uuid.uuid4().hex}.staged"


def _make_directory(folder: Path) -> list[Path]:
    """Make a directory, and return those whose names changed by it: to be synced."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for part in reversed(missing):
        part.mkdir(exist_ok=True)
    return [part.parent for part in reversed(missing)]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
