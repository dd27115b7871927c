"""The ledger of an unfinished conversion: what is committed, and from what it was begun.

Both lie in the conversion's folder `.NAME.partial`: `begun.json` says from which sources and settings it was begun, and
`ledger.jsonl` grows by one line a file that is in place, and one line a task that is done. The store itself
needs neither.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c

from ups_data.errors import StoreError
from ups_data.storage.writer import write_durably

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

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER_NAME

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

    def read(self) -> Committed:
        """Return what was committed; nothing where there is no ledger."""
        committed = Committed()
        if not self.path.exists():
            return committed
        for line in self.path.read_bytes().splitlines():
            checksum, _, text = line.partition(b" ")
            if not text or checksum != f"{google_crc32c.value(text):08x}".encode():
                continue
            record = json.loads(text)
            if "task" in record:
                committed.tasks.add(record["task"])
            else:
                path, size, sha256 = record["file"]
                committed.files[path] = CommittedFile(path=path, size_bytes=size, sha256=sha256)
        return committed


def write_begun(folder: Path, identity: Mapping[str, Any], *, dest: Path) -> None:
    """Note from what a conversion is begun."""
    text = json.dumps(identity, indent=1, default=str) + "\n"
    write_durably(folder / BEGUN_NAME, text.encode(), dest=dest)


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
