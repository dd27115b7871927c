"""What a loader learns from the losses of its batches, for samplers that adapt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed
from jaxtyping import Float, Float64, Int

from ups_data.collate import BatchOrigin, SparseBatch
from ups_data.errors import DatasetError, StateError
from ups_data.samplers import FeedbackRule

_SUMS = 3  # of losses: their number, sum, and sum of squares


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A dataset whose sampler learns.

    Attributes:
        rule: how losses are gathered.
        num_strata: of its store.
    """

    rule: FeedbackRule
    num_strata: int


class Feedback:
    """Losses by stratum, and the emphasis of later draws that follows from them, for each dataset that learns.

    Every rank feeds back its own part of each global batch; sums are added up over ranks when the steps of a change are
    complete, so all ranks draw by the same emphasis. Until then they stay on the device of the losses.

    Args:
        learners: by the name of the dataset in a mixture, None where there is one alone.
    """

    def __init__(self, learners: Mapping[str | None, Learner]) -> None:
        self.next_step = 0
        self._memories = {name: _Memory(learner) for name, learner in learners.items()}

    @property
    def lag(self) -> int:
        """Global steps between a loss and the first draw that may know of it: the least of all datasets."""
        return min(memory.rule.lag for memory in self._memories.values())

    def add(self, batch: SparseBatch, per_query: Float[torch.Tensor, "batch *frame query"]) -> None:
        """Take the losses of a batch.

        Args:
            batch: as the loader handed it out; every one of them, once, in their order.
            per_query: loss of each drawn point; where each target frame has its own, of those of the first frame, or of
                the first few.

        Raises:
            StateError: not the batch whose turn it is.
            DatasetError: losses of another shape.
        """
        if batch.origin is None:
            raise StateError("feedback is on batches that a loader with an adaptive sampler handed out")
        if batch.origin.step != self.next_step:
            raise StateError(
                f"the losses of global step {batch.origin.step} were fed back, those of {self.next_step} are due: feed "
                f"back each batch once, in their order, and go on from a state where an epoch was left early"
            )
        if not _fits(per_query, batch):
            shape = tuple(batch.query_weights.shape)
            raise DatasetError(f"losses of shape {tuple(per_query.shape)} were fed back, the batch has {shape}")
        for name, rows in _rows_by_dataset(batch.origin).items():
            if name in self._memories:
                if batch.stratum_queries is None:
                    raise StateError("feedback is on batches that a loader with an adaptive sampler handed out")
                counts = batch.stratum_queries[rows]
                if batch.has_fresh_points:
                    counts = counts[:, : per_query.shape[1]]
                self._memories[name].add(counts.flatten(0, -2), per_query.detach()[rows].flatten(0, -2))
        self.next_step += 1
        for memory in self._memories.values():
            memory.close_if_due(self.next_step)

    def emphases(self, step: int) -> dict[str | None, tuple[float, ...] | None]:
        """Return the emphasis of the draws of a global step, of each dataset that learns.

        Raises:
            StateError: losses that they go by were not fed back.
        """
        return {name: self._emphasis(memory, step) for name, memory in self._memories.items()}

    def _emphasis(self, memory: _Memory, step: int) -> tuple[float, ...] | None:
        known = memory.rule.known(step)
        if known > self.next_step:
            raise StateError(
                f"draws of global step {step} go by the losses of the steps before {known}, and those of "
                f"{self.next_step} were not fed back: call loader.feedback(batch, per_query_loss) for every batch"
            )
        if known not in memory.emphases:
            raise StateError(f"what the draws of global step {step} went by is gone; go back by load_state_dict()")
        return memory.emphases[known]

    def state_dict(self) -> dict[str, Any]:
        """Return what was learnt, as JSON holds it to the bit."""
        memories = [{"dataset": name, **memory.state_dict()} for name, memory in self._memories.items()]
        return {"next_step": self.next_step, "learnt": memories}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what was learnt.

        Raises:
            StateError: it was learnt by other datasets.
        """
        saved = {part["dataset"]: part for part in state["learnt"]}
        if saved.keys() != self._memories.keys():
            raise StateError(f"datasets {list(saved)} learnt when the state was saved, here {list(self._memories)} do")
        self.next_step = state["next_step"]
        for name, memory in self._memories.items():
            memory.load_state_dict(saved[name])


class _Memory:
    """What is known of the losses of one dataset."""

    def __init__(self, learner: Learner) -> None:
        self.rule = learner.rule
        self._sums = np.zeros((learner.num_strata, _SUMS))
        self._fresh = torch.zeros((learner.num_strata, _SUMS), dtype=torch.float64)
        self.emphases: dict[int, tuple[float, ...] | None] = {0: None}

    def add(
        self, stratum_queries: Int[torch.Tensor, "batch stratum"], per_query: Float[torch.Tensor, "batch query"]
    ) -> None:
        """Take the losses of some samples, or of some target frames of them."""
        sums = _sum_strata(stratum_queries[:, : len(self._fresh)], per_query)
        self._fresh = self._fresh.to(sums.device) + sums

    def close_if_due(self, next_step: int) -> None:
        """Where the steps of a change are complete, add up what all ranks gathered, and find what follows."""
        if next_step % self.rule.every:
            return
        total = self._fresh
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            total = total.to("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
            torch.distributed.all_reduce(total)
        sums = total.cpu().numpy()
        is_sound = bool(np.isfinite(sums).all())
        if is_sound:
            self._sums = self.rule.decay * self._sums + sums
        self._fresh = torch.zeros_like(self._fresh)
        self.emphases[next_step] = self._find_emphasis(next_step) if is_sound else None
        oldest = self.rule.known(next_step)  # no draw before this step is still to come
        self.emphases = {step: found for step, found in self.emphases.items() if step >= oldest}

    def state_dict(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "sums": self._sums.tolist(),
            # JSON knows no NaN: None stands for sums that some loss has spoilt.
            "fresh": self._fresh.tolist() if self._fresh.isfinite().all() else None,
            "emphases": [
                [step, None if emphasis is None else list(emphasis)] for step, emphasis in self.emphases.items()
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from it."""
        self._sums = np.array(state["sums"])
        self._fresh = torch.full(self._sums.shape, torch.nan, dtype=torch.float64)
        if state["fresh"] is not None:
            self._fresh = torch.tensor(state["fresh"], dtype=torch.float64)
        self.emphases = {step: None if found is None else tuple(found) for step, found in state["emphases"]}

    def _find_emphasis(self, next_step: int) -> tuple[float, ...] | None:
        count, total, squares = self._sums.T
        if next_step < self.rule.warmup or not (total > 0).all():
            return None
        if (total**2 / squares).min() < self.rule.least_effective:
            return None
        emphasis: Float64[np.ndarray, " stratum"] = np.sqrt(total / count)
        return tuple((emphasis / emphasis.mean()).tolist())


