#!/usr/bin/env python
"""Train on real data with uniform, stratified, importance and dense draws: dense test errors at the same cost.

Two data sets that none of us made, each with one model whatever is drawn:

winds: the winds of the next month from those of two months, 72 x 144 nodes of the globe, `--winds
    monthly_navy_winds.cdf` of Debian's package ferret-datasets (apt-get download ferret-datasets; dpkg-deb -x
    ferret-datasets*.deb FOLDER); without the row at the north pole, so that patches divide the grid;
step_flow: velocity from pressure behind a backward-facing step, 1,639 nodes of a triangulation, 500 Reynolds numbers
    (package smithers, fetched by pip, 65 MB).

Every sampler and size trains for the same time, seed after seed, all arms interleaved, with one thread, loading of
batches counted and evaluation not; learning rates follow it to zero. Time is by the clock, which wants an idle machine;
`--clock processor` takes that of the process on the processor, in which other work on the machine has little say.
Errors are relative L2 on all points of the test samples.

Example: scripts/study_same_cost.py --output same_cost.json --plot same_cost.svg --winds FOLDER/monthly_navy_winds.cdf
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import rich.console
import rich.table
import xarray

from machine import machine_line
from preprocess.convert import convert
from preprocess.report.figures import LIGHT, chart_style
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from study_real import RealData, open_step_flow
from ups_data.storage import open_store
from ups_data.training import TrainConfig, train
from ups_data.yaml_records import parse_record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = ("uniform", "stratified", "importance")
CONSOLE = rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run gave.

    Attributes:
        data: name of the data set.
        draws: name of the sampler.
        seed: of weights, order and draws.
        num_points: of a sample.
        queries: drawn points of a sample, in the mean.
        steps: optimiser steps.
        seconds: of training.
        clock: by which they are measured, `wall` or `processor`.
        curve: seconds and dense relative L2 errors of the evaluations.
    """

    data: str
    draws: str
    seed: int
    num_points: int
    queries: float
    steps: int
    seconds: float
    clock: str
    curve: tuple[tuple[float, float], ...]

    @property
    def error(self) -> float:
        """At the end."""
        return self.curve[-1][1]

    @property
    def arm(self) -> tuple[str, float]:
        """Sampler and size."""
        return self.draws, self.queries


