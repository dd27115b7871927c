#!/usr/bin/env python
"""Measure how much memory a whole training step takes, dense and sparse.

Each ratio runs in a process of its own. On a CPU: the largest resident memory while steps are taken, less what was
resident before the first one (model, store and libraries). On a GPU: the largest memory that torch had allocated.

Example: scripts/benchmark_memory_usage.py --case plane
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import rich.console
import rich.table
import torch

from benchmark_cases import CASES, RATIOS, Training, call_apart, choose_device, device_line, make_store, saved
from machine import machine_line
from ups_data.storage import open_store

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=sorted(CASES), default="plane", help="data and model (plane)")
    parser.add_argument("--steps", type=int, default=3, help="steps of each ratio (3)")
    parser.add_argument("--ratios", type=float, nargs="+", default=list(RATIOS), help="drawn points / points")
    parser.add_argument("--device", default="auto", help="as torch names it (the GPU where there is one)")
    parser.add_argument("--data", type=Path, help="keep the data in this folder, or take them from it")
    parser.add_argument("--output", type=Path, help="write what was measured as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        store = make_store(CASES[arguments.case], arguments.data or Path(temporary))
        found = [
            call_apart(measure, arguments.case, store, ratio, arguments.steps, arguments.device)
            for ratio in arguments.ratios
        ]
    rows = [{"ratio": ratio, "bytes": peak} for ratio, peak in zip(arguments.ratios, found, strict=True)]
    device = device_line(choose_device(arguments.device))
    rich.console.Console(width=None if sys.stdout.isatty() else 120).print(
        f"{CASES[arguments.case].what}; {device}; {machine_line()}", to_table(rows)
    )
    if arguments.output is not None:
        content = {"case": arguments.case, "device": device, "machine": machine_line(), "rows": rows}
        arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(case: str, store: Path, ratio: float, steps: int, device_name: str) -> int:
    """Return the bytes that steps take at most."""
    device = choose_device(device_name)
    training = Training(CASES[case], open_store(store), ratio, device=device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = 0
    else:
        _RESET.write_text("5")  # the largest resident memory counts from here
        before = resident("VmRSS")
    for _ in range(steps):
        training.step()
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident("VmHWM") - before


def resident(name: str) -> int:
    """Return a figure of this process that Linux keeps in kB, as bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return 1024 * int(found.group(1))


def to_table(rows: list[dict[str, Any]]) -> rich.table.Table:
    """Return a table, with what is saved against the first row."""
    table = rich.table.Table()
    for name in ("ratio", "MiB", "saved"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            "dense" if row["ratio"] == 1 else f"{row['ratio']:g}",
            f"{row['bytes'] / 2**20:.0f}",
            saved(row["bytes"], rows[0]["bytes"]),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
