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
from ups_data.samplers import DenseSampler, Sampler
from ups_data.training.config import DataConfig

_ID_BYTES = 4


@dataclass(kw_only=True)
class _Tally:
    """What one loader has done so far."""

    dataset: QueryDataset
    loader: QueryLoader
    samples: int = 0
    num_bytes: int = 0
    num_ranges: int = 0
    shipped_bytes: int = 0
    rates: list[float] = field(default_factory=list)
    batch: SparseBatch | None = None

    def run(self, num_batches: int) -> None:
        """Take some batches, and count and time them."""
        count = self.dataset.store.read_count
        bytes_before, ranges_before, samples = count.num_bytes, count.num_ranges, 0
        started = time.perf_counter()
        for number, batch in enumerate(self.loader, start=1):
            samples += len(batch)
            self.shipped_bytes += batch.num_bytes
            self.batch = batch
            if number == num_batches:
                break
        self.rates.append(samples / (time.perf_counter() - started))
        self.samples += samples
        self.num_bytes += count.num_bytes - bytes_before
        self.num_ranges += count.num_ranges - ranges_before


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
        tally.samples = tally.num_bytes = tally.num_ranges = tally.shipped_bytes = 0
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
    batch, samples = tally.batch, tally.samples
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
        read_bytes=tally.num_bytes / samples,
        read_ranges=tally.num_ranges / samples,
        input_bytes=_input_bytes(tally.dataset),
        point_bytes=num_points * (each + ids),
        shipped_bytes=tally.shipped_bytes / samples,
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
