#!/usr/bin/env python
"""Train with draws that follow the losses, against draws that do not: errors, steps, seconds, and gradients.

Three comparisons on the next frame of generated fields, the runs interleaved, errors dense on the test trajectories:

front: 2-D Burgers flow with moving fronts; uniform, balanced, importance and adaptive draws, by equal steps and by
    equal wall-clock. What a draw is worth for the gradient is measured at the end of each adaptive run: the mean
    squared distance of the gradient from that of all points, of uniform points over that of each sampler.
waves: travelling random waves that are the same everywhere, where importance is useless; uniform and adaptive draws.
garbage: the fronts again, with losses fed back that say nothing: constant, random, NaN, enormous; against none.

Exit status 1 where adaptive draws do not reach the last error of uniform ones in fewer steps, or where, in the median,
they are more than 3 % worse than uniform ones on the waves, or with garbage more than 3 % worse than with none.

Needs exponax: pip install "ups-data[demo]".

Example: scripts/study_adaptive.py --output study_adaptive.json --plot adaptive.svg
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import rich.console
import rich.table
import torch
import yaml
from jaxtyping import Float32, Float64

from machine import machine_line
from preprocess.convert import convert
from preprocess.report.figures import LIGHT, chart_style, set_log_ticks
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.generated import GenerateSettings, generate
from ups_data.collate import SparseBatch, collate_samples
from ups_data.feedback import Feedback
from ups_data.random import Stream, generator
from ups_data.samplers import DenseSampler, DrawKey, Sampler
from ups_data.training import Checkpoint, load_config, train
from ups_data.training.journal import CHECKPOINT_NAME
from ups_data.training.objective import Objective

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "burgers.yaml"
TOLERANCE = 1.03
SPLITS = {"train": 0.75, "test": 0.25}
KINDS = ("uniform", "balanced", "importance", "adaptive")
NEVER = 2**40  # steps before losses would count
GARBAGE = ("constant", "random", "NaN", "enormous")
CONSOLE = rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the things that are compared.

    Attributes:
        task: `front`, `waves` or `garbage`.
        draws: sampler, or what is fed back to the adaptive one.
        sampler: its section of the configuration.
        garbage: one of `GARBAGE`, None where true losses are fed back.
        by_time: whether the run is bounded by seconds, not by steps.
    """

    task: str
    draws: str
    sampler: dict[str, Any]
    garbage: str | None = None
    by_time: bool = False

    @property
    def store(self) -> str:
        """Name of the store that it trains on."""
        return "waves" if self.task == "waves" else "front"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run gave.

    Attributes:
        task, draws, by_time, seed: which run.
        seconds: of training, evaluation not counted.
        curve: steps and dense relative L2 errors of the evaluations.
        worth: of an adaptive run on fronts, what a point of each sampler is worth for the gradient, in uniform points.
    """

    task: str
    draws: str
    by_time: bool
    seed: int
    seconds: float
    curve: tuple[tuple[int, float], ...]
    worth: dict[str, float]

    @property
    def error(self) -> float:
        """At the end."""
        return self.curve[-1][1]


def main() -> int:
    """Run the study and print its tables."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder, arguments)
        outcomes = run_all(folder, arguments)
    CONSOLE.print(f"machine: {machine_line()}; {arguments.resolution} x {arguments.resolution} points")
    CONSOLE.print(tabulate(outcomes))
    if any(outcome.worth for outcome in outcomes):
        CONSOLE.print(tabulate_worth(outcomes))
    checks = check(outcomes)
    for line, held in checks:
        CONSOLE.print(f"{line}: {'held' if held else 'not held'}")
    if arguments.output is not None:
        settings = {key: value for key, value in vars(arguments).items() if key not in ("output", "plot")}
        runs = [asdict(outcome) for outcome in outcomes]
        content = {"machine": machine_line(), "settings": settings, "checks": dict(checks), "runs": runs}
        arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if arguments.plot is not None:
        plot(outcomes, arguments.plot)
    return 0 if all(held for _, held in checks) else 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = ("front", "waves", "garbage")
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=tasks, help="comparisons to make (all)")
    parser.add_argument("--resolution", type=int, default=128, help="nodes per axis (128)")
    parser.add_argument("--ratio", type=float, default=0.02, help="drawn points / points (0.02)")
    parser.add_argument("--steps", type=int, default=1000, help="of the runs by equal steps (1000)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the runs by equal wall-clock; 0 for none (20)")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each kind (5)")
    parser.add_argument("--draws", type=int, default=64, help="draws of each sampler for the gradient (64)")
    parser.add_argument("--output", type=Path, help="write what was measured as JSON")
    parser.add_argument("--plot", type=Path, help="draw errors by steps, as FILE.svg or FILE.png")
    return parser.parse_args()


