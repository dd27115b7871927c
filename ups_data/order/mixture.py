"""The batches of several datasets, interleaved in exact shares: each of one of them, or of samples of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ups_data.order.batches import BatchOrder, BatchRequest
from ups_data.order.interleave import Interleave
from ups_data.order.shuffle import SampleOrder, Shuffle


@dataclass(frozen=True, kw_only=True, eq=False)
class MixtureOrder:
    """Which samples of which dataset make up each batch, for one rank: a pure function of its attributes.

    Every dataset is a stream of batches of its own, pass after pass over its samples; global step by global step one of
    the streams moves on by a batch. Streams do not begin anew with an epoch of the mixture: what one epoch has not come
    to, the next one begins with, so nothing is left out.

    Attributes:
        orders: the batches of each dataset, by name.
        weights: share of each dataset in the batches, as whole numbers, in the same order.
        epoch_batches: batches of an epoch. By default the fewest in which, counted from step 0, every dataset is gone
            through at least once: with weights in the proportion of `len(order)` that is every sample exactly once.
    """

    orders: Mapping[str, BatchOrder]
    weights: Sequence[int]
    epoch_batches: int | None = None

    @cached_property
    def interleave(self) -> Interleave:
        """Whose turn it is at each global step."""
        return Interleave(tuple(self.weights))

    @cached_property
    def _num_batches(self) -> int:
        if self.epoch_batches is not None:
            return self.epoch_batches
        ends = (self.interleave.step_of(number, len(order) - 1) for number, order in enumerate(self.orders.values()))
        return 1 + max(ends)

    def __len__(self) -> int:
        """Return the batches of an epoch, the same on every rank."""
        return self._num_batches

    @property
    def num_dropped(self) -> int:
        """Samples that `tail="drop"` leaves out in one pass over every dataset."""
        return sum(order.num_dropped for order in self.orders.values())

    def request(self, epoch: int, batch: int) -> BatchRequest:
        """Return this rank's part of a global batch, which is of one dataset."""
        step = epoch * len(self) + batch
        number, turn = self.interleave.turn(step)
        name = list(self.orders)[number]
        own_pass, own_batch = divmod(turn, len(self.orders[name]))
        return replace(self.orders[name].request(own_pass, own_batch), step=step, dataset=name)

    def identity(self) -> dict[str, Any]:
        """Return what a saved state is held against."""
        first = next(iter(self.orders.values())).identity()
        return {
            "datasets": list(self.orders),  # whose order decides between those whose turns fall together
            "num_samples": {name: order.num_samples for name, order in self.orders.items()},
            "weights": dict(zip(self.orders, self.weights, strict=True)),
            "epoch_batches": len(self),
            **{key: first[key] for key in ("batch_size", "shuffle", "tail")},
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class BlendOrder:
    """Which samples of which datasets make up each batch, for one rank, where a batch mixes datasets.

    Every dataset is a stream of samples of its own, pass after pass; sample by sample one of the streams moves on. What
    an epoch does not come to, the next one begins with.

    Attributes:
        sizes, seeds: samples of each dataset, and the seed of its shuffle, by name.
        weights: share of each dataset in the samples, as whole numbers, in the same order.
        shuffle: see `Shuffle`.
        turns: batches of an epoch, of places in the stream of all samples; not shuffled.
    """

    sizes: Mapping[str, int]
    seeds: Mapping[str, int]
    weights: Sequence[int]
    shuffle: Shuffle
    turns: BatchOrder

    @cached_property
    def interleave(self) -> Interleave:
        """Whose turn it is at each place of the stream of all samples."""
        return Interleave(tuple(self.weights))

    def __len__(self) -> int:
        """Return the batches of an epoch, the same on every rank."""
        return len(self.turns)

    @property
    def num_dropped(self) -> int:
        """Samples of an epoch that `tail="drop"` leaves out."""
        return self.turns.num_dropped

    def request(self, epoch: int, batch: int) -> BatchRequest:
        """Return this rank's part of a global batch."""
        base = self.turns.request(epoch, batch)
        names = list(self.sizes)
        sources, indices = [], []
        for place in base.indices.tolist():
            number, turn = self.interleave.turn(epoch * self.turns.num_samples + place)
            name = names[number]
            own_pass, position = divmod(turn, self.sizes[name])
            order = SampleOrder(
                num_samples=self.sizes[name], seed=self.seeds[name], epoch=own_pass, shuffle=self.shuffle
            )
            sources.append((name, own_pass))
            indices.append(int(order(np.array([position]))[0]))
        return replace(base, indices=np.array(indices, dtype=np.int64), sources=tuple(sources))

    def identity(self) -> dict[str, Any]:
        """Return what a saved state is held against."""
        turns = self.turns.identity()
        return {
            "datasets": list(self.sizes),
            "num_samples": dict(self.sizes),
            "weights": dict(zip(self.sizes, self.weights, strict=True)),
            "epoch_samples": self.turns.num_samples,
            "shuffle": self.shuffle if isinstance(self.shuffle, bool) else asdict(self.shuffle),
            **{key: turns[key] for key in ("batch_size", "tail")},
        }


def epoch_samples(sizes: Sequence[int], weights: Sequence[int]) -> int:
    """Return the fewest samples in which every dataset is gone through at least once, counted from the first one."""
    turns = Interleave(tuple(weights))
    return 1 + max(turns.step_of(number, size - 1) for number, size in enumerate(sizes))
