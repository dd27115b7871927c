"""What a verb says: results, errors and progress, for people and for machines."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import rich.console
import rich.progress
import typer

from preprocess.convert import Progress
from ups_data.errors import (
    ConfigError,
    DatasetError,
    SamplerError,
    StoreExistsError,
    StoreNotFoundError,
    UnknownFormatError,
    UpsDataError,
)

OK, PROBLEM, MISUSE, INTERRUPTED = 0, 1, 2, 130
_MISUSES = (ConfigError, UnknownFormatError, StoreExistsError, StoreNotFoundError, SamplerError, DatasetError)
_PLAIN_LINE_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Reply:
    """How a verb answers: options of every verb."""

    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False


def print_json(content: Mapping[str, Any]) -> None:
    """Print the one JSON object of a verb."""
    typer.echo(json.dumps(content, allow_nan=False))


@contextmanager
def errors_reported(reply: Reply) -> Iterator[None]:
    """Turn errors into one message on standard error and an exit status."""
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from error
    except (UpsDataError, OSError, MemoryError) as error:
        if reply.debug:
            traceback.print_exc()
        message = str(error) or type(error).__name__
        typer.echo(f"error: {message}", err=True)
        if reply.as_json:
            print_json({"ok": False, "error": {"type": type(error).__name__, "message": message}})
        raise typer.Exit(MISUSE if isinstance(error, _MISUSES) else PROBLEM) from error


@contextmanager
def progress_shown() -> Iterator[Progress]:
    """Show progress on standard error: a bar with the time left on a terminal, plain lines now and then elsewhere."""
    console = rich.console.Console(stderr=True)
    if not console.is_terminal:
        yield _PlainProgress()
        return
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=console) as bar:
        tasks: dict[str, rich.progress.TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=total)

        yield show


class _PlainProgress:
    """Prints a line at the end of a task, and every few seconds before it."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self._last >= _PLAIN_LINE_SECONDS:
            typer.echo(f"{what}: {done} of {total}", err=True)
            self._last = now
