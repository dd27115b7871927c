#!/usr/bin/env python
"""Train the reference operator: scripts/train.py CONFIG [section.key=value ...] --output DIR.

Under torchrun the processes share each batch: torchrun --nproc-per-node 4 scripts/train.py CONFIG --output DIR.

Example: scripts/train.py configs/darcy.yaml data.store=data/darcy steps=1000 --output runs/darcy
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import rich.console
import rich.filesize
import rich.progress
import typer

from ups_data.errors import TrainingError, UpsDataError
from ups_data.training import StepRecord, TrainConfig, TrainResult, load_config, train

OK, PROBLEM, MISUSE, INTERRUPTED = 0, 1, 2, 130
ERRORS = rich.console.Console(stderr=True, highlight=False, soft_wrap=True)


def main(
    config: Annotated[Path, typer.Argument(help="YAML file, see configs/.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="As in data.store=PATH.")] = None,
    *,
    output: Annotated[Path, typer.Option("--output", help="Folder for checkpoint and log.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Train the reference operator; the errors that it prints are those on all points of the test split."""
    try:
        chosen = load_config(config, overrides or ())
        result = run(chosen, output, resume=resume)
    except KeyboardInterrupt:
        ERRORS.print(f"interrupted; go on from the last evaluation with --resume --output {output}")
        raise typer.Exit(INTERRUPTED) from None
    except UpsDataError as error:
        ERRORS.print(f"error: {error}", markup=False)
        raise typer.Exit(PROBLEM if isinstance(error, TrainingError) else MISUSE) from error
    except OSError as error:  # a full disk, a folder that may not be written
        ERRORS.print(f"error: {error}; go on from the last evaluation with --resume", markup=False)
        raise typer.Exit(PROBLEM) from error
    if int(os.environ.get("RANK", "0")) != 0:
        return  # of several processes one tells
    if as_json:
        last = result.records[-1]
        print(json.dumps({"step": last.step, "seconds": last.seconds, **result.errors.to_dict()}))
    else:
        print(f"{output}: relative L2 {result.errors.relative_l2:.4f} on {result.errors.num_samples} test samples")
        for name, errors in result.errors.stores.items():
            print(f"{name}: relative L2 {errors.relative_l2:.4f} on {errors.num_samples} of them")


def run(config: TrainConfig, output: Path, *, resume: bool) -> TrainResult:
    """Train under a progress bar."""
    columns = (
        rich.progress.TextColumn("step {task.fields[step]}"),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TextColumn(
            "loss {task.fields[loss]:.3g}, {task.fields[rate]:.1f} samples/s of {task.fields[points]:.0f} effective "
            "points, {task.fields[size]} a step, waited {task.fields[waited]:.0%}, test error {task.fields[error]}"
        ),
        rich.progress.TimeElapsedColumn(),
    )
    with rich.progress.Progress(*columns, console=ERRORS, disable=not ERRORS.is_terminal) as bar:
        blank: dict[str, Any] = {
            "step": 0,
            "loss": float("nan"),
            "rate": 0.0,
            "points": 0.0,
            "size": "-",
            "waited": 0.0,
            "error": "-",
        }
        task = bar.add_task("", total=1.0, **blank)
        samples, start = 0, -1.0

        def show(record: StepRecord) -> None:
            nonlocal samples, start
            # From the second step on: the first one of a resumed run stands for all before it.
            samples, start = (0, record.seconds) if start < 0 else (samples + record.samples, start)
            fields: dict[str, Any] = {
                "step": record.step,
                "loss": record.loss,
                "rate": samples / max(record.seconds - start, 1e-9),
                "points": record.effective_points,
                "size": rich.filesize.decimal(record.batch_bytes),
                "waited": record.waited / max(record.seconds, 1e-9),
            }
            if record.relative_l2 is not None:
                fields["error"] = f"{record.relative_l2:.4f}"
                if not ERRORS.is_terminal:
                    parts = [f"{name} {error:.4f}" for name, error in (record.store_errors or {}).items()]
                    of_each = f" ({', '.join(parts)})" if parts else ""
                    line = f"step {record.step}, {record.seconds:.1f} s: relative L2 {record.relative_l2:.4f}{of_each}"
                    ERRORS.print(line, markup=False)
            bar.update(task, completed=record.progress, **fields)

        return train(config, output=output, resume=resume, report=show)


if __name__ == "__main__":
    typer.run(main)
