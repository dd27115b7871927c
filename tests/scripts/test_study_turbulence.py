"""What the default ImportanceSampler is worth on 512 x 512 turbulence, at full resolution on its first frames."""

from __future__ import annotations

import json
import statistics

import pytest


@pytest.mark.slow
def test_importance_is_worth_what_is_promised(run_script, tmp_path):
    """At least 2.5 uniform points a point on each of three frames, 4 in the geometric mean; no bias; few bytes."""
    pytest.importorskip("exponax")
    output = tmp_path / "study.json"
    arguments = ["--frames", "4", "--draws", "1000", "--output", output]
    printed = run_script("study_turbulence.py", *arguments, folder=tmp_path)
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
    assert "machine: " in printed
