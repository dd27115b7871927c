"""The command line `ups-preprocess`: verbs, thin.

Exit status: 0 done and well; 1 the data or the store are bad (a damaged file, a value that is not finite, a check that
failed); 2 the request cannot be carried out as typed (an unknown option or name, a path that is not there, a format
that is not known, a destination that is taken); 130 interrupted.

Standard output carries what was asked for: with `--json` one JSON object, else text for people. Progress, messages and
errors go to standard error.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
import rich.console
import rich.progress
import typer

from preprocess.convert import Progress, convert
from preprocess.inspect import format_bytes, inspect_store
from preprocess.settings import ConvertSettings
from preprocess.sources import SOURCES, Source, open_source
from preprocess.sources.generated import RECIPES, GenerateSettings, generate
from ups_data.errors import (
    ConfigError,
    DatasetError,
    SamplerError,
    SchemaError,
    StoreExistsError,
    StoreNotFoundError,
    UnknownFormatError,
    UpsDataError,
)
from ups_data.importance import METRICS, check_metrics, default_recipe
from ups_data.schema import CodecName, Manifest
from ups_data.storage import open_store
from ups_data.storage.zarr_store import partial_path
from ups_data.yaml_records import parse_record, parse_yaml

OK, PROBLEM, MISUSE, INTERRUPTED = 0, 1, 2, 130
_MISUSES = (ConfigError, UnknownFormatError, StoreExistsError, StoreNotFoundError, SamplerError, DatasetError)
_PLAIN_LINE_SECONDS = 5.0
_Number = TypeVar("_Number", int, float)

app = typer.Typer(
    name="ups-preprocess",
    help="Convert data sets of PDE solutions to stores of sparse queries; inspect, check and prove them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what lies at the destination.")]
_IMPORTANCE_HELP = (
    f"Metrics and weights: gradient=1,temporal_change=1. One of {', '.join(METRICS)}, or your own: module:function. "
    "Beside them exponent, floor, and clip.quantile or clip.times_mean."
)
_StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="A finished store.")]

# Of `convert` and of `plan`, which tells what `convert` will do.
_Sources = Annotated[list[Path], typer.Argument(metavar="SOURCE", help="Files of one data set.")]
_Format = Annotated[
    str | None, typer.Option("--format", help=f"One of {', '.join(SOURCES)}; recognised by content otherwise.")
]
_Config = Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")]
_Importance = Annotated[str | None, typer.Option("--importance", help=_IMPORTANCE_HELP)]
_Strata = Annotated[int | None, typer.Option("--strata", help="Bands of importance.")]
_PagePoints = Annotated[int | None, typer.Option("--page-points", help="Points of a page.")]
_Codec = Annotated[CodecName | None, typer.Option("--codec", help="Compressor.")]
_Split = Annotated[
    str | None, typer.Option("--split", help="Shares where the source has no splits: train=0.8,valid=0.1,test=0.1.")
]
_Seed = Annotated[int | None, typer.Option("--seed", help="Of the split and of the dealing of pages.")]
_Options = Annotated[
    list[str] | None, typer.Option("--option", help="KEY=VALUE for the source's format; may be repeated.")
]


class ConvertConfig(ConvertSettings):
    """What a configuration file of `convert` may hold: the settings, and how the source is read.

    Attributes:
        format: name of the source's format; recognised by content if None.
        options: what the format needs to be told.
    """

    format: str | None = None
    options: dict[str, Any] = pydantic.Field(default_factory=dict)


def main() -> None:
    """Run the command line."""
    app()


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"ups-preprocess {importlib.metadata.version('ups-data')}")
        raise typer.Exit(OK)
    return wanted


@app.callback()
def _whole(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that belong to no verb."""


