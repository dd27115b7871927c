"""A store that `scripts/study_open.py` writes is sound, and opening it is measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from preprocess.validate import validate
from ups_data.storage import ZarrStore


@pytest.fixture
def study(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("study_open")


def test_trajectories_are_written_again_and_again(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "FIRST", 40)
    root = study.write_store(tmp_path, 200)
    store, first = ZarrStore(root), ZarrStore(tmp_path / "first")
    assert (len(store), len(first)) == (200, 40)
    for number in (0, 39, 40, 173):
        np.testing.assert_array_equal(store.read_dense(number, [0, 1]), first.read_dense(number % 40, [0, 1]))
    assert validate(root).ok
    found = study.open_here(root)
    assert found.trajectories == 200
    assert 0 < found.open_seconds < found.batch_seconds
    assert found.open_cpu_seconds > 0
    assert found.open_mib <= found.batch_mib


def test_figures_are_medians(study: ModuleType) -> None:
    one, two, three = (
        study.Opened(
            trajectories=7,
            open_seconds=k,
            open_cpu_seconds=k / 2,
            open_mib=10 * k,
            batch_seconds=2 * k,
            batch_mib=30 - k,
        )
        for k in (1.0, 5.0, 2.0)
    )
    assert study.median([one, two, three]) == three
