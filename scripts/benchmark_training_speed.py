#!/usr/bin/env python
"""Measure how long a whole training step takes, dense and sparse, with data streaming from a store.

A step is: wait for the batch, bring it to the device, forward, loss, backward, optimiser. All ratios are measured in
one run, in turns, a few steps each; medians. What is saved is the share of the dense step's time. The share of time
that the device waits for data is that of all steps together.

Example: scripts/benchmark_training_speed.py --case plane --rounds 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import rich.console
import rich.table

from benchmark_cases import CASES, RATIOS, Case, Training, choose_device, device_line, make_store, saved, take_in_turns
from machine import machine_line
from ups_data.storage import open_store


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=sorted(CASES), default="plane", help="data and model (plane)")
    parser.add_argument("--rounds", type=int, default=5, help="turns (5)")
    parser.add_argument("--steps", type=int, default=3, help="steps of each ratio and turn (3)")
    parser.add_argument("--ratios", type=float, nargs="+", default=list(RATIOS), help="drawn points / points")
    parser.add_argument("--workers", type=int, default=1, help="processes that build batches, of each ratio (1)")
    parser.add_argument("--device", default="auto", help="as torch names it (the GPU where there is one)")
    parser.add_argument("--data", type=Path, help="keep the data in this folder, or take them from it")
    parser.add_argument("--output", type=Path, help="write what was measured as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(CASES[arguments.case], arguments, arguments.data or Path(folder))
    device = device_line(choose_device(arguments.device))
    rich.console.Console(width=None if sys.stdout.isatty() else 120).print(
        f"{CASES[arguments.case].what}; {device}; {machine_line()}", to_table(rows)
    )
    if arguments.output is not None:
        content = {"case": arguments.case, "device": device, "machine": machine_line(), "rows": rows}
        arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
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
            "slowest": max(step.total for step in steps),
            "waited": sum(step.waited for step in steps) / sum(step.total for step in steps),
            "samples_per_second": case.batch_size / statistics.median(step.total for step in steps),
            "batch_bytes": statistics.median(step.batch_bytes for step in steps),
        }
        for ratio, steps in zip(arguments.ratios, found, strict=True)
    ]


def to_table(rows: list[dict[str, Any]]) -> rich.table.Table:
    """Return a table, with what is saved against the first row."""
    table = rich.table.Table()
    for name in ("ratio", "ms a step", "saved", "samples/s", "waiting for data", "MB a batch"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            "dense" if row["ratio"] == 1 else f"{row['ratio']:g}",
            f"{1e3 * row['seconds']:.0f}",
            saved(row["seconds"], rows[0]["seconds"]),
            f"{row['samples_per_second']:.1f}",
            f"{row['waited']:.0%}",
            f"{row['batch_bytes'] / 1e6:.2f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
