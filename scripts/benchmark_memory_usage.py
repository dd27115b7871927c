#!/usr/bin/env python
"""Measure how much memory a whole training step takes, dense and sparse.

Each ratio runs in a process of its own. On a CPU: the largest resident memory while steps are taken, less what was
resident before the first one (model, store and libraries). On a GPU: the largest memory that torch had allocated. What
the device, or `--limit`, has no room for does not fit, and the table says so.

Example: scripts/benchmark_memory_usage.py --case volume --limit 8
"""

from __future__ import annotations

import argparse
import re
import resource
import sys
import tempfile
from pathlib import Path

import torch

from benchmark_cases import CASES, Column, Training, call_apart, choose_device, make_parser, make_store, publish, saved
from ups_data.storage import open_store

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

COLUMNS: dict[str, Column] = {
    "MiB": lambda row, _: "does not fit" if row["bytes"] is None else f"{row['bytes'] / 2**20:.0f}",
    "saved": lambda row, dense: "" if None in (row["bytes"], dense["bytes"]) else saved(row["bytes"], dense["bytes"]),
}


def main() -> int:
    """Measure and print a table."""
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=3, help="steps of each ratio (3)")
    parser.add_argument("--limit", type=float, help="GiB that steps may take (CPU; no limit)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        store = make_store(CASES[arguments.case], arguments.data or Path(temporary))
        found = [call_apart(measure, arguments, store, ratio) for ratio in arguments.ratios]
    rows = [{"ratio": ratio, "bytes": peak} for ratio, peak in zip(arguments.ratios, found, strict=True)]
    publish(arguments, rows, COLUMNS)
    return 0


def measure(arguments: argparse.Namespace, store: Path, ratio: float) -> int | None:
    """Return the bytes that steps take at most, None where they do not fit."""
    device = choose_device(arguments.device)
    training = Training(CASES[arguments.case], open_store(store), ratio, device=device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = 0
    else:
        _RESET.write_text("5")  # the largest resident memory counts from here
        before = resident("VmRSS")
    if arguments.limit is not None:
        most = resident("VmData") + round(arguments.limit * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        for _ in range(arguments.steps):
            training.step()
    except (MemoryError, RuntimeError) as error:
        # Of torch's errors only the text of those of the CPU tells that memory is short.
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error):
            return None
        raise
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident("VmHWM") - before


def resident(name: str) -> int:
    """Return a figure of this process that Linux keeps in kB, as bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return 1024 * int(found.group(1))


if __name__ == "__main__":
    sys.exit(main())
