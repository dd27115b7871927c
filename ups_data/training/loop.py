"""The training loop: batches in, weights out, dense errors on the way."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ups_data.collate import SparseBatch
from ups_data.errors import ConfigError, StateError, TrainingError
from ups_data.loader import build_loader
from ups_data.models import NeuralOperator, ProblemSpec
from ups_data.samplers import DenseSampler
from ups_data.training.checkpoint import (
    Checkpoint,
    CheckpointHeader,
    Progress,
    import_safetensors,
    load_optimizer,
    load_weights,
    optimizer_tensors,
)
from ups_data.training.config import TrainConfig
from ups_data.training.losses import compute_operator_loss_bundle
from ups_data.training.metrics import DenseErrors, evaluate
from ups_data.transfer import DeviceLoader

CHECKPOINT_NAME, LOG_NAME = "last.safetensors", "log.jsonl"


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One line of a run's log.

    Attributes:
        step: optimiser steps done.
        seconds: wall-clock seconds of training so far, evaluation not counted.
        progress: share of the run that is done.
        loss: of this step's batch, as drawn.
        waited: seconds so far that were spent waiting for batches.
        batch_bytes: bytes of the batch.
        relative_l2: dense test error, where this step was followed by an evaluation.
        vrmse: the same by field.
    """

    step: int
    seconds: float
    progress: float
    loss: float
    waited: float
    batch_bytes: int
    relative_l2: float | None = None
    vrmse: dict[str, float] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainResult:
    """What a run gave.

    Attributes:
        model: the model that was evaluated: the average of weights where one is kept.
        records: the log.
        errors: dense test errors at the end.
    """

    model: NeuralOperator
    records: tuple[StepRecord, ...]
    errors: DenseErrors


def train(
    config: TrainConfig,
    *,
    output: Path | None = None,
    resume: bool = False,
    report: Callable[[StepRecord], None] | None = None,
) -> TrainResult:
    """Train the reference operator on a store.

    Args:
        config: the run.
        output: folder of the checkpoint `last.safetensors` and the log `log.jsonl`; nothing is written if None.
        resume: go on from the checkpoint in `output` if there is one. On a CPU a run that is bounded by steps ends with
            the same bits as one that was never interrupted.
        report: called with every record as it is made.

    Raises:
        ConfigError: no store is named; `output` holds a run and `resume` is False; settings that do not fit the data.
        TrainingError: the loss is not finite; names the step and the samples.
        StateError: the checkpoint in `output` belongs to another run.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    run = _Run(config)
    journal = _Journal(output)
    if resume:
        journal.restore(run)
    else:
        journal.refuse_another_run()
    for batch in run.batches():
        record = run.step(batch)
        journal.write(record, run)
        if report is not None:
            report(record)
    errors = run.errors or run.evaluate()
    return TrainResult(model=run.average or run.model, records=tuple(journal.records), errors=errors)


class _Run:
    """Model, optimiser and loader between two steps."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.device = config, config.choose_device()
        store, data = config.data.open(), config.data
        dataset = data.build(store, config.sampler.build(), split=data.split, seed=config.seed)
        self.statistics = store.manifest.statistics
        loader = build_loader(
            dataset,
            batch_size=data.batch_size,
            num_workers=data.num_workers,
            pin_memory=self.device.type == "cuda",
        )
        self.loader = DeviceLoader(loader, self.device)
        self.test = data.build(store, DenseSampler(), split=data.test_split)
        self.model = _build_model(config, ProblemSpec.of(dataset)).to(self.device)
        self.average = _copy_of(self.model) if config.optimizer.ema_decay else None
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.optimizer.learning_rate, weight_decay=config.optimizer.weight_decay
        )
        self.number, self._busy, self._waited_before = 0, 0.0, 0.0
        self._due = 0  # evaluations that belong before the coming step
        self.errors: DenseErrors | None = None

    @property
    def waited(self) -> float:
        """Seconds that were spent waiting for batches, transfer to the device included."""
        stats = self.loader.stats()
        return self._waited_before + stats.wait_seconds + stats.transfer_seconds

    @property
    def seconds(self) -> float:
        """Seconds of training, evaluation not counted."""
        return self.waited + self._busy

    @property
    def progress(self) -> float:
        """Share of the run that is done."""
        if self.config.seconds is not None:
            return min(self.seconds / self.config.seconds, 1.0)
        assert self.config.steps is not None
        return self.number / self.config.steps

    def batches(self) -> Iterator[SparseBatch]:
        """Yield batches, epoch after epoch, until the run is done."""
        while self.progress < 1:
            for batch in self.loader:
                yield batch
                if self.progress >= 1:
                    break

    def step(self, batch: SparseBatch) -> StepRecord:
        """Take one optimiser step, and evaluate if it is time to."""
        began = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.optimizer.learning_rate * self._rate()
        total = compute_operator_loss_bundle(self.model, batch, self.config.loss, step=self.number).total
        loss = float(total.detach())
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {self.number} on samples {batch.sample_ids.tolist()}; look at these, or "
                f"lower optimizer.learning_rate={self.config.optimizer.learning_rate:g}"
            )
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip_norm)
        self.optimizer.step()
        self._follow()
        self.number += 1
        self._busy += time.perf_counter() - began
        before, self._due = self._due, self._num_evaluations()
        return self._record(loss, batch.num_bytes, evaluated=self._due > before)

    def evaluate(self) -> DenseErrors:
        """Return the dense errors on the test samples."""
        count = min(self.config.data.test_samples or len(self.test), len(self.test))
        samples = np.linspace(0, len(self.test) - 1, count).round().astype(int).tolist()
        return evaluate(self.average or self.model, self.test, samples=samples, device=self.device)

    def checkpoint(self) -> Checkpoint:
        """Return all that is needed to go on from here."""
        return Checkpoint(
            header=CheckpointHeader(
                config=self.config,
                problem=self.model.problem,
                statistics=self.statistics,
                progress=Progress(
                    step=self.number, seconds=self.seconds, waited=self.waited, loader=self.loader.state_dict()
                ),
            ),
            model=self.model.state_dict(),
            average={} if self.average is None else self.average.state_dict(),
            optimizer=optimizer_tensors(self.optimizer),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was made."""
        progress = checkpoint.header.progress
        load_weights(self.model, checkpoint.model)
        if self.average is not None:
            load_weights(self.average, checkpoint.average)
        load_optimizer(self.optimizer, checkpoint.optimizer)
        self.loader.load_state_dict(progress.loader)
        self.number, self._busy = progress.step, progress.seconds - progress.waited
        self._waited_before = progress.waited
        self._due = self._num_evaluations()

    def _record(self, loss: float, num_bytes: int, *, evaluated: bool) -> StepRecord:
        self.errors = self.evaluate() if evaluated else None
        return StepRecord(
            step=self.number,
            seconds=self.seconds,
            progress=self.progress,
            loss=loss,
            waited=self.waited,
            batch_bytes=num_bytes,
            relative_l2=self.errors.relative_l2 if self.errors else None,
            vrmse=self.errors.vrmse if self.errors else None,
        )

    def _num_evaluations(self) -> int:
        """Return how many evaluations belong before this point of the run."""
        return math.floor(self.progress * self.config.evaluations + 1e-9)

    def _rate(self) -> float:
        """Return the learning rate as a share of its peak, at the middle of the coming step."""
        warmup = self.config.optimizer.warmup
        done = self.progress + (0.5 / self.config.steps if self.config.steps else 1e-3)
        if done < warmup:
            return done / warmup
        return (1 + math.cos(math.pi * min((done - warmup) / (1 - warmup), 1.0))) / 2

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average of weights towards the weights; fast at first, when the weights are still far off."""
        if self.average is None:
            return
        decay = min(self.config.optimizer.ema_decay, (1 + self.number) / (10 + self.number))
        for kept, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)