def _fits(per_query: torch.Tensor, batch: SparseBatch) -> bool:
    """Tell whether losses are those of the points of a batch, or of the points of its first target frames."""
    drawn = batch.query_weights
    if batch.has_fresh_points and per_query.ndim == drawn.ndim and per_query.shape[1] > 0:
        drawn = drawn[:, : per_query.shape[1]]
    return per_query.shape == drawn.shape


def _rows_by_dataset(origin: BatchOrigin) -> dict[str | None, list[int] | slice]:
    """Return the rows of a batch that are samples of each dataset; rows that only fill it have no queries."""
    if origin.sources is None:
        return {origin.dataset: slice(None)}
    names = [name for name, _ in origin.sources]
    return {name: [row for row, owner in enumerate(names) if owner == name] for name in dict.fromkeys(names)}


def _sum_strata(
    stratum_queries: Int[torch.Tensor, "batch stratum"], per_query: Float[torch.Tensor, "batch query"]
) -> Float64[torch.Tensor, "stratum sum"]:
    """Return number, sum and sum of squares of the losses of each stratum, where the losses are."""
    num_strata = stratum_queries.shape[1]
    places = torch.arange(per_query.shape[1], device=per_query.device).expand(len(per_query), -1).contiguous()
    # What lies behind the queries of the last stratum is padding, or not learnt from: stratum S.
    strata = torch.searchsorted(stratum_queries.long().cumsum(dim=1), places, right=True).flatten()
    losses = per_query.double().flatten()
    values = torch.stack([torch.ones_like(losses), losses, losses.square()], dim=1)
    sums = torch.zeros((num_strata + 1, _SUMS), dtype=torch.float64, device=per_query.device)
    return sums.index_add_(0, strata, values)[:num_strata]
