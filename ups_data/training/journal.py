"""What a run leaves behind: a line a step, checkpoints, and figures for TensorBoard."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ups_data.errors import ConfigError, StateError
from ups_data.training import ranks
from ups_data.training.checkpoint import Checkpoint, import_safetensors
from ups_data.training.config import TrainConfig

if TYPE_CHECKING:
    from tensorboard.summary import Writer

CHECKPOINT_NAME, LOG_NAME, BOARD_NAME = "last.safetensors", "log.jsonl", "tensorboard"


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One line of a run's log.

    Attributes:
        step: optimiser steps done.
        seconds: wall-clock seconds of training so far, evaluation not counted.
        progress: share of the run that is done.
        loss: of this step's batches, as drawn, over all ranks.
        samples: samples of them, over all ranks.
        effective_points: (sum w)^2 / sum w^2 of a drawn sample, the mean over those of this rank: how many points of
            one weight it is worth where the error is the same everywhere.
        waited: seconds so far that were spent waiting for batches.
        batch_bytes: bytes of the batches.
        relative_l2: dense test error, where this step was followed by an evaluation.
        vrmse: the same by field.
        store_errors: `relative_l2` by store, of a mixture.
    """

    step: int
    seconds: float
    progress: float
    loss: float
    samples: int
    effective_points: float
    waited: float
    batch_bytes: int
    relative_l2: float | None = None
    vrmse: dict[str, float] | None = None
    store_errors: dict[str, float] | None = None


@runtime_checkable
class Run(Protocol):
    """What a journal asks of a run."""

    config: TrainConfig
    number: int

    def checkpoint(self) -> Checkpoint:
        """Return all that is needed to go on from here."""
        ...

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was made."""
        ...


class Journal:
    """Log and checkpoints of a run, in a folder or nowhere; only the first of several ranks writes.

    Args:
        folder: the folder.
        keep: checkpoints to keep: the last one, and those of the evaluations before it.
        tensorboard: whether figures go to TensorBoard files in the folder too.
    """

    def __init__(self, folder: Path | None, *, keep: int = 1, tensorboard: bool = False) -> None:
        if folder is not None and folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder} is a file, a run needs a folder; choose another")
        if folder is not None:
            import_safetensors()  # missing, it would be missed at the first checkpoint only
        self.folder = folder
        self.records: list[StepRecord] = []
        self._keep = keep
        self._board = _open_board(folder) if tensorboard and folder is not None and ranks.rank() == 0 else None

    def refuse_another_run(self) -> None:
        """Raise if the folder holds a run: neither its log nor its checkpoint is to be lost."""
        names = () if self.folder is None else (CHECKPOINT_NAME, LOG_NAME)
        taken = [name for name in names if self.folder is not None and (self.folder / name).exists()]
        if taken:
            raise ConfigError(f"{self.folder} holds a run already ({taken[0]}); resume it, or choose another folder")

    def restore(self, run: Run) -> None:
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

    def write(self, record: StepRecord, run: Run) -> None:
        """Note a step, and keep a checkpoint if it was followed by an evaluation."""
        self.records.append(record)
        if self.folder is None or ranks.rank() != 0:
            return
        self._plot(record)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(f"{json.dumps(asdict(record))}\n")
        if record.relative_l2 is not None:
            self._save(run.checkpoint())

    def _save(self, checkpoint: Checkpoint) -> None:
        assert self.folder is not None
        last, step = self.folder / CHECKPOINT_NAME, checkpoint.header.progress.step
        checkpoint.save(last)
        if self._keep == 1:
            return
        numbered = last.with_name(f"step_{step:09d}.safetensors")
        numbered.unlink(missing_ok=True)
        numbered.hardlink_to(last)
        older = sorted(self.folder.glob("step_*.safetensors"))[: -self._keep]
        for path in older:
            path.unlink(missing_ok=True)

    def _plot(self, record: StepRecord) -> None:
        if self._board is None:
            return
        figures = {
            "train/loss": record.loss,
            "train/effective_points": record.effective_points,
            "time/waited_share": record.waited / max(record.seconds, 1e-9),
            **({} if record.relative_l2 is None else {"test/relative_l2": record.relative_l2}),
            **{f"test/vrmse/{name}": value for name, value in (record.vrmse or {}).items()},
            **{f"test/relative_l2/{name}": value for name, value in (record.store_errors or {}).items()},
        }
        for name, value in figures.items():
            self._board.add_scalar(name, value, record.step)
        if record.relative_l2 is not None:
            self._board.flush()

    def _rewrite(self, steps: int) -> None:
        if self.folder is None or not (self.folder / LOG_NAME).exists():
            return
        path = self.folder / LOG_NAME
        # The last line may be cut off; it lies behind the checkpoint, or the checkpoint would not exist.
        lines = path.read_text(encoding="utf-8").splitlines()[:steps]
        self.records = [StepRecord(**json.loads(line)) for line in lines]
        if ranks.rank() != 0:
            return
        staged = path.with_name(f".{path.name}.partial")
        staged.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        staged.replace(path)


def _open_board(folder: Path) -> Writer:
    try:
        from tensorboard.summary import Writer
    except ImportError as error:
        raise ConfigError('tensorboard: true needs TensorBoard: pip install "ups-data[tensorboard]"') from error
    return Writer(str(folder / BOARD_NAME))


def _first_difference(saved: TrainConfig, own: TrainConfig) -> str:
    for name in type(own).model_fields:
        if getattr(saved, name) != getattr(own, name):
            return f"{name}: {getattr(saved, name)!r}, now {getattr(own, name)!r}"
    return "no difference"
