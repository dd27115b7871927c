"""The script that rolls a model out: its figures are those of the library, its pictures show every step."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scripts.conftest import ROOT
from ups_data.inference import Predictor, rollout_errors
from ups_data.training import Checkpoint, load_config, train


@pytest.fixture(scope="module")
def checkpoint(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    config = load_config(ROOT / "configs" / "burgers.yaml")
    model = {"grid_encoder": {"patch": 4}, "residual": True}
    train(config.with_changes(data={"store": str(store_path)}, model=model, seconds=None, steps=3), output=folder)
    return folder / "last.safetensors"


def test_errors_and_pictures_of_a_rollout(checkpoint: Path, run_script: Callable[..., str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    options = ["--output", "out.json", "--plot", "out.png", "--animation", "out.gif"]
    printed = run_script("rollout.py", checkpoint, *options, folder=tmp_path)
    assert "persistence" in printed
    found = json.loads((tmp_path / "out.json").read_text())
    predictor = Predictor.of(Checkpoint.load(checkpoint))
    expected = rollout_errors(predictor, [(3, 0)], 3)
    assert found["starts"] == [[3, 0]]
    assert [step["relative_l2"] for step in found["steps"]] == [step.relative_l2 for step in expected]
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size[0] >= 500
    with Image.open(tmp_path / "out.gif") as moving:
        assert moving.n_frames == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--steps", "9"], "the store goes on for 3 steps, and 9 were asked for"),
        (["--split", "tset"], "Did you mean 'test'"),
        (["--held-field", "u7", "--steps", "2"], "held_fields names 'u7', which the model does not read"),
    ],
)
def test_what_cannot_be_done_is_told(checkpoint: Path, arguments: list[str], told: str) -> None:
    command = [sys.executable, ROOT / "scripts" / "rollout.py", checkpoint, *arguments]
    result = subprocess.run(command, check=False, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert result.returncode == 2
    assert told in result.stderr
    assert "Traceback" not in result.stderr