def prepare(folder: Path, arguments: argparse.Namespace) -> None:
    """Generate and convert what the tasks need."""
    made = GenerateSettings(num_trajectories=16, num_frames=11, resolution=arguments.resolution, viscosity=4e-3)
    if not {"front", "garbage"}.isdisjoint(arguments.tasks):
        convert(open_source([generate("burgers", folder, made)]), folder / "front", ConvertSettings(splits=SPLITS))
    if "waves" in arguments.tasks:
        description = write_waves(folder, resolution=arguments.resolution)
        convert(open_source([description]), folder / "waves", ConvertSettings(splits=SPLITS))


def write_waves(folder: Path, *, resolution: int, num_trajectories: int = 16, num_frames: int = 11) -> Path:
    """Write fields that travel over the unit square by (0.02, 0.01) a frame, of one spectrum everywhere.

    Each is a sum of 24 plane waves of random phase and of random whole wave numbers from -6 to 6, both not 0.
    """
    fields: Float32[np.ndarray, "trajectory frame x y"] = np.empty(
        (num_trajectories, num_frames, resolution, resolution), dtype=np.float32
    )
    nodes = np.arange(resolution) / resolution
    for number in range(num_trajectories):
        random = generator(seed=0, stream=Stream.GENERATE, words=(1, number))
        waves = random.integers(1, 7, size=(24, 2)) * random.choice([-1, 1], size=(24, 2))
        phases = random.uniform(0, 2 * np.pi, size=24)
        for frame in range(num_frames):
            x, y = nodes - 0.02 * frame, nodes - 0.01 * frame
            left = np.exp(2j * np.pi * np.outer(waves[:, 0], x) + 1j * phases[:, None])
            right = np.exp(2j * np.pi * np.outer(waves[:, 1], y))
            fields[number, frame] = np.einsum("kx,ky->xy", left, right).real / np.sqrt(12)
    np.save(folder / "waves.npy", fields)
    axis = {"start": 0.0, "stop": 1.0, "periodic": True}
    description = {
        "format": "arrays",
        "name": "waves",
        "kind": "grid",
        "dims": ["trajectory", "time", "x", "y"],
        "fields": {"height": {"file": "waves.npy"}},
        "axes": {"x": axis, "y": dict(axis)},
        "times": {"start": 0.0, "step": 1.0},
    }
    path = folder / "waves.yaml"
    path.write_text(yaml.safe_dump(description), encoding="utf-8")
    return path


def list_arms(arguments: argparse.Namespace) -> list[Arm]:
    """Return what is compared."""
    samplers = {kind: {"kind": kind, "ratio": arguments.ratio} for kind in KINDS}
    arms = []
    if "front" in arguments.tasks:
        bounds = (False, True) if arguments.seconds else (False,)
        arms += [Arm(task="front", draws=kind, sampler=samplers[kind], by_time=by) for by in bounds for kind in KINDS]
    if "waves" in arguments.tasks:
        arms += [Arm(task="waves", draws=kind, sampler=samplers[kind]) for kind in ("uniform", "adaptive")]
    if "garbage" in arguments.tasks:
        unfed = {**samplers["adaptive"], "feedback": {"warmup": NEVER}}
        arms.append(Arm(task="garbage", draws="none", sampler=unfed))
        arms += [Arm(task="garbage", draws=kind, sampler=samplers["adaptive"], garbage=kind) for kind in GARBAGE]
    return arms


def run_all(folder: Path, arguments: argparse.Namespace) -> list[Outcome]:
    """Train every arm with every seed, interleaved, so that a machine that slows down slows all of them."""
    outcomes = []
    for seed in range(arguments.seeds):
        for arm in list_arms(arguments):
            outcomes.append(run(arm, seed, folder, arguments))
            bound = f"{arguments.seconds:g} s" if arm.by_time else f"{arguments.steps} steps"
            CONSOLE.print(f"seed {seed}, {arm.task}, {arm.draws}, {bound}: {outcomes[-1].error:.4f}")
    return outcomes


