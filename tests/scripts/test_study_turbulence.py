"""What the default ImportanceSampler is worth on 512 x 512 turbulence, at full resolution on its first frames."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_importance_is_worth_what_is_promised(tmp_path):
    """At least 2.5 uniform points a point on each of three frames, 4 in the geometric mean; no bias; few bytes.

    In a process of its own: JAX runs threads, and other tests fork.
    """
    pytest.importorskip("exponax")
    output = tmp_path / "study.json"
    script = ROOT / "scripts" / "study_turbulence.py"
    result = subprocess.run(
        [sys.executable, script, "--frames", "4", "--draws", "1000", "--output", output],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    content = json.loads(output.read_text())
    assert content["ok"]
    rows = [row for row in content["rows"] if (row["sampler"], row["integrand"]) == ("importance", "change")]
    multipliers = [row["multiplier"] for row in rows]
    assert [row["frame"] for row in rows] == [1, 2, 3]
    assert min(multipliers) >= 2.5
    assert statistics.geometric_mean(multipliers) >= 4
    assert max(abs(row["z"]) for row in content["rows"]) < 4
    (draws,) = [row for row in content["samplers"] if row["sampler"] == "importance"]
    assert draws["num_points"] == 512 * 512
    assert draws["cost"]["value_bytes"] <= 1.3 * draws["cost"]["point_bytes"]
    assert draws["cost"]["index_bytes"] <= 1.3 * draws["drawn_points"] * 4
    assert "machine: " in result.stdout
