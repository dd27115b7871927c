"""`pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from preprocess.cli.application import app
from preprocess.cli.options import Overwrite, with_options
from preprocess.cli.reporting import Reply, errors_reported, print_json, progress_shown
from preprocess.inspect import format_bytes
from preprocess.pack import DEFAULT_SHARD_MIB, pack


@app.command("pack", epilog="Example: ups-preprocess pack data/darcy data/darcy-tar --to webdataset")
@with_options
def pack_verb(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A finished store, Zarr or tar shards: path or URL.")],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="The store to make.")],
    *,
    to: Annotated[str, typer.Option("--to", help="webdataset (tar shards with an index beside each) or zarr.")],
    shard_mib: Annotated[
        int, typer.Option("--shard-mib", help="Size that a tar file has at least, but for the last one.", min=1)
    ] = DEFAULT_SHARD_MIB,
    overwrite: Overwrite = False,
    reply: Reply,
) -> None:
    """Write a store anew as tar shards for WebDataset, or as Zarr; every value stays the same bits."""
    with errors_reported(reply):
        with progress_shown() as progress:
            report = pack(source, dest, to=to, shard_mib=shard_mib, overwrite=overwrite, progress=progress)
        if reply.as_json:
            print_json({"ok": True, **report.to_dict()})
            return
        kind = "tar files" if report.layout == "webdataset" else "shards"
        typer.echo(f"{dest}: {report.num_shards} {kind}, {format_bytes(report.num_bytes)}")
        if not report.identical:
            typer.echo(
                "the values are the same, the fingerprint is not: the compressor of this machine writes other bytes "
                "than that of the conversion",
                err=True,
            )
