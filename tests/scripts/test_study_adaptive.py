"""The study of adaptive draws: its parts on fields of toy size, and what it says of curves that are known."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ups_data.feedback import Feedback


@pytest.fixture
def study(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("study_adaptive")


@pytest.fixture
def arguments(tmp_path: Path) -> argparse.Namespace:
    settings = {"resolution": 32, "ratio": 0.1, "steps": 10, "seconds": 0.0, "seeds": 1, "draws": 3}
    return argparse.Namespace(tasks=("waves",), **settings)


def test_waves_are_trained_on_and_gradients_measured(
    study: ModuleType, arguments: argparse.Namespace, tmp_path: Path
) -> None:
    study.prepare(tmp_path, arguments)
    outcomes = study.run_all(tmp_path, arguments)
    assert [(outcome.draws, outcome.curve[-1][0]) for outcome in outcomes] == [("uniform", 10), ("adaptive", 10)]
    ((line, _),) = study.check(outcomes)
    share = outcomes[1].error / outcomes[0].error
    assert line == f"waves: error of adaptive over that of uniform: {share:.3f}"
    checkpoint = study.Checkpoint.load(tmp_path / "waves-adaptive-False-0" / study.CHECKPOINT_NAME)
    worth = study.gradient_worth(checkpoint, draws=3, num_samples=2)
    assert worth["uniform"] == 1
    # Before its warm-up an adaptive sampler draws as importance does.
    assert min(worth.values()) > 0
    assert set(worth) == set(study.KINDS)


@pytest.mark.parametrize("kind", ["constant", "random", "NaN", "enormous"])
def test_garbage_is_fed_back(study: ModuleType, arguments: argparse.Namespace, tmp_path: Path, kind: str) -> None:
    """What a run's sampler learnt from is the garbage, of every step; afterwards loaders are told the truth again."""
    study.prepare(tmp_path, arguments)
    truth = Feedback.add
    arm = study.Arm(task="waves", draws=kind, sampler={"kind": "adaptive", "ratio": 0.1}, garbage=kind)
    study.run(arm, 0, tmp_path, arguments)
    assert Feedback.add is truth
    checkpoint = study.Checkpoint.load(tmp_path / f"waves-{kind}-False-0" / study.CHECKPOINT_NAME)
    (memory,) = checkpoint.header.progress.loader["feedback"]["learnt"]
    if kind == "NaN":
        assert memory["fresh"] is None
        return
    count, total, _ = torch.tensor(memory["fresh"], dtype=torch.float64).sum(dim=0).tolist()
    assert count > 0
    assert {"constant": total == count, "random": total > 2 * count, "enormous": total > 1e29 * count}[kind]


def test_steps_to_an_error(study: ModuleType) -> None:
    curve = ((10, 0.5), (20, 0.3), (30, 0.4), (40, 0.1))
    assert study.steps_to(curve, 0.5) == 10
    assert study.steps_to(curve, 0.4) == 15
    assert study.steps_to(curve, 0.2) == pytest.approx(30 + 20 / 3)
    assert study.steps_to(curve, 0.05) == float("inf")
