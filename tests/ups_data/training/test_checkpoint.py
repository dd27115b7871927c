import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from ups_data.errors import CorruptionError, StateError, StoreNotFoundError
from ups_data.training import Checkpoint, TrainConfig, train
from ups_data.training.checkpoint import load_weights
from ups_data.training.journal import CHECKPOINT_NAME


@pytest.fixture(scope="module")
def saved(make_config: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(make_config(steps=2, evaluations=1), output=folder)
    return folder / CHECKPOINT_NAME


def test_what_is_saved_is_what_is_read(saved: Path, tmp_path: Path) -> None:
    first = Checkpoint.load(saved)
    first.save(tmp_path / "again.safetensors")
    second = Checkpoint.load(tmp_path / "again.safetensors")
    assert first.header == second.header
    for part in ("model", "average", "optimizer"):
        one, other = getattr(first, part), getattr(second, part)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert first.header.progress.step == 2
    assert [path.name for path in tmp_path.iterdir()] == ["again.safetensors"]


def test_there_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match=r"no checkpoint at .*last"):
        Checkpoint.load(tmp_path / "last")


@pytest.mark.parametrize("keep", [0, 5, 200, -10])
def test_a_cut_file_is_refused(saved: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(CorruptionError, match=r"cut\.safetensors cannot be read"):
        Checkpoint.load(path)


def test_tensors_of_another_program_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(CorruptionError, match="did not write as a checkpoint"):
        Checkpoint.load(path)


def test_another_version_is_refused(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "later.safetensors"
    shutil.copy(saved, path)
    content = path.read_bytes()
    mine = b'"ups_data":"{\\"version\\":1,'
    assert content.count(mine) == 1
    path.write_bytes(content.replace(mine, mine.replace(b"1", b"2")))
    with pytest.raises(StateError, match="has version 2, this release reads 1"):
        Checkpoint.load(path)


def test_weights_of_another_model_are_refused(saved: Path, make_config: Callable[..., TrainConfig]) -> None:
    checkpoint = Checkpoint.load(saved)
    wider = make_config(model={"width": 32, "grid_encoder": {"patch": 4}}).model
    model = type(checkpoint.build_model())(wider, checkpoint.header.problem)
    with pytest.raises(StateError, match=r"belong to another model: .* tensors differ, the first is"):
        load_weights(model, checkpoint.model)
