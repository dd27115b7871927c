"""The harness finds nothing wrong with a store, and finds what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from preprocess.pack import pack


@pytest.fixture
def soak(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("soak_resume")


def test_every_way_of_reading_goes_on_from_everywhere(soak: ModuleType, store_path: Path, tmp_path: Path) -> None:
    pack(str(store_path), tmp_path / "tar", to="webdataset")
    stores = [str(store_path), str(tmp_path / "tar")]
    outcomes = list(soak.try_all(stores, num_batches=3, workers=[0]))
    assert [(found.store, found.reading, found.wrong) for found in outcomes] == [
        (store, reading, ()) for store in stores for reading in ("map-style", "sequential")
    ]
    assert all(found.positions == 6 for found in outcomes)


def test_a_loader_that_forgets_its_place_is_found(
    soak: ModuleType, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_to = soak.ups_data.batching.BatchSampler.go_to
    monkeypatch.setattr(
        "ups_data.batching.BatchSampler.go_to", lambda self, epoch, batch: go_to(self, epoch, batch - batch % 2)
    )
    found = next(soak.try_all([str(store_path)], num_batches=3, workers=[0]))
    assert found.wrong == (1, 4)
