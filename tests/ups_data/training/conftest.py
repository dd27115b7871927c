"""A store that a small model learns from in seconds."""

from collections.abc import Callable
from typing import Any

import pytest

import ups_data
from tests.memory_source import MemorySource, wave_frames
from ups_data.training import TrainConfig
from ups_data.yaml_records import parse_record


@pytest.fixture(scope="session")
def store(convert_source: Callable[..., ups_data.Store]) -> ups_data.Store:
    frames = [wave_frames((16, 16), num_frames=5, seed=seed) for seed in range(6)]
    source = MemorySource.grid(frames, periodic=True, splits=["train"] * 5 + ["test"])
    return convert_source(source, page_points=4, num_strata=2)


@pytest.fixture(scope="session")
def make_config(store: ups_data.Store) -> Callable[..., TrainConfig]:
    def make(**changes: Any) -> TrainConfig:
        content = {
            "data": {"store": store.location, "batch_size": 4},
            "sampler": {"kind": "importance", "ratio": 0.25},
            "model": {"width": 16, "grid_encoder": {"patch": 4}},
            "steps": 6,
            "evaluations": 3,
            "threads": 1,
        }
        return parse_record(TrainConfig, {**content, **changes}, where="test")

    return make
