#!/usr/bin/env python
"""Measure how much memory a whole training step takes, dense and sparse.

Each ratio runs in a process of its own. On a CPU: the largest resident memory while steps are taken, less what was
resident before the first one (model, store and libraries). On a GPU: the largest memory that torch had allocated.
The processes let glibc map every block of 128 KiB and more apart, so that what is freed is gone: left to itself it
keeps and splits such blocks in an order of its own, and the peak tells of that (0.5 then seems to save 21 to 31 %).

Example: scripts/benchmark_memory_usage.py --case plane
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import torch

from benchmark_cases import (
    CASES,
    Training,
    add_memory_limit,
    call_limited,
    choose_device,
    make_parser,
    make_store,
    memory_figure,
    publish,
    saving,
)
from ups_data.storage import open_store

# Naming the threshold also keeps glibc from raising it; processes read it when they start.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
_RESET = Path("/proc/self/clear_refs")

COLUMNS = {
    "MiB": lambda row, _: f"{row['bytes'] / 2**20:.0f}",
    "saved": saving("bytes"),
}


def main() -> int:
    """Measure and print a table."""
    parser = make_parser(__doc__)
    add_memory_limit(parser)
    parser.add_argument("--steps", type=int, default=3, help="steps of each ratio (3)")
    arguments = parser.parse_args()
    os.environ.update(_ALLOCATOR)
    with tempfile.TemporaryDirectory() as temporary:
        store = make_store(CASES[arguments.case], arguments.data or Path(temporary))
        found = [call_limited(arguments.memory_gib, measure, store, ratio, arguments) for ratio in arguments.ratios]
    rows = [
        {"ratio": ratio, "fits": peak is not None, "bytes": peak}
        for ratio, peak in zip(arguments.ratios, found, strict=True)
    ]
    publish(arguments, rows, COLUMNS)
    return 0


def measure(store: Path, ratio: float, arguments: argparse.Namespace) -> int:
    """Return the bytes that steps take at most."""
    device = choose_device(arguments.device)
    training = Training(CASES[arguments.case], open_store(store), ratio, device=device)
    before = memory_figure("self/status", "VmRSS")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        _RESET.write_text("5")  # the largest resident memory counts from here
    for _ in range(arguments.steps):
        training.step()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return memory_figure("self/status", "VmHWM") - before


if __name__ == "__main__":
    sys.exit(main())
