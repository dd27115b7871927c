"""Checkpoints: one safetensors file, weights and optimiser as tensors, everything else as JSON in its header.

One file is replaced in one step, so a checkpoint is whole or it is the one before. Nothing is unpickled.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pydantic
import torch
from jaxtyping import Shaped

from ups_data.errors import ConfigError, CorruptionError, StateError, StoreNotFoundError
from ups_data.models import NeuralOperator, ProblemSpec
from ups_data.schema import ChannelStatistics, Record
from ups_data.training.config import TrainConfig

Tensors = dict[str, Shaped[torch.Tensor, "..."]]

_KEY, _VERSION = "ups_data", 1


class Progress(Record):
    """How far a run has come.

    Attributes:
        step: optimiser steps done.
        seconds: wall-clock seconds of training, evaluation not counted.
        waited: seconds of them that were spent waiting for batches.
        loader: state of the loader.
        best_error: least test error of all evaluations, None before the first.
        evaluations_since: evaluations since then.
    """

    step: int
    seconds: float
    waited: float
    loader: dict[str, Any]
    best_error: float | None = None
    evaluations_since: int = 0


class CheckpointHeader(Record):
    """What a checkpoint says of itself.

    Attributes:
        version: of this record.
        config: the run, with all defaults that it was started with.
        problem: what the model was built for.
        statistics: train statistics of all channels of the training store, to normalise other stores by; those of the
            channels of a mixture that are in use, pooled over its stores.
        progress: how far the run had come.
    """

    version: int = _VERSION
    config: TrainConfig
    problem: ProblemSpec
    statistics: tuple[ChannelStatistics, ...]
    progress: Progress


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A run at one of its steps.

    Attributes:
        header: the run, the problem, and how far it had come.
        model: weights.
        average: average of the weights; empty if none is kept.
        optimizer: state of AdamW, as `number/name`.
    """

    header: CheckpointHeader
    model: Tensors
    average: Tensors
    optimizer: Tensors

    def save(self, path: Path) -> None:
        """Write the checkpoint in place of an older one, in one step."""
        parts = {"model": self.model, "average": self.average, "optimizer": self.optimizer}
        tensors = {
            f"{part}/{name}": tensor.detach().cpu().contiguous()
            for part, named in parts.items()
            for name, tensor in named.items()
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.partial")
        import_safetensors().torch.save_file(tensors, staged, metadata={_KEY: self.header.model_dump_json()})
        with staged.open("rb") as handle:
            os.fsync(handle.fileno())
        staged.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a checkpoint.

        Raises:
            StoreNotFoundError: there is none.
            CorruptionError: it cannot be read, or another program wrote it.
            StateError: it is of another version.
        """
        if not path.is_file():
            raise StoreNotFoundError(f"there is no checkpoint at {path}")
        safetensors = import_safetensors()
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get(_KEY)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        except (OSError, safetensors.SafetensorError) as error:
            raise CorruptionError(f"the checkpoint {path} cannot be read: {error}") from error
        if text is None:
            raise CorruptionError(f"{path} is a file of tensors that ups_data did not write as a checkpoint")
        parts: dict[str, Tensors] = {"model": {}, "average": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts.setdefault(part, {})[rest] = tensor
        return cls(header=_read_header(text, path), **parts)

    def build_model(self) -> NeuralOperator:
        """Return the trained model: the average of the weights where one was kept."""
        model = NeuralOperator(self.header.config.model, self.header.problem)
        load_weights(model, self.average or self.model)
        return model


def import_safetensors() -> ModuleType:
    """Return the library that holds the tensors, which comes with an extra.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import safetensors.torch
    except ImportError as error:
        raise ConfigError('checkpoints need safetensors: pip install "ups-data[train]"') from error
    return safetensors


def _read_header(text: str, path: Path) -> CheckpointHeader:
    version = json.loads(text).get("version")
    if version != _VERSION:
        raise StateError(f"the checkpoint {path} has version {version!r}, this release reads {_VERSION}")
    try:
        return CheckpointHeader.model_validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StateError(f"the checkpoint {path} does not fit this release: {place}: {first['msg']}") from error


def load_weights(model: NeuralOperator, weights: Tensors) -> None:
    """Load weights into a model.

    Raises:
        StateError: they belong to another model.
    """
    own = model.state_dict()
    differing = sorted(set(own) ^ set(weights)) or [
        name for name, tensor in own.items() if tensor.shape != weights[name].shape
    ]
    if differing:
        raise StateError(
            f"the weights belong to another model: {len(differing)} tensors differ, the first is {differing[0]!r}; "
            f"use the configuration that they were trained with"
        )
    model.load_state_dict(weights)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """Return the state of AdamW as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{number}/{name}": tensor for number, entry in state.items() for name, tensor in entry.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Put named tensors back into AdamW."""
    entries: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition("/")
        entries.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
