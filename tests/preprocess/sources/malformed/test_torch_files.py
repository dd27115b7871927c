"""Malformed files of neuraloperator: their tensors, what NumPy does not have of tensors, files cut short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preprocess.sources import open_source
from tests.preprocess.sources.malformed.spoiling import check_refused, cut_file, read_all

TENSORS = {
    "darcy_train_4.pt": {"x": torch.ones(3, 4, 4, dtype=torch.bool), "y": torch.ones(3, 4, 4)},
    "nsforcing_train_4.pt": {"x": torch.ones(3, 4, 4), "y": torch.ones(3, 4, 4)},
    "burgers_train.pt": {"input": torch.ones(3, 4), "output": torch.ones(3, 5, 4), "visc": torch.ones(1, 1)},
}
TENSOR_ANY: dict[str, Callable[[torch.Tensor], Any]] = {
    "missing": lambda tensor: None,
    "text": lambda tensor: "three",
    "list": lambda tensor: tensor.tolist(),
    "zero-length": lambda tensor: tensor[:0],
    "complex": lambda tensor: tensor.to(torch.complex64),
    "rank": lambda tensor: torch.stack([tensor, tensor], dim=-1),
    "ragged": lambda tensor: [tensor[:1], tensor[:2]],
}


@pytest.mark.parametrize("way", TENSOR_ANY)
@pytest.mark.parametrize(("name", "key"), [(name, key) for name, content in TENSORS.items() for key in content])
def test_a_spoilt_tensor_is_refused(tmp_path: Path, name: str, key: str, way: str) -> None:
    options = {"time_step": 0.1} if "burgers" in name else {}
    read_all(save(tmp_path / "sound" / name, TENSORS[name]), "neuraloperator", options)
    spoilt = TENSOR_ANY[way](TENSORS[name][key])
    content = {**TENSORS[name], key: spoilt}
    if spoilt is None:
        del content[key]
    check_refused(save(tmp_path / name, content), "neuraloperator", options, name, key)


UNUSABLE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sparse": lambda tensor: tensor.float().to_sparse(),
    "no values": lambda tensor: torch.empty(tensor.shape, device="meta"),
    "float8": lambda tensor: tensor.to(torch.float8_e4m3fn),
}
USABLE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "bfloat16": lambda tensor: tensor.bfloat16(),
    "parameter": lambda tensor: torch.nn.Parameter(tensor.float()),
}


@pytest.mark.parametrize("way", UNUSABLE)
@pytest.mark.parametrize(("name", "key"), [(name, key) for name, content in TENSORS.items() for key in content])
def test_a_tensor_that_numpy_does_not_have_is_refused(tmp_path: Path, name: str, key: str, way: str) -> None:
    path = save(tmp_path / name, {**TENSORS[name], key: UNUSABLE[way](TENSORS[name][key])})
    check_refused(path, "neuraloperator", {"time_step": 0.1} if "burgers" in name else {}, name, key)


@pytest.mark.parametrize("way", USABLE)
def test_tensors_that_only_torch_has_come_out_exactly(tmp_path: Path, way: str) -> None:
    values = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    path = save(tmp_path / "nsforcing_train_4.pt", {"x": torch.ones(3, 4, 4), "y": USABLE[way](values)})
    source = open_source([path], "neuraloperator")
    assert source.dtype == np.float32
    np.testing.assert_array_equal(source.read_frames(1, 0, 1)[0, 1], values[1].float().numpy())


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("key", ["x", "y"])
def test_a_value_of_a_tensor_that_is_no_field_s_is_refused(tmp_path: Path, key: str, value: float) -> None:
    content = {name: torch.ones(3, 4, 4, dtype=torch.float64) for name in ("x", "y")}
    content[key][-1, -1, -1] = value
    channel = {"x": "forcing", "y": "vorticity"}[key]
    check_refused(save(tmp_path / "nsforcing_train_4.pt", content), "neuraloperator", None, "nsforcing", channel)


@pytest.mark.parametrize("key", ["x", "y"])
def test_integers_that_float64_does_not_hold_are_refused(tmp_path: Path, key: str) -> None:
    content = {"x": torch.ones(3, 4, 4), "y": torch.ones(3, 4, 4)}
    content[key] = torch.full((3, 4, 4), 2**53 + 1)
    check_refused(save(tmp_path / "nsforcing_train_4.pt", content), "neuraloperator", None, "nsforcing", f": {key}")


@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, 0.99])
def test_torch_files_cut_short_are_refused(tmp_path: Path, kept: float) -> None:
    for name, tensors in TENSORS.items():
        path = save(tmp_path / name, tensors)
        cut_file(path, kept)
        check_refused(path, "neuraloperator", None, name)


def save(path: Path, content: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)
    return path
