"""A bounded store of byte ranges on a local disk, shared by processes, that survives kills and never returns damage.

It is an SQLite database, which brings transactions, locks between processes and recovery after a kill. Each range
carries a checksum over its file, place and bytes that is compared whenever it is read, so that damage to the database
can cost bytes and never change them. Whatever fails (a full or read-only disk, a damaged database, a lock that is held
for long) makes the cache miss or keep less; it raises nothing.
"""

from __future__ import annotations

import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import google_crc32c

from ups_data.errors import ConfigError

_Result = TypeVar("_Result")
_MIN_BYTES = 2**20
_PAGE_BYTES = 4096
_PIECE_BYTES = 2**20
_BATCH_BYTES = 8 * 2**20
_BUSY_S = 5.0
_TOUCHES = 512
_DAMAGE = {"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT", "SQLITE_SCHEMA", "SQLITE_MISMATCH"}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS ranges (
    file BLOB NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL, checksum INTEGER NOT NULL, used INTEGER NOT NULL,
    data BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS places ON ranges (file, start, stop);
CREATE INDEX IF NOT EXISTS ages ON ranges (used);
"""


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Where and how much of remote stores is kept on a local disk.

    Attributes:
        path: directory of the cache; stores and processes may share it. Keep it off network file systems.
        max_bytes: limit of its size, at least 1 MiB; what was used least recently goes first.
        whole_files: whether a file of which anything is read is fetched and kept whole, for runs that come back to all
            of it; files of more than a quarter of the limit are kept by ranges all the same.
    """

    path: str | Path
    max_bytes: int
    whole_files: bool = False

    def __post_init__(self) -> None:
        if self.max_bytes < _MIN_BYTES:
            raise ConfigError(f"max_bytes of a cache must be at least {_MIN_BYTES}, got {self.max_bytes}")


@dataclass(frozen=True, kw_only=True)
class KeptRange:
    """Bytes of a file from `start` on, as they were put into the cache."""

    start: int
    data: bytes

    @property
    def stop(self) -> int:
        """Where they end."""
        return self.start + len(self.data)


class RangeCache:
    """Keeps ranges of files that are named by a hash of their content.

    Args:
        path: directory.
        max_bytes: limit of the database's size.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path, self._max_bytes = path, max_bytes
        self._database: sqlite3.Connection | None = None
        self._process = 0
        self._generation = 0
        self._touched: list[int] = []
        self._left_behind: list[sqlite3.Connection] = []

    def find(self, file: bytes, start: int, stop: int) -> list[KeptRange]:
        """Return kept ranges that hold bytes from `start` to `stop`, in rising order; parts may be missing."""
        return self._attempt(lambda database: self._find(database, file, start, stop)) or []

    def put(self, file: bytes, ranges: Sequence[KeptRange]) -> None:
        """Keep ranges, and let go of others where there is no room."""
        pieces = [
            KeptRange(start=start, data=kept.data[start - kept.start : start - kept.start + _PIECE_BYTES])
            for kept in ranges
            for start in range(kept.start, kept.stop, _PIECE_BYTES)
        ]
        for first in range(0, len(pieces), _BATCH_BYTES // _PIECE_BYTES):
            batch = pieces[first : first + _BATCH_BYTES // _PIECE_BYTES]
            # mypy sees no type for an argument that keeps the value of the loop.
            self._attempt(lambda database, batch=batch: self._put(database, file, batch))  # type: ignore[misc]  # as above

    def drop(self, file: bytes, start: int, stop: int) -> None:
        """Let go of all ranges that hold bytes from `start` to `stop`."""

        def delete(database: sqlite3.Connection) -> None:
            database.execute("DELETE FROM ranges WHERE file = ? AND start < ? AND stop > ?", (file, stop, start))

        self._attempt(delete)

    def close(self) -> None:
        """Close the database; it is opened again when needed."""
        if self._database is not None and self._process == os.getpid():
            with suppress(sqlite3.Error):
                self._database.close()
        self._database = None

    def _find(self, database: sqlite3.Connection, file: bytes, start: int, stop: int) -> list[KeptRange]:
        rows = database.execute(
            "SELECT rowid, start, stop, checksum, data FROM ranges WHERE file = ? AND stop > ? AND start < ? "
            "AND start >= coalesce((SELECT max(start) FROM ranges WHERE file = ? AND start <= ?), 0) "
            "ORDER BY start, stop",
            (file, start, stop, file, start),
        ).fetchall()
        found = []
        for number, begin, end, checksum, data in rows:
            if _checksum(file, begin, data) == checksum and begin + len(data) == end:
                found.append(KeptRange(start=begin, data=data))
                self._touched.append(number)
            else:
                database.execute("DELETE FROM ranges WHERE rowid = ?", (number,))
        if len(self._touched) >= _TOUCHES:
            self._touch(database)
        return found

    def _put(self, database: sqlite3.Connection, file: bytes, pieces: list[KeptRange]) -> None:
        self._touch(database)
        rows = [(file, p.start, p.stop, _checksum(file, p.start, p.data), time.time_ns(), p.data) for p in pieces]
        try:
            self._insert(database, rows)
        except sqlite3.OperationalError as error:
            # The database's own limit of pages; a disk that is full fails again below.
            if error.sqlite_errorname != "SQLITE_FULL":
                raise
            self._make_room(database)
            self._insert(database, rows)

    def _insert(self, database: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
        with _transaction(database):
            database.executemany("INSERT OR IGNORE INTO ranges VALUES (?, ?, ?, ?, ?, ?)", rows)

    def _make_room(self, database: sqlite3.Connection) -> None:
        """Delete what was used least recently: as much as the largest batch; its pages are used again."""
        excess = min(_BATCH_BYTES, self._max_bytes // 4)
        with _transaction(database):
            while excess > 0:
                oldest = database.execute("SELECT rowid, stop - start FROM ranges ORDER BY used LIMIT 256").fetchall()
                if not oldest:
                    return
                for number, size in oldest:
                    database.execute("DELETE FROM ranges WHERE rowid = ?", (number,))
                    excess -= size
                    if excess <= 0:
                        break

    def _touch(self, database: sqlite3.Connection) -> None:
        """Note when ranges were last used; together, as each note is a write."""
        touched, self._touched = self._touched, []
        if not touched:
            return
        now = time.time_ns()
        with _transaction(database):
            database.executemany(
                "UPDATE ranges SET used = ? WHERE rowid = ?", [(now, number) for number in set(touched)]
            )

    # -- the database ------------------------------------------------------------------------------------------------

    def _attempt(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result | None:
        """Do something with the database; None where that fails, and a new database where the old one is damaged."""
        try:
            return work(self._opened())
        except (sqlite3.Error, OSError) as error:
            self._touched.clear()
            name = getattr(error, "sqlite_errorname", "") or ""
            if any(name.startswith(sign) for sign in _DAMAGE) or "malformed" in str(error):
                self._start_afresh()
            elif not name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                self.close()
                warnings.warn(
                    f"the cache in {self._path} cannot be used ({error}); reading goes on without it", stacklevel=2
                )
            return None

    def _opened(self) -> sqlite3.Connection:
        if self._database is not None and self._process == os.getpid():
            return self._database
        if self._database is not None:
            # A connection must not be used, nor closed, by a process that was forked from its owner.
            self._left_behind.append(self._database)
        self._path.mkdir(parents=True, exist_ok=True)
        self._generation = max(self._generation, *self._generations(), 0)
        self._database = self._connect(self._file(self._generation))
        self._process = os.getpid()
        return self._database

    def _connect(self, file: Path) -> sqlite3.Connection:
        database = sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA cell_size_check = ON")
            database.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            database.execute("PRAGMA journal_mode = WAL")
            # Kills lose nothing with this; a power cut may damage the database, which then starts afresh.
            database.execute("PRAGMA synchronous = OFF")
            database.execute(f"PRAGMA journal_size_limit = {_BATCH_BYTES}")
            database.execute(f"PRAGMA max_page_count = {self._max_bytes // _PAGE_BYTES}")
            database.executescript(_SCHEMA)
        except BaseException:
            database.close()
            raise
        return database

    def _start_afresh(self) -> None:
        """Leave a damaged database for a new one; other processes find it when they meet the damage."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            with suppress(OSError):
                self._file(self._generation).with_name(self._file(self._generation).name + suffix).unlink()
        self._generation += 1

    def _file(self, generation: int) -> Path:
        return self._path / f"ranges-{generation}.sqlite"

    def _generations(self) -> list[int]:
        return [int(found.stem.removeprefix("ranges-")) for found in self._path.glob("ranges-*.sqlite")]


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def _checksum(file: bytes, start: int, data: bytes) -> int:
    """Return a checksum that binds bytes to their place, so that one place is never served for another."""
    return google_crc32c.extend(google_crc32c.value(file + start.to_bytes(8, "little", signed=True)), data)


def database_bytes(path: Path) -> int:
    """Return the size of all files of a cache."""
    with closing(os.scandir(path)) as entries:
        return sum(entry.stat().st_size for entry in entries)
