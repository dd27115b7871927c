"""Going on at sample 5 * 10^7 of 10^8 lists no samples and hands out the right ones."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import ups_data
from ups_data.order.shuffle import SampleOrder


@pytest.fixture
def study(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("study_resume")


@pytest.mark.parametrize("shuffle", [True, False, ups_data.BlockShuffle(block=1000)])
def test_resume_among_very_many_samples(
    shuffle: bool | ups_data.BlockShuffle, study: ModuleType, store_path: Path
) -> None:
    tracemalloc.start()
    found = study.resume(store_path, num_samples=10**8, batch_size=4, shuffle=shuffle)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 2**20  # a list of the samples would have 800 MB
    assert found.state_bytes < 4096
    assert abs(found.sample - 10**8 // 2) < 100
    store = study.RepeatedStore(store_path, num_samples=10**8)
    size = len(ups_data.QueryDataset(store, sampler=ups_data.DenseSampler()))
    assert size >= 10**8
    order = SampleOrder(num_samples=size, seed=0, epoch=3, shuffle=shuffle)
    assert list(found.ids) == order(np.arange(found.sample, found.sample + 4)).tolist()
