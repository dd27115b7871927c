"""Put the files of a task in place, and note each in the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

from preprocess.ledger import CommittedFile, Ledger
from preprocess.tasks.bench import Workbench
from ups_data.errors import StoreError
from ups_data.storage.durable import StagedFile


class FileInHand:
    """A file of a conversion that is being written: put in place and noted once it is whole.

    Use as a context: leaving it before `finish` removes what was written.
    """

    def __init__(self, path: str, file: StagedFile, note: Callable[[CommittedFile], None]) -> None:
        self._path, self._file, self._note = path, file, note

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove what was written, unless it is in place."""
        self._file.discard()

    def write(self, content: bytes | memoryview) -> None:
        """Add a part."""
        self._file.write(content)

    def finish(self) -> None:
        """Put the file in place, where it replaces what another process left that died before it noted it."""
        self._file.finish()
        self._note(CommittedFile(path=self._path, size_bytes=self._file.size_bytes, sha256=self._file.sha256))


class Committer:
    """Puts files in place, and gathers what the task in hand committed."""

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

    def open(self, path: str, *, scratch: bool) -> FileInHand:
        """Begin a file.

        Args:
            path: below the conversion's folder.
            scratch: not part of the store, and not synced: what a power cut takes of it is found by its hash.

        Raises:
            StoreError: here and from all methods of it: the disk is full, read-only, or failed.
        """
        bench = self._bench
        file = StagedFile(bench.folder / path, dest=bench.dest, staging=bench.staging, sync=not scratch)
        return FileInHand(path, file, self._note)

    def note_shard(self, path: str) -> None:
        """Note a shard that another process put in place before it died.

        Raises:
            StoreError: it is not there.
        """
        try:
            content = (self._bench.folder / path).read_bytes()
            self._note(CommittedFile(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))
        except FileNotFoundError as error:
            raise StoreError(
                f"{error.filename} is gone, and so is a piece of it: run the same command again"
            ) from error

    def wants(self, path: str) -> bool:
        """Tell whether a file of the store is to be written: also where it is there, and was not noted."""
        return self._bench.is_wanted(path)

    def awaits(self, path: str) -> bool:
        """Tell whether a file of the store is to be written and not there yet."""
        return self.wants(path) and not _is_there(self._bench.folder / path)

    def _note(self, file: CommittedFile) -> None:
        self._ledger.add_file(file)
        self._files.append(file)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # Whoever may not look may not write there either, and is told so then.
        return False
