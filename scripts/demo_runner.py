"""Stages that are done once: each leaves a note of what it was made from, and is skipped while that still holds.

    folder/
      stages/generate.json     key (what the stage was made from), whether it is done, its result, its seconds
      ...                      what the stages make

A key covers the settings of a stage and the keys of all that it needs. What a stage makes is recognised by the sizes
and modification times of its files: a store that was touched since is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich.console
import rich.markup
import rich.progress

from ups_data.errors import ConfigError

MARKER_NAME = "demo.json"
_MARKER = {"what": "made by scripts/demo of ups_data; scripts/demo --fresh replaces all of it"}
_PLAIN_LINE_SECONDS = 5.0

Show = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class StageError(Exception):
    """A stage found something that must not pass; its message is for people."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One part of the work.

    Attributes:
        name: of the stage, and of its note.
        purpose: what it does, in a line.
        settings: what its result depends on, beside what it needs; JSON.
        needs: names of the stages whose results it reads.
        products: files and folders that it makes.
        work: does it, and returns a result for JSON; takes the notes of all stages before it.
        summary: a line about a result.
    """

    name: str
    purpose: str
    settings: Mapping[str, Any]
    needs: tuple[str, ...]
    products: tuple[Path, ...]
    work: Callable[[Mapping[str, Note], Show], Mapping[str, Any]]
    summary: Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True, kw_only=True)
class Note:
    """What is known of a stage from an earlier time.

    Attributes:
        key: what it was made from.
        stamp: of its products when it was done; None if it was begun and not done.
        seconds: spent on it so far.
        result: what its work returned.
    """

    key: str
    stamp: str | None
    seconds: float
    result: Mapping[str, Any]


class Runner:
    """Runs stages one after another, those that are done excepted.

    Args:
        folder: where everything goes.
        stages: in their order.
        console: for what is said on the way.

    Raises:
        ConfigError: the folder holds files that are not a demo's.
    """

    def __init__(self, folder: Path, stages: Sequence[Stage], console: rich.console.Console) -> None:
        self.folder, self.stages, self.console = folder, stages, console
        self.current = "start"
        self._keys: dict[str, str] = {}
        self.notes: dict[str, Note] = {}
        prepare_folder(folder)

    def run(self) -> None:
        """Do what is not done yet.

        Raises:
            ConfigError: another process works in the folder.
        """
        with _held(self.folder):
            for number, stage in enumerate(self.stages, start=1):
                self.current = f"{number}/{len(self.stages)} {stage.name}"
                self._run_stage(stage)

    def _run_stage(self, stage: Stage) -> None:
        key = self._key_of(stage)
        note = self._read_note(stage)
        if note is not None and note.key == key and note.stamp is not None and note.stamp == stamp_of(stage.products):
            self._say(f"done before in {note.seconds:.1f} s, skipped: {stage.summary(note.result)}")
        else:
            spent = note.seconds if note is not None and note.key == key and note.stamp is None else None
            self._say(stage.purpose if spent is None else f"{stage.purpose} (begun before, {spent:.1f} s)")
            note = self._work_on(stage, key, spent)
            self._say(f"done in {note.seconds:.1f} s: {stage.summary(note.result)}")
        assert note.stamp is not None
        self._keys[stage.name] = _digest([key, note.stamp])
        self.notes[stage.name] = note

    def _work_on(self, stage: Stage, key: str, spent: float | None) -> Note:
        """Do the work of a stage; `spent` is None where it begins from nothing."""
        if spent is None:
            for product in stage.products:
                _remove(product)
        started = time.monotonic()
        note = Note(key=key, stamp=None, seconds=spent or 0.0, result={})
        self._write_note(stage, note)
        try:
            with _shown_progress(self.console) as show:
                result = stage.work(self.notes, show)
        except BaseException:
            # Whatever ended it, what was spent so far is part of what the whole took.
            self._write_note(stage, Note(key=key, stamp=None, seconds=_since(started, spent), result={}))
            raise
        note = Note(key=key, stamp=stamp_of(stage.products), seconds=_since(started, spent), result=result)
        self._write_note(stage, note)
        return note

    def _say(self, words: str) -> None:
        self.console.print(f"[bold]{self.current}[/bold]: {rich.markup.escape(words)}", highlight=False, soft_wrap=True)

    def _key_of(self, stage: Stage) -> str:
        from ups_data import __version__

        return _digest([__version__, stage.name, stage.settings, [self._keys[name] for name in stage.needs]])

    def _note_path(self, stage: Stage) -> Path:
        return self.folder / "stages" / f"{stage.name}.json"

    def _read_note(self, stage: Stage) -> Note | None:
        try:
            content = json.loads(self._note_path(stage).read_text(encoding="utf-8"))
            return Note(**content)
        except (FileNotFoundError, ValueError, TypeError):
            # A note that cannot be read is as good as none: the stage is done again.
            return None

    def _write_note(self, stage: Stage, note: Note) -> None:
        path = self._note_path(stage)
        path.parent.mkdir(exist_ok=True)
        staged = path.with_name(f".{path.name}.staged")
        staged.write_text(json.dumps(vars(note), indent=1) + "\n", encoding="utf-8")
        staged.replace(path)


def prepare_folder(folder: Path) -> None:
    """Make the folder of a demo, or make sure that it is one.

    Raises:
        ConfigError: it is a file, or holds files that are not a demo's.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; choose a folder: --output DIR")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER_NAME).exists():
        raise ConfigError(
            f"{folder} holds files that the demo did not make ({next(iter(sorted(folder.iterdir()))).name}, ...); "
            f"choose another folder: --output DIR"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / MARKER_NAME).exists():
        (folder / MARKER_NAME).write_text(json.dumps(_MARKER) + "\n", encoding="utf-8")


