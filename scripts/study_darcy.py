#!/usr/bin/env python
"""Train on the real Darcy data of the neuraloperator package with all and with 64 of 256 queries, 3 seeds each.

Fetches the data by pip (4 MB, kept in the user's cache), converts, validates and proves them, then trains by equal
steps and by equal wall-clock, the runs interleaved. The errors are relative L2 on all points of the 50 test samples;
the models that were trained on 16 x 16 nodes also answer on 32 x 32. Exit status 1 where a median is not below 0.10.

Example: scripts/study_darcy.py --output study_darcy.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import rich.console
import rich.table

from evaluate import evaluate_checkpoint
from machine import machine_line
from preprocess.convert import convert
from preprocess.prove import prove
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.datasets import fetch
from preprocess.validate import validate
from ups_data.storage import open_store
from ups_data.training import Checkpoint, TrainConfig, load_config, train
from ups_data.training.journal import CHECKPOINT_NAME

PROMISE = 0.10
CONFIG = Path(__file__).resolve().parents[1] / "configs" / "darcy.yaml"
SAMPLERS = {
    "all 256": {"kind": "dense"},
    "64, balanced": {"kind": "balanced", "num_queries": 64},
}
CONSOLE = rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run gave: dense relative L2 errors on the test samples, and its cost."""

    bound: str
    queries: str
    seed: int
    steps: int
    seconds: float
    error_16: float
    error_32: float


def main() -> int:
    """Run the study and print its table."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sound = prepare(folder)
        outcomes = run_all(arguments, folder)
    CONSOLE.print(f"machine: {machine_line()}")
    CONSOLE.print(tabulate(outcomes))
    held = sound and all(median < PROMISE for median in medians(outcomes).values())
    CONSOLE.print(f"every median below {PROMISE:.2f}: {'held' if held else 'not held'}")
    if arguments.output is not None:
        content = {"machine": machine_line(), "held": held, "runs": [asdict(outcome) for outcome in outcomes]}
        arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if held else 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="of the runs by equal steps (1000)")
    parser.add_argument("--seconds", type=float, default=40.0, help="of the runs by equal wall-clock (40)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind (3)")
    parser.add_argument("--output", type=Path, help="write what was measured as JSON")
    return parser.parse_args()


def prepare(folder: Path) -> bool:
    """Fetch and convert both resolutions, and return whether the stores are sound and their draws unbiased."""
    files = fetch("neuraloperator-darcy")
    convert(open_source([files["train_16"], files["test_16"]]), folder / "darcy_16", ConvertSettings())
    convert(open_source([files["test_32"]]), folder / "darcy_32", ConvertSettings())
    sound = all(validate(folder / name).ok for name in ("darcy_16", "darcy_32"))
    proof = prove(open_store(str(folder / "darcy_16")), ratio=0.25)
    CONSOLE.print(proof.to_tables())
    CONSOLE.print(f"stores are sound: {sound}; draws are unbiased: {proof.ok}")
    return sound and proof.ok


def run_all(arguments: argparse.Namespace, folder: Path) -> list[Outcome]:
    """Train every combination, interleaved, so that a machine that slows down slows all of them."""
    bounds: dict[str, dict[str, float | None]] = {
        f"{arguments.steps} steps": {"steps": arguments.steps, "seconds": None},
        f"{arguments.seconds:g} s": {"steps": None, "seconds": arguments.seconds},
    }
    base = load_config(CONFIG, [f"data.store={folder / 'darcy_16'}"])
    outcomes = []
    for bound, limits in bounds.items():
        for seed in range(arguments.seeds):
            for queries, sampler in SAMPLERS.items():
                config = base.with_changes(**limits, seed=seed, sampler=sampler, evaluations=1)
                outcomes.append(run(config, folder, bound, queries))
                CONSOLE.print(f"{bound}, {queries} queries, seed {seed}: {outcomes[-1].error_16:.4f}")
    return outcomes


def run(config: TrainConfig, folder: Path, bound: str, queries: str) -> Outcome:
    """Train once, and evaluate the checkpoint on both resolutions."""
    output = folder / f"{bound}-{queries}-{config.seed}"
    last = train(config, output=output).records[-1]
    checkpoint = Checkpoint.load(output / CHECKPOINT_NAME)
    return Outcome(
        bound=bound,
        queries=queries,
        seed=config.seed,
        steps=last.step,
        seconds=last.seconds,
        error_16=evaluate_checkpoint(checkpoint).relative_l2,
        error_32=evaluate_checkpoint(checkpoint, str(folder / "darcy_32")).relative_l2,
    )


def medians(outcomes: list[Outcome]) -> dict[tuple[str, str], float]:
    """Return the median test error over seeds of every kind of run."""
    kinds = dict.fromkeys((outcome.bound, outcome.queries) for outcome in outcomes)
    return {
        kind: statistics.median(part.error_16 for part in outcomes if (part.bound, part.queries) == kind)
        for kind in kinds
    }


def tabulate(outcomes: list[Outcome]) -> rich.table.Table:
    """Return the table of the runs, by kind."""
    table = rich.table.Table(title="Darcy flow, relative L2 on all points of the test samples", title_justify="left")
    for column in ("bound", "queries", "steps", "seconds", "16 x 16: seeds", "median", "32 x 32: seeds"):
        table.add_column(column, justify="left" if column in ("bound", "queries") else "right")
    for (bound, queries), median in medians(outcomes).items():
        runs = [outcome for outcome in outcomes if (outcome.bound, outcome.queries) == (bound, queries)]
        table.add_row(
            bound,
            queries,
            f"{statistics.median(part.steps for part in runs):.0f}",
            f"{statistics.median(part.seconds for part in runs):.1f}",
            " ".join(f"{part.error_16:.4f}" for part in runs),
            f"{median:.4f}",
            " ".join(f"{part.error_32:.4f}" for part in runs),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
