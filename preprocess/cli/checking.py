"""`inspect`, `validate`, `prove`: what stands in a store, and whether it can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import rich.console
import typer

from preprocess.cli.application import app
from preprocess.cli.options import StorePath, with_options
from preprocess.cli.reporting import OK, PROBLEM, Reply, errors_reported, print_json, progress_shown
from preprocess.inspect import inspect_store
from ups_data.storage import open_store


@app.command("inspect", epilog="Example: ups-preprocess inspect data/darcy")
@with_options
def inspect_verb(store: StorePath, *, reply: Reply) -> None:
    """Show what a store holds: fields, units, axes, splits, statistics, layout, sizes."""
    with errors_reported(reply):
        summary = inspect_store(open_store(str(store)))
        if reply.as_json:
            print_json({"ok": True, **summary.to_dict()})
        else:
            rich.console.Console().print(summary.to_tables())


@app.command("validate", epilog="Example: ups-preprocess validate data/darcy")
@with_options
def validate_verb(store: StorePath, *, reply: Reply) -> None:
    """Check every byte of a store against what its writer committed, and what it says against itself."""
    from preprocess.validate import validate

    with errors_reported(reply):
        with progress_shown() as progress:
            report = validate(store, progress=progress)
        if reply.as_json:
            print_json(report.to_dict())
        else:
            for problem in report.problems:
                typer.echo(f"problem: {problem}")
            typer.echo(f"{store} is intact" if report.ok else f"{store}: {len(report.problems)} problems")
        raise typer.Exit(OK if report.ok else PROBLEM)


@app.command("repair", epilog="Example: ups-preprocess repair data/darcy darcy_train_16.pt darcy_test_16.pt")
@with_options
def repair_verb(
    store: StorePath,
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE", help="The files that the store was made from.")],
    *,
    workers: Annotated[int, typer.Option("--workers", help="Processes.", min=1)] = 1,
    reply: Reply,
) -> None:
    """Rebuild the damaged files of a store from its source, byte for byte, or change nothing."""
    from preprocess.repair import repair

    with errors_reported(reply):
        with progress_shown() as progress:
            report = repair(store, sources, workers=workers, progress=progress)
        if reply.as_json:
            print_json(report.to_dict())
            return
        for problem in report.problems:
            typer.echo(f"rebuilt: {problem}")
        count = len(report.rebuilt)
        typer.echo(f"{store}: {count} of {report.num_files} files rebuilt" if count else f"{store} is intact")


@app.command("prove", epilog="Example: ups-preprocess prove data/darcy --sampler importance --ratio 0.25 --draws 4000")
@with_options
def prove_verb(  # noqa: PLR0913  one argument an option
    store: StorePath,
    *,
    split: Annotated[str | None, typer.Option("--split", help="The split that is drawn from.")] = None,
    sampler: Annotated[
        list[str] | None, typer.Option("--sampler", help="Name of a sampler; may be repeated; all otherwise.")
    ] = None,
    ratio: Annotated[float, typer.Option("--ratio", help="Drawn points / points of the trajectory.")] = 0.05,
    draws: Annotated[int, typer.Option("--draws", help="Draws of each sampler.", min=100)] = 2000,
    trajectories: Annotated[
        int, typer.Option("--trajectories", help="Most trajectories to draw from, evenly spread.", min=1)
    ] = 4,
    frames: Annotated[int, typer.Option("--frames", help="Most frames of each, evenly spread.", min=1)] = 3,
    seed: Annotated[int, typer.Option("--seed", help="Of the draws.", min=0)] = 0,
    layouts: Annotated[
        bool, typer.Option("--layouts/--no-layouts", help="Also find the layout that would be worth most.")
    ] = True,
    error: Annotated[
        float, typer.Option("--error", help="Relative standard error of a sample's loss to find the ratio for.")
    ] = 0.05,
    weights: Annotated[
        str, typer.Option("--weights", help="Of the samplers: unbiased, self_normalised, tempered, none.")
    ] = "unbiased",
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse the bias of weights other than unbiased, too; it is shown anyway.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw what was found: FILE.png, or FILE.html for a page.")
    ] = None,
    reply: Reply,
) -> None:
    """Measure on a store's own fields that draws are unbiased, and what they are worth beside uniform ones."""
    from preprocess import show
    from preprocess.prove import prove

    with errors_reported(reply):
        if plot is not None:
            show.check_output(plot)
        with progress_shown() as progress:
            report = prove(
                open_store(str(store)),
                samplers=sampler or None,
                ratio=ratio,
                draws=draws,
                split=split,
                seed=seed,
                num_trajectories=trajectories,
                num_frames=frames,
                layouts=layouts,
                error=error,
                weights=weights,
                strict=strict,
                progress=progress,
            )
        if plot is not None:
            show.write_picture(show.picture_proof(report), plot)
        if reply.as_json:
            print_json(report.to_dict())
        else:
            rich.console.Console().print(report.to_tables())
        raise typer.Exit(OK if report.ok else PROBLEM)
