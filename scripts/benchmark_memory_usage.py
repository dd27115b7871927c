#!/usr/bin/env python
"""Measure how much memory a whole training step takes, dense and sparse.

Each ratio runs in a process of its own. On a CPU: the largest resident memory while steps are taken, less what was
resident before the first one (model, store and libraries). On a GPU: the largest memory that torch had allocated.
The processes let glibc map every block of 128 KiB and more apart, so that what is freed is gone: left to itself it
keeps and splits such blocks in an order of its own, and the peak tells of that (0.5 then seems to save 21 to 31 %).

Example: scripts/benchmark_memory_usage.py --case plane
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import torch

from benchmark_cases import CASES, Training, call_apart, choose_device, make_parser, make_store, publish, saved
from ups_data.storage import open_store

# Naming the threshold also keeps glibc from raising it; processes read it when they start.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

COLUMNS = {
    "MiB": lambda row, _: f"{row['bytes'] / 2**20:.0f}",
    "saved": lambda row, dense: saved(row["bytes"], dense["bytes"]),
}


def main() -> int:
    """Measure and print a table."""
    parser = make_parser(__doc__)
    parser.add_argument("--steps", type=int, default=3, help="steps of each ratio (3)")
    arguments = parser.parse_args()
    os.environ.update(_ALLOCATOR)
    with tempfile.TemporaryDirectory() as temporary:
        store = make_store(CASES[arguments.case], arguments.data or Path(temporary))
        found = [
            call_apart(measure, arguments.case, store, ratio, arguments.steps, arguments.device)
            for ratio in arguments.ratios
        ]
    rows = [{"ratio": ratio, "bytes": peak} for ratio, peak in zip(arguments.ratios, found, strict=True)]
    publish(arguments, rows, COLUMNS)
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


if __name__ == "__main__":
    sys.exit(main())
