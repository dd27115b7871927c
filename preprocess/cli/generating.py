"""`generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from preprocess.cli.application import app
from preprocess.cli.options import Overwrite, with_options
from preprocess.cli.reporting import Reply, errors_reported, print_json, progress_shown
from preprocess.inspect import format_bytes
from preprocess.sources.generated import GenerateSettings, generate
from preprocess.sources.recipes import RECIPES
from ups_data.yaml_records import parse_record

_RECIPE_HELP = "; ".join(f"{name}: {recipe.summary}" for name, recipe in RECIPES.items())


@app.command("generate", epilog="Example: ups-preprocess generate burgers data/raw --trajectories 8 --resolution 128")
@with_options
def generate_verb(  # noqa: PLR0913  one argument an option
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help=_RECIPE_HELP)],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the arrays and their description go.")],
    *,
    trajectories: Annotated[int | None, typer.Option("--trajectories", help="Simulations to make.")] = None,
    frames: Annotated[int | None, typer.Option("--frames", help="Frames of each.")] = None,
    points: Annotated[int | None, typer.Option("--points", help="Scattered points of each.")] = None,
    resolution: Annotated[int | None, typer.Option("--resolution", help="Nodes per axis.")] = None,
    viscosity: Annotated[float | None, typer.Option("--viscosity", help="Diffusion coefficient.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the initial conditions.")] = 0,
    name: Annotated[str | None, typer.Option("--name", help="Of data set and files; the recipe's otherwise.")] = None,
    overwrite: Overwrite = False,
    reply: Reply,
) -> None:
    """Solve an equation and write described arrays, which `convert` takes."""
    with errors_reported(reply):
        content = {
            "num_trajectories": trajectories,
            "num_frames": frames,
            "num_points": points,
            "resolution": resolution,
            "viscosity": viscosity,
            "seed": seed,
            "name": name,
        }
        settings = parse_record(GenerateSettings, content, where="the command line")
        with progress_shown() as progress:
            path = generate(recipe, folder, settings, overwrite=overwrite, progress=progress)
        size = path.with_suffix(".npy").stat().st_size
        if reply.as_json:
            print_json({"ok": True, "recipe": recipe, "description": str(path), "size_bytes": size})
        else:
            typer.echo(f"{path} describes {format_bytes(size)} of fields; next: ups-preprocess convert {path} DEST")
