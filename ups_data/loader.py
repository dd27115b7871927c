"""The order of batches, and the loader that serves and resumes them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Int64

from ups_data.collate import BatchCost, SparseBatch, collate_samples
from ups_data.dataset import QueryDataset, SparseSample
from ups_data.errors import DatasetError, StateError, suggest
from ups_data.random import Permutation

Tail = Literal["pad_mask", "drop", "error"]
_STATE_VERSION = 1
_OPTIONS = (
    "pin_memory",
    "prefetch_factor",
    "timeout",
    "persistent_workers",
    "multiprocessing_context",
    "worker_init_fn",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchRequest:
    """What a worker needs to know to build one batch.

    Attributes:
        epoch: number of the epoch.
        step: global step.
        indices: sample numbers.
        num_padding: samples to append that only fill the batch.
    """

    epoch: int
    step: int
    indices: Int64[np.ndarray, " sample"]
    num_padding: int = 0


@dataclass(frozen=True, kw_only=True)
class BatchOrder:
    """Which samples make up each batch of each epoch, for one rank: a pure function of its attributes.

    Attributes:
        num_samples: samples of the dataset.
        batch_size: samples of a *global* batch, over all ranks.
        seed: seed of the shuffle.
        shuffle: whether epochs are permuted; else samples come in order.
        rank, world_size: this process, and how many share each global batch.
        tail: what becomes of the last, smaller batch: `pad_mask` serves it, filled up to a multiple of `world_size`
            with samples of weight 0; `drop` leaves it out; `error` refuses a dataset that has one.
    """

    num_samples: int
    batch_size: int
    seed: int
    shuffle: bool
    rank: int = 0
    world_size: int = 1
    tail: str = "pad_mask"

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.world_size < 1 or self.batch_size % self.world_size:
            raise DatasetError(
                f"batch_size={self.batch_size} is the global batch and must be a positive multiple of "
                f"world_size={self.world_size}"
            )
        if not 0 <= self.rank < self.world_size:
            raise DatasetError(f"rank must lie in [0, {self.world_size}), got {self.rank}")
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

    def request(self, epoch: int, batch: int) -> BatchRequest:
        """Return this rank's part of a global batch."""
        positions = np.arange(batch * self.batch_size, min((batch + 1) * self.batch_size, self.num_samples))
        each = -(-len(positions) // self.world_size)
        mine = positions[self.rank * each : (self.rank + 1) * each]
        return BatchRequest(
            epoch=epoch,
            step=epoch * len(self) + batch,
            indices=self._samples(epoch, mine),
            num_padding=each - len(mine),
        )

    def _samples(self, epoch: int, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        if not self.shuffle:
            return positions
        return Permutation(self.num_samples, seed=self.seed, epoch=epoch)(positions)


@dataclass(frozen=True, kw_only=True)
class LoaderStats:
    """What a loader has handed out so far, and what that took; `later - earlier` is what lies between.

    Attributes:
        num_batches: batches.
        num_samples: samples, those that only fill a batch not counted.
        num_points: drawn points of them.
        effective_points: the sum over samples of (sum w)^2 / sum w^2: how many points of one weight they are worth
            where the loss is the same everywhere.
        read_bytes: bytes read from the store.
        read_ranges: contiguous ranges that they came from.
        shipped_bytes: bytes of the batches.
        read_seconds: time that the store took, added up over workers.
        build_seconds: time that building batches took, reading included, added up over workers.
        wait_seconds: time that this process waited for batches; with `num_workers=0` it builds them meanwhile.
    """

    num_batches: int = 0
    num_samples: int = 0
    num_points: int = 0
    effective_points: float = 0.0
    read_bytes: int = 0
    read_ranges: int = 0
    shipped_bytes: int = 0
    read_seconds: float = 0.0
    build_seconds: float = 0.0
    wait_seconds: float = 0.0

    @classmethod
    def of(cls, batch: SparseBatch, *, wait_seconds: float) -> LoaderStats:
        """Return the figures of one batch."""
        assert batch.cost is not None, "loaders note what their batches cost"
        weights = batch.query_weights.double()
        squares = weights.square().sum(dim=1)
        real = squares > 0
        return cls(
            num_batches=1,
            num_samples=int((batch.sample_ids >= 0).sum()),
            num_points=int(batch.query_mask.sum()),
            effective_points=float((weights.sum(dim=1)[real].square() / squares[real]).sum()),
            shipped_bytes=batch.num_bytes,
            wait_seconds=wait_seconds,
            **asdict(batch.cost),
        )

    def __add__(self, other: LoaderStats) -> LoaderStats:
        return LoaderStats(**{key: value + getattr(other, key) for key, value in asdict(self).items()})

    def __sub__(self, other: LoaderStats) -> LoaderStats:
        return LoaderStats(**{key: value - getattr(other, key) for key, value in asdict(self).items()})


class _Requests:
    """The batch sampler of a DataLoader: the requests of one epoch from a given batch on."""

    def __init__(self, order: BatchOrder) -> None:
        self.order = order
        self.epoch = 0
        self.first = 0

    def __iter__(self) -> Iterator[BatchRequest]:
        return (self.order.request(self.epoch, batch) for batch in range(self.first, len(self.order)))

    def __len__(self) -> int:
        return len(self.order) - self.first


class _Batches(torch.utils.data.Dataset[SparseBatch]):
    """The map-style dataset that workers see: a request in, a whole packed batch out."""

    def __init__(self, dataset: QueryDataset) -> None:
        self.dataset = dataset

    def __getitems__(self, request: BatchRequest) -> SparseBatch:
        def draw(index: int) -> SparseSample:
            return self.dataset.sample(index, epoch=request.epoch, step=request.step)

        count = self.dataset.store.read_count
        before, started = replace(count), time.perf_counter()
        chosen = request.indices.tolist()
        # A rank whose whole slice is padding still needs the shapes of a sample.
        like = None if chosen else draw(0)
        batch = collate_samples([draw(index) for index in chosen], num_padding=request.num_padding, like=like)
        batch.cost = BatchCost(
            read_bytes=count.num_bytes - before.num_bytes,
            read_ranges=count.num_ranges - before.num_ranges,
            read_seconds=count.seconds - before.seconds,
            build_seconds=time.perf_counter() - started,
        )
        return batch


class QueryLoader:
    """Serves the batches of one epoch for each `iter`, and knows its place.

    `iter` begins the current epoch from its first batch, or from where `load_state_dict` put it; an epoch that was
    served to its end moves on to the next one. The state counts the batches that were handed out, not those that
    workers have fetched ahead.
    """

    def __init__(self, dataset: QueryDataset, order: BatchOrder, options: dict[str, Any]) -> None:
        self.dataset = dataset
        self.order = order
        self.epoch = 0
        self._start = 0
        self._next = 0
        self._stats = LoaderStats()
        self._requests = _Requests(order)
        self._loader: torch.utils.data.DataLoader[SparseBatch] = torch.utils.data.DataLoader(
            _Batches(dataset),
            batch_sampler=self._requests,  # type: ignore[arg-type]  # what it yields goes to __getitems__ whole
            collate_fn=_unchanged,
            generator=torch.Generator(),  # or every epoch would advance the caller's
            **options,
        )

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return len(self.order)

    @property
    def global_step(self) -> int:
        """Batches handed out since the first epoch began."""
        return self.epoch * len(self) + self._next

    def __iter__(self) -> Iterator[SparseBatch]:
        self._requests.epoch, self._requests.first = self.epoch, self._start
        self._next = self._start
        return self._serve()

    def stats(self) -> LoaderStats:
        """Return what was handed out since the loader was built, and what that took."""
        return self._stats

    def _serve(self) -> Iterator[SparseBatch]:
        asked = time.perf_counter()
        for batch in self._loader:
            self._stats += LoaderStats.of(batch, wait_seconds=time.perf_counter() - asked)
            self._next += 1
            if self._next == len(self):
                # Before the last batch is handed out: a state taken while it is used points to the next epoch.
                self.epoch, self._start, self._next = self.epoch + 1, 0, 0
            yield batch
            asked = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader stands, as a few numbers and strings that JSON can hold."""
        return {
            "version": _STATE_VERSION,
            "epoch": self.epoch,
            "batch": self._next,
            "num_samples": self.order.num_samples,
            "batch_size": self.order.batch_size,
            "shuffle": self.order.shuffle,
            "seed": self.order.seed,
            "tail": self.order.tail,
            "dataset": self.dataset.fingerprint,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; the number of workers and ranks may differ from then.

        Raises:
            StateError: the state is of another version, store, dataset or order.
        """
        own = self.state_dict()
        if set(state) != set(own):
            raise StateError(f"a loader state has the keys {sorted(own)}, this one has {sorted(state)}")
        for key in sorted(set(own) - {"epoch", "batch", "dataset"}):
            _check_equal(key, state[key], own[key])
        for key, value in own["dataset"].items():
            _check_equal(key, state["dataset"].get(key), value)
        epoch, batch = state["epoch"], state["batch"]
        if not (isinstance(epoch, int) and isinstance(batch, int) and epoch >= 0 and 0 <= batch < len(self)):
            raise StateError(f"epoch={epoch!r}, batch={batch!r} is no place in epochs of {len(self)} batches")
        self.epoch, self._start, self._next = epoch, batch, batch


def build_loader(
    dataset: QueryDataset,
    *,
    batch_size: int,
    num_workers: int = 0,
    shuffle: bool = True,
    tail: str = "pad_mask",
    rank: int | None = None,
    world_size: int | None = None,
    **options: Any,
) -> QueryLoader:
    """Build the loader of a dataset. The order of samples is keyed by the dataset's seed.

    Args:
        dataset: where samples come from.
        batch_size: samples of a global batch; each of `world_size` ranks serves its slice of it.
        num_workers: worker processes, kept from epoch to epoch; 0 builds batches in this process.
        shuffle: whether every epoch has an order of its own.
        tail: what becomes of the last, smaller batch, see `BatchOrder`.
        rank: number of this process; from `torch.distributed` if it is initialised, else 0.
        world_size: number of processes; from `torch.distributed` if it is initialised, else 1.
        **options: passed on to `torch.utils.data.DataLoader`: `pin_memory`, `prefetch_factor`, `timeout`,
            `persistent_workers`, `multiprocessing_context`, `worker_init_fn`.

    Raises:
        DatasetError: a batch size, rank, tail or option that cannot be served.
    """
    for name in options:
        if name not in _OPTIONS:
            raise DatasetError(f"build_loader takes no option {name!r}. {suggest(name, _OPTIONS)}")
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if rank is None:
        rank = torch.distributed.get_rank() if distributed else 0
    if world_size is None:
        world_size = torch.distributed.get_world_size() if distributed else 1
    order = BatchOrder(
        num_samples=len(dataset),
        batch_size=batch_size,
        seed=dataset.seed,
        shuffle=shuffle,
        rank=rank,
        world_size=world_size,
        tail=tail,
    )
    return QueryLoader(dataset, order, {"persistent_workers": num_workers > 0, **options, "num_workers": num_workers})


def _check_equal(key: str, saved: object, own: object) -> None:
    if saved != own:
        raise StateError(
            f"the state was saved with {key}={saved!r}, this loader has {own!r}; build it as it was built then"
        )


def _unchanged(batch: Any) -> Any:
    return batch
