#!/usr/bin/env python
"""Measure how long a whole training step takes, dense and sparse, with data streaming from a store.

A step is: wait for the batch, bring it to the device, forward, loss, backward, optimiser. All ratios are measured in
one run, in turns, a few steps each; medians. What is saved is the share of the dense step's time. The share of time
that the device waits for data is that of all steps together.

Example: scripts/benchmark_training_speed.py --case plane --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmark_cases import (
    CASES,
    Case,
    Taken,
    Training,
    add_memory_limit,
    call_limited,
    choose_device,
    make_parser,
    make_store,
    publish,
    saving,
    take_in_turns,
)
from ups_data.storage import open_store

COLUMNS = {
    "ms a step": lambda row, _: f"{1e3 * row['seconds']:.0f}",
    "saved": saving("seconds"),
    "CPU ms a step": lambda row, _: f"{1e3 * row['cpu']:.0f}",
    "CPU saved": saving("cpu"),
    "samples/s": lambda row, _: f"{row['samples_per_second']:.1f}",
    "waiting for data": lambda row, _: f"{row['waited']:.0%}",
    "MB a batch": lambda row, _: f"{row['batch_bytes'] / 1e6:.2f}",
}


def main() -> int:
    """Measure and print a table."""
    parser = make_parser(__doc__)
    add_memory_limit(parser)
    parser.add_argument("--rounds", type=int, default=5, help="turns (5)")
    parser.add_argument("--steps", type=int, default=3, help="steps of each ratio and turn (3)")
    parser.add_argument("--workers", type=int, default=1, help="processes that build batches, of each ratio (1)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(CASES[arguments.case], arguments, arguments.data or Path(folder))
    publish(arguments, rows, COLUMNS)
    return 0


def measure(case: Case, arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Return a row a ratio."""
    path, device = make_store(case, folder), choose_device(arguments.device)
    fitting = find_fitting(path, arguments)
    store = open_store(path)
    runs = [Training(case, store, ratio, device=device, num_workers=arguments.workers) for ratio in fitting]
    found = dict(zip(fitting, take_in_turns(runs, rounds=arguments.rounds, steps=arguments.steps), strict=True))
    return [
        {"ratio": ratio, "fits": ratio in found, **(summarise(case, found[ratio]) if ratio in found else {})}
        for ratio in arguments.ratios
    ]


def find_fitting(store: Path, arguments: argparse.Namespace) -> list[float]:
    """Return those ratios of which there is memory for a step; where it is for one, it is for all below."""
    limit, case, device = arguments.memory_gib, CASES[arguments.case], arguments.device
    fitting = (
        ratio
        for ratio in sorted(set(arguments.ratios), reverse=True)
        if call_limited(limit, take_step, case, store, ratio, device) is not None
    )
    largest = next(fitting, 0.0)
    return [ratio for ratio in arguments.ratios if ratio <= largest]


def take_step(case: Case, store: Path, ratio: float, device: str) -> bool:
    """Take one step."""
    Training(case, open_store(store), ratio, device=choose_device(device)).step()
    return True


def summarise(case: Case, steps: list[Taken]) -> dict[str, Any]:
    """Return the figures of a row."""
    return {
        "seconds": statistics.median(step.total for step in steps),
        "cpu": statistics.median(step.cpu for step in steps),
        "slowest": max(step.total for step in steps),
        "waited": sum(step.waited for step in steps) / sum(step.total for step in steps),
        "samples_per_second": case.batch_size / statistics.median(step.total for step in steps),
        "batch_bytes": statistics.median(step.batch_bytes for step in steps),
    }


if __name__ == "__main__":
    sys.exit(main())
