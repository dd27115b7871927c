"""Put the files of a task in place, and note each in the ledger."""

from __future__ import annotations

import hashlib
from pathlib import Path

from preprocess.ledger import CommittedFile, Ledger
from preprocess.tasks.bench import Workbench
from ups_data.errors import StoreError
from ups_data.storage.durable import sync_directory, write_durably, write_scratch


class Committer:
    """Puts files in place that may be there already, and gathers what the task in hand committed."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._ledger = Ledger(bench.folder, bench.ledger)
        self._files: list[CommittedFile] = []

    def begin(self) -> None:
        """Begin a task."""
        self._files = []

    def end(self, name: str) -> tuple[CommittedFile, ...]:
        """Note that the task is done, and return the files that it put in place."""
        self._ledger.add_task(name)
        return tuple(self._files)

    def commit(self, path: str, content: bytes | memoryview, *, scratch: bool) -> None:
        """Put a file in place unless it is there, and note it in either case.

        Whoever put it there may have died before it was noted; a file that holds something else is replaced.

        Args:
            path: below the conversion's folder.
            content: all of it.
            scratch: not part of the store, and not synced: what a power cut takes of it is found by its hash.
        """
        if not scratch and not self._bench.is_wanted(path):
            return
        place = self._bench.folder / path
        if not _holds(place, content):
            if scratch:
                write_scratch(place, content, staging=self._bench.staging)
            else:
                write_durably(place, content, dest=self._bench.dest, staging=self._bench.staging)
        elif not scratch:
            sync_directory(place.parent)
        self._note(path, content)

    def note_shard(self, path: str) -> None:
        """Note a shard that another process put in place before it died.

        Raises:
            StoreError: it is not there.
        """
        try:
            self._note(path, (self._bench.folder / path).read_bytes())
        except FileNotFoundError as error:
            raise StoreError(
                f"{error.filename} is gone, and so is a piece of it: run the same command again"
            ) from error

    def awaits(self, path: str) -> bool:
        """Tell whether a file of the store is to be written and not there yet."""
        return self._bench.is_wanted(path) and not _is_there(self._bench.folder / path)

    def _note(self, path: str, content: bytes | memoryview) -> None:
        file = CommittedFile(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        self._ledger.add_file(file)
        self._files.append(file)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # Whoever may not look may not write there either, and is told so then.
        return False


def _holds(path: Path, content: bytes | memoryview) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        # Whatever is in the way there is told by who writes.
        return False
