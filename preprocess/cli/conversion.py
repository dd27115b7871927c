"""`convert`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from preprocess.cli.application import app
from preprocess.cli.options import Overwrite, with_options
from preprocess.cli.reporting import Reply, errors_reported, print_json, progress_shown
from preprocess.cli.request import Request
from preprocess.convert import convert
from preprocess.inspect import format_bytes
from preprocess.parts import PartReport, commit_parts, convert_part, parse_part
from ups_data.errors import ConfigError, StoreExistsError, UpsDataError
from ups_data.schema import Manifest
from ups_data.storage.zarr_store import partial_path


@dataclass(frozen=True, kw_only=True)
class Work:
    """Who does the work, and which part of it."""

    workers: Annotated[
        int, typer.Option("--workers", help="Processes; the store is the same bytes for any number.", min=1)
    ] = 1
    dask: Annotated[
        str | None, typer.Option("--dask", help="Scheduler of a cluster that does the work: tcp://HOST:PORT.")
    ] = None
    part: Annotated[
        str | None, typer.Option("--part", help="Do one part, 1/8 to 8/8, at any time and anywhere; then --commit.")
    ] = None
    commit: Annotated[bool, typer.Option("--commit", help="Put the store together once all parts are done.")] = False


@app.command("convert", epilog="Example: ups-preprocess convert darcy_train_16.pt darcy_test_16.pt data/darcy")
@with_options
def convert_verb(
    request: Request,
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="The store to make.")],
    *,
    name: Annotated[str | None, typer.Option("--name", help="Name of the store; the destination's otherwise.")] = None,
    work: Work,
    overwrite: Overwrite = False,
    reply: Reply,
) -> None:
    """Convert a data set to a store; the same command goes on where an unfinished conversion stopped."""
    with errors_reported(reply), _unfinished_told(dest):
        started = time.monotonic()
        if work.commit and work.part is not None:
            raise ConfigError("--part does one part and --commit puts all of them together: give one of them")
        source, settings = request.open(name=name)
        choices: dict[str, Any] = {"overwrite": overwrite, "workers": work.workers, "dask": work.dask}
        with progress_shown() as progress:
            if work.part is not None:
                report = convert_part(source, dest, settings, parse_part(work.part), **choices, progress=progress)
                _report_part(report, dest, time.monotonic() - started, reply)
                return
            make = commit_parts if work.commit else convert
            manifest = make(source, dest, settings, **choices, progress=progress)
        _report_conversion(manifest, dest, time.monotonic() - started, reply)


@contextmanager
def _unfinished_told(dest: Path) -> Iterator[None]:
    """Say what a conversion that ends early leaves, and how it goes on."""
    try:
        yield
    except (StoreExistsError, ConfigError):
        raise
    except (KeyboardInterrupt, UpsDataError, OSError, MemoryError):
        partial = partial_path(Path(os.path.realpath(dest)))
        if partial.exists():
            typer.echo(
                f"what was committed is kept in {partial}, which no reader opens: the same command goes on from there, "
                f"with --overwrite added after a change of source or settings it starts afresh",
                err=True,
            )
        raise


def _report_part(report: PartReport, dest: Path, seconds: float, reply: Reply) -> None:
    if reply.as_json:
        print_json(
            {
                "ok": True,
                "part": report.part.number,
                "num_parts": report.part.count,
                "num_tasks": report.num_tasks,
                "num_tasks_done_before": report.num_done_before,
                "parts_left": list(report.parts_left),
                "seconds": round(seconds, 3),
            }
        )
        return
    left = ", ".join(map(str, report.parts_left))
    following = f"parts left: {left}" if left else "all parts are done: now the same command with --commit for --part"
    typer.echo(f"{dest}: part {report.part}, {report.num_tasks} tasks, {seconds:.1f} s; {following}")


def _report_conversion(manifest: Manifest, dest: Path, seconds: float, reply: Reply) -> None:
    size = sum(entry.size_bytes for entry in manifest.files)
    if reply.as_json:
        print_json(
            {
                "ok": True,
                "store": str(dest),
                "name": manifest.name,
                "fingerprint": manifest.fingerprint,
                "num_trajectories": manifest.num_trajectories,
                "num_frames": manifest.num_frames,
                "splits": manifest.splits,
                "channels": list(manifest.channel_names),
                "size_bytes": size,
                "seconds": round(seconds, 3),
            }
        )
        return
    splits = ", ".join(f"{split} {count}" for split, count in manifest.splits.items())
    typer.echo(
        f"{dest}: {manifest.num_trajectories} trajectories ({splits}), {manifest.num_frames} frames, "
        f"{format_bytes(size)}, {seconds:.1f} s"
    )
    for note in manifest.source.notes:
        typer.echo(f"note: {note}", err=True)
