"""Files that are whole or not there: written under another name, synced, renamed, and their directory synced."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from ups_data.errors import StoreError

# What is written of a file before the disk begins with it.
_BEGIN_BYTES = 8 * 2**20
_SYNCS = 8


class StagedFile:
    """A file that is written part by part under a name that nobody else has, hashed on the way.

    Use as a context: leaving it before `finish` removes what was written.

    Args:
        path: its name, once it is whole.
        dest: the store that it is for, for the message.
        staging: an existing directory of the same file system where the file is written; beside its place if None.
        sync: whether `finish` syncs it and the directories that this changed. Without it, a power cut may take the
            file, or a part of it.

    Attributes:
        size_bytes: what was written so far.

    Raises:
        StoreError: here and from all methods: the disk is full, read-only, or failed, or `staging` is gone; nothing of
            the file is left.
    """

    def __init__(self, path: Path, *, dest: Path, staging: Path | None = None, sync: bool = True) -> None:
        self._path, self._dest, self._sync = path, dest, sync
        self._made: list[Path] = []
        with self._told():
            if staging is None:
                self._made += _make_directory(path.parent)
            self._name = _staged_name(path, path.parent if staging is None else staging)
            self._handle = self._name.open("xb")
        self.size_bytes = self._begun = 0
        self._digest = hashlib.sha256()
        self._is_finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.discard()

    def write(self, content: bytes | memoryview) -> None:
        """Add a part."""
        with self._told():
            self._handle.write(content)
        self._digest.update(content)
        self.size_bytes += len(content)
        if self._sync and self.size_bytes - self._begun >= _BEGIN_BYTES:
            _begin_sync(self._handle.fileno(), self._begun, self.size_bytes - self._begun)
            self._begun = self.size_bytes

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._digest.hexdigest()

    def finish(self) -> None:
        """Give the file its name."""
        with self._told():
            self._handle.flush()
            if self._sync:
                os.fsync(self._handle.fileno())
            self._handle.close()
            self._name.stat()  # where `staging` is gone, nothing shall be made
            self._made += _make_directory(self._path.parent)
            self._name.replace(self._path)
            self._is_finished = True
            if self._sync:
                # Together, so that a file system that keeps a journal writes it once for the name and new directories.
                _sync_all((self._path.parent, *self._made))

    def discard(self) -> None:
        """Remove what was written, unless it has its name."""
        with suppress(OSError):  # what went wrong first is what must be told
            self._handle.close()
        if not self._is_finished:
            with suppress(OSError):
                self._name.unlink(missing_ok=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            told = error.strerror or error
            raise StoreError(f"cannot write {self._path}: {told}; nothing at {self._dest} was changed") from error


def write_durably(path: Path, content: bytes, *, dest: Path) -> None:
    """Write a file under another name, sync it, give it its name, and sync the directories that this changed.

    Args:
        path: the file.
        content: all of it.
        dest: the store that it is for, for the message.

    Raises:
        StoreError: the disk is full, read-only, or failed; nothing of the file is left.
    """
    with StagedFile(path, dest=dest) as file:
        file.write(content)
        file.finish()


def write_all_durably(files: Mapping[Path, bytes | memoryview], *, dest: Path) -> None:
    """Write small files in the order of `write_durably`: all synced, then all named, then each directory synced.

    A file system that keeps a journal writes it a few times for all of them, and not a few times for each.

    Raises:
        StoreError: the disk is full, read-only, or failed; files that have their names are whole, of others nothing is
            left.
    """
    if not files:
        return
    staged: dict[Path, Path] = {}
    folders: set[Path] = set()
    path = dest
    try:
        for path, content in files.items():
            folders.update(_make_directory(path.parent))
            staged[path] = _staged_name(path, path.parent)
            staged[path].write_bytes(content)
        _sync_all(staged.values())
        for path, name in staged.items():
            name.replace(path)
            folders.add(path.parent)
        _sync_all(folders)
    except BaseException as error:
        for name in staged.values():
            with suppress(OSError):  # what went wrong first is what must be told
                name.unlink(missing_ok=True)
        if isinstance(error, OSError):
            told = error.strerror or error
            raise StoreError(f"cannot write {path}: {told}; nothing at {dest} was changed") from error
        raise


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


def _staged_name(path: Path, folder: Path) -> Path:
    return folder / f".{path.name}.{uuid.uuid4().hex}.staged"


def _begin_sync(descriptor: int, start: int, length: int) -> None:
    """Have the system begin to write a part of a file to disk, and do not wait: what is synced later waits the less.

    Linux does so where it is told that the part is of no more use; what is not on disk yet stays in its cache.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def _make_directory(folder: Path) -> list[Path]:
    """Make a directory, and return those whose names changed by it: to be synced."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for part in reversed(missing):
        part.mkdir(exist_ok=True)
    return [part.parent for part in reversed(missing)]


def _sync_all(paths: Collection[Path]) -> None:
    """Sync files or directories at once: a disk flushes its cache as fast for several as for one."""
    if len(paths) == 1:
        _sync(*paths)
        return
    with ThreadPoolExecutor(_SYNCS) as pool:
        for future in [pool.submit(_sync, path) for path in paths]:
            future.result()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