def main() -> int:
    """Train everything, and write what was found."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as scratch:
        found = [open_step_flow(Path(scratch))]
        if arguments.winds is not None:
            found.append(open_winds(arguments.winds, Path(scratch)))
        outcomes = [outcome for data in found for outcome in run_all(data, Path(scratch), arguments)]
    CONSOLE.print(f"machine: {machine_line()}")
    for data in dict.fromkeys(outcome.data for outcome in outcomes):
        CONSOLE.print(tabulate([outcome for outcome in outcomes if outcome.data == data]))
    if arguments.output is not None:
        runs = [asdict(outcome) for outcome in outcomes]
        arguments.output.write_text(json.dumps({"machine": machine_line(), "runs": runs}, indent=1) + "\n")
    if arguments.plot is not None:
        plot(outcomes, arguments.plot)
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--winds", type=Path, help="monthly_navy_winds.cdf; left out otherwise")
    sizes = (0.03, 0.1, 0.3)
    parser.add_argument("--ratios", type=float, nargs="+", default=sizes, help="drawn points / points (0.03 0.1 0.3)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each run (15)")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="what they are of (wall)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind (3)")
    parser.add_argument("--output", type=Path, help="write what was measured as JSON")
    parser.add_argument("--plot", type=Path, help="draw it, as FILE.svg or FILE.png")
    return parser.parse_args()


def open_winds(path: Path, folder: Path) -> RealData:
    """Return the winds without the row at the north pole, a trajectory a year."""
    with xarray.open_dataset(path, decode_times=False) as winds:
        winds.isel(FNOCY=slice(0, 72)).to_netcdf(folder / "winds.nc")
    return RealData(
        name="winds",
        source=open_source([folder / "winds.nc"], options={"frames_per_trajectory": 12}),
        data={"window": {"inputs": 2, "targets": 1}, "batch_size": 4},
        model={"grid_encoder": {"patch": 8}, "residual": True},
        settings=ConvertSettings(splits={"train": 0.8, "test": 0.2}),
    )


def run_all(data: RealData, folder: Path, arguments: argparse.Namespace) -> Iterator[Outcome]:
    """Convert a data set and train every arm on it."""
    path = folder / f"{data.name}-store"
    convert(data.source, path, data.settings)
    num_points = open_store(path).num_points(0)
    samplers = [{"kind": kind, "ratio": ratio} for ratio in arguments.ratios for kind in KINDS]
    for seed in range(arguments.seeds):
        for sampler in [*samplers, {"kind": "dense"}]:
            config = configure(data, path, sampler, arguments.seconds, seed)
            outcome = run(config, data.name, num_points, arguments.clock)
            name = f"{outcome.draws}, {outcome.queries:.0f} queries, {outcome.steps} steps"
            CONSOLE.print(f"{data.name}, seed {seed}, {name}: {outcome.error:.4f}")
            yield outcome


def configure(data: RealData, path: Path, sampler: dict[str, Any], seconds: float, seed: int) -> TrainConfig:
    """Return the configuration of a run."""
    content = {
        "data": {"batch_size": 8, "test_samples": 20, **data.data, "store": str(path)},
        "sampler": sampler,
        "model": data.model,
        "evaluations": 8,
        "threads": 1,
        "device": "cpu",
        "seconds": seconds,
        "seed": seed,
    }
    return parse_record(TrainConfig, content, where="study_same_cost")


def run(config: TrainConfig, data: str, num_points: int, clock: str) -> Outcome:
    """Train once, by this clock."""
    with mock.patch.object(time, "perf_counter", time.perf_counter if clock == "wall" else time.process_time):
        records = train(config).records
    sampler = config.sampler
    return Outcome(
        data=data,
        draws=sampler.kind,
        seed=config.seed,
        num_points=num_points,
        queries=num_points if sampler.kind == "dense" else float(sampler.ratio) * num_points,  # type: ignore[arg-type]  # no ramp
        steps=records[-1].step,
        seconds=records[-1].seconds,
        clock=clock,
        curve=tuple((record.seconds, record.relative_l2) for record in records if record.relative_l2 is not None),
    )


def by_arm(outcomes: Sequence[Outcome]) -> dict[tuple[str, float], list[Outcome]]:
    """Return the outcomes of each sampler and size, by seed."""
    found: dict[tuple[str, float], list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.arm, []).append(outcome)
    return found


def median_error(outcomes: Sequence[Outcome]) -> float:
    """Return the median over seeds of the last errors."""
    return statistics.median(outcome.error for outcome in outcomes)


def time_to(outcomes: Sequence[Outcome], error: float) -> float | None:
    """Return the median over seeds of the seconds to the first evaluation with at most this error; None for never."""
    found = [next((seconds for seconds, reached in one.curve if reached <= error), float("inf")) for one in outcomes]
    middle = statistics.median(found)
    return middle if middle < float("inf") else None


def tabulate(outcomes: Sequence[Outcome]) -> rich.table.Table:
    """Return the table of one data set."""
    arms = by_arm(outcomes)
    first = outcomes[0]
    dense = median_error(arms["dense", first.num_points])
    table = rich.table.Table(
        title=f"{first.data}: relative L2 on all {first.num_points} points of the test samples", title_justify="left"
    )
    for column in ("draws", "queries", "steps", "median", "least", "most", "of dense", "time to dense's"):
        table.add_column(column, justify="left" if column == "draws" else "right")
    for (draws, queries), runs in arms.items():
        errors = [outcome.error for outcome in runs]
        reached = time_to(runs, dense)
        table.add_row(
            draws,
            f"{queries:.0f}",
            f"{statistics.median(outcome.steps for outcome in runs):.0f}",
            f"{median_error(runs):.4f}",
            f"{min(errors):.4f}",
            f"{max(errors):.4f}",
            f"{median_error(runs) / dense:.2f}",
            "never" if reached is None else f"{reached:.1f} s",
        )
    return table


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw errors against queries and against time, a row for each data set."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(outcome.data for outcome in outcomes))
    with chart_style(LIGHT):
        figure = Figure(figsize=(9.6, 3.4 * len(names)), layout="constrained", facecolor="white")
        rows = figure.subplots(len(names), 2, squeeze=False)
        for name, (left, right) in zip(names, rows, strict=True):
            chosen = [outcome for outcome in outcomes if outcome.data == name]
            draw_by_queries(left, chosen)
            draw_by_time(right, chosen)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


COLOURS = {"uniform": "muted", "stratified": "third", "importance": "sparse", "dense": "dense"}


def draw_by_queries(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    """Draw the last errors: medians, and bars from the least to the most."""
    arms, first = by_arm(outcomes), outcomes[0]
    for place, draws in enumerate((*KINDS, "dense")):
        some = {queries: runs for (kind, queries), runs in arms.items() if kind == draws}
        middle = [median_error(runs) for runs in some.values()]
        errors = [[outcome.error for outcome in runs] for runs in some.values()]
        spread = [
            [mid - min(found) for mid, found in zip(middle, errors, strict=True)],
            [max(found) - mid for mid, found in zip(middle, errors, strict=True)],
        ]
        # Side by side, so that bars can be told apart.
        places = [queries * (1 + 0.05 * (place - 1)) for queries in some]
        colour = LIGHT[COLOURS[draws]]
        axes.errorbar(places, middle, yerr=spread, fmt="o-", color=colour, markersize=4, capsize=2, label=draws)
    axes.set_xscale("log")
    ticks = sorted({queries for _, queries in arms})
    axes.set_xticks(ticks, [f"{queries:,.0f}" for queries in ticks])
    axes.minorticks_off()
    seconds = statistics.median(outcome.seconds for outcome in outcomes)
    finish(axes, f"{first.data}: error after {seconds:.0f} s by queries a sample")


def draw_by_time(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    """Draw medians of the errors on the way, of each sampler at the size that ended best."""
    arms = by_arm(outcomes)
    for draws in (*KINDS, "dense"):
        queries = min((arm[1] for arm in arms if arm[0] == draws), key=lambda size: median_error(arms[draws, size]))
        curves = [outcome.curve for outcome in arms[draws, queries]]
        points = list(zip(*curves, strict=False))
        times = [statistics.median(seconds for seconds, _ in point) for point in points]
        errors = [statistics.median(error for _, error in point) for point in points]
        label = f"{draws}, {queries:,.0f} queries"
        axes.plot(times, errors, "o-", color=LIGHT[COLOURS[draws]], markersize=3, label=label)
    axes.set_xlabel("seconds" if outcomes[0].clock == "wall" else "seconds on the processor", loc="left")
    finish(axes, f"{outcomes[0].data}: error by time")


def finish(axes: Axes, title: str) -> None:
    """Put the title, the grid and the names of the samplers."""
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_axisbelow(True)
    axes.grid(visible=True)
    axes.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    sys.exit(main())
