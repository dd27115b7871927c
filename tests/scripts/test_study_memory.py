"""Conversions that `scripts/study_memory.py` measures are whole, and what they take is held against the limit."""

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
    return import_script("study_memory")


@pytest.mark.parametrize("geometry", ["grid", "cloud"])
def test_what_is_measured_is_a_conversion(
    study: ModuleType, geometry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "PART_POINTS", 100)
    if geometry == "grid":
        study.write_cubes(tmp_path, 7, 2, 3, 2)
    else:
        study.write_clouds(tmp_path, 343, 2, 3, 2)
    study.convert_here(tmp_path)
    assert validate(tmp_path / "store").ok
    store = ZarrStore(tmp_path / "store")
    values = np.load(tmp_path / "u.npy").reshape(3, 2, 2, 343)
    for number in range(3):
        np.testing.assert_array_equal(store.read_dense(number, [0, 1]), values[number])
    if geometry == "cloud":
        np.testing.assert_array_equal(store.coordinates(0), np.load(tmp_path / "points.npy"))


@pytest.mark.parametrize(("limit", "code", "told"), [("4", 0, "within 4 GiB: held"), ("0.01", 1, "0.01 GiB: not held")])
def test_a_limit_is_held_or_not(
    study: ModuleType,
    limit: str,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--geometry", "cloud", "--points", "2000", "--limit-gib", limit]
    monkeypatch.setattr("sys.argv", ["study_memory.py", *options])
    assert study.main() == code
    shown = capsys.readouterr().out
    assert told in shown
    assert "2,000" in shown
