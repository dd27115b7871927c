"""The ledger of an unfinished conversion: what is committed, and from what it was begun.

Both lie in the conversion's folder `.NAME.partial`: `begun.json` says from which sources and settings it was begun, and
`ledger.jsonl` grows by one line a file that is in place, and one line a task that is done. Parts of a conversion that
run on machines of their own have a ledger each, `ledger-2-of-8.jsonl`. The store itself needs none of them.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c

from ups_data.errors import StoreError
from ups_data.storage.durable import write_durably

LEDGER_NAME, BEGUN_NAME = "ledger.jsonl", "begun.json"


@dataclass(frozen=True, kw_only=True)
class CommittedFile:
    """A file that is in place.

    Attributes:
        path: below the conversion's folder: `store/pages/values/c/0/0/0`.
        size_bytes, sha256: of its content.
    """

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Committed:
    """What a ledger says: files by path, and names of the tasks that are done."""

    files: dict[str, CommittedFile] = field(default_factory=dict)
    tasks: set[str] = field(default_factory=set)


class Ledger:
    """Appends lines that carry their own checksum; picklable, as every worker appends to the same file.

    A line is one write to a file opened for appending, which local file systems keep whole. Where one is torn all
    the same (a power cut, a network file system), it does not count, and its file is written again: a ledger may say
    less than was done, never more. For the same reason it is not synced; the files were, before their lines.
    """

    def __init__(self, folder: Path, name: str = LEDGER_NAME) -> None:
        self.path = folder / name

    def add_file(self, file: CommittedFile) -> None:
        """Note that a file is in place."""
        self._append({"file": [file.path, file.size_bytes, file.sha256]})

    def add_task(self, name: str) -> None:
        """Note that a task is done."""
        self._append({"task": name})

    def _append(self, record: dict[str, Any]) -> None:
        text = json.dumps(record, separators=(",", ":"))
        # A line break on both sides: what follows a torn line must not be lost with it.
        line = f"\n{google_crc32c.value(text.encode()):08x} {text}\n".encode()
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror or error}") from error

    def add_run(self) -> None:
        """Note that a run begins now."""
        self._append({"run": round(time.time(), 3)})

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield what was noted, in order; torn lines are passed over."""
        if not self.path.exists():
            return
        for line in self.path.read_bytes().splitlines():
            checksum, _, text = line.partition(b" ")
            if text and checksum == f"{google_crc32c.value(text):08x}".encode():
                yield json.loads(text)

    def read(self) -> Committed:
        """Return what was committed; nothing where there is no ledger."""
        committed = Committed()
        for record in self.records():
            if "task" in record:
                committed.tasks.add(record["task"])
            elif "file" in record:
                path, size, sha256 = record["file"]
                committed.files[path] = CommittedFile(path=path, size_bytes=size, sha256=sha256)
        return committed


def find_ledgers(folder: Path) -> list[Ledger]:
    """Return the ledgers of a conversion: its own, and those of its parts, which each have one."""
    return [Ledger(folder, path.name) for path in sorted(folder.glob("ledger*.jsonl"))]


def read_ledgers(folder: Path) -> Committed:
    """Return what all ledgers of a conversion say."""
    committed = Committed()
    for ledger in find_ledgers(folder):
        noted = ledger.read()
        committed.files.update(noted.files)
        committed.tasks.update(noted.tasks)
    return committed


def write_begun(folder: Path, identity: Mapping[str, Any], *, dest: Path) -> None:
    """Note from what a conversion is begun."""
    write_durably(folder / BEGUN_NAME, _to_text(identity), dest=dest)


def claim_begun(folder: Path, identity: Mapping[str, Any], *, dest: Path) -> None:
    """Note from what a conversion is begun, unless somebody else did so first; what is noted is whole in any case."""
    path = folder / BEGUN_NAME
    if path.exists():
        return
    claim = folder / f"{BEGUN_NAME}.{uuid.uuid4().hex}"
    write_durably(claim, _to_text(identity), dest=dest)
    try:
        path.hardlink_to(claim)
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; nothing at {dest} was changed") from error
    finally:
        claim.unlink(missing_ok=True)


def _to_text(identity: Mapping[str, Any]) -> bytes:
    return (json.dumps(identity, indent=1, default=str) + "\n").encode()


def read_begun(folder: Path) -> dict[str, Any] | None:
    """Return from what the conversion in `folder` was begun, None where that is not told: then nothing counts."""
    try:
        content = json.loads((folder / BEGUN_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def find_difference(begun: Mapping[str, Any], now: Mapping[str, Any], key: str = "") -> tuple[str, Any, Any] | None:
    """Return the first key, by its path, under which two records differ, and both values."""
    for name in dict.fromkeys([*now, *begun]):
        path, before, after = f"{key}{name}", begun.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            if difference := find_difference(before, after, f"{path}."):
                return difference
        elif before != after:
            return path, before, after
    return None
