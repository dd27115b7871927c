"""`plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import rich.console
import typer

from preprocess.cli.application import app
from preprocess.cli.options import with_options
from preprocess.cli.reporting import Reply, errors_reported, print_json, progress_shown
from preprocess.cli.request import Request


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
    reply: Reply,
) -> None:
    """Tell what a conversion will write, need and take; a small part is converted to find out, and removed."""
    from preprocess.forecast import forecast

    with errors_reported(reply):
        source, settings = request.open()
        with progress_shown() as progress:
            made = forecast(source, settings, scratch=scratch, sample_bytes=sample_mib * 2**20, progress=progress)
        if reply.as_json:
            print_json({"ok": True, **made.to_dict()})
        else:
            rich.console.Console().print(made.to_tables())
