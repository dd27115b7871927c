"""The two ends of a DataLoader: which batch is next, in the main process, and building it, in a worker."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ups_data.collate import BatchCost, BatchOrigin, Room, SparseBatch, collate_samples
from ups_data.dataset import QueryDataset
from ups_data.errors import StateError, WorkerError
from ups_data.feedback import Feedback
from ups_data.mixture import MixtureDataset, members_of
from ups_data.order import BatchRequest, Order
from ups_data.sample import SparseSample
from ups_data.samplers import DrawKey
from ups_data.storage.byte_store import ReadCount

_STATE_VERSION = 2


class BatchBuilder(torch.utils.data.Dataset[SparseBatch]):
    """The map-style dataset that workers see: a request in, a whole packed batch out; or several of them at once.

    Args:
        dataset: where samples come from.
        constant_shape: whether clouds and draws are padded to the largest that the dataset can give.
    """

    def __init__(self, dataset: QueryDataset | MixtureDataset, *, constant_shape: bool) -> None:
        self.datasets = members_of(dataset)
        mixed = isinstance(dataset, MixtureDataset) and dataset.batches == "padded"
        members = self.datasets.items()
        together = {None: [one for _, one in members]} if mixed else {name: [one] for name, one in members}
        self.rooms = {name: _room_of(some, constant=constant_shape, padded=mixed) for name, some in together.items()}

    def __getitems__(self, wanted: BatchRequest | tuple[BatchRequest, ...]) -> SparseBatch | list[SparseBatch]:
        try:
            if isinstance(wanted, BatchRequest):
                return self._build((wanted,))[0]
            return self._build(wanted)
        except SystemExit as error:
            if torch.utils.data.get_worker_info() is None:
                raise
            raise WorkerError(f"a worker was told to exit with status {error.code!r} while it read a batch") from error

    def _build(self, requests: tuple[BatchRequest, ...]) -> list[SparseBatch]:
        """Build batches that are read together; what they cost is told by the first one."""
        before, started = self._count(), time.perf_counter()
        samples = self._read(requests)
        batches = [self._pack(request, [samples[key] for key in self._keys(request)]) for request in requests]
        after = self._count()
        cost = BatchCost(
            read_bytes=after.num_bytes - before.num_bytes,
            read_ranges=after.num_ranges - before.num_ranges,
            decoded_bytes=after.num_decoded_bytes - before.num_decoded_bytes,
            read_seconds=after.seconds - before.seconds,
            build_seconds=time.perf_counter() - started,
        )
        nothing = BatchCost(read_bytes=0, read_ranges=0, decoded_bytes=0, read_seconds=0.0, build_seconds=0.0)
        for number, batch in enumerate(batches):
            batch.cost = nothing if number else cost
        return batches

    def _count(self) -> ReadCount:
        """Return what all stores have read so far."""
        stores = [store for dataset in self.datasets.values() for store in dataset.stores]
        counts = {id(count): count for count in (store.read_count for store in stores)}
        return ReadCount(
            num_bytes=sum(count.num_bytes for count in counts.values()),
            num_ranges=sum(count.num_ranges for count in counts.values()),
            num_decoded_bytes=sum(count.num_decoded_bytes for count in counts.values()),
            seconds=sum(count.seconds for count in counts.values()),
        )

    def _keys(self, request: BatchRequest) -> list[tuple[str | None, DrawKey]]:
        sources = request.sources or [(request.dataset, request.epoch)] * len(request.indices)
        return [
            (
                name,
                DrawKey(
                    seed=self.datasets[name].seed,
                    epoch=epoch,
                    sample=index,
                    step=request.step,
                    emphasis=request.emphases.get(name),
                ),
            )
            for (name, epoch), index in zip(sources, request.indices.tolist(), strict=True)
        ]

    def _read(self, requests: tuple[BatchRequest, ...]) -> dict[tuple[str | None, DrawKey], SparseSample]:
        """Read what some batches need, dataset by dataset in the order of the store."""
        keys = [key for request in requests for key in self._keys(request)]
        found: dict[tuple[str | None, DrawKey], SparseSample] = {}
        for name in dict.fromkeys(name for name, _ in keys):
            mine = sorted((key for owner, key in keys if owner == name), key=lambda key: (key.sample, key.step))
            found |= {(name, key): sample for key, sample in zip(mine, self.datasets[name].draw(mine), strict=True)}
        return found

    def _pack(self, request: BatchRequest, samples: list[SparseSample]) -> SparseBatch:
        dataset = self.datasets.get(request.dataset, next(iter(self.datasets.values())))
        batch = collate_samples(
            samples,
            num_padding=request.num_padding,
            # A rank whose whole slice is padding still needs the shapes of a sample.
            like=None if samples else dataset.sample(0, epoch=request.epoch, step=request.step),
            room=self.rooms[request.dataset],
        )
        batch.origin = BatchOrigin(
            dataset=request.dataset,
            epoch=request.epoch,
            step=request.step,
            global_samples=request.global_samples,
            sources=request.sources,
        )
        return batch


class BatchSampler:
    """The batch sampler of a DataLoader: the requests of one epoch for each `iter`, from a given place on.

    Every pass that is begun is an epoch of its own, whether it comes to its end or not; how far a loader asks ahead of
    what it hands out therefore changes nothing. The state is the place of the next request.
    """

    def __init__(self, order: Order, fingerprint: dict[str, str], feedback: Feedback | None = None) -> None:
        self.order, self.fingerprint, self.feedback = order, fingerprint, feedback
        self.epoch, self.batch = 0, 0
        self._is_fresh = True  # no pass was begun from here

    def __iter__(self) -> Iterator[BatchRequest]:
        # A generator: it begins its pass when it is first asked, not when it is made.
        if not self._is_fresh:
            self.go_to(self.epoch + 1, 0)
        self._is_fresh = False
        epoch = self.epoch
        for batch in range(self.batch, len(self.order)):
            self.batch = batch + 1
            if self.batch == len(self.order):
                self.go_to(epoch + 1, 0)
            request = self.order.request(epoch, batch)
            if self.feedback is not None:
                request = dataclasses.replace(request, emphases=self.feedback.emphases(request.step))
            yield request

    def __len__(self) -> int:
        return len(self.order)

    def go_to(self, epoch: int, batch: int) -> None:
        """Let the next pass begin at a batch of an epoch."""
        self.epoch, self.batch, self._is_fresh = epoch, batch, True

    def state_dict(self) -> dict[str, Any]:
        """Return the place of the next request, as a few numbers and strings that JSON can hold."""
        return self.describe(self.epoch, self.batch)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            StateError: it is of another version, store, dataset or order.
        """
        self.go_to(*self.find(state))

    def describe(self, epoch: int, batch: int) -> dict[str, Any]:
        """Return the state of a place."""
        return {
            "version": _STATE_VERSION,
            "epoch": epoch,
            "batch": batch,
            "order": self.order.identity(),
            "dataset": self.fingerprint,
        }

    def find(self, state: dict[str, Any]) -> tuple[int, int]:
        """Return epoch and batch of a state.

        Raises:
            StateError: it is of another version, store, dataset or order.
        """
        own = self.describe(0, 0)
        if set(state) != set(own):
            raise StateError(f"a loader state has the keys {sorted(own)}, this one has {sorted(state)}")
        _check_equal("version", state["version"], own["version"])
        for part in ("order", "dataset"):
            for key in sorted({*own[part], *state[part]}):
                _check_equal(key, state[part].get(key), own[part].get(key))
        epoch, batch = state["epoch"], state["batch"]
        if not (isinstance(epoch, int) and isinstance(batch, int) and epoch >= 0 and 0 <= batch < len(self)):
            raise StateError(f"epoch={epoch!r}, batch={batch!r} is no place in epochs of {len(self)} batches")
        return epoch, batch