def run(arm: Arm, seed: int, folder: Path, arguments: argparse.Namespace) -> Outcome:
    """Train once; at the end of an adaptive run on fronts, measure gradients too."""
    config = load_config(CONFIG).with_changes(
        data={"store": str(folder / arm.store), "batch_size": 2, "test_samples": 16},
        sampler=arm.sampler,
        steps=None if arm.by_time else arguments.steps,
        seconds=arguments.seconds if arm.by_time else None,
        evaluations=10,
        seed=seed,
    )
    output = folder / f"{arm.task}-{arm.draws}-{arm.by_time}-{seed}"
    with contextlib.nullcontext() if arm.garbage is None else corrupt_feedback(arm.garbage):
        records = train(config, output=output).records
    worth = {}
    if (arm.task, arm.draws, arm.by_time) == ("front", "adaptive", False):
        worth = gradient_worth(Checkpoint.load(output / CHECKPOINT_NAME), draws=arguments.draws)
    return Outcome(
        task=arm.task,
        draws=arm.draws,
        by_time=arm.by_time,
        seed=seed,
        seconds=records[-1].seconds,
        curve=tuple((record.step, record.relative_l2) for record in records if record.relative_l2 is not None),
        worth=worth,
    )


@contextlib.contextmanager
def corrupt_feedback(kind: str) -> Iterator[None]:
    """Let loaders be told garbage in place of losses."""
    add = Feedback.add

    def add_garbage(feedback: Feedback, batch: SparseBatch, per_query: torch.Tensor) -> None:
        add(feedback, batch, _garbage(kind, per_query, feedback.next_step))

    with mock.patch.object(Feedback, "add", add_garbage):
        yield


def _garbage(kind: str, losses: torch.Tensor, step: int) -> torch.Tensor:
    """Return what says nothing, in the shape of losses; random are squares of Cauchy numbers, which have no mean."""
    if kind == "constant":
        return torch.ones_like(losses)
    if kind == "NaN":
        return torch.full_like(losses, torch.nan)
    random = generator(seed=0, stream=Stream.GENERATE, words=(2, step))
    found = torch.from_numpy(random.standard_cauchy(tuple(losses.shape)) ** 2)
    return found * {"random": 1.0, "enormous": 1e30}[kind]


def gradient_worth(checkpoint: Checkpoint, *, draws: int, num_samples: int = 8) -> dict[str, float]:
    """Return what a point of each sampler is worth for the gradient of a trained model, in uniform points.

    It is the mean squared distance of the gradient from that of all points, of uniform draws over that of the
    sampler's, each batch being of the same samples, evenly from the training split.

    Args:
        checkpoint: of an adaptive run; its last emphasis is what `adaptive` draws by.
        draws: of each sampler.
        num_samples: of the batch.
    """
    config = checkpoint.header.config
    model, store = checkpoint.build_model().train(), config.data.open()
    objective = Objective(model, config.loss, precision=config.precision, device=torch.device("cpu"))
    (memory,) = checkpoint.header.progress.loader["feedback"]["learnt"]
    _, learnt = memory["emphases"][-1]

    def gradient(sampler: Sampler, number: int) -> Float64[np.ndarray, " weight"]:
        dataset = config.data.build(store, sampler, split=config.data.split)
        samples = np.linspace(0, len(dataset) - 1, num_samples).round().astype(int).tolist()
        emphasis = tuple(learnt) if learnt is not None and sampler.feedback is not None else None
        keys = [DrawKey(seed=1, epoch=number, sample=sample, emphasis=emphasis) for sample in samples]
        total = objective(collate_samples(dataset.draw(keys)), 0).total
        parts = torch.autograd.grad(total, [part for part in model.parameters() if part.requires_grad])
        return torch.cat([part.flatten() for part in parts]).double().numpy()

    dense = gradient(DenseSampler(), 0)
    distances = {}
    for kind in KINDS:
        sampler = config.sampler.model_copy(update={"kind": kind, "feedback": None}).build()
        distances[kind] = np.mean([((gradient(sampler, number) - dense) ** 2).sum() for number in range(draws)])
    return {kind: float(distances["uniform"] / distance) for kind, distance in distances.items()}


def steps_to(curve: Sequence[tuple[int, float]], error: float) -> float:
    """Return the steps after which a curve first reaches an error, linear in between; infinity where it never does."""
    before = curve[0]
    for step, found in curve:
        if found <= error:
            share = 1.0 if before[1] == found else (before[1] - error) / (before[1] - found)
            return before[0] + share * (step - before[0])
        before = (step, found)
    return float("inf")


