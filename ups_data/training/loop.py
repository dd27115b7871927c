"""The training loop: batches in, weights out, dense errors on the way."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ups_data.collate import SparseBatch
from ups_data.errors import ConfigError, TrainingError
from ups_data.loader import build_loader
from ups_data.models import NeuralOperator, ProblemSpec
from ups_data.training import ranks
from ups_data.training.checkpoint import (
    Checkpoint,
    CheckpointHeader,
    Progress,
    load_optimizer,
    load_weights,
    optimizer_tensors,
)
from ups_data.training.config import TrainConfig
from ups_data.training.journal import Journal, StepRecord
from ups_data.training.metrics import DenseErrors, evaluate
from ups_data.training.objective import Objective, compile_model
from ups_data.training.run_data import RunData
from ups_data.transfer import DeviceLoader


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
    with ranks.joined_ranks(config.choose_device()) as device:
        run = _Run(config, device)
        journal = Journal(output, keep=config.keep_checkpoints, tensorboard=config.tensorboard)
        if resume:
            journal.restore(run)
        else:
            journal.refuse_another_run()
        for batch in run.batches():
            record = run.take(batch)
            if record is None:
                continue
            journal.write(record, run)
            if report is not None and ranks.rank() == 0:
                report(record)
        errors = run.errors or run.evaluate()
        return TrainResult(model=run.average or run.model, records=tuple(journal.records), errors=errors)


@dataclass
class Patience:
    """Ends a run that does not get better any more.

    Attributes:
        limit: evaluations in a row without a new least error that end the run; None for no end.
        best: the least error so far.
        since: evaluations since then.
    """

    limit: int | None
    best: float | None = None
    since: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the run shall end."""
        return self.limit is not None and self.since >= self.limit

    def add(self, error: float) -> None:
        """Take the error of another evaluation."""
        better = self.best is None or error < self.best
        self.best, self.since = (error, 0) if better else (self.best, self.since + 1)


@dataclass
class _StepTally:
    """What the batches of one optimiser step come to."""

    num_batches: int = 0
    loss: float = 0.0
    samples: int = 0
    num_bytes: int = 0
    _effective: float = 0.0
    _drawn: int = 0

    def add(self, batch: SparseBatch, *, loss: float, samples: int) -> None:
        """Add a batch."""
        self.num_batches += 1
        self.loss += loss
        self.samples += samples
        self.num_bytes += batch.num_bytes
        points = batch.effective_points
        self._effective += float(points.sum())
        self._drawn += len(points)

    @property
    def effective_points(self) -> float:
        """Of a sample, in the mean."""
        return self._effective / max(self._drawn, 1)