def clear_folder(folder: Path) -> None:
    """Remove all that a demo made.

    Raises:
        ConfigError: the folder is not a demo's, or another process works in it.
    """
    if not folder.exists():
        return
    prepare_folder(folder)
    with _held(folder):
        # What says that the folder is a demo's goes last: an interrupted removal can be begun again.
        for path in sorted(folder.iterdir(), key=lambda path: path.name == MARKER_NAME):
            _remove(path)
        folder.rmdir()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder."""
    with (folder / MARKER_NAME).open(encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another demo is at work in {folder}; wait for it, or choose another folder") from error
        yield


def stamp_of(products: Sequence[Path]) -> str | None:
    """Return a digest of names, sizes and modification times of all files; None where one is missing."""
    seen = []
    for product in products:
        files = sorted(path for path in product.rglob("*") if path.is_file()) if product.is_dir() else [product]
        for path in files:
            if not path.is_file():
                return None
            status = path.stat()
            seen.append((path.relative_to(product.parent).as_posix(), status.st_size, status.st_mtime_ns))
    return _digest(seen)


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _since(started: float, spent: float | None) -> float:
    return (spent or 0.0) + time.monotonic() - started


@contextmanager
def _shown_progress(console: rich.console.Console) -> Iterator[Show]:
    """Give what shows progress: bars with the time left on a terminal, plain lines now and then elsewhere."""
    if not console.is_terminal:
        yield _PlainProgress(console)
        return
    columns = (
        rich.progress.TextColumn("    {task.description}"),
        rich.progress.BarColumn(bar_width=32),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, rich.progress.TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            name, _, detail = what.partition(": ")
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            words = f"{name}: {detail}" if detail else name
            progress.update(tasks[name], completed=done, total=total, description=rich.markup.escape(words))

        yield show


class _PlainProgress:
    """Prints a line when something is done, and every few seconds before that."""

    def __init__(self, console: rich.console.Console) -> None:
        self._console = console
        self._last = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self._last >= _PLAIN_LINE_SECONDS:
            name, _, detail = what.partition(": ")
            words = f"    {name}: {done} of {total}{f', {detail}' if detail else ''}"
            self._console.print(rich.markup.escape(words), highlight=False, soft_wrap=True)
            self._last = now
