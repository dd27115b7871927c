"""What a loader learns from the losses of its batches, for samplers that adapt."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed
from jaxtyping import Float, Float64, Int

from ups_data.collate import SparseBatch
from ups_data.errors import DatasetError, StateError
from ups_data.samplers import FeedbackRule

_SUMS = 3  # of losses: their number, sum, and sum of squares


class Feedback:
    """Losses by stratum, and the emphasis of later draws that follows from them.

    Every rank feeds back its own part of each global batch; sums are added up over ranks when the steps of a change are
    complete, so all ranks draw by the same emphasis.

    Args:
        rule: how losses are gathered.
        num_strata: of the store.
    """

    def __init__(self, rule: FeedbackRule, num_strata: int) -> None:
        self.rule, self.num_strata = rule, num_strata
        self.next_step = 0
        self._sums = np.zeros((num_strata, _SUMS))
        self._fresh = np.zeros((num_strata, _SUMS))
        self._emphases: dict[int, tuple[float, ...] | None] = {0: None}

    def add(self, batch: SparseBatch, per_query: Float[torch.Tensor, "batch query"]) -> None:
        """Take the losses of a batch.

        Args:
            batch: as the loader handed it out; every one of them, once, in their order.
            per_query: loss of each drawn point.

        Raises:
            StateError: not the batch whose turn it is.
            DatasetError: losses of another shape.
        """
        if batch.origin is None or batch.stratum_queries is None:
            raise StateError("feedback is on batches that a loader with an adaptive sampler handed out")
        if batch.origin.step != self.next_step:
            raise StateError(
                f"the losses of global step {batch.origin.step} were fed back, those of {self.next_step} are due: feed "
                f"back each batch once, in their order, and go on from a state where an epoch was left early"
            )
        if per_query.shape != batch.query_weights.shape:
            shape = tuple(batch.query_weights.shape)
            raise DatasetError(f"losses of shape {tuple(per_query.shape)} were fed back, the batch has {shape}")
        self._fresh += _sum_strata(batch.stratum_queries, per_query.detach())
        self.next_step += 1
        if self.next_step % self.rule.every == 0:
            self._close()

    def emphasis(self, step: int) -> tuple[float, ...] | None:
        """Return the emphasis of the draws of a global step.

        Raises:
            StateError: losses that they go by were not fed back.
        """
        known = self.rule.known(step)
        if known > self.next_step:
            raise StateError(
                f"draws of global step {step} go by the losses of the steps before {known}, and those of "
                f"{self.next_step} were not fed back: call loader.feedback(batch, per_query_loss) for every batch"
            )
        if known not in self._emphases:
            raise StateError(f"what the draws of global step {step} went by is gone; go back by load_state_dict()")
        return self._emphases[known]

    def state_dict(self) -> dict[str, Any]:
        """Return what was learnt, as JSON holds it to the bit."""
        return {
            "next_step": self.next_step,
            "sums": self._sums.tolist(),
            "fresh": self._fresh.tolist(),
            "emphases": [
                [step, None if emphasis is None else list(emphasis)] for step, emphasis in self._emphases.items()
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what was learnt."""
        self.next_step = state["next_step"]
        self._sums, self._fresh = np.array(state["sums"]), np.array(state["fresh"])
        self._emphases = {step: None if found is None else tuple(found) for step, found in state["emphases"]}

    def _close(self) -> None:
        """Add up what all ranks gathered since the last change, and find the emphasis that follows."""
        total = torch.from_numpy(self._fresh)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            total = total.to("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
            torch.distributed.all_reduce(total)
        self._sums = self.rule.decay * self._sums + total.cpu().numpy()
        self._fresh = np.zeros_like(self._fresh)
        self._emphases[self.next_step] = self._find_emphasis()
        oldest = self.rule.known(self.next_step)  # no draw before this step is still to come
        self._emphases = {step: found for step, found in self._emphases.items() if step >= oldest}

    def _find_emphasis(self) -> tuple[float, ...] | None:
        count, total, squares = self._sums.T
        is_sound = np.isfinite(self._sums).all() and (total > 0).all()
        if self.next_step < self.rule.warmup or not is_sound:
            return None
        if (total**2 / squares).min() < self.rule.least_effective:
            return None
        emphasis: Float64[np.ndarray, " stratum"] = np.sqrt(total / count)
        return tuple((emphasis / emphasis.mean()).tolist())


def _sum_strata(
    stratum_queries: Int[torch.Tensor, "batch stratum"], per_query: Float[torch.Tensor, "batch query"]
) -> Float64[np.ndarray, "stratum sum"]:
    """Return number, sum and sum of squares of the losses of each stratum."""
    num_strata = stratum_queries.shape[1]
    places = torch.arange(per_query.shape[1], device=per_query.device).expand(len(per_query), -1).contiguous()
    # What lies behind the queries of the last stratum is padding, or not learnt from: stratum S.
    strata = torch.searchsorted(stratum_queries.long().cumsum(dim=1), places, right=True).flatten()
    losses = per_query.double().flatten()
    values = torch.stack([torch.ones_like(losses), losses, losses.square()], dim=1)
    sums = torch.zeros((num_strata + 1, _SUMS), dtype=torch.float64, device=per_query.device)
    found: Float64[np.ndarray, "stratum sum"] = sums.index_add_(0, strata, values)[:num_strata].cpu().numpy()
    return found