class _Run:
    """Model, optimiser and loader between two steps."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        data = config.data
        self.data = RunData.open(data, config.sampler.build(), seed=config.seed)
        loader = build_loader(
            self.data.train,
            batch_size=data.batch_size,
            num_workers=data.num_workers,
            shuffle=data.shuffle.build(self.data.train),
            pin_memory=self.device.type == "cuda",
            constant_shape=config.compile,
        )
        self.loader = DeviceLoader(loader, self.device)
        self.model = _build_model(config, self.data.problem).to(self.device)
        self.average = _copy_of(self.model) if config.optimizer.ema_decay else None
        if config.compile:
            compile_model(self.model)
        self._objective = Objective(self.model, config.loss, precision=config.precision, device=device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.optimizer.learning_rate, weight_decay=config.optimizer.weight_decay
        )
        self.number, self._busy, self._waited_before, self._clock = 0, 0.0, 0.0, 0.0
        self._due = 0  # evaluations that belong before the coming step
        self.errors: DenseErrors | None = None
        self._patience = Patience(config.patience)
        self._step = _StepTally()

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
        """Share of the run that is done, by the number of steps or by the clock of the first rank."""
        if self.config.steps is not None:
            return self.number / self.config.steps
        return min(self._clock / self.config.seconds, 1.0) if self.config.seconds else 1.0

    def batches(self) -> Iterator[SparseBatch]:
        """Yield batches, epoch after epoch, until the run is done."""
        while not self._is_done:
            for batch in self.loader:
                yield batch
                if self._is_done:
                    break

    @property
    def _is_done(self) -> bool:
        return self.progress >= 1 or self._patience.is_over

    def take(self, batch: SparseBatch) -> StepRecord | None:
        """Add a batch to the coming optimiser step; take the step, and evaluate if it is time to, once it is whole."""
        began = time.perf_counter()
        self._add_gradients(batch)
        if self._step.num_batches < self.config.optimizer.accumulate:
            self._busy += time.perf_counter() - began
            return None
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.optimizer.learning_rate * self._rate()
        ranks.average_gradients(self.model.parameters())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._follow()
        self.number += 1
        self._busy += time.perf_counter() - began
        if self.config.seconds is not None:
            self._clock = ranks.from_first_rank(self.seconds, self.device)
        before, self._due = self._due, self._num_evaluations()
        return self._record(evaluated=self._due > before)

    def _add_gradients(self, batch: SparseBatch) -> None:
        """Add the gradients of a batch.

        Each rank has the mean over its own samples. What the ranks' average must become is the mean over the global
        batch, so each is scaled by its share; batches of one step count alike.
        """
        own = int((batch.sample_ids >= 0).sum())
        samples = batch.origin.global_samples if batch.origin is not None else own
        share = own * ranks.world_size() / max(samples, 1)
        bundle = self._objective(batch, self.number)
        total = bundle.total * (share / self.config.optimizer.accumulate)
        total.backward()
        (loss,) = ranks.sum_over_ranks([float(total.detach()) / ranks.world_size()], self.device)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {self.number} on samples {_name_samples(batch)}; look at these, or "
                f"lower optimizer.learning_rate={self.config.optimizer.learning_rate:g}"
            )
        if self.loader.wants_feedback:
            if bundle.per_query is None:
                raise ConfigError("sampler.kind: adaptive learns from forward errors; set loss.lambda_forward above 0")
            self.loader.feedback(batch, bundle.per_query)
        self._step.add(batch, loss=loss, samples=samples)

    def evaluate(self) -> DenseErrors:
        """Return the dense errors on the test samples, of all stores and of each.

        Each rank evaluates some samples of every store; the means are put together.
        """
        model, rank, world_size = self.average or self.model, ranks.rank(), ranks.world_size()
        parts: dict[str | None, DenseErrors] = {}
        for name, dataset in self.data.tests.items():
            count = min(self.config.data.test_samples or len(dataset), len(dataset))
            samples = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
            own = samples[rank::world_size]
            found = evaluate(model, dataset, samples=own) if own else None
            parts[name] = self._put_together(found)
        return DenseErrors.over(parts)

    def _put_together(self, own: DenseErrors | None) -> DenseErrors:
        """Return the errors over the samples of all ranks, of which one may have none."""
        if ranks.world_size() == 1:
            assert own is not None
            return own
        names = [field.name for field in self.model.problem.target_fields]
        sums = [0.0] * (2 + 2 * len(names))
        if own is not None:
            means = [own.relative_l2, *own.vrmse.values(), *own.nrmse.values(), 1.0]
            sums = [own.num_samples * mean for mean in means]
        *totals, count = ranks.sum_over_ranks(sums, self.device)
        relative, *rest = (total / count for total in totals)
        return DenseErrors(
            relative_l2=relative,
            vrmse=dict(zip(names, rest[: len(names)], strict=True)),
            nrmse=dict(zip(names, rest[len(names) :], strict=True)),
            num_samples=round(count),
        )

    def checkpoint(self) -> Checkpoint:
        """Return all that is needed to go on from here."""
        return Checkpoint(
            header=CheckpointHeader(
                config=self.config,
                problem=self.model.problem,
                statistics=self.data.statistics,
                progress=Progress(
                    step=self.number,
                    seconds=self.seconds,
                    waited=self.waited,
                    loader=self.loader.state_dict(),
                    best_error=self._patience.best,
                    evaluations_since=self._patience.since,
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
        self._clock = progress.seconds
        self._patience = Patience(self.config.patience, best=progress.best_error, since=progress.evaluations_since)
        self._due = self._num_evaluations()

    def _record(self, *, evaluated: bool) -> StepRecord:
        self.errors = self.evaluate() if evaluated else None
        if self.errors is not None:
            self._patience.add(self.errors.relative_l2)
        step, self._step = self._step, _StepTally()
        return StepRecord(
            step=self.number,
            seconds=self.seconds,
            progress=self.progress,
            loss=step.loss,
            samples=step.samples,
            effective_points=step.effective_points,
            waited=self.waited,
            batch_bytes=step.num_bytes,
            relative_l2=self.errors.relative_l2 if self.errors else None,
            vrmse=self.errors.vrmse if self.errors else None,
            store_errors=_store_errors(self.errors),
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


def _store_errors(errors: DenseErrors | None) -> dict[str, float] | None:
    """Return the relative errors of the stores of a mixture, None where there is one store or no evaluation."""
    stores = {} if errors is None else errors.stores
    return {name: part.relative_l2 for name, part in stores.items()} or None


def _name_samples(batch: SparseBatch) -> str:
    """Return the samples of a batch by their numbers, and by their stores in a mixture."""
    origin, numbers = batch.origin, batch.sample_ids.tolist()
    if origin is not None and origin.sources is not None:
        names = [name for name, _ in origin.sources]
        return ", ".join(f"{number} of {name!r}" for number, name in zip(numbers, names, strict=False))
    return f"{numbers}" if origin is None or origin.dataset is None else f"{numbers} of {origin.dataset!r}"


def _build_model(config: TrainConfig, problem: ProblemSpec) -> NeuralOperator:
    # Weights come from the run's seed and leave the caller's generator alone.
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return NeuralOperator(config.model, problem)


def _copy_of(model: NeuralOperator) -> NeuralOperator:
    return copy.deepcopy(model).eval().requires_grad_(False)