class _Journal:
    """Log and checkpoint of a run, in a folder or nowhere."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            import_safetensors()  # missing, it would be missed at the first checkpoint only
        self.folder = folder
        self.records: list[StepRecord] = []

    def refuse_another_run(self) -> None:
        """Raise if the folder holds a run: neither its log nor its checkpoint is to be lost."""
        names = () if self.folder is None else (CHECKPOINT_NAME, LOG_NAME)
        taken = [name for name in names if self.folder is not None and (self.folder / name).exists()]
        if taken:
            raise ConfigError(f"{self.folder} holds a run already ({taken[0]}); resume it, or choose another folder")

    def restore(self, run: _Run) -> None:
        """Bring a run to the checkpoint in the folder, if there is one, and drop the lines of the log after it."""
        if self.folder is None or not (self.folder / CHECKPOINT_NAME).exists():
            self._rewrite(0)
            return
        path = self.folder / CHECKPOINT_NAME
        checkpoint = Checkpoint.load(path)
        if checkpoint.header.config != run.config:
            difference = _first_difference(checkpoint.header.config, run.config)
            raise StateError(f"{path} belongs to another run ({difference}); choose another folder for this one")
        run.restore(checkpoint)
        self._rewrite(run.number)

    def write(self, record: StepRecord, run: _Run) -> None:
        """Note a step, and keep a checkpoint if it was followed by an evaluation."""
        self.records.append(record)
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(f"{json.dumps(asdict(record))}\n")
        if record.relative_l2 is not None:
            run.checkpoint().save(self.folder / CHECKPOINT_NAME)

    def _rewrite(self, steps: int) -> None:
        if self.folder is None or not (self.folder / LOG_NAME).exists():
            return
        path = self.folder / LOG_NAME
        # The last line may be cut off; it lies behind the checkpoint, or the checkpoint would not exist.
        lines = path.read_text(encoding="utf-8").splitlines()[:steps]
        self.records = [StepRecord(**json.loads(line)) for line in lines]
        staged = path.with_name(f".{path.name}.partial")
        staged.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        staged.replace(path)


def _build_model(config: TrainConfig, problem: ProblemSpec) -> NeuralOperator:
    # Weights come from the run's seed and leave the caller's generator alone.
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return NeuralOperator(config.model, problem)


def _copy_of(model: NeuralOperator) -> NeuralOperator:
    return copy.deepcopy(model).eval().requires_grad_(False)


def _first_difference(saved: TrainConfig, own: TrainConfig) -> str:
    for name in type(own).model_fields:
        if getattr(saved, name) != getattr(own, name):
            return f"{name}: {getattr(saved, name)!r}, now {getattr(own, name)!r}"
    return "no difference"
