"""`show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from preprocess.cli.application import app
from preprocess.cli.options import with_options
from preprocess.cli.reporting import Reply, errors_reported, print_json
from preprocess.cli.values import parse_list
from ups_data.errors import ConfigError
from ups_data.storage import open_store


@app.command(
    "show", epilog="Example: ups-preprocess show data/burgers --field velocity --ratio 0.05 --output burgers.png"
)
@with_options
def show_verb(  # noqa: PLR0913  one argument an option
    store: Annotated[
        Path | None, typer.Argument(metavar="[STORE]", help="A finished store; none for a schedule.")
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", help="The picture: FILE.png, or FILE.html for a page.")],
    trajectory: Annotated[int, typer.Option("--trajectory", help="Number of the trajectory.")] = 0,
    frame: Annotated[int | None, typer.Option("--frame", help="Number of the frame; the middle one otherwise.")] = None,
    field: Annotated[
        str | None, typer.Option("--field", help="A field or a channel; the first field otherwise.")
    ] = None,
    sampler: Annotated[str, typer.Option("--sampler", help="Name of the sampler that draws.")] = "importance",
    ratio: Annotated[float, typer.Option("--ratio", help="Drawn points / points of the trajectory.")] = 0.05,
    seed: Annotated[int, typer.Option("--seed", help="Of the draw.", min=0)] = 0,
    schedule: Annotated[
        str | None,
        typer.Option("--schedule", help="Draw a schedule instead: constant, linear, cosine, exponential or step."),
    ] = None,
    start: Annotated[float | None, typer.Option("--start", help="Of a schedule: value at its start.")] = None,
    end: Annotated[float | None, typer.Option("--end", help="Of a schedule: value at its end.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Of a schedule: global steps it takes.")] = None,
    begin: Annotated[int, typer.Option("--begin", help="Of a schedule: global steps before it begins.")] = 0,
    values: Annotated[str | None, typer.Option("--values", help="Of schedule step: 1,0.5,0.1.")] = None,
    boundaries: Annotated[str | None, typer.Option("--boundaries", help="Of schedule step: 1000,5000.")] = None,
    reply: Reply,
) -> None:
    """Draw a field, its importance map and the points that a sampler draws, or a schedule."""
    from preprocess import show

    with errors_reported(reply):
        show.check_output(output)
        if (store is None) == (schedule is None):
            raise ConfigError("show takes a store, or --schedule NAME, one of them")
        if store is not None:
            request = show.ShowRequest(
                trajectory=trajectory, frame=frame, field=field, sampler=sampler, ratio=ratio, seed=seed
            )
            picture = show.picture_store(show.read_subject(open_store(str(store)), request))
        else:
            drawn = show.ScheduleRequest(
                kind=schedule or "",
                start=start,
                end=end,
                steps=steps,
                begin=begin,
                values=() if values is None else parse_list(values, "--values", float),
                boundaries=() if boundaries is None else parse_list(boundaries, "--boundaries", int),
            )
            picture = show.picture_schedule(drawn)
        show.write_picture(picture, output)
        if reply.as_json:
            print_json({"ok": True, "output": str(output), "title": picture.title, **dict(picture.facts)})
        else:
            typer.echo(f"{output}: {picture.title}")
