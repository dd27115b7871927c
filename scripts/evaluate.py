#!/usr/bin/env python
"""Evaluate a checkpoint on every point of a split: scripts/evaluate.py CHECKPOINT [STORE].

Values are normalised by the statistics of the store that the model was trained on, whichever store is evaluated; those
of a mixture are pooled over its stores. Without STORE a model of a mixture is evaluated on all of them and on each.

Example: scripts/evaluate.py runs/darcy/last.safetensors data/darcy_32 --split test
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import rich.console
import typer

from ups_data.errors import UpsDataError
from ups_data.training import Checkpoint, DenseErrors, evaluate, find_device
from ups_data.training.run_data import open_tests

OK, MISUSE = 0, 2


def main(
    checkpoint: Annotated[Path, typer.Argument(help="last.safetensors of a run.")],
    store: Annotated[str | None, typer.Argument(help="A store; that or those of the run otherwise.")] = None,
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
    for title, part in {"": errors, **{f"{name}: ": part for name, part in errors.stores.items()}}.items():
        print(f"{title}relative L2 {part.relative_l2:.4f} on {part.num_samples} samples")
        for name in part.vrmse:
            print(f"{title}{name}: VRMSE {part.vrmse[name]:.4f}, nRMSE {part.nrmse[name]:.4f}")


def evaluate_checkpoint(
    checkpoint: Checkpoint, store: str | None = None, *, split: str | None = None, device: str = "cpu"
) -> DenseErrors:
    """Evaluate on another store, or on that or those of the run."""
    header = checkpoint.header
    data = header.config.data
    if store is not None:
        data = data.model_copy(update={"store": store, "mixture": None, "queries": None})
    tests = open_tests(data, header.statistics, split=split)
    for dataset in tests.values():
        header.problem.check_data(dataset)
    model = checkpoint.build_model().to(find_device(device))
    return DenseErrors.over({name: evaluate(model, dataset) for name, dataset in tests.items()})


if __name__ == "__main__":
    typer.run(main)
