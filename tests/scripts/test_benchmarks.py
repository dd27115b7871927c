"""The benchmarks on the smallest case: they run, and what they write is what they measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("exponax")
    return tmp_path_factory.mktemp("benchmarks")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "measured"),
    [
        (
            "benchmark_training_speed.py",
            ["--rounds", "1", "--steps", "1", "--workers", "0"],
            {"seconds", "waited", "cpu"},
        ),
        ("benchmark_memory_usage.py", ["--steps", "1"], {"bytes"}),
        ("benchmark_loss_computation.py", ["--rounds", "1"], {"L_forward", "L_inv_enc", "L_inv_dec"}),
    ],
)
def test_a_benchmark_measures_each_ratio(
    run_script: Callable[..., str], folder: Path, script: str, options: list[str], measured: set[str]
) -> None:
    """The data are made by the first of them."""
    output = folder / f"{script}.json"
    common = ["--case", "small-plane", "--ratios", "1", "0.1", "--device", "cpu", "--data", folder, "--output", output]
    printed = run_script(script, *common, *options, folder=folder)
    content = json.loads(output.read_text())
    assert [row["ratio"] for row in content["rows"]] == [1.0, 0.1]
    for row in content["rows"]:
        assert measured <= row.keys()
        assert all(row[name] > 0 for name in measured)
    if "batch_bytes" in content["rows"][0]:
        assert content["rows"][1]["batch_bytes"] < 0.6 * content["rows"][0]["batch_bytes"]
    assert content["device"] in printed
    assert "dense" in printed


@pytest.mark.slow
def test_what_does_not_fit_is_told(run_script: Callable[..., str], folder: Path) -> None:
    """No process that has loaded torch gets by with 64 MiB; one that fits gives its answer as ever."""
    output = folder / "limited.json"
    common = ["--case", "small-plane", "--device", "cpu", "--data", folder, "--output", output]
    for script, ratios in (("benchmark_memory_usage.py", ["0.05"]), ("benchmark_training_speed.py", ["1", "0.05"])):
        printed = run_script(script, *common, "--ratios", *ratios, "--memory-gib", "0.0625", folder=folder)
        assert [row["fits"] for row in json.loads(output.read_text())["rows"]] == [False] * len(ratios)
        assert printed.count("does not fit") == len(ratios)