def check(outcomes: Sequence[Outcome]) -> list[tuple[str, bool]]:
    """Return what is promised of the tasks that were run, and whether it holds."""
    checks = []
    found = by_arm(outcomes)
    if ("front", "adaptive", False) in found:
        steps = steps_to_uniform(outcomes)
        line = "front: steps of adaptive draws to the last error of uniform ones, seed by seed, over theirs: "
        checks.append((line + ", ".join(f"{share:.2f}" for share in steps), statistics.median(steps) < 1))
    for task, reference in (("waves", "uniform"), ("garbage", "none")):
        base = found.get((task, reference, False))
        for (other_task, draws, _), runs in found.items():
            if base is not None and other_task == task and draws != reference:
                share = median_error(runs) / median_error(base)
                checks.append((f"{task}: error of {draws} over that of {reference}: {share:.3f}", share <= TOLERANCE))
    return checks


def steps_to_uniform(outcomes: Sequence[Outcome]) -> list[float]:
    """Return for each seed the steps that adaptive draws take to the last error of uniform ones, over theirs."""
    found = by_arm(outcomes)
    pairs = zip(found["front", "uniform", False], found["front", "adaptive", False], strict=True)
    return [steps_to(adaptive.curve, uniform.error) / uniform.curve[-1][0] for uniform, adaptive in pairs]


def by_arm(outcomes: Sequence[Outcome]) -> dict[tuple[str, str, bool], list[Outcome]]:
    """Return the outcomes of each arm, by seed."""
    found: dict[tuple[str, str, bool], list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault((outcome.task, outcome.draws, outcome.by_time), []).append(outcome)
    return found


def median_error(outcomes: Sequence[Outcome]) -> float:
    """Return the median over seeds of the last errors."""
    return statistics.median(outcome.error for outcome in outcomes)


def tabulate(outcomes: Sequence[Outcome]) -> rich.table.Table:
    """Return the table of errors."""
    table = rich.table.Table(title="Relative L2 on all points of test samples, at the end", title_justify="left")
    for column in ("task", "draws", "bound by", "steps", "seconds", "median", "least", "most"):
        table.add_column(column, justify="left" if column in ("task", "draws", "bound by") else "right")
    for (task, draws, by_time), runs in by_arm(outcomes).items():
        errors = [outcome.error for outcome in runs]
        table.add_row(
            task,
            draws,
            "seconds" if by_time else "steps",
            f"{statistics.median(outcome.curve[-1][0] for outcome in runs):.0f}",
            f"{statistics.median(outcome.seconds for outcome in runs):.1f}",
            f"{statistics.median(errors):.4f}",
            f"{min(errors):.4f}",
            f"{max(errors):.4f}",
        )
    return table


COLOURS = ("muted", "dense", "sparse", "third", "ink")


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw errors by steps, a panel a task: medians over seeds, and bands from the least to the most."""
    from matplotlib.figure import Figure

    found = {arm: runs for arm, runs in by_arm(outcomes).items() if not arm[2]}
    tasks = list(dict.fromkeys(task for task, _, _ in found))
    with chart_style(LIGHT):
        figure = Figure(figsize=(4.2 * len(tasks), 3.4), layout="constrained", facecolor="white")
        for task, axes in zip(tasks, figure.subplots(1, len(tasks), squeeze=False)[0], strict=True):
            for number, (_, draws, _) in enumerate(arm for arm in found if arm[0] == task):
                curves = [outcome.curve for outcome in found[task, draws, False]]
                steps = [step for step, _ in curves[0]]
                errors = np.array([[error for _, error in curve] for curve in curves])
                colour = LIGHT[COLOURS[number % len(COLOURS)]]
                axes.plot(steps, np.median(errors, axis=0), "o-", color=colour, markersize=3, label=draws)
                axes.fill_between(steps, errors.min(axis=0), errors.max(axis=0), color=colour, alpha=0.15, linewidth=0)
            axes.set_yscale("log")
            set_log_ticks(axes, lambda value: f"{value:g}")
            axes.set_axisbelow(True)
            axes.grid(visible=True)
            axes.set_xlabel("steps")
            axes.set_title(f"{task}: relative L2 on all points", loc="left", fontsize=10)
            axes.legend(frameon=False, fontsize=8)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def tabulate_worth(outcomes: Sequence[Outcome]) -> rich.table.Table:
    """Return the table of what points are worth for the gradient."""
    table = rich.table.Table(title="Worth of a point for the gradient, in uniform points", title_justify="left")
    for column in ("draws", "median", "least", "most"):
        table.add_column(column, justify="left" if column == "draws" else "right")
    for kind in KINDS:
        found = [outcome.worth[kind] for outcome in outcomes if outcome.worth]
        table.add_row(kind, f"{statistics.median(found):.2f}", f"{min(found):.2f}", f"{max(found):.2f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