@app.command("convert", epilog="Example: ups-preprocess convert darcy_train_16.pt darcy_test_16.pt data/darcy")
def convert_verb(  # noqa: PLR0913  one argument an option
    sources: _Sources,
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="The store to make.")],
    *,
    format: _Format = None,  # noqa: A002  the name of the option
    config: _Config = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the store; the destination's otherwise.")] = None,
    importance: _Importance = None,
    strata: _Strata = None,
    page_points: _PagePoints = None,
    codec: _Codec = None,
    split: _Split = None,
    seed: _Seed = None,
    option: _Options = None,
    workers: Annotated[
        int, typer.Option("--workers", help="Processes; the store is the same bytes for any number.", min=1)
    ] = 1,
    overwrite: _Overwrite = False,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Convert a data set to a store; the same command goes on where an unfinished conversion stopped."""
    with _errors_reported(as_json=as_json, debug=debug), _unfinished_told(dest):
        started = time.monotonic()
        source, chosen = _open_request(
            sources,
            config,
            format=format,
            name=name,
            num_strata=strata,
            page_points=page_points,
            codec=codec,
            seed=seed,
            splits=None if split is None else _parse_numbers(split, "--split"),
            importance=None if importance is None else _parse_recipe(importance),
            options=_parse_options(option or []) or None,
        )
        with _progress_shown() as progress:
            manifest = convert(source, dest, chosen, overwrite=overwrite, workers=workers, progress=progress)
        _report_conversion(manifest, dest, time.monotonic() - started, as_json=as_json)


@app.command("plan", epilog="Example: ups-preprocess plan darcy_train_16.pt darcy_test_16.pt --codec blosc-lz4")
def plan_verb(  # noqa: PLR0913  one argument an option
    sources: _Sources,
    *,
    format: _Format = None,  # noqa: A002  the name of the option
    config: _Config = None,
    importance: _Importance = None,
    strata: _Strata = None,
    page_points: _PagePoints = None,
    codec: _Codec = None,
    split: _Split = None,
    seed: _Seed = None,
    option: _Options = None,
    scratch: Annotated[
        Path | None,
        typer.Option("--scratch", help="Where the sample goes, best beside the destination; else a temporary folder."),
    ] = None,
    sample_mib: Annotated[
        int, typer.Option("--sample-mib", help="Size of the sample; 0 for none, hence no estimates.", min=0)
    ] = 32,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Tell what a conversion will write, need and take; a small part is converted to find out, and removed."""
    from preprocess.forecast import forecast

    with _errors_reported(as_json=as_json, debug=debug):
        source, chosen = _open_request(
            sources,
            config,
            format=format,
            num_strata=strata,
            page_points=page_points,
            codec=codec,
            seed=seed,
            splits=None if split is None else _parse_numbers(split, "--split"),
            importance=None if importance is None else _parse_recipe(importance),
            options=_parse_options(option or []) or None,
        )
        with _progress_shown() as progress:
            made = forecast(source, chosen, scratch=scratch, sample_bytes=sample_mib * 2**20, progress=progress)
        if as_json:
            _print_json({"ok": True, **made.to_dict()})
        else:
            rich.console.Console().print(made.to_tables())


@app.command("inspect", epilog="Example: ups-preprocess inspect data/darcy")
def inspect_verb(store: _StorePath, *, as_json: _Json = False, debug: _Debug = False) -> None:
    """Show what a store holds: fields, units, axes, splits, statistics, layout, sizes."""
    with _errors_reported(as_json=as_json, debug=debug):
        summary = inspect_store(open_store(str(store)))
        if as_json:
            _print_json({"ok": True, **summary.to_dict()})
        else:
            rich.console.Console().print(summary.to_tables())


@app.command("validate", epilog="Example: ups-preprocess validate data/darcy")
def validate_verb(store: _StorePath, *, as_json: _Json = False, debug: _Debug = False) -> None:
    """Check every byte of a store against what its writer committed, and what it says against itself."""
    from preprocess.validate import validate

    with _errors_reported(as_json=as_json, debug=debug):
        with _progress_shown() as progress:
            report = validate(store, progress=progress)
        if as_json:
            _print_json(report.to_dict())
        else:
            for problem in report.problems:
                typer.echo(f"problem: {problem}")
            typer.echo(f"{store} is intact" if report.ok else f"{store}: {len(report.problems)} problems")
        raise typer.Exit(OK if report.ok else PROBLEM)


