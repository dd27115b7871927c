"""The loader that serves batches and resumes."""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Iterator, Mapping
from multiprocessing.context import BaseContext
from typing import Any

import torch

from ups_data.batching import BatchBuilder, BatchSampler, RunSampler, hand_over
from ups_data.collate import SparseBatch
from ups_data.dataset import QueryDataset
from ups_data.errors import DatasetError, StateError, UpsDataError, WorkerError, suggest
from ups_data.feedback import Feedback, Learner
from ups_data.loader_stats import LoaderStats
from ups_data.mixture import MixtureDataset, members_of
from ups_data.order import BatchOrder, BlendOrder, MixtureOrder, Shuffle, StreamShuffle, epoch_samples
from ups_data.workers import begin_worker, describe_deaths, end_workers, spare_garbage, watch_workers

_Context = str | BaseContext | None
_OPTIONS = (
    "pin_memory",
    "prefetch_factor",
    "timeout",
    "persistent_workers",
    "multiprocessing_context",
    "worker_init_fn",
)


class QueryLoader:
    """Serves the batches of one epoch for each `iter`, and knows its place.

    `iter` begins the current epoch from its first batch, or from where `load_state_dict` put it; an epoch that was
    served to its end moves on to the next one. The state counts the batches that were handed out, not those that
    workers have fetched ahead.

    A worker process that dies, that raises anything but an error of ups_data, or that gives no batch within the
    `timeout` of the DataLoader ends the iteration with a `WorkerError`, and no worker is left. The state is then that
    of the last batch that was handed out.

    Args:
        dataset: where samples come from.
        order: which of them make up each batch.
        constant_shape: see `build_loader`.
        read_together: batches that are read at once.
        options: of `torch.utils.data.DataLoader`.
    """

    def __init__(
        self,
        dataset: QueryDataset | MixtureDataset,
        order: BatchOrder | MixtureOrder | BlendOrder,
        *,
        constant_shape: bool = False,
        read_together: int = 1,
        options: Mapping[str, Any],
    ) -> None:
        self.dataset, self.order = dataset, order
        self.epoch = 0
        self._start = 0
        self._next = 0
        self._stats = LoaderStats()
        self._serving: object = None
        self._builder = BatchBuilder(dataset, constant_shape=constant_shape)
        self._feedback = _feedback_of(dataset)
        self._sampler = BatchSampler(order, dataset.fingerprint, self._feedback)
        self._runs = RunSampler(self._sampler, read_together)
        self._options = dict(options)
        self.allow_ahead(0)
        self._loader = self._make_loader()

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return len(self.order)

    @property
    def global_step(self) -> int:
        """Batches handed out since the first epoch began."""
        return self.epoch * len(self) + self._next

    def __iter__(self) -> Iterator[SparseBatch]:
        self._next = self._start
        self._serving = token = object()
        return self._serve(token)

    def stats(self) -> LoaderStats:
        """Return what was handed out since the loader was built, and what that took."""
        return self._stats

    @property
    def place(self) -> tuple[int, int]:
        """Epoch and batch that come next."""
        return self.epoch, self._next

    @property
    def wants_feedback(self) -> bool:
        """Whether the sampler learns from losses, which `feedback` must then be given."""
        return self._feedback is not None

    def feedback(self, batch: SparseBatch, per_query: torch.Tensor) -> None:
        """Tell the losses of a batch, which an adaptive sampler learns from: every batch, once, before the next one.

        Args:
            batch: as it was handed out, on any device.
            per_query: (B, Q), loss of each drawn point, not weighted; those of padding do not count. Where each target
                frame has points of its own (B, T, Q), of all frames or of the first ones. What
                `ups_data.training.LossBundle.per_query` holds.

        Raises:
            DatasetError: the sampler does not adapt; losses of another shape.
            StateError: not the batch whose turn it is.
        """
        if self._feedback is None:
            raise DatasetError("the sampler of this loader does not learn from losses; use AdaptiveSampler")
        self._feedback.add(batch, per_query)

    def allow_ahead(self, batches: int) -> None:
        """Check that draws are made late enough to know the losses that they go by.

        Args:
            batches: batches that are held between this loader and the model.

        Raises:
            DatasetError: they, and those that workers are ahead, are more than the `lag` of the sampler's feedback.
        """
        workers, each = self._options.get("num_workers", 0), self._options.get("prefetch_factor") or 2
        ahead = batches + (workers * each + 1) * self._runs.length - 1
        if self._feedback is not None and ahead > self._feedback.lag:
            raise DatasetError(
                f"up to {ahead} batches are drawn ahead of the one that is trained on, and the sampler's feedback has "
                f"a lag of {self._feedback.lag}; set FeedbackRule(lag={ahead}) or more, or fetch less ahead"
            )

    def state_dict(self, place: tuple[int, int] | None = None) -> dict[str, Any]:
        """Return where the loader stands, as a few numbers and strings that JSON can hold.

        Args:
            place: epoch and batch that come next, if they are not this loader's own `place`: of those who hold batches
                that it handed out.

        Raises:
            StateError: losses of batches before that place were not fed back to an adaptive sampler.
        """
        epoch, batch = self.place if place is None else place
        state = self._sampler.describe(epoch, batch)
        if self._feedback is None:
            return state
        step = epoch * len(self) + batch
        if self._feedback.next_step != step:
            raise StateError(
                f"a state before global step {step} needs the losses of all steps before it, and those of "
                f"{self._feedback.next_step} are due: call feedback before state_dict"
            )
        return {**state, "feedback": self._feedback.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; the number of workers and ranks may differ from then.

        Raises:
            StateError: the state is of another version, store, dataset or order.
        """
        rest = {key: value for key, value in state.items() if key != "feedback"}
        if (self._feedback is None) != (len(rest) == len(state)):
            raise StateError("the state was saved by a loader whose sampler adapts, this one's does not, or reversely")
        self.epoch, self._start = self._sampler.find(rest)
        self._next, self._serving = self._start, None
        if self._feedback is not None:
            self._feedback.load_state_dict(state["feedback"])

    def _serve(self, token: object) -> Iterator[SparseBatch]:
        self._check_is_current(token)
        asked = time.perf_counter()
        self._sampler.go_to(self.epoch, self._start)
        runs = self._begin()
        while (run := self._fetch(runs)) is not None:
            for batch in run:
                self._stats += LoaderStats.of(batch, wait_seconds=time.perf_counter() - asked)
                self._next += 1
                if self._next == len(self):
                    # Before the last batch is handed out: a state taken while it is used points to the next epoch.
                    self.epoch, self._start, self._next = self.epoch + 1, 0, 0
                yield batch
                self._check_is_current(token)
                asked = time.perf_counter()

    def _check_is_current(self, token: object) -> None:
        if self._serving is not token:
            raise StateError(
                "this iterator is no longer the loader's: iter() or load_state_dict() was called since; go on with a "
                "new one"
            )

    def _make_loader(self) -> torch.utils.data.DataLoader[Any]:
        return torch.utils.data.DataLoader(
            self._builder,
            batch_sampler=self._runs,  # type: ignore[arg-type]  # what it yields goes to __getitems__ whole
            collate_fn=hand_over,
            generator=torch.Generator(),  # or every epoch would advance the caller's
            **self._options,
        )

    def _begin(self) -> Iterator[list[SparseBatch]]:
        try:
            with spare_garbage():
                batches = iter(self._loader)
        except Exception as error:
            raise self._describe(f"{type(error).__name__}: {error}") from error
        if self._loader.num_workers:
            watch_workers()
        return batches

    def _fetch(self, batches: Iterator[list[SparseBatch]]) -> list[SparseBatch] | None:
        if not self._loader.num_workers:
            return next(batches, None)
        try:
            return next(batches, None)
        except Exception as error:
            deaths = describe_deaths(batches)
            end_workers(batches)
            self._loader = self._make_loader()  # the old one may hold on to the workers that were
            if isinstance(error, UpsDataError) and not deaths:
                raise
            raise self._describe(deaths or f"{type(error).__name__}: {error}") from error

    def _describe(self, what: str) -> WorkerError:
        return WorkerError(
            f"the workers failed before batch {self._next} of epoch {self.epoch} came: {what}; state_dict() goes on "
            f"from this batch"
        )


def build_loader(  # noqa: PLR0913  # the choices of a user, keyword-only, each with its default here
    dataset: QueryDataset | MixtureDataset,
    *,
    batch_size: int,
    num_workers: int = 0,
    shuffle: Shuffle = True,
    tail: str = "pad_mask",
    constant_shape: bool = False,
    read_together: int | None = None,
    rank: int | None = None,
    world_size: int | None = None,
    **options: Any,
) -> QueryLoader:
    """Build the loader of a dataset. The order of samples is keyed by the dataset's seed.

    Args:
        dataset: where samples come from.
        batch_size: samples of a global batch; each of `world_size` ranks serves its slice of it. Where it does not
            divide, some ranks have a sample less and one of weight 0 instead; see `BatchOrigin.global_samples`.
        num_workers: worker processes, kept from epoch to epoch; 0 builds batches in this process.
        shuffle: True gives every epoch an order of its own, False keeps the stored one, a `BlockShuffle` mixes whole
            blocks of neighbours, a `StreamShuffle` goes through the store in sequence.
        tail: what becomes of the last, smaller batch, see `BatchOrder`.
        constant_shape: give all batches of a dataset one shape, as `torch.compile` likes it: draws and clouds are
            padded to the largest that the dataset can give, the last batch to whole size, all with weight 0.
        read_together: batches that are read at once, each range of the store once, and held until they are served; 1 by
            default, and with a `StreamShuffle` those of one of its buffers. It changes no batch and no state.
        rank: number of this process; from `torch.distributed` if it is initialised, else 0.
        world_size: number of processes; from `torch.distributed` if it is initialised, else 1.
        **options: passed on to `torch.utils.data.DataLoader`: `pin_memory`, `prefetch_factor`, `timeout` (seconds to
            wait for a batch before a `WorkerError`; 0, the default, waits for ever), `persistent_workers`,
            `multiprocessing_context`, `worker_init_fn`.

    Workers start as `multiprocessing_context` says. A store on an object store cannot be read by forked workers, which
    would hang: for those the default is `spawn`, and `fork` is refused.

    Raises:
        DatasetError: a batch size, rank, tail or option that cannot be served.
    """
    for name in options:
        if name not in _OPTIONS:
            raise DatasetError(f"build_loader takes no option {name!r}. {suggest(name, _OPTIONS)}")
    order = _build_order(
        dataset, batch_size=batch_size, shuffle=shuffle, tail=tail, full=constant_shape, ranks=(rank, world_size)
    )
    if read_together is None:
        read_together = shuffle.batches_of(batch_size) if isinstance(shuffle, StreamShuffle) else 1
    if read_together < 1:
        raise DatasetError(f"read_together is a number of batches, at least 1, got {read_together}")
    # What is asked for ahead is counted in what is read together.
    ahead = {"prefetch_factor": 1} if num_workers and read_together > 1 else {}
    return QueryLoader(
        dataset,
        order,
        constant_shape=constant_shape,
        read_together=read_together,
        options={
            "persistent_workers": num_workers > 0,
            **ahead,
            **options,
            "multiprocessing_context": _choose_context(dataset, options.get("multiprocessing_context"), num_workers),
            "worker_init_fn": functools.partial(begin_worker, options.get("worker_init_fn")),
            "num_workers": num_workers,
        },
    )


def dataloader_arguments(
    dataset: QueryDataset | MixtureDataset,
    *,
    batch_size: int,
    shuffle: Shuffle = True,
    tail: str = "pad_mask",
    constant_shape: bool = False,
    rank: int | None = None,
    world_size: int | None = None,
) -> dict[str, Any]:
    """Return `dataset`, `batch_sampler` and `collate_fn` for a DataLoader of one's own.

    For torchdata's `StatefulDataLoader(**dataloader_arguments(...), num_workers=2)`, which saves and restores the
    place, for one number of workers; `build_loader` resumes on any number. Every `iter` is an epoch of its own.
    Arguments are those of `build_loader`.
    """
    order = _build_order(
        dataset, batch_size=batch_size, shuffle=shuffle, tail=tail, full=constant_shape, ranks=(rank, world_size)
    )
    if _feedback_of(dataset) is not None:
        raise DatasetError("an adaptive sampler learns from losses, which a DataLoader does not take; use build_loader")
    return {
        "dataset": BatchBuilder(dataset, constant_shape=constant_shape),
        "batch_sampler": BatchSampler(order, dataset.fingerprint),
        "collate_fn": hand_over,
    }


def _feedback_of(dataset: QueryDataset | MixtureDataset) -> Feedback | None:
    learners = {
        name: Learner(rule=member.sampler.feedback, num_strata=member.query_store.manifest.layout.num_strata)
        for name, member in members_of(dataset).items()
        if member.sampler.feedback is not None
    }
    return Feedback(learners) if learners else None


def _choose_context(dataset: QueryDataset | MixtureDataset, context: _Context, num_workers: int) -> _Context:
    """Return how workers start; refuse what would hang."""
    stores = [store for member in members_of(dataset).values() for store in member.stores]
    unsafe = [store.location for store in stores if not store.survives_fork]
    asked = context if isinstance(context, str) or context is None else context.get_start_method()
    if not num_workers or not unsafe or (asked or multiprocessing.get_start_method()) != "fork":
        return context
    if asked is None:
        return "spawn"
    raise DatasetError(
        f"{unsafe[0]} was read by this process, and connections to it hang in forked workers; leave out "
        f"multiprocessing_context='fork', or take 'spawn' or 'forkserver'"
    )


def _build_order(
    dataset: QueryDataset | MixtureDataset, *, ranks: tuple[int | None, int | None], **settings: Any
) -> BatchOrder | MixtureOrder | BlendOrder:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank, world_size = ranks
    if rank is None:
        rank = torch.distributed.get_rank() if distributed else 0
    if world_size is None:
        world_size = torch.distributed.get_world_size() if distributed else 1

    def order_of(member: QueryDataset) -> BatchOrder:
        return BatchOrder(num_samples=len(member), seed=member.seed, rank=rank, world_size=world_size, **settings)

    if isinstance(dataset, QueryDataset):
        return order_of(dataset)
    if dataset.batches == "padded":
        return _blend(dataset, rank=rank, world_size=world_size, **settings)
    orders = {name: order_of(member) for name, member in dataset.datasets.items()}
    weights = dataset.whole_weights({name: len(order) for name, order in orders.items()})
    return MixtureOrder(orders=orders, weights=weights, epoch_batches=dataset.epoch_batches)


def _blend(dataset: MixtureDataset, *, batch_size: int, shuffle: Shuffle, **settings: Any) -> BlendOrder:
    sizes = {name: len(member) for name, member in dataset.datasets.items()}
    weights = dataset.whole_weights(sizes)
    batches = dataset.epoch_batches
    length = epoch_samples(list(sizes.values()), weights) if batches is None else batches * batch_size
    return BlendOrder(
        sizes=sizes,
        seeds={name: member.seed for name, member in dataset.datasets.items()},
        weights=weights,
        shuffle=shuffle,
        turns=BatchOrder(num_samples=length, batch_size=batch_size, seed=0, shuffle=False, **settings),
    )
