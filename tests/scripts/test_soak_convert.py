"""A handful of the kills that `scripts/soak_convert.py` does by the dozen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_conversion_killed_at_random_times_makes_the_same_store(tmp_path):
    output = tmp_path / "soak.json"
    script = ROOT / "scripts" / "soak_convert.py"
    result = subprocess.run(
        [sys.executable, script, "--kills", "5", "--trajectories", "40", "--output", output],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    content = json.loads(output.read_text())
    assert sum(content["kills"].values()) == 5
    assert content["conversions"] >= 1
    assert content["faults"] == []
