"""The study of layouts on its smallest field."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.slow
def test_layouts_are_compared_on_shocks(run_script: Callable[..., str], tmp_path: Path) -> None:
    pytest.importorskip("exponax")
    output = tmp_path / "study.json"
    printed = run_script("study_layouts.py", "--fields", "burgers_1d", "--output", output, folder=tmp_path)
    rows = json.loads(output.read_text())["rows"]
    worth = {(row["layout"], row["sampler"]): row for row in rows}
    assert all(len(row["loss"]) == 3 and min(row["loss"] + row["gradient"]) > 0 for row in rows)
    means = {key: math.prod(row["loss"]) ** (1 / 3) for key, row in worth.items()}
    # Shocks fill few of the points, which is what importance is for.
    assert means["default", "importance, lambda 0.25"] > 3 * means["default", "balanced"] > 3
    assert "machine: " in printed
