"""Going on at sample 5 * 10^7 of 10^8 takes less than a second and hands out the right samples."""

from __future__ import annotations

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
    found = study.resume(store_path, num_samples=10**8, batch_size=4, shuffle=shuffle)
    assert found.batch_seconds < 1
    assert found.state_bytes < 4096
    assert abs(found.sample - 10**8 // 2) < 100
    store = study.RepeatedStore(store_path, num_samples=10**8)
    size = len(ups_data.QueryDataset(store, sampler=ups_data.DenseSampler()))
    assert size >= 10**8
    order = SampleOrder(num_samples=size, seed=0, epoch=3, shuffle=shuffle)
    assert list(found.ids) == order(np.arange(found.sample, found.sample + 4)).tolist()