@app.command("prove", epilog="Example: ups-preprocess prove data/darcy --sampler importance --ratio 0.25 --draws 4000")
def prove_verb(  # noqa: PLR0913  one argument an option
    store: _StorePath,
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
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Measure on a store's own fields that draws are unbiased, and what they are worth beside uniform ones."""
    from preprocess.prove import prove

    with _errors_reported(as_json=as_json, debug=debug):
        with _progress_shown() as progress:
            report = prove(
                open_store(str(store)),
                samplers=sampler or None,
                ratio=ratio,
                draws=draws,
                split=split,
                seed=seed,
                num_trajectories=trajectories,
                num_frames=frames,
                progress=progress,
            )
        if as_json:
            _print_json(report.to_dict())
        else:
            rich.console.Console().print(report.to_tables())
        raise typer.Exit(OK if report.ok else PROBLEM)


@app.command(
    "show", epilog="Example: ups-preprocess show data/burgers --field velocity --ratio 0.05 --output burgers.png"
)
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
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Draw a field, its importance map and the points that a sampler draws, or a schedule."""
    from preprocess import show

    with _errors_reported(as_json=as_json, debug=debug):
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
                values=() if values is None else _parse_list(values, "--values", float),
                boundaries=() if boundaries is None else _parse_list(boundaries, "--boundaries", int),
            )
            picture = show.picture_schedule(drawn)
        show.write_picture(picture, output)
        if as_json:
            _print_json({"ok": True, "output": str(output), "title": picture.title, **dict(picture.facts)})
        else:
            typer.echo(f"{output}: {picture.title}")


_RECIPE_HELP = "; ".join(f"{name}: {recipe.summary}" for name, recipe in RECIPES.items())


@app.command("generate", epilog="Example: ups-preprocess generate burgers data/raw --trajectories 8 --resolution 128")
def generate_verb(  # noqa: PLR0913  one argument an option
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help=_RECIPE_HELP)],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the arrays and their description go.")],
    *,
    trajectories: Annotated[int | None, typer.Option("--trajectories", help="Simulations to make.")] = None,
    frames: Annotated[int | None, typer.Option("--frames", help="Frames of each.")] = None,
    resolution: Annotated[int | None, typer.Option("--resolution", help="Nodes per axis.")] = None,
    viscosity: Annotated[float | None, typer.Option("--viscosity", help="Diffusion coefficient.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the initial conditions.")] = 0,
    name: Annotated[str | None, typer.Option("--name", help="Of data set and files; the recipe's otherwise.")] = None,
    overwrite: _Overwrite = False,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Solve an equation and write described arrays, which `convert` takes."""
    with _errors_reported(as_json=as_json, debug=debug):
        content = {
            "num_trajectories": trajectories,
            "num_frames": frames,
            "resolution": resolution,
            "viscosity": viscosity,
            "seed": seed,
            "name": name,
        }
        settings = parse_record(GenerateSettings, content, where="the command line")
        with _progress_shown() as progress:
            path = generate(recipe, folder, settings, overwrite=overwrite, progress=progress)
        size = path.with_suffix(".npy").stat().st_size
        if as_json:
            _print_json({"ok": True, "recipe": recipe, "description": str(path), "size_bytes": size})
        else:
            typer.echo(f"{path} describes {format_bytes(size)} of fields; next: ups-preprocess convert {path} DEST")


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


@contextmanager
def _errors_reported(*, as_json: bool, debug: bool) -> Iterator[None]:
    """Turn errors into one message on standard error and an exit status."""
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from error
    except (UpsDataError, OSError, MemoryError) as error:
        if debug:
            traceback.print_exc()
        message = str(error) or type(error).__name__
        typer.echo(f"error: {message}", err=True)
        if as_json:
            _print_json({"ok": False, "error": {"type": type(error).__name__, "message": message}})
        raise typer.Exit(MISUSE if isinstance(error, _MISUSES) else PROBLEM) from error


@contextmanager
def _progress_shown() -> Iterator[Progress]:
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


def _open_request(sources: list[Path], config: Path | None, **typed: Any) -> tuple[Source, ConvertSettings]:
    """Open a source as the configuration file and what was typed above it say; None is what was not typed."""
    settings = _read_config(config, {key: value for key, value in typed.items() if value is not None})
    source = open_source(sources, settings.format, settings.options)
    return source, ConvertSettings(**settings.model_dump(exclude={"format", "options"}))


def _read_config(path: Path | None, typed: Mapping[str, Any]) -> ConvertConfig:
    """Read the configuration file and put what was typed above it."""
    content: dict[str, Any] = {}
    where = "the command line"
    if path is not None:
        where = f"{path.name} with the command line"
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the configuration file {path} cannot be read: {error}") from error
        parsed = parse_yaml(text, where=path.name)
        # Checked alone first, so that a message about it names it and not the command line.
        parse_record(ConvertConfig, _with_metrics(parsed), where=path.name)
        content = dict(parsed)
    for key, value in typed.items():
        # A metric typed changes the metrics alone, not the exponent that the file states.
        content[key] = {**content.get(key, {}), **value} if key in {"importance", "options"} else value
    settings = parse_record(ConvertConfig, _with_metrics(content), where=where)
    if settings.importance is not None:
        try:
            check_metrics(settings.importance)
        except SchemaError as error:
            raise ConfigError(str(error)) from error
    return settings


def _parse_options(pairs: list[str]) -> dict[str, Any]:
    """Read `KEY=VALUE` options, values as YAML reads them: `true`, `0.01`, `xy`."""
    options = {}
    for pair in pairs:
        key, found, value = pair.partition("=")
        if not found or not key:
            raise ConfigError(f"--option must be KEY=VALUE, got {pair!r}")
        options[key] = parse_yaml(value, where=f"--option {key}")
    return options


def _with_metrics(content: Any) -> Any:
    """Put the default metrics into a recipe that states other things alone."""
    recipe = content.get("importance") if isinstance(content, Mapping) else None
    if not isinstance(recipe, Mapping) or "metrics" in recipe:
        return content
    return {**content, "importance": {"metrics": default_recipe().metrics, **recipe}}


def _parse_recipe(text: str) -> dict[str, Any]:
    """Read metrics and the other numbers of a recipe: `gradient=1,exponent=1.5,clip.quantile=0.99`."""
    recipe: dict[str, Any] = {}
    for key, number in _parse_numbers(text, "--importance").items():
        group, _, member = key.partition(".")
        if key in {"exponent", "floor"}:
            recipe[key] = number
        elif group == "clip":
            recipe.setdefault(group, {})[member] = number
        else:
            recipe.setdefault("metrics", {})[key] = number
    return recipe


def _parse_numbers(text: str, option: str) -> dict[str, float]:
    """Read `a=1,b=0.5`."""
    numbers: dict[str, float] = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"{option} must be NAME=NUMBER,NAME=NUMBER,..., got {text!r}")
        if not key.strip() or key.strip() in numbers:
            raise ConfigError(f"{option} must name every entry once, got {text!r}")
        numbers[key.strip()] = number
    return numbers


def _parse_list(text: str, option: str, kind: Callable[[str], _Number]) -> tuple[_Number, ...]:
    """Read `1,0.5,0.1`."""
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{option} must be NUMBER,NUMBER,..., got {text!r}")
    return numbers


def _report_conversion(manifest: Manifest, dest: Path, seconds: float, *, as_json: bool) -> None:
    size = sum(entry.size_bytes for entry in manifest.files)
    if as_json:
        _print_json(
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


def _print_json(content: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(content, allow_nan=False))
