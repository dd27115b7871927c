"""The study of accuracy: a small part of it all the way, and what it reads off curves that are known."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ups_data.errors import ConfigError


@pytest.fixture
def study(import_script: Callable[[str], ModuleType]) -> ModuleType:
    pytest.importorskip("xarray")
    return import_script("study_accuracy")


def make_outcome(study: ModuleType, arm: Any, errors: Mapping[float, float], *, case: str = "winds") -> Any:
    """Return a run of a step a CPU second, each of three wall-clock seconds."""
    curve = tuple(study.Point(step=round(time), cpu=time, wall=3 * time, error=error) for time, error in errors.items())
    return study.Outcome(case=case, arm=arm, seed=0, machine="a machine", settings={}, curve=curve)


@pytest.fixture
def pair(study: ModuleType) -> Any:
    from accuracy_cases import DENSE
    from accuracy_outcomes import Pair

    dense = make_outcome(study, DENSE, {10: 0.5, 20: 0.4, 30: 0.3, 40: 0.2})
    sparse = make_outcome(study, study.Arm(draws="uniform", ratio=0.1), {5: 0.6, 15: 0.1, 25: 0.22})
    return Pair(run=sparse, dense=dense)


def test_what_is_read_off_two_curves(pair: Any) -> None:
    assert pair.gap == pytest.approx(0.1)
    assert pair.run.seconds_to(0.2, "cpu") == pytest.approx(13)
    assert pair.time_share("cpu") == pair.time_share("wall") == pytest.approx(13 / 40)
    assert pair.cost("cpu") == pytest.approx(25 / 40)
    assert pair.gap_in_time("cpu") == pytest.approx(0.22 / 0.35 - 1)
    assert pair.run.seconds_to(0.7, "cpu") == 5  # the first evaluation, not a time before it
    assert pair.run.seconds_to(0.05, "cpu") == math.inf
    assert math.isnan(pair.dense.error_at(9, "cpu"))


def test_a_line_holds_all_of_a_run(study: ModuleType, pair: Any, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(pair.run.to_line() + pair.dense.to_line())
    assert study.read_outcomes(path) == [pair.run, pair.dense]


def test_every_run_is_listed_once_and_the_time_comes_first(study: ModuleType) -> None:
    cases = list(study.CASES.values())
    jobs = study.list_jobs(study.PARTS, cases, 3)
    keys = [job.key for job in jobs]
    assert len(set(keys)) == len(keys)
    first = study.list_jobs(("time",), cases, 3)
    assert keys[: len(first)] == [job.key for job in first]
    assert [job.seed for job in first] == sorted(job.seed for job in first)
    for job in jobs:
        config = job.configure()
        assert config.threads == 1
        ramp = config.sampler.ratio
        if job.arm.curriculum:
            assert sum(ramp.ends) / 2 == pytest.approx(job.arm.ratio)
            assert ramp.steps == config.steps
        else:
            assert ramp == (None if job.arm.draws == "dense" else job.arm.ratio)


def test_a_sparse_run_that_loses_is_told(study: ModuleType, pair: Any, tmp_path: Path) -> None:
    from accuracy_cases import RECIPES
    from accuracy_report import write_report

    recipe = RECIPES["winds"]
    late = make_outcome(study, study.Arm(draws="uniform", ratio=0.1), {10: 0.5, 40: 0.25})
    quick = make_outcome(study, recipe, {10: 0.3, 12: 0.1})
    long = make_outcome(study, study.Arm(draws="dense", more=recipe.more), {32: 0.15, 64: 0.08})
    report = tmp_path / "accuracy.md"
    write_report([pair.dense, late, quick, long], report, clock="cpu")
    told = report.read_text()
    lost = told.split("## Where sparse loses")[1]
    assert "uniform 0.1 is +25.0% behind at equal steps" in lost
    assert f"{recipe.name} is +25.0% behind {long.arm.name}, after the same steps" in lost
    assert f"{recipe.name} reaches" not in lost
    assert f"| {recipe.name} | 12 | 12.0 | 0.1000 | 28 % | 28% | held |" in told
    assert "in this share of that run's time:\n80% (monthly winds" in told
    assert f"| {long.arm.name} | 64 | 0.0800 | +0.0 % | +0.0% | 1.00 | 100 % |" in told
    assert f"| {recipe.name} | 12 | 0.1000 | +25.0 % | +25.0% | 0.19 | never |" in told
    assert "<svg" in report.with_suffix(".svg").read_text()


@pytest.fixture
def small(study: ModuleType, monkeypatch: pytest.MonkeyPatch, store_path: Path, tmp_path: Path) -> argparse.Namespace:
    """Let the study know one data set of toy size, which is there already."""
    (tmp_path / "fronts_256").symlink_to(store_path)
    changes = {
        "data": {"test_samples": 2},
        "model": {"width": 8, "grid_encoder": {"patch": 4}, "latent_operator": {"heads": 2}},
        "evaluations": 2,
    }
    case = dataclasses.replace(study.CASES["fronts_256"], config="small.yaml", changes=changes)
    (tmp_path / "small.yaml").write_text("steps: 4\ndata: {batch_size: 1}\n")
    cases = sys.modules["accuracy_cases"]
    monkeypatch.setattr(cases, "CONFIGS", tmp_path)
    monkeypatch.setitem(cases.CASES, "fronts_256", case)
    output = tmp_path / "runs.jsonl"
    options = ["--data", tmp_path, "--output", output, "--report", tmp_path / "report.md", "--seeds", "1"]
    monkeypatch.setattr(
        sys, "argv", ["study_accuracy.py", *map(str, options), "--parts", "time", "--cases", "fronts_256"]
    )
    return argparse.Namespace(output=output, report=tmp_path / "report.md")


def test_a_part_runs_goes_on_and_refuses_other_settings(
    study: ModuleType, small: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert study.main() == 0
    whole = small.output.read_text()
    lines = [json.loads(line) for line in whole.splitlines()]
    assert [line["arm"]["draws"] for line in lines] == ["dense", "stratified", "uniform", "stratified"]
    steps = [[point["step"] for point in line["curve"]] for line in lines]
    assert steps[0] == [2, 4]
    assert steps[1] == [4, 9] or steps[1] == [5, 9]
    for line in lines:
        times = [point["cpu"] for point in line["curve"]]
        assert 0 < times[0] < times[1]
        assert "store" not in line["settings"]["data"]
    told = small.report.read_text()
    assert "stratified 0.1, few to many, plain decoder" in told

    small.output.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    assert study.main() == 0  # makes the one that is missing, and no other
    again = small.output.read_text()
    assert len(again.splitlines()) == 4
    assert again.splitlines()[:3] == whole.splitlines()[:3]
    errors = [[point["error"] for point in json.loads(text.splitlines()[3])["curve"]] for text in (whole, again)]
    assert errors[0] == errors[1]

    monkeypatch.setattr(sys.modules["accuracy_cases"], "EVALUATIONS", 3)
    case = dataclasses.replace(sys.modules["accuracy_cases"].CASES["fronts_256"], changes={"data": {"test_samples": 1}})
    monkeypatch.setitem(sys.modules["accuracy_cases"].CASES, "fronts_256", case)
    with pytest.raises(ConfigError, match="fronts_256, dense, 4 steps, seed 0 with other settings"):
        study.main()
