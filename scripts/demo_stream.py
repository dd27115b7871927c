"""What loaders read, ship and deliver in a second, several samplers held against each other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from demo_runner import Show
from preprocess.report import Stream, StreamRow
from ups_data.collate import SparseBatch
from ups_data.dataset import QueryDataset
from ups_data.loader import QueryLoader, build_loader
from ups_data.loader_stats import LoaderStats
from ups_data.samplers import DenseSampler, Sampler
from ups_data.training.data_config import DataConfig

_ID_BYTES = 4


@dataclass(kw_only=True)
class _Tally:
    """What one loader has done so far."""

    dataset: QueryDataset
    loader: QueryLoader
    rounds: list[LoaderStats] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    batch: SparseBatch | None = None

    @property
    def total(self) -> LoaderStats:
        """What all rounds took together."""
        return sum(self.rounds, start=LoaderStats())

    def run(self, num_batches: int) -> None:
        """Take some batches, and count and time them."""
        before, started = self.loader.stats(), time.perf_counter()
        for number, batch in enumerate(self.loader, start=1):
            self.batch = batch
            if number == num_batches:
                break
        self.rounds.append(self.loader.stats() - before)
        self.rates.append(self.rounds[-1].num_samples / (time.perf_counter() - started))


def measure_stream(
    data: DataConfig, samplers: Mapping[str, Sampler], *, num_batches: int, num_rounds: int, show: Show
) -> Stream:
    """Run a loader for each sampler, in turns, in this process; bytes are counted at the file system.

    Args:
        data: store, split, window and batch size.
        samplers: by what they are, in a few words; the sparse one first, the dense one last.
        num_batches: batches a round.
        num_rounds: rounds; the speed is their median.
        show: shows progress.
    """
    tallies = {note: _start(data, sampler) for note, sampler in samplers.items()}
    for tally in tallies.values():
        # Opens files and fills the page cache: no loader pays for being the first.
        tally.run(num_batches)
    done, total = 0, num_rounds * len(tallies)
    for tally in tallies.values():
        tally.rounds.clear()
        tally.rates.clear()
    for _ in range(num_rounds):
        for tally in tallies.values():
            tally.run(num_batches)
            done += 1
            show("rounds", done, total)
    rows = tuple(_row_of(note, tally) for note, tally in tallies.items())
    return Stream(batch_size=data.batch_size, num_batches=num_batches, num_rounds=num_rounds, rows=rows)


def _start(data: DataConfig, sampler: Sampler) -> _Tally:
    # Each loader opens the store for itself, so that each has a count of its own.
    dataset = data.build(data.open(), sampler, split=data.split)
    return _Tally(dataset=dataset, loader=build_loader(dataset, batch_size=data.batch_size))


def _row_of(note: str, tally: _Tally) -> StreamRow:
    assert tally.batch is not None
    batch, total = tally.batch, tally.total
    num_points = batch.query_index.shape[1]
    frames, channels = batch.query_targets.shape[1], batch.query_targets.shape[3]
    each = frames * channels * np.dtype(tally.dataset.store.manifest.dtype).itemsize
    # Where every point is taken, frames are read as they lie, and no id is needed.
    ids = 0 if isinstance(tally.dataset.sampler, DenseSampler) else _ID_BYTES
    inputs = [batch.inputs, *(batch.input_axes or ())]
    return StreamRow(
        sampler=tally.dataset.sampler.name,
        note=note,
        num_points=num_points,
        read_bytes=total.read_bytes / total.num_samples,
        read_ranges=total.read_ranges / total.num_samples,
        input_bytes=_input_bytes(tally.dataset),
        point_bytes=num_points * (each + ids),
        shipped_bytes=total.shipped_bytes / total.num_samples,
        shipped_input_bytes=sum(part.numel() * part.itemsize for part in inputs) / len(batch),
        samples_per_s=float(np.median(tally.rates)),
    )


def _input_bytes(dataset: QueryDataset) -> float:
    """Return what reading the input frames of a sample takes."""
    store = dataset.store
    trajectory, first = dataset.locate(0)
    before = store.read_count.num_bytes
    channels = store.manifest.channels_of(tuple(field.name for field in dataset.input_fields))
    store.read_frames(trajectory, dataset.window.input_frames(first), channels)
    return float(store.read_count.num_bytes - before)
