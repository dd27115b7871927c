"""The study of layouts on its smallest field."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_layouts_are_compared_on_shocks(tmp_path: Path) -> None:
    """In a process of its own: JAX runs threads, and other tests fork."""
    pytest.importorskip("exponax")
    output = tmp_path / "study.json"
    result = subprocess.run(
        [sys.executable, ROOT / "scripts" / "study_layouts.py", "--fields", "burgers_1d", "--output", output],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    rows = json.loads(output.read_text())["rows"]
    worth = {(row["layout"], row["sampler"]): row for row in rows}
    assert all(len(row["loss"]) == 3 and min(row["loss"] + row["gradient"]) > 0 for row in rows)
    means = {key: math.prod(row["loss"]) ** (1 / 3) for key, row in worth.items()}
    # Shocks fill few of the points, which is what importance is for.
    assert means["default", "importance, lambda 0.25"] > 3 * means["default", "balanced"] > 3
    assert "machine: " in result.stdout
