#!/usr/bin/env python
"""Measure how long it takes to go on in the middle of very many samples, and how large the state is.

A store's frames are repeated until its train split has so many samples; times are of `load_state_dict` alone, and with
the first batch after it, in a loader that was just built.

Example: scripts/study_resume.py data/burgers --samples 100000000
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rich.console
import rich.table
from jaxtyping import Float, Integer

import ups_data
from machine import machine_line
from ups_data.storage.zarr_store import ZarrStore


class RepeatedStore(ZarrStore):
    """A store whose trajectories go on, its own frames over and over; nothing is written."""

    def __init__(self, root: Path, *, num_samples: int) -> None:
        super().__init__(root)
        self.real = ZarrStore(root)
        frames = np.full(len(self), -(-num_samples // len(self.splits["train"])) + 1, dtype=np.int64)
        times = np.broadcast_to(np.zeros(1), (int(frames.sum()),))  # no memory
        self.tables = replace(self.tables, num_frames=frames, times=times)

    def block_of(self, trajectory: int, frames: Sequence[int]) -> int:
        """Return the block of the frames that are read in the place of these."""
        return self.real.block_of(trajectory, self._fold(trajectory, frames))

    def read_frames(
        self, trajectory: int, frames: Sequence[int], channels: tuple[int, ...]
    ) -> Float[np.ndarray, "time channel point"]:
        """Read the frames that stand for these."""
        return self.real.read_frames(trajectory, self._fold(trajectory, frames), channels)

    def read_page_values(
        self,
        trajectory: int,
        frames: Sequence[int],
        pages: Integer[np.ndarray, " page"],
        channels: tuple[int, ...],
        block: int = 0,
    ) -> Float[np.ndarray, "time query channel"]:
        """Read pages of the frames that stand for these."""
        return self.real.read_page_values(trajectory, self._fold(trajectory, frames), pages, channels, block)

    def _fold(self, trajectory: int, frames: Sequence[int]) -> list[int]:
        return [frame % self.real.num_frames(trajectory) for frame in frames]


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """What going on took.

    Attributes:
        sample: how many samples were behind.
        load_seconds: of `load_state_dict`.
        batch_seconds: of it and the first batch.
        state_bytes: of the state as JSON.
        ids: samples of the batch.
    """

    sample: int
    load_seconds: float
    batch_seconds: float
    state_bytes: int
    ids: tuple[int, ...]


def main() -> int:
    """Run the study and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--samples", type=int, default=10**8, help="samples to go through (10^8)")
    parser.add_argument("--batch", type=int, default=16)
    chosen = parser.parse_args()
    console = rich.console.Console()
    console.print(f"machine: {machine_line()}; {chosen.samples:,} samples, the place in the middle of epoch 3")
    table = rich.table.Table("shuffle", "load, ms", "first batch, ms", "state, bytes", box=None)
    for name, shuffle in (("full", True), ("blocks", ups_data.BlockShuffle(block=1000)), ("none", False)):
        found = resume(chosen.store, num_samples=chosen.samples, batch_size=chosen.batch, shuffle=shuffle)
        times = (f"{1e3 * found.load_seconds:.2f}", f"{1e3 * found.batch_seconds:.1f}")
        table.add_row(name, *times, str(found.state_bytes))
    console.print(table)
    return 0


def resume(root: Path, *, num_samples: int, batch_size: int, shuffle: bool | ups_data.BlockShuffle) -> Resumed:
    """Go on in the middle of the fourth epoch."""
    store = RepeatedStore(root, num_samples=num_samples)
    dataset = ups_data.QueryDataset(store, sampler=ups_data.ImportanceSampler(ratio=0.1))
    loader = ups_data.build_loader(dataset, batch_size=batch_size, shuffle=shuffle)
    state = {**loader.state_dict(), "epoch": 3, "batch": len(loader) // 2}
    text = json.dumps(state)
    started = time.perf_counter()
    loader.load_state_dict(json.loads(text))
    loaded = time.perf_counter()
    batch = next(iter(loader))
    return Resumed(
        sample=state["batch"] * batch_size,
        load_seconds=loaded - started,
        batch_seconds=time.perf_counter() - started,
        state_bytes=len(text),
        ids=tuple(batch.sample_ids.tolist()),
    )


if __name__ == "__main__":
    sys.exit(main())
