"""Batches on the device: the next one is copied while the model works on the present one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch

from ups_data.collate import SparseBatch
from ups_data.errors import DatasetError
from ups_data.loader_stats import LoaderStats


@runtime_checkable
class BatchLoader(Protocol):
    """What serves batches, counts what they took, and resumes: a `QueryLoader`."""

    epoch: int

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[SparseBatch]: ...

    def stats(self) -> LoaderStats:
        """Return what was handed out, and what that took."""
        ...

    @property
    def place(self) -> tuple[int, int]:
        """Epoch and batch that come next."""
        ...

    @property
    def wants_feedback(self) -> bool:
        """Whether the sampler learns from losses."""
        ...

    def feedback(self, batch: SparseBatch, per_query: torch.Tensor) -> None:
        """Tell the losses of a batch."""
        ...

    def allow_ahead(self, batches: int) -> None:
        """Check that so many batches may be held between this loader and the model."""
        ...

    def state_dict(self, place: tuple[int, int] | None = None) -> dict[str, Any]:
        """Return where the loader stands, or would stand at a place."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ready:
    """A batch that is on its way to the device, and how things stand once it is handed out.

    Attributes:
        batch: on the device.
        arrived: recorded on the copying stream behind the copy; None where the copy was done at once.
        place: of the loader.
        stats: of the loader.
        epoch: of the loader.
    """

    batch: SparseBatch
    arrived: torch.cuda.Event | None
    place: tuple[int, int]
    stats: LoaderStats
    epoch: int


class DeviceLoader:
    """Serves the batches of a loader on a device.

    On CUDA the next batch is fetched ahead and copied on a stream of its own, from page-locked memory, while the model
    still works on the one before; the stream that asks for it waits for the copy on the device, not the host. On the
    CPU batches are passed on as they are, none ahead.

    State, statistics and epoch are those of the batches that were handed out, not of those fetched ahead.

    Args:
        loader: what serves the batches.
        device: where they are wanted.
        ahead: batches on the device beside the present one; by default 1 on CUDA and 0 on the CPU.

    Raises:
        DatasetError: a device that is neither a CPU nor a CUDA device, or a negative number of batches; more batches
            ahead than the feedback of an adaptive sampler allows.
    """

    def __init__(self, loader: BatchLoader, device: torch.device | str, *, ahead: int | None = None) -> None:
        self.loader, self.device = loader, torch.device(device)
        if self.device.type not in {"cpu", "cuda"}:
            raise DatasetError(f"batches are brought to cpu or cuda, not to {self.device}; call batch.to() for others")
        self.ahead = int(self.device.type == "cuda") if ahead is None else ahead
        if self.ahead < 0:
            raise DatasetError(f"ahead counts batches, at least 0, got {ahead}")
        loader.allow_ahead(self.ahead)
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self._transfer_seconds = 0.0
        self._handed: _Ready | None = None
        self._begun: dict[str, Any] = {}

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return len(self.loader)

    @property
    def epoch(self) -> int:
        """Number of the epoch that the next batch belongs to."""
        return self.loader.epoch if self._handed is None else self._handed.epoch

    def stats(self) -> LoaderStats:
        """Return what was handed out since the loader was built, and what that took, transfer included."""
        stats = self.loader.stats() if self._handed is None else self._handed.stats
        return replace(stats, transfer_seconds=self._transfer_seconds)

    def state_dict(self) -> dict[str, Any]:
        """Return where the last batch that was handed out leaves the loader."""
        return self.loader.state_dict(None if self._handed is None else self._handed.place)

    @property
    def wants_feedback(self) -> bool:
        """Whether the sampler learns from losses, which `feedback` must then be given."""
        return self.loader.wants_feedback

    def feedback(self, batch: SparseBatch, per_query: torch.Tensor) -> None:
        """Tell the losses of a batch; see `QueryLoader.feedback`."""
        self.loader.feedback(batch, per_query)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            StateError: the state is of another version, store, dataset or order.
        """
        self.loader.load_state_dict(state)
        self._handed = None

    def __iter__(self) -> Iterator[SparseBatch]:
        if self._handed is not None and self._handed.epoch != self.loader.epoch:
            # The epoch was left early, but its last batch was fetched already.
            self.loader.load_state_dict(self._begun)
        batches = iter(self.loader)
        self._handed, self._begun = None, self.loader.state_dict()
        return self._serve(batches)

    def _serve(self, batches: Iterator[SparseBatch]) -> Iterator[SparseBatch]:
        coming: deque[_Ready] = deque()
        while True:
            while len(coming) <= self.ahead and (batch := next(batches, None)) is not None:
                coming.append(self._send(batch))
            if not coming:
                return
            self._handed = coming.popleft()
            self._wait_for(self._handed)
            yield self._handed.batch

    def _send(self, batch: SparseBatch) -> _Ready:
        started = time.perf_counter()
        arrived = None
        if self._stream is None:
            moved = batch.to(self.device)
        else:
            # Only a copy from page-locked memory runs beside the host; torch keeps that memory until it is done.
            pinned = batch if batch.buffer.is_pinned() else batch.pin_memory()
            with torch.cuda.stream(self._stream):
                moved = pinned.to(self.device, non_blocking=True)
                arrived = self._stream.record_event()
        self._transfer_seconds += time.perf_counter() - started
        return _Ready(
            batch=moved,
            arrived=arrived,
            place=self.loader.place,
            stats=self.loader.stats(),
            epoch=self.loader.epoch,
        )

    def _wait_for(self, ready: _Ready) -> None:
        if ready.arrived is None:
            return
        using = torch.cuda.current_stream(self.device)
        using.wait_event(ready.arrived)
        # The buffer was allocated on the copying stream: without this it could be handed to the next copy while
        # kernels of the using stream still read it.
        ready.batch.buffer.record_stream(using)
