"""What the study of equal costs makes of its runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def test_runs_become_a_table_and_a_plot(import_script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    study = import_script("study_same_cost")

    def outcome(draws: str, seed: int, queries: float, errors: tuple[float, ...]) -> object:
        curve = tuple((2.0 * (place + 1), error) for place, error in enumerate(errors))
        sizes = {"num_points": 100, "queries": queries, "steps": 9, "seconds": curve[-1][0], "clock": "wall"}
        return study.Outcome(data="winds", draws=draws, seed=seed, curve=curve, **sizes)

    dense = [outcome("dense", seed, 100.0, (0.5, 0.4, 0.3 + 0.01 * seed)) for seed in range(3)]
    runs = [outcome("uniform", seed, 10.0, errors) for seed, errors in enumerate(((0.4, 0.3, 0.2), (0.5, 0.4, 0.3)))]
    others = [outcome(kind, 0, 10.0, (0.9, 0.8, 0.7)) for kind in ("stratified", "importance")]
    assert study.median_error(dense) == pytest.approx(0.31)
    assert study.time_to(runs[:1], 0.31) == 4.0
    assert study.time_to(runs, 0.31) == 5.0
    assert study.time_to(others, 0.31) is None
    table = study.tabulate([*runs, *others, *dense])
    columns = {column.header: list(column.cells) for column in table.columns}
    assert columns["draws"] == ["uniform", "stratified", "importance", "dense"]
    assert columns["of dense"] == ["0.81", "2.26", "2.26", "1.00"]
    assert columns["time to dense's"] == ["5.0 s", "never", "never", "6.0 s"]
    study.plot([*runs, *others, *dense], tmp_path / "plot.svg")
    assert "error by time" in (tmp_path / "plot.svg").read_text()
