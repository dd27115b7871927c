"""`plan` and `status`: what a conversion will do, and how far it is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import rich.console
import typer

from preprocess.cli.application import app
from preprocess.cli.options import with_options
from preprocess.cli.reporting import Reply, errors_reported, print_json, progress_shown
from preprocess.cli.request import Request
from preprocess.inspect import format_bytes
from preprocess.status import ConversionStatus, read_status


@app.command("plan", epilog="Example: ups-preprocess plan darcy_train_16.pt darcy_test_16.pt --codec blosc-lz4")
@with_options
def plan_verb(
    request: Request,
    *,
    scratch: Annotated[
        Path | None,
        typer.Option("--scratch", help="Where the sample goes, best beside the destination; else a temporary folder."),
    ] = None,
    sample_mib: Annotated[
        int, typer.Option("--sample-mib", help="Size of the sample; 0 for none, hence no estimates.", min=0)
    ] = 32,
    layouts: Annotated[
        bool,
        typer.Option("--layouts", help="Also find importance, strata and frames worth most on the sample."),
    ] = False,
    ratio: Annotated[float, typer.Option("--ratio", help="Of drawn points, for --layouts.", min=0, max=1)] = 0.05,
    reply: Reply,
) -> None:
    """Tell what a conversion will write, need and take; a small part is converted to find out, and removed."""
    from preprocess.forecast import forecast

    with errors_reported(reply):
        source, settings = request.open()
        with progress_shown() as progress:
            made = forecast(
                source,
                settings,
                scratch=scratch,
                sample_bytes=sample_mib * 2**20,
                layouts_ratio=ratio if layouts else None,
                progress=progress,
            )
        if reply.as_json:
            print_json({"ok": True, **made.to_dict()})
        else:
            rich.console.Console().print(made.to_tables())


@app.command("status", epilog="Example: ups-preprocess status data/darcy")
@with_options
def status_verb(
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="The store that is or was being made.")],
    *,
    reply: Reply,
) -> None:
    """Tell how far a conversion is, also while it runs."""
    with errors_reported(reply):
        status = read_status(dest)
        if reply.as_json:
            print_json({"ok": True, **status.to_dict()})
        else:
            for line in _describe_status(status):
                typer.echo(line)


def _describe_status(status: ConversionStatus) -> Iterator[str]:
    if status.state == "finished":
        yield f"{status.location} is a finished store of {format_bytes(status.committed_bytes)}"
        return
    running = {None: "nobody can tell whether it runs", False: "it does not run now", True: "it runs now"}
    holder = f" ({status.holder})" if status.holder else ""
    yield (
        f"{status.location}: {status.tasks_done} of {status.num_tasks} tasks done, "
        f"{format_bytes(status.committed_bytes)} in place; {running[status.running]}{holder}"
    )
    yield f"begun {_describe_time(status.begun_at)}, last progress {_describe_time(status.progress_at)}"
    if status.seconds_left is not None:
        yield f"left at this pace: about {dt.timedelta(seconds=round(status.seconds_left))}"
    for part in status.parts:
        state = "runs now" if part.running else "does not run"
        yield f"part {part.number}/{part.count}: {part.tasks_done} tasks done, {state}"
    if status.replaces:
        yield "a finished store is there, which this conversion will replace"


def _describe_time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
