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
    Training,
    choose_device,
    make_parser,
    make_store,
    publish,
    saved,
    take_in_turns,
)
from ups_data.storage import open_store

COLUMNS = {
    "ms a step": lambda row, _: f"{1e3 * row['seconds']:.0f}",
    "saved": lambda row, dense: saved(row["seconds"], dense["seconds"]),
    "CPU ms a step": lambda row, _: f"{1e3 * row['cpu']:.0f}",
    "CPU saved": lambda row, dense: saved(row["cpu"], dense["cpu"]),
    "samples/s": lambda row, _: f"{row['samples_per_second']:.1f}",
    "waiting for data": lambda row, _: f"{row['waited']:.0%}",
    "MB a batch": lambda row, _: f"{row['batch_bytes'] / 1e6:.2f}",
}


def main() -> int:
    """Measure and print a table."""
    parser = make_parser(__doc__)
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
    store, device = open_store(make_store(case, folder)), choose_device(arguments.device)
    runs = [Training(case, store, ratio, device=device, num_workers=arguments.workers) for ratio in arguments.ratios]
    found = take_in_turns(runs, rounds=arguments.rounds, steps=arguments.steps)
    return [
        {
            "ratio": ratio,
            "seconds": statistics.median(step.total for step in steps),
            "cpu": statistics.median(step.cpu for step in steps),
            "slowest": max(step.total for step in steps),
            "waited": sum(step.waited for step in steps) / sum(step.total for step in steps),
            "samples_per_second": case.batch_size / statistics.median(step.total for step in steps),
            "batch_bytes": statistics.median(step.batch_bytes for step in steps),
        }
        for ratio, steps in zip(arguments.ratios, found, strict=True)
    ]


if __name__ == "__main__":
    sys.exit(main())
