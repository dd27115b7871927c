"""A remote store with a local cache before it: only what its reader has accepted is kept, and that is checked again."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ups_data.errors import CorruptionError
from ups_data.schema import FileEntry
from ups_data.storage.byte_store import ByteStore, CheckedRange
from ups_data.storage.range_cache import CacheOptions, KeptRange, RangeCache
from ups_data.storage.ranges import cut_windows

_LARGEST_SHARE = 0.25


@dataclass(frozen=True, kw_only=True, eq=False)
class _Partial:
    """A range of which some pieces are kept.

    Attributes:
        wanted: the range.
        kept: pieces from the cache.
        gaps: (start, stop) of what is missing.
        fetched: pieces that came, by their start.
    """

    wanted: CheckedRange
    kept: list[KeptRange]
    gaps: list[tuple[int, int]]
    fetched: dict[int, bytes]

    def assemble(self) -> bytes:
        start, content = self.wanted.offset, bytearray(self.wanted.length)
        pieces = [*self.kept, *(KeptRange(start=place, data=data) for place, data in self.fetched.items())]
        for piece in pieces:
            first, last = max(piece.start, start), min(piece.stop, start + self.wanted.length)
            content[first - start : last - start] = piece.data[first - piece.start : last - piece.start]
        return bytes(content)


class CachedByteStore(ByteStore):
    """Reads ranges from the cache where they are, else from another byte store, and keeps them.

    Files are named in the cache by the SHA-256 that the manifest lists, so that a store that was repaired or replaced
    never meets what was kept of another. The manifest itself is always read anew. `count` tells what the other byte
    store read, and `count.num_cached_bytes` what came from the cache.
    """

    def __init__(self, inner: ByteStore, options: CacheOptions) -> None:
        super().__init__()
        self.location, self.survives_fork = inner.location, inner.survives_fork
        self.is_remote, self.num_attempts = inner.is_remote, inner.num_attempts
        self.options = options
        self._inner = inner
        self._cache = RangeCache(Path(options.path), options.max_bytes)
        self._entries: dict[str, FileEntry] = {}
        self.count = inner.count

    def __getstate__(self) -> dict[str, object]:
        return {"inner": self._inner, "options": self.options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["inner"], state["options"])  # type: ignore[misc]  # a copy opens the cache itself

    def bind(self, entries: Sequence[FileEntry]) -> None:
        """Learn which files the manifest lists."""
        self._inner.bind(entries)
        self._entries = {entry.key: entry for entry in entries}

    def size(self, key: str) -> int:
        """Return the size of a file in bytes."""
        return self._inner.size(key)

    def read(self, key: str, *, max_bytes: int) -> bytes:
        """Return a whole file, past the cache."""
        return self._inner.read(key, max_bytes=max_bytes)

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each (offset, length), past the cache: nobody says whether they are right."""
        return self._inner.read_ranges(key, ranges)

    def read_checked(self, ranges: Sequence[CheckedRange]) -> None:
        """Read ranges and hand each to its `accept`; keep what it accepts."""
        for window in cut_windows(ranges):
            self._read_window(window)

    def close(self) -> None:
        """Close the cache; it is opened again when needed."""
        self._cache.close()

    def _read_window(self, window: list[CheckedRange]) -> None:
        new: dict[str, list[KeptRange]] = defaultdict(list)
        past = [part for part in window if part.key not in self._entries or not part.length]
        parts = [self._look_up(part) for part in window if part.key in self._entries and part.length]
        absent = [part.wanted for part in parts if not part.kept]
        held = [part for part in parts if part.kept]
        gaps = [_fetch_gap(part, *gap) for part in held for gap in part.gaps]
        self._inner.read_checked([*past, *self._fetch_all(absent, new), *gaps])
        refused = [part.wanted for part in held if not self._accept(part, new)]
        self._inner.read_checked([self._fetch(wanted, new) for wanted in refused])
        for key, pieces in new.items():
            self._cache.put(self._name(key), pieces)

    def _look_up(self, wanted: CheckedRange) -> _Partial:
        start, stop = wanted.offset, wanted.offset + wanted.length
        kept = self._cache.find(self._name(wanted.key), start, stop)
        gaps, place = [], start
        for piece in kept:
            if piece.start > place:
                gaps.append((place, piece.start))
            place = max(place, piece.stop)
        if place < stop:
            gaps.append((place, stop))
        return _Partial(wanted=wanted, kept=kept, gaps=gaps, fetched={})

    def _accept(self, part: _Partial, new: dict[str, list[KeptRange]]) -> bool:
        """Hand out a range of which pieces were kept; let go of them where it is refused."""
        wanted = part.wanted
        try:
            wanted.accept(part.assemble())
        except CorruptionError:
            self._cache.drop(self._name(wanted.key), wanted.offset, wanted.offset + wanted.length)
            return False
        self.count.num_cached_bytes += wanted.length - sum(map(len, part.fetched.values()))
        new[wanted.key] += [KeptRange(start=start, data=data) for start, data in part.fetched.items()]
        return True

    def _fetch_all(self, absent: list[CheckedRange], new: dict[str, list[KeptRange]]) -> list[CheckedRange]:
        """Return requests for ranges of which nothing is kept: themselves, or the whole of their files."""
        whole: dict[str, list[CheckedRange]] = defaultdict(list)
        single = []
        for wanted in absent:
            fits = self._entries[wanted.key].size_bytes <= self.options.max_bytes * _LARGEST_SHARE
            if self.options.whole_files and fits:
                whole[wanted.key].append(wanted)
            else:
                single.append(self._fetch(wanted, new))
        return [*single, *(self._fetch_whole(key, parts, new) for key, parts in whole.items())]

    def _fetch(self, wanted: CheckedRange, new: dict[str, list[KeptRange]]) -> CheckedRange:
        """Return a request for a range that keeps what its `accept` lets pass."""

        def accept(data: bytes) -> None:
            wanted.accept(data)
            new[wanted.key].append(KeptRange(start=wanted.offset, data=data))

        return CheckedRange(key=wanted.key, offset=wanted.offset, length=wanted.length, accept=accept)

    def _fetch_whole(self, key: str, parts: list[CheckedRange], new: dict[str, list[KeptRange]]) -> CheckedRange:
        """Return a request for a whole file that hands out ranges of it, and keeps it where its hash is right."""
        entry = self._entries[key]

        def accept(data: bytes) -> None:
            if hashlib.sha256(data).hexdigest() != entry.sha256:
                raise CorruptionError(f"{key} is not the file that was committed (SHA-256 differs)")
            for part in parts:
                part.accept(data[part.offset : part.offset + part.length])
            new[key].append(KeptRange(start=0, data=data))

        return CheckedRange(key=key, offset=0, length=entry.size_bytes, accept=accept)

    def _name(self, key: str) -> bytes:
        return bytes.fromhex(self._entries[key].sha256)


def _fetch_gap(part: _Partial, start: int, stop: int) -> CheckedRange:
    """Return a request for what is missing between pieces; only the whole range can be checked."""
    accept = partial(part.fetched.__setitem__, start)
    return CheckedRange(key=part.wanted.key, offset=start, length=stop - start, accept=accept)
