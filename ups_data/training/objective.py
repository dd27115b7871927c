"""A model and its loss in the precision that was asked for."""

from __future__ import annotations

from typing import Literal

import torch

from ups_data.collate import SparseBatch
from ups_data.errors import ConfigError
from ups_data.models import NeuralOperator
from ups_data.training.losses import LossBundle, LossConfig, compute_operator_loss_bundle

Precision = Literal["float32", "bfloat16"]


class Objective:
    """Batch in, losses out.

    Args:
        model: what is trained.
        loss: its terms.
        precision: `bfloat16` computes what may lose digits in that type (autocast); weights, sums and losses keep
            float32.
        device: where the model lies.
    """

    def __init__(self, model: NeuralOperator, loss: LossConfig, *, precision: Precision, device: torch.device) -> None:
        self.model = model
        self._loss, self._precision, self._device = loss, precision, device

    def __call__(self, batch: SparseBatch, step: int) -> LossBundle:
        """Return the losses of a batch at a global step."""
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._precision == "bfloat16"):
            return compute_operator_loss_bundle(self.model, batch, self._loss, step=step)


def compile_model(model: NeuralOperator) -> None:
    """Compile encoder, latent operator and decoder, in place; they compile when they first run.

    Raises:
        ConfigError: torch cannot compile here.
    """
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        get_cpp_compiler()
    except Exception as error:
        raise ConfigError(f"compile: true needs a C++ compiler, install g++ or clang ({error})") from error
    for part in (model.encoder, model.latent_operator, model.decoder):
        part.compile(dynamic=False)