class RunSampler:
    """The requests of a batch sampler, in runs of batches that a worker reads together.

    Runs begin at multiples of their length, wherever a pass begins, so that a resume cuts the one that it falls in.

    Args:
        batches: what to go through.
        length: batches of a run.
    """

    def __init__(self, batches: BatchSampler, length: int) -> None:
        self.batches, self.length = batches, length

    def __iter__(self) -> Iterator[tuple[BatchRequest, ...]]:
        size = len(self.batches)
        run: list[BatchRequest] = []
        for request in self.batches:
            run.append(request)
            done = request.step % size + 1
            if done % self.length == 0 or done == size:
                yield tuple(run)
                run = []

    def __len__(self) -> int:
        return (len(self.batches) + self.length - 1) // self.length


def hand_over(batch: Any) -> Any:
    """Return what it is given: the collate function of a DataLoader whose batches come packed."""
    return batch


def _room_of(datasets: Sequence[QueryDataset], *, constant: bool, padded: bool) -> Room:
    """Return what the batches of some datasets are padded to, nothing where they need not be of one shape."""
    shape = None
    shapes = {dataset.store.manifest.geometry.shape for dataset in datasets}
    ragged = None in shapes or len(shapes) > 1
    if padded and ragged and datasets[0].geometry == "grid":
        shape = tuple(np.array([dataset.largest_shape for dataset in datasets]).max(axis=0).tolist())
    if not constant:
        return Room(shape=None if shape is None else (0,) * len(shape))
    queries, points = np.array([dataset.largest_sample for dataset in datasets]).max(axis=0).tolist()
    return Room(queries=queries, points=points, shape=shape)


def _check_equal(key: str, saved: object, own: object) -> None:
    if saved != own:
        raise StateError(
            f"the state was saved with {key}={saved!r}, this loader has {own!r}; build it as it was built then"
        )
