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
    output, plot = tmp_path / "study.json", tmp_path / "study.svg"
    printed = run_script(
        "study_layouts.py", "--fields", "burgers_1d", "--output", output, "--plot", plot, folder=tmp_path
    )
    assert plot.read_text().startswith("<?xml")
    rows = json.loads(output.read_text())["rows"]
    assert {row["ratio"] for row in rows} == {0.005, 0.01, 0.02, 0.05, 0.1, 0.2}
    worth = {(row["layout"], row["sampler"]): row for row in rows if row["ratio"] == 0.02}
    assert all(len(row["loss"]) == 3 and min(row["loss"] + row["gradient"]) > 0 for row in rows)
    means = {key: math.prod(row["loss"]) ** (1 / 3) for key, row in worth.items()}
    # Shocks fill few of the points, which is what importance is for.
    assert means["default", "importance, lambda 0.25"] > 3 * means["default", "balanced"] > 3
    assert "machine: " in printed


def test_fresh_points_are_compared_with_the_same_ones_on_shocks(run_script: Callable[..., str], tmp_path: Path) -> None:
    pytest.importorskip("exponax")
    printed = run_script("study_layouts.py", "--fields", "burgers_1d", "--window", "4", folder=tmp_path)
    rows = [line.replace("│", " ").split() for line in printed.splitlines() if line.startswith("│")]
    worth = {(integrand, sampler): float(value) for integrand, sampler, value in rows}
    assert len(worth) == 6
    # No more than one draw for each of four frames can be worth, but for frames that disagree.
    assert all(0 < value < 4.5 for value in worth.values())
    assert worth["gradient", "uniform"] > 1


@pytest.mark.slow
def test_ways_of_dealing_are_compared_on_shocks(run_script: Callable[..., str], tmp_path: Path) -> None:
    pytest.importorskip("exponax")
    output, plot = tmp_path / "study.json", tmp_path / "study.svg"
    options = ("--fields", "burgers_1d", "--frames", "1", "--output", output, "--plot", plot)
    printed = run_script("study_dealing.py", *options, folder=tmp_path)
    rows = json.loads(output.read_text())["rows"]
    worth = {(row["ratio"], row["dealing"]): row["loss"][0] for row in rows}
    assert min(min(row["loss"] + row["gradient"]) for row in rows) > 0
    # Piecewise smooth: every way of dealing beats uniform draws, and the more so the more is drawn.
    assert min(found for (ratio, _), found in worth.items() if ratio == 0.1) > 5
    assert worth[0.2, "balanced (1 stratum)"] > 2 * worth[0.02, "balanced (1 stratum)"]
    # On a line both curves are the line itself.
    assert worth[0.1, "Morton"] == pytest.approx(worth[0.1, "importance, as by default"])
    assert plot.read_text().startswith("<?xml")
    assert "machine: " in printed
