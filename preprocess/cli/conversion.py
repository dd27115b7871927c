"""`convert`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from preprocess.cli.application import app
from preprocess.cli.options import Overwrite, with_options
from preprocess.cli.reporting import Reply, errors_reported, print_json, progress_shown
from preprocess.cli.request import Request
from preprocess.convert import convert
from preprocess.inspect import format_bytes
from ups_data.errors import ConfigError, StoreExistsError, UpsDataError
from ups_data.schema import Manifest
from ups_data.storage.zarr_store import partial_path


@app.command("convert", epilog="Example: ups-preprocess convert darcy_train_16.pt darcy_test_16.pt data/darcy")
@with_options
def convert_verb(
    request: Request,
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="The store to make.")],
    *,
    name: Annotated[str | None, typer.Option("--name", help="Name of the store; the destination's otherwise.")] = None,
    workers: Annotated[
        int, typer.Option("--workers", help="Processes; the store is the same bytes for any number.", min=1)
    ] = 1,
    overwrite: Overwrite = False,
    reply: Reply,
) -> None:
    """Convert a data set to a store; the same command goes on where an unfinished conversion stopped."""
    with errors_reported(reply), _unfinished_told(dest):
        started = time.monotonic()
        source, settings = request.open(name=name)
        with progress_shown() as progress:
            manifest = convert(source, dest, settings, overwrite=overwrite, workers=workers, progress=progress)
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
