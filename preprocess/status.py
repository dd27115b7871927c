"""Tell how far a conversion is, from what it leaves in its folder; whether it runs now, or was interrupted."""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from preprocess.ledger import BEGUN_NAME, LEDGER_NAME, Ledger, find_ledgers, read_begun, read_ledgers
from preprocess.partition import Part
from preprocess.resume import find_parts, part_ledger_name
from ups_data.storage import open_store
from ups_data.storage.folder_lock import describe_holder, find_holders
from ups_data.storage.zarr_store import partial_path, retired_path


@dataclass(frozen=True, kw_only=True)
class PartStatus:
    """How far one part of a conversion is.

    Attributes:
        number, count: which one of how many.
        tasks_done: tasks that it noted.
        running: whether somebody works on it now; None where nobody can tell.
    """

    number: int
    count: int
    tasks_done: int
    running: bool | None


@dataclass(frozen=True, kw_only=True)
class ConversionStatus:
    """How far a conversion is.

    Attributes:
        location: where its store lies or will lie.
        state: `finished`, or `unfinished`, then the rest tells how far it is; a store that an unfinished conversion
            will replace is there all the same, see `replaces`.
        replaces: whether there is a finished store that the unfinished one will replace.
        running: whether somebody works on it now; None where nobody can tell.
        holder: the process that does, where one alone does.
        tasks_done, num_tasks: tasks, of which a part may have to be done again after a loss of power.
        committed_bytes: size of the store's files that are in place.
        begun_at, progress_at: when it began and when something was noted last, in seconds since 1970.
        seconds_left: at the pace of those who work on it now, None where nobody does or nothing is known yet.
        parts: those that were begun, of a conversion in parts.
    """

    location: str
    state: Literal["finished", "unfinished"]
    replaces: bool = False
    running: bool | None = False
    holder: str = ""
    tasks_done: int = 0
    num_tasks: int = 0
    committed_bytes: int = 0
    begun_at: float = 0.0
    progress_at: float = 0.0
    seconds_left: float | None = None
    parts: tuple[PartStatus, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON knows it."""
        if self.state == "finished":
            return {"location": self.location, "state": self.state, "committed_bytes": self.committed_bytes}
        return asdict(self)


def read_status(dest: Path) -> ConversionStatus:
    """Return how far the conversion to `dest` is. Nothing is changed or held up, and no source is needed.

    Raises:
        StoreNotFoundError: no conversion to that place was begun.
        UpsDataError: what lies there is no store, or damaged.
    """
    dest = Path(os.path.realpath(dest))
    folder = partial_path(dest)
    begun = read_begun(folder)
    if begun is None:
        # Says what is wrong where there is no store.
        manifest = open_store(str(dest)).manifest
        size = sum(entry.size_bytes for entry in manifest.files)
        return ConversionStatus(location=str(dest), state="finished", committed_bytes=size)
    committed = read_ledgers(folder)
    holders = find_holders(folder)
    ledgers = find_ledgers(folder)
    num_tasks = max(int(begun.get("num_tasks", 0)), len(committed.tasks))
    parts = tuple(_read_part(folder, part) for part in find_parts(folder))
    running = None if holders == "unknown" else holders != "nobody"
    begun_at = _modified(folder / BEGUN_NAME)
    return ConversionStatus(
        location=str(dest),
        state="unfinished",
        replaces=dest.exists() or retired_path(dest).exists(),
        running=running,
        holder=describe_holder(folder) if holders == "one" else "",
        tasks_done=len(committed.tasks),
        num_tasks=num_tasks,
        committed_bytes=sum(file.size_bytes for path, file in committed.files.items() if path.startswith("store/")),
        begun_at=begun_at,
        progress_at=max([begun_at, *(_modified(ledger.path) for ledger in ledgers)]),
        seconds_left=_estimate(_in_use(ledgers, alone=holders == "one"), num_tasks - len(committed.tasks)),
        parts=parts,
    )


def _read_part(folder: Path, part: Part) -> PartStatus:
    ledger = Ledger(folder, part_ledger_name(part))
    return PartStatus(
        number=part.number,
        count=part.count,
        tasks_done=len(ledger.read().tasks),
        running=_is_locked(ledger.path),
    )


def _is_locked(path: Path) -> bool | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    else:
        return False
    finally:
        os.close(descriptor)


def _in_use(ledgers: list[Ledger], *, alone: bool) -> list[Ledger]:
    """Return the ledgers that somebody writes to now: who holds the folder alone writes to that of the whole."""
    return [ledger for ledger in ledgers if (alone if ledger.path.name == LEDGER_NAME else _is_locked(ledger.path))]


def _estimate(ledgers: list[Ledger], num_left: int) -> float | None:
    """Return the seconds that so many tasks take at the pace of the last run in each of these ledgers."""
    pace, now = 0.0, time.time()
    for ledger in ledgers:
        began, done = now, 0
        for record in ledger.records():
            if "run" in record:
                began, done = float(record["run"]), 0
            done += "task" in record
        pace += done / max(now - began, 1e-3)
    return num_left / pace if pace else None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
