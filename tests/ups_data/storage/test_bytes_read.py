"""What a draw reads, counted where the file system is called and not by the store itself."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ups_data
from tests.memory_source import MemorySource, wave_frames

SIDE, NUM_FRAMES, RATIO, TARGETS = 256, 6, 0.02, 4
PROC_IO = Path("/proc/self/io")


class Reads:
    """Counts every positional read that this process makes, and lets it through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        pread = os.pread

        def counted(descriptor: int, size: int, offset: int) -> bytes:
            found = pread(descriptor, size, offset)
            self.sizes.append(len(found))
            return found

        monkeypatch.setattr(os, "pread", counted)


def bytes_read_by_this_process() -> int:
    """Return what the kernel counts: every byte that a read call of this process brought, from wherever."""
    return int(PROC_IO.read_text().splitlines()[0].removeprefix("rchar: "))


@pytest.fixture(scope="module")
def store(convert_source: Callable[..., ups_data.Store]) -> ups_data.Store:
    return convert_source(
        MemorySource.grid([wave_frames((SIDE, SIDE), num_frames=NUM_FRAMES)], periodic=True), splits={"train": 1.0}
    )


@pytest.mark.parametrize("name", ["BalancedSampler", "ImportanceSampler"])
def test_a_draw_reads_little_more_than_its_points(
    name: str, store: ups_data.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = ups_data.QueryDataset(
        store, sampler=getattr(ups_data, name)(RATIO), window=ups_data.Window(targets=TARGETS)
    )
    dataset.sample(0)  # shard indices are read once for a store
    reads = Reads(monkeypatch)
    sample = dataset.sample(0, epoch=1)
    points, input_bytes = len(sample.query_index), SIDE * SIDE * 4
    values_and_index = sum(reads.sizes) - input_bytes
    assert len(np.unique(sample.query_index)) == points
    assert values_and_index <= 1.3 * points * 4 * TARGETS + 1.3 * points * 4
    assert values_and_index >= points * 4 * TARGETS + points * 4
    # One dense frame, then for each target frame and for the ids one range a stratum, two where it wraps around.
    assert len(reads.sizes) <= 1 + (TARGETS + 1) * 2 * store.manifest.layout.num_strata
    assert sum(reads.sizes) < 0.35 * (1 + TARGETS) * input_bytes


@pytest.mark.skipif(not PROC_IO.exists(), reason="the kernel of this system does not count reads by process")
def test_the_kernel_counts_the_same(store: ups_data.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = ups_data.QueryDataset(store, sampler=ups_data.ImportanceSampler(RATIO))
    dataset.sample(0)
    reads = Reads(monkeypatch)
    own = -bytes_read_by_this_process() + bytes_read_by_this_process()  # what asking costs
    before = bytes_read_by_this_process()
    for epoch in range(1, 11):
        dataset.sample(0, epoch=epoch)
    counted = bytes_read_by_this_process() - before - own
    assert counted == pytest.approx(sum(reads.sizes), rel=1e-3)
