"""Where the bytes of a store lie: whole files and byte ranges by key, and a count of what was read."""

from __future__ import annotations

import os
import stat
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ups_data.errors import CorruptionError, SchemaError, StoreError, StoreNotFoundError
from ups_data.schema import FileEntry

_MAX_OPEN_FILES = 64
_Manifest = TypeVar("_Manifest")


@dataclass(kw_only=True)
class ReadCount:
    """What was asked of the file system or network so far.

    Attributes:
        num_bytes: bytes that came.
        num_ranges: requests that were made for them.
        seconds: time until they came.
        num_retries: requests among them that repeat one whose answer failed or was wrong.
        num_cached_bytes: bytes that a cache had, which are not among `num_bytes`.
        num_decoded_bytes: bytes of the rows that were decoded from all of them.
    """

    num_bytes: int = 0
    num_ranges: int = 0
    seconds: float = 0.0
    num_retries: int = 0
    num_cached_bytes: int = 0
    num_decoded_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class CheckedRange:
    """Bytes of one file, and how to tell that they are the right ones.

    Attributes:
        key: the file.
        offset, length: where its bytes lie.
        accept: takes the bytes; raises CorruptionError where they are not what was written. It may be called again with
            other bytes after that, where a copy was damaged on the way.
    """

    key: str
    offset: int
    length: int
    accept: Callable[[bytes], None]


class ByteStore(ABC):
    """Reads files below one root. Picklable; a copy opens handles of its own.

    Attributes:
        location: path or URL of the root, for messages; holds no credentials.
        survives_fork: whether a process that was forked after reads in its parent can read, too.
        is_remote: whether it is round trips that take the time, so that ranges had better be read at once.
        num_attempts: how often a file is read whose content is refused; far away, it may have been damaged on its way.
    """

    location: str
    survives_fork: bool = True
    is_remote: bool = False
    num_attempts: int = 1

    def __init__(self) -> None:
        self.count = ReadCount()

    def bind(self, entries: Sequence[FileEntry]) -> None:
        """Learn which files the manifest lists, and compare their sizes; far away, this may wait until they are read.

        Raises:
            CorruptionError: a file is missing or has another size than was committed.
        """
        for entry in entries:
            try:
                size = self.size(entry.key)
            except StoreNotFoundError as error:
                raise CorruptionError(f"{self.location}/{entry.key} is missing; restore it or convert again") from error
            check_size(f"{self.location}/{entry.key}", size, entry.size_bytes)

    def read_checked(self, ranges: Sequence[CheckedRange]) -> None:
        """Read ranges of any files and hand each to its `accept`, in any order.

        Raises:
            CorruptionError: bytes that their `accept` refuses, also when they were read again.
        """
        for part in ranges:
            part.accept(self.read_ranges(part.key, [(part.offset, part.length)])[0])

    def read_manifest(self, key: str, parse: Callable[[str], _Manifest], *, max_bytes: int) -> _Manifest:
        """Read the one file whose size and hash nothing tells beforehand; it holds its own fingerprint.

        Args:
            key: the file.
            parse: reads its text; raises SchemaError.
            max_bytes: more than it can be.

        Raises:
            StoreNotFoundError: there is none.
            SchemaError: what `parse` raises, also when the file was read again.
            CorruptionError: it is not text, or larger than it can be.
        """
        for attempt in range(1, self.num_attempts + 1):
            try:
                return parse(self.read(key, max_bytes=max_bytes).decode())
            except UnicodeDecodeError as error:
                if attempt == self.num_attempts:
                    raise CorruptionError(f"{self.location}/{key} is not text: {error}") from error
            except SchemaError:
                if attempt == self.num_attempts:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    @abstractmethod
    def size(self, key: str) -> int:
        """Return the size of a file in bytes; StoreNotFoundError where there is none."""

    @abstractmethod
    def read(self, key: str, *, max_bytes: int) -> bytes:
        """Return a whole file of at most `max_bytes`."""

    @abstractmethod
    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each (offset, length); CorruptionError where the file ends before a range does."""


def check_size(where: str, found: int, committed: int) -> None:
    """Refuse a file of another size than the manifest lists."""
    if found != committed:
        raise CorruptionError(f"{where} has {found} bytes, {committed} were committed; restore it or convert again")


class LocalByteStore(ByteStore):
    """Files below a directory, read by position; descriptors are opened once and kept.

    Positional reads share no file offset, so descriptors that a fork inherited may be used by both processes.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.location = str(root)
        self._descriptors: OrderedDict[str, int] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        return {"root": self.root.absolute()}  # a spawned process may stand elsewhere

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(state["root"])  # type: ignore[misc]  # a copy starts without handles and counts

    def size(self, key: str) -> int:
        """Return the size of a file in bytes."""
        try:
            # No path object: opening a store asks for every file.
            found = os.stat(f"{self.location}/{key}")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreNotFoundError(f"{self.root / key} is missing") from error
        except OSError as error:
            raise StoreError(f"{self.root / key} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            # Opening a pipe would hang, and reading a directory fails late.
            raise CorruptionError(f"{self.root / key} is no regular file: restore it or convert again")
        return found.st_size

    def read(self, key: str, *, max_bytes: int) -> bytes:
        """Return a whole file of at most `max_bytes`."""
        size = self.size(key)
        if size > max_bytes:
            raise CorruptionError(f"{self.root / key} has {size} bytes where at most {max_bytes} can be right")
        return self.read_ranges(key, [(0, size)])[0]

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each (offset, length) by positional reads."""
        descriptor = self._descriptor(key)
        return [self._read_range(key, descriptor, offset, length) for offset, length in ranges]

    def close(self) -> None:
        """Close all descriptors; they are opened again when needed."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def _read_range(self, key: str, descriptor: int, offset: int, length: int) -> bytes:
        parts, missing, asked = [], length, time.perf_counter()
        while missing:
            try:
                part = os.pread(descriptor, missing, offset + length - missing)
            except OSError as error:
                raise StoreError(f"{self.root / key} cannot be read: {error.strerror}") from error
            self.count.num_ranges += 1
            if not part:
                raise CorruptionError(
                    f"{self.root / key} ends before byte {offset + length}: the file is truncated; restore it or "
                    f"convert again"
                )
            self.count.num_bytes += len(part)
            missing -= len(part)
            parts.append(part)
        self.count.seconds += time.perf_counter() - asked
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _descriptor(self, key: str) -> int:
        if key in self._descriptors:
            self._descriptors.move_to_end(key)
            return self._descriptors[key]
        try:
            descriptor = os.open(self.root / key, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except FileNotFoundError as error:
            raise CorruptionError(f"{self.root / key} is missing: restore it or convert again") from error
        except OSError as error:
            raise StoreError(f"{self.root / key} cannot be opened: {error.strerror}") from error
        self._descriptors[key] = descriptor
        if len(self._descriptors) > _MAX_OPEN_FILES:
            os.close(self._descriptors.popitem(last=False)[1])
        return descriptor
