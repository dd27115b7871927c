"""The script that rolls a model out: its figures are those of the library, its pictures show every step."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import typer.testing

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


def test_a_search_is_told_by_a_file_and_logs_every_candidate(
    checkpoint: Path, run_script: Callable[..., str], tmp_path: Path
) -> None:
    settings = {"reward": {"density": "u0", "mass": 1.0}, "candidates": 3, "noise_std": 0.2}
    (tmp_path / "ttc.yaml").write_text(json.dumps(settings))
    options = ["--ttc", "ttc.yaml", "--reward-points", "50", "--output", "out.json"]
    run_script("rollout.py", checkpoint, *options, folder=tmp_path)
    found = json.loads((tmp_path / "out.json").read_text())
    (log,) = found["searches"]
    assert log["num_points"] == 50
    assert [len(step["candidates"]) for step in log["steps"]] == [3, 3, 3]
    for step, chosen in zip(log["steps"], log["chosen"], strict=True):
        assert step["candidates"][0] == chosen
        assert chosen["reward"] == max(candidate["reward"] for candidate in step["candidates"])
    expected = rollout_errors(Predictor.of(Checkpoint.load(checkpoint)), [(3, 0)], 3)
    (tmp_path / "ttc.yaml").write_text(json.dumps({**settings, "candidates": 1}))
    run_script("rollout.py", checkpoint, *options, folder=tmp_path)
    steps = json.loads((tmp_path / "out.json").read_text())["steps"]
    assert [step["relative_l2"] for step in steps] == [step.relative_l2 for step in expected]


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "ttc").glob("*.yaml")), ids=lambda path: path.stem)
def test_searches_that_we_ship_are_read(path: Path, import_script: Callable[[str], ModuleType]) -> None:
    assert import_script("rollout").load_ttc(path).candidates > 1


def test_a_search_that_makes_no_sense_is_told(checkpoint: Path, tmp_path: Path) -> None:
    for content, told in (
        ({"reward": {"density": "u0", "mass": 1.0}, "beam": 3}, "unknown key 'beam'. Did you mean 'beam_width'"),
        ({"reward": {"density": "u", "mass": 1.0}, "noise_std": 0.1}, "needs the field 'u', which the model does not"),
    ):
        (tmp_path / "ttc.yaml").write_text(json.dumps(content))
        command = [sys.executable, ROOT / "scripts" / "rollout.py", checkpoint, "--ttc", tmp_path / "ttc.yaml"]
        more = ["--reward-points", "50"]
        result = subprocess.run(
            [*command, *more], check=False, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
        )
        assert result.returncode == 2
        assert told in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--steps", "9"], "the store goes on for 3 steps, and 9 were asked for"),
        (["--split", "tset"], "Did you mean 'test'"),
        (["--ttc", "none.yaml"], "the settings of the search, none.yaml, cannot be read"),
        (["--held-field", "u7", "--steps", "2"], "held_fields names 'u7', which the model does not read"),
    ],
)
def test_what_cannot_be_done_is_told(
    checkpoint: Path, arguments: list[str], told: str, import_script: Callable[[str], ModuleType]
) -> None:
    app = typer.Typer()
    app.command()(import_script("rollout").main)
    result = typer.testing.CliRunner().invoke(app, [str(checkpoint), *arguments])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    assert told in result.stderr
