"""What the study says of orders that are known, and what block shuffles must be worth."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from ups_data.order import BlockShuffle, StreamShuffle

SIZES = {"num_trajectories": 400, "windows": 50, "shard": 250, "batch_size": 20, "epochs": 3}


@pytest.fixture
def study(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("study_shuffle")


def test_a_full_shuffle_is_perfect_and_none_is_not(study: ModuleType) -> None:
    full = study.measure(True, **SIZES)
    assert full.spread == pytest.approx(1, abs=0.15)
    assert full.correlation == pytest.approx(0, abs=0.1)
    assert full.displacement == pytest.approx(1 / 3, abs=0.01)
    stored = study.measure(False, **SIZES)
    # Batches of one trajectory, now and then of two: 20 windows are worth not much more than one.
    assert stored.spread > 15
    assert (stored.displacement, stored.open_shards) == (0, 1)


def test_more_blocks_mix_better_and_cost_what_they_say(study: ModuleType) -> None:
    found = [study.measure(BlockShuffle(block=250, mixed=mixed), **SIZES) for mixed in (1, 4, 16)]
    assert [quality.open_shards for quality in found] == [1, 4, 16]
    spreads = [quality.spread for quality in found]
    assert spreads == sorted(spreads, reverse=True)
    # A batch is drawn from the 5 * mixed trajectories of a group: 1 + 20 / (5 * mixed), or so.
    assert spreads[-1] < 1.4
    assert all(quality.displacement == pytest.approx(1 / 3, abs=0.03) for quality in found)


def test_a_lane_for_each_sample_of_a_batch_spreads_it_over_the_store(study: ModuleType) -> None:
    found = study.measure(StreamShuffle(block=250, lanes=20, run=8), **SIZES)
    # Each batch has one sample of each lane: as good as drawn at random. A lane stays in a trajectory for 50 batches.
    assert found.spread < 1.5
    assert found.correlation > 0.5
    assert found.open_shards <= 2 * 20
