#!/usr/bin/env python
"""Evaluate a checkpoint on every point of a split: scripts/evaluate.py CHECKPOINT [STORE].

Values are normalised by the statistics of the store that the model was trained on, whichever store is evaluated.

Example: scripts/evaluate.py runs/darcy/last.safetensors data/darcy_32 --split test
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import rich.console
import typer

import ups_data
from ups_data.errors import UpsDataError
from ups_data.samplers import DenseSampler
from ups_data.training import Checkpoint, DenseErrors, evaluate, find_device

OK, MISUSE = 0, 2


def main(
    checkpoint: Annotated[Path, typer.Argument(help="last.safetensors of a run.")],
    store: Annotated[str | None, typer.Argument(help="A store; that of the run otherwise.")] = None,
    *,
    split: Annotated[str | None, typer.Option("--split", help="The run's test split otherwise.")] = None,
    device: Annotated[str, typer.Option("--device", help="As torch names it.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Print the errors of a trained model on every point of every sample of a split."""
    try:
        errors = evaluate_checkpoint(Checkpoint.load(checkpoint), store, split=split, device=device)
    except UpsDataError as error:
        rich.console.Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", markup=False)
        raise typer.Exit(MISUSE) from error
    if as_json:
        print(json.dumps(errors.to_dict()))
        return
    print(f"relative L2 {errors.relative_l2:.4f} on {errors.num_samples} samples")
    for name in errors.vrmse:
        print(f"{name}: VRMSE {errors.vrmse[name]:.4f}, nRMSE {errors.nrmse[name]:.4f}")


def evaluate_checkpoint(
    checkpoint: Checkpoint, store: str | None = None, *, split: str | None = None, device: str = "cpu"
) -> DenseErrors:
    """Evaluate on another store, or on that of the run."""
    data = checkpoint.header.config.data.with_all_targets()
    opened = data.open() if store is None else ups_data.open_store(store)
    dataset = data.build(
        opened, DenseSampler(), split=split or data.test_split, statistics=checkpoint.header.statistics
    )
    checkpoint.header.problem.check_data(dataset)
    chosen = find_device(device)
    return evaluate(checkpoint.build_model().to(chosen), dataset, device=chosen)


if __name__ == "__main__":
    typer.run(main)
