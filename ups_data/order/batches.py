"""The batches of one dataset: whole passes over its samples, shared out among ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Int64

from ups_data.errors import DatasetError, suggest
from ups_data.order.shuffle import SampleOrder, Shuffle

Tail = Literal["pad_mask", "drop", "error"]


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchRequest:
    """What a worker needs to know to build one batch.

    Attributes:
        epoch: number of the pass over the dataset, which keys the draws.
        step: global step, for schedules.
        indices: sample numbers.
        num_padding: samples to append that only fill the batch.
        global_samples: samples of the global batch, over all ranks, those that only fill it not counted.
        dataset: name of the dataset in a mixture whose batches are each of one.
        sources: for each sample its dataset and the number of the pass over it, where a batch mixes datasets.
        emphases: by dataset, of samplers that adapt, see `DrawKey.emphasis`.
    """

    epoch: int
    step: int
    indices: Int64[np.ndarray, " sample"]
    num_padding: int
    global_samples: int
    dataset: str | None = None
    sources: tuple[tuple[str, int], ...] | None = None
    emphases: Mapping[str | None, tuple[float, ...] | None] = field(default_factory=dict)


@runtime_checkable
class Order(Protocol):
    """Which samples make up each batch of each epoch. `len` is the number of batches of an epoch, on every rank."""

    def __len__(self) -> int: ...

    def request(self, epoch: int, batch: int) -> BatchRequest:
        """Return this rank's part of a global batch."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return what a saved state is held against, as JSON knows it; the same on every rank of any world size."""
        ...


@dataclass(frozen=True, kw_only=True)
class BatchOrder:
    """Which samples make up each batch of each epoch, for one rank: a pure function of its attributes.

    Every rank gets as even a slice of each global batch as can be; where it does not divide, ranks with a sample less
    are filled up with one of weight 0. The global batch is therefore the same for every world size.

    Attributes:
        num_samples: samples of the dataset.
        batch_size: samples of a *global* batch, over all ranks.
        seed: seed of the shuffle.
        shuffle: see `Shuffle`.
        rank, world_size: this process, and how many share each global batch.
        tail: what becomes of the last, smaller batch: `pad_mask` serves it; `drop` leaves it out; `error` refuses a
            dataset that has one.
        full: whether the last batch is filled up to the size of the others, with samples of weight 0.
    """

    num_samples: int
    batch_size: int
    seed: int
    shuffle: Shuffle
    rank: int = 0
    world_size: int = 1
    tail: str = "pad_mask"
    full: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise DatasetError(
                f"batch_size is the number of samples of a global batch, at least 1, got {self.batch_size}"
            )
        if not 0 <= self.rank < self.world_size:
            raise DatasetError(f"rank must lie in [0, world_size={self.world_size}), got {self.rank}")
        if self.tail not in get_args(Tail):
            raise DatasetError(f"there is no tail policy {self.tail!r}. {suggest(self.tail, get_args(Tail))}")
        rest = self.num_samples % self.batch_size
        if self.tail == "error" and rest:
            raise DatasetError(
                f"{self.num_samples} samples leave {rest} after whole batches of {self.batch_size}; choose another "
                f"batch_size, or tail='pad_mask' or 'drop'"
            )
        if not len(self):
            raise DatasetError(
                f"{self.num_samples} samples do not fill one batch of {self.batch_size} with tail='drop'"
            )

    def __len__(self) -> int:
        """Return the batches of an epoch, the same on every rank."""
        whole, rest = divmod(self.num_samples, self.batch_size)
        return whole + (1 if rest and self.tail == "pad_mask" else 0)

    @property
    def num_dropped(self) -> int:
        """Samples of an epoch that `tail="drop"` leaves out; others in every epoch if it is shuffled."""
        return max(0, self.num_samples - len(self) * self.batch_size)

    def request(self, epoch: int, batch: int) -> BatchRequest:
        """Return this rank's part of a global batch."""
        first = batch * self.batch_size
        count = min(self.batch_size, self.num_samples - first)
        start, stop = (count * rank // self.world_size for rank in (self.rank, self.rank + 1))
        each = -(-(self.batch_size if self.full else count) // self.world_size)
        order = SampleOrder(num_samples=self.num_samples, seed=self.seed, epoch=epoch, shuffle=self.shuffle)
        return BatchRequest(
            epoch=epoch,
            step=epoch * len(self) + batch,
            indices=order(np.arange(first + start, first + stop)),
            num_padding=each - (stop - start),
            global_samples=count,
        )

    def identity(self) -> dict[str, Any]:
        """Return what a saved state is held against: all that decides which samples a global batch holds."""
        shuffle = self.shuffle if isinstance(self.shuffle, bool) else asdict(self.shuffle)
        return {
            "num_samples": self.num_samples,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "shuffle": shuffle,
            "tail": self.tail,
        }
