"""Run the demo: stages, errors, and what is said at the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import rich.console
import rich.table

from demo_runner import Note, Runner, StageError, clear_folder
from demo_settings import CONFIG, PROVED, RECIPE, ROOT, RUNS, DemoSettings
from demo_stages import build_stages
from preprocess.report import Command, StreamRow
from ups_data.errors import ConfigError, UpsDataError

OK, PROBLEM, MISUSE = 0, 1, 2


def run_demo(options: argparse.Namespace, command: str) -> int:
    """Run the demo that was asked for, and return the exit status."""
    console = rich.console.Console()
    output: Path = options.output.absolute()
    try:
        make = DemoSettings.quick if options.quick else DemoSettings.full
        settings = make(output, options.seconds)
        if options.fresh:
            clear_folder(output)
        runner = Runner(output, build_stages(settings, _commands(settings, command)), console)
        runner.run()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISUSE
    except (StageError, UpsDataError, OSError, MemoryError) as error:
        print(f"error: {str(error) or type(error).__name__}", file=sys.stderr)
        return PROBLEM
    console.print(_summary(settings, runner.notes))
    console.print(f"report: {settings.report}", highlight=False, soft_wrap=True)
    return OK


def _commands(settings: DemoSettings, command: str) -> tuple[Command, ...]:
    store = settings.store
    made = settings.generate.model_dump(exclude_none=True)
    names = {"num_trajectories": "trajectories", "num_frames": "frames"}
    options = "".join(f" --{names.get(key, key)} {value}" for key, value in made.items() if key != "seed" or value)
    splits = ",".join(f"{name}={share:g}" for name, share in settings.splits.items())
    config = CONFIG.relative_to(ROOT)
    lines = {
        "all of it": command,
        "the fields": f"ups-preprocess generate {RECIPE} {settings.description.parent}{options}",
        "the store": f"ups-preprocess convert {settings.description} {store} --split {splits}",
        "every byte of it": f"ups-preprocess validate {store}",
        "its draws": f"ups-preprocess prove {store} --split test --ratio {settings.ratio:g} --draws {settings.draws}"
        + "".join(f" --sampler {name}" for name in PROVED),
        "one run": f"python scripts/train.py {config} data.store={store} --output runs/sparse",
    }
    return tuple(Command(line=line, purpose=purpose) for purpose, line in lines.items())


def _summary(settings: DemoSettings, notes: Mapping[str, Note]) -> rich.table.Table:
    rows = [StreamRow(**row) for row in notes["stream"].result["rows"]]
    table = rich.table.Table(title="What it came to", title_justify="left", title_style="bold")
    for number, column in enumerate(("", f"sparse, {settings.ratio:.0%} of the points", "dense, every point")):
        table.add_column(column, justify="left" if number == 0 else "right")
    trained = notes["train"].result
    table.add_row(f"steps in {settings.seconds:g} s", *(f"{trained[name]['steps']:,}" for name in RUNS))
    table.add_row("test error on all points", *(f"{trained[name]['error']:.2%}" for name in RUNS))
    for words, name in (("bytes read a sample", "read_bytes"), ("bytes shipped a sample", "shipped_bytes")):
        table.add_row(words, *(f"{getattr(row, name):,.0f}" for row in (rows[0], rows[-1])))
    table.add_row("samples loaded a second", *(f"{row.samples_per_s:,.0f}" for row in (rows[0], rows[-1])))
    return table
