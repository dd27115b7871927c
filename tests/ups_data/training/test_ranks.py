"""scripts/train.py as its users start it: under torchrun, killed on the way, compiled, in bfloat16."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.memory_source import MemorySource, wave_frames
from ups_data.training import Checkpoint, TrainConfig, load_config, train
from ups_data.training.journal import CHECKPOINT_NAME, LOG_NAME

ROOT = Path(__file__).resolve().parents[3]
TRAIN = str(ROOT / "scripts" / "train.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def write_config(make_config: Callable[..., TrainConfig], tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: Any) -> Path:
        config = make_config(**changes)
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)), encoding="utf-8")
        return path

    return write


def run(*command: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def launch(config: Path, output: Path, *options: str, ranks: int = 1) -> dict[str, Any]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    done = run(sys.executable, *torchrun, TRAIN, str(config), "--output", str(output), "--json", *options)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == 1, done.stdout  # one of the ranks tells
    return json.loads(lines[0])


def train_here(config: Path, output: Path) -> dict[str, Any]:
    """Train in this process, which spares the start of another."""
    return train(load_config(config), output=output).errors.to_dict()


def assert_same_gradients(one: Checkpoint, two: Checkpoint) -> None:
    """Compare them after one step, in which AdamW's first moment is a tenth of them."""
    moments = {name: tensor for name, tensor in one.optimizer.items() if name.endswith("exp_avg")}
    size = torch.cat([tensor.flatten() for tensor in moments.values()]).norm()
    assert size > 0
    for name, tensor in moments.items():
        assert float((two.optimizer[name] - tensor).norm() / size) < 1e-5, name


@pytest.mark.parametrize(("batch_size", "accumulate"), [(4, 1), (5, 2)])
def test_two_ranks_train_as_one_process_does(write_config, tmp_path, batch_size, accumulate) -> None:
    """Gradients to 1e-5 of their size, also where a batch does not divide: AdamW's first moment is a tenth of them."""
    store = yaml.safe_load(write_config().read_text())["data"]["store"]
    config = write_config(
        data={"store": store, "batch_size": batch_size},
        optimizer={"accumulate": accumulate, "clip_norm": 1e9},
        steps=1,
        evaluations=1,
    )
    found = [train_here(config, tmp_path / "1"), launch(config, tmp_path / "2", ranks=2)]
    assert_same_gradients(*(Checkpoint.load(tmp_path / name / CHECKPOINT_NAME) for name in ("1", "2")))
    assert found[1]["relative_l2"] == pytest.approx(found[0]["relative_l2"], rel=1e-4)
    assert found[1]["num_samples"] == found[0]["num_samples"]
    logs = [json.loads((tmp_path / name / LOG_NAME).read_text()) for name in ("1", "2")]
    assert logs[1]["loss"] == pytest.approx(logs[0]["loss"], rel=1e-5)
    assert logs[1]["samples"] == logs[0]["samples"] == batch_size * accumulate


def test_two_ranks_train_on_a_mixture_as_one_process_does(write_config, convert_source, tmp_path) -> None:
    """A step of a batch of each store; the errors of each store are those of all ranks too."""
    store = yaml.safe_load(write_config().read_text())["data"]["store"]
    frames = [20 * wave_frames((8, 8), num_frames=4, seed=seed) for seed in range(3)]
    source = MemorySource.grid(frames, periodic=True, splits=["train", "train", "test"])
    other = convert_source(source, page_points=4, num_strata=2).location
    config = write_config(
        data={"mixture": {"stores": {"one": {"store": store}, "other": {"store": other}}}, "batch_size": 5},
        optimizer={"accumulate": 4, "clip_norm": 1e9},
        steps=1,
        evaluations=1,
    )
    found = [train_here(config, tmp_path / "1"), launch(config, tmp_path / "2", ranks=2)]
    one, two = (Checkpoint.load(tmp_path / name / CHECKPOINT_NAME) for name in ("1", "2"))
    assert_same_gradients(one, two)
    assert one.header.progress.loader == two.header.progress.loader
    assert {name: part["num_samples"] for name, part in found[0]["stores"].items()} == {"one": 4, "other": 3}
    for name, part in found[0]["stores"].items():
        assert found[1]["stores"][name]["relative_l2"] == pytest.approx(part["relative_l2"], rel=1e-4)
        assert found[1]["stores"][name]["num_samples"] == part["num_samples"]


def test_two_ranks_learn_the_same_emphasis_as_one_process(write_config, tmp_path) -> None:
    """Losses are added up over ranks, also where a batch of 5 does not divide."""
    store = yaml.safe_load(write_config().read_text())["data"]["store"]
    feedback = {"every": 2, "lag": 2, "warmup": 2, "least_effective": 1.0}
    config = write_config(
        data={"store": store, "batch_size": 5},
        sampler={"kind": "adaptive", "ratio": 0.25, "feedback": feedback},
        steps=10,
        evaluations=1,
    )
    found = [train_here(config, tmp_path / "1"), launch(config, tmp_path / "2", ranks=2)]
    one, two = (
        Checkpoint.load(tmp_path / name / CHECKPOINT_NAME).header.progress.loader["feedback"]["learnt"][0]
        for name in ("1", "2")
    )
    assert [step for step, _ in one["emphases"]] == [step for step, _ in two["emphases"]] == [8, 10]
    for (_, mine), (_, theirs) in zip(one["emphases"], two["emphases"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
        assert max(mine) > min(mine)
    assert found[1]["relative_l2"] == pytest.approx(found[0]["relative_l2"], rel=1e-3)


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(write_config, tmp_path) -> None:
    config = write_config(steps=24, evaluations=6)
    train_here(config, tmp_path / "whole")
    log = tmp_path / "killed" / LOG_NAME
    command = [sys.executable, TRAIN, str(config), "--output", str(tmp_path / "killed")]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not (log.exists() and log.read_text().count("\n") >= 5):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
    process.send_signal(signal.SIGKILL)
    process.communicate()
    launch(config, tmp_path / "killed", "--resume")
    whole, resumed = (Checkpoint.load(tmp_path / name / CHECKPOINT_NAME) for name in ("whole", "killed"))
    for part in ("model", "average", "optimizer"):
        for name, tensor in getattr(whole, part).items():
            assert torch.equal(tensor, getattr(resumed, part)[name]), name


def test_a_compiled_run_in_bfloat16_learns_as_a_plain_one_does(write_config, tmp_path) -> None:
    """Batches are of one shape, so that each part of the model compiles once."""
    # One block, so that there is little to compile: an encoder, an operator and a decoder are left.
    model = {"width": 16, "grid_encoder": {"patch": 4, "stem_blocks": 0}, "latent_operator": {"blocks": 1}}
    settings: dict[str, Any] = {"model": model, "steps": 12, "evaluations": 1}
    plain = train_here(write_config(**settings), tmp_path / "plain")
    config = write_config(**settings, compile=True)
    done = subprocess.run(
        [sys.executable, TRAIN, str(config), "--output", str(tmp_path / "compiled"), "--json"],
        env={**ENVIRONMENT, "TORCH_LOGS": "recompiles"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Recompiling" not in done.stderr
    compiled = json.loads(done.stdout.splitlines()[-1])
    assert compiled["relative_l2"] == pytest.approx(plain["relative_l2"], rel=1e-3)
    low = train_here(write_config(**settings, precision="bfloat16"), tmp_path / "low")
    assert low["relative_l2"] == pytest.approx(plain["relative_l2"], rel=0.05)
    assert low["relative_l2"] != plain["relative_l2"]
