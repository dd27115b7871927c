"""Stores that the tests of the data side share, converted once a session."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

import ups_data
from preprocess.convert import ConvertSettings, convert
from tests.memory_source import MemorySource, cloud, wave_frames
from tests.ups_data.models.cases import build_stores
from ups_data.schema import FieldSpec, ImportanceSpec

FIELDS = (FieldSpec(name="velocity", components=("x", "y")), FieldSpec(name="pressure", unit="Pa"))


@pytest.fixture(scope="session")
def grid_source() -> MemorySource:
    frames = [wave_frames((24, 20), num_frames=count, num_channels=3, seed=count) for count in (6, 8, 5, 7)]
    return MemorySource.grid(
        frames,
        periodic=(True, False),
        fields=FIELDS,
        parameters=[{"nu": 0.1 * number} for number in range(4)],
        splits=["train", "train", "train", "test"],
    )


@pytest.fixture(scope="session")
def cloud_source() -> MemorySource:
    frames, coordinates = [], []
    for seed, num_points in enumerate((150, 203, 97)):
        coordinates.append(cloud(num_points, 3, seed=seed))
        frames.append(np.random.default_rng(seed).normal(size=(4, 2, num_points)).astype("float32"))
    return MemorySource.points(frames, coordinates, splits=["train", "train", "test"])


@pytest.fixture(scope="session")
def convert_source(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ups_data.Store]:
    def run(source: MemorySource, **settings: object) -> ups_data.Store:
        path: Path = tmp_path_factory.mktemp("store") / "data"
        convert(source, path, ConvertSettings(**settings))
        return ups_data.open_store(path)

    return run


@pytest.fixture(scope="session")
def grid_store(grid_source: MemorySource, convert_source: Callable[..., ups_data.Store]) -> ups_data.Store:
    return convert_source(grid_source, page_points=8, num_strata=3)


@pytest.fixture(scope="session")
def cloud_store(cloud_source: MemorySource, convert_source: Callable[..., ups_data.Store]) -> ups_data.Store:
    recipe = ImportanceSpec(metrics={"temporal_change": 1.0})
    return convert_source(cloud_source, page_points=8, num_strata=2, importance=recipe)


@pytest.fixture(scope="session")
def stores(convert_source: Callable[..., ups_data.Store]) -> Mapping[str, ups_data.Store]:
    """One small store a geometry: `line`, `plane`, `space`, `cloud`."""
    return build_stores(convert_source)
