"""Orders of the samples of an epoch: as stored, wholly shuffled, shuffled block by block, or as a stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from ups_data.errors import DatasetError
from ups_data.random import Permutation, Stream, generator


@dataclass(frozen=True, kw_only=True)
class BlockShuffle:
    """Shuffle whole blocks of neighbouring samples, then the samples of every few blocks among one another.

    Samples are numbered trajectory after trajectory, as shards hold them, so that an epoch needs only `mixed` blocks at
    a time instead of the whole store: what a reader of a remote store with a bounded cache wants. The smaller
    `block * mixed`, the more alike are the samples of a batch; `scripts/study_shuffle.py` measures how much.

    Attributes:
        block: samples of a block: about as many as a shard holds; see `QueryDataset.samples_per_shard`.
        mixed: blocks whose samples are shuffled together.
    """

    block: int
    mixed: int = 16

    def __post_init__(self) -> None:
        if self.block < 1 or self.mixed < 1:
            raise DatasetError(f"a block shuffle needs block and mixed of at least 1, got {self}")


@dataclass(frozen=True, kw_only=True)
class StreamShuffle:
    """Read a store in sequence at several places side by side, and shuffle short runs of what comes.

    Whole blocks of neighbouring samples are shuffled and laid end to end, and the line is cut into `lanes` of equal
    length. Samples are taken from the lanes in turn; a lane goes forward in runs, whose samples are shuffled. A run is
    one stretch of the store, so `lanes * run` samples are all that a reader holds: its shuffle buffer. With a multiple
    of the global batch size for `lanes`, every rank reads lanes of its own; the larger the multiple, the less alike are
    batches that follow each other, which `scripts/study_shuffle.py` measures.

    Attributes:
        block: samples of a block: about as many as a shard holds; see `QueryDataset.samples_per_shard`.
        lanes: places that are read side by side.
        run: neighbouring samples that are read at once.
    """

    block: int
    lanes: int = 64
    run: int = 8

    def __post_init__(self) -> None:
        if min(self.block, self.lanes, self.run) < 1:
            raise DatasetError(f"a stream shuffle needs block, lanes and run of at least 1, got {self}")

    def batches_of(self, batch_size: int) -> int:
        """Return the batches that one run of every lane makes."""
        return max(1, self.lanes * self.run // batch_size)


Shuffle = bool | BlockShuffle | StreamShuffle
"""True permutes all samples of an epoch, False keeps their order, the others lie between the two."""


@dataclass(frozen=True, kw_only=True)
class SampleOrder:
    """The order of the samples of one epoch; any position can be looked up alone.

    Attributes:
        num_samples: samples of the dataset.
        seed, epoch: what a shuffle is keyed by.
        shuffle: see `Shuffle`.
    """

    num_samples: int
    seed: int
    epoch: int
    shuffle: Shuffle

    def __call__(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the samples at the given positions of the epoch."""
        if self.shuffle is True:
            return Permutation(self.num_samples, seed=self.seed, epoch=self.epoch)(positions)
        if self.shuffle is False:
            return positions
        if positions.size and (positions.min() < 0 or positions.max() >= self.num_samples):
            raise IndexError(f"positions must lie in [0, {self.num_samples})")
        line = _BlockLine(self.num_samples, self.shuffle.block, self.seed, self.epoch)
        if isinstance(self.shuffle, BlockShuffle):
            return line(_mix_blocks(positions, line, self.shuffle.mixed))
        return line(_mix_lanes(positions, line, self.shuffle))


class _BlockLine:
    """All samples in a line: blocks stand in shuffled slots, one of them (the last block) shorter than the rest."""

    def __init__(self, num_samples: int, block: int, seed: int, epoch: int) -> None:
        self.num_samples, self.block, self.seed, self.epoch = num_samples, block, seed, epoch
        self.num_blocks = -(-num_samples // block)
        self.missing = self.num_blocks * block - num_samples  # what the last block lacks
        random = generator(seed=seed, stream=Stream.BLOCKS, words=(epoch, 0))
        self.last_slot = int(random.integers(self.num_blocks))  # where the last block stands

    def __call__(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the samples at positions of the line."""
        slots, offsets = np.divmod(self.places(positions), self.block)
        return self._blocks(slots) * self.block + offsets

    def places(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return positions as they would be if the last block were as long as the rest."""
        end_of_last = (self.last_slot + 1) * self.block - self.missing
        return positions + np.where(positions >= end_of_last, self.missing, 0)

    def start(self, slot: int) -> int:
        """Return the position at which a slot begins, the end of the line for slots beyond it."""
        slot = min(slot, self.num_blocks)
        return slot * self.block - (self.missing if slot > self.last_slot else 0)

    def _blocks(self, slots: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        blocks = np.full_like(slots, self.num_blocks - 1)
        others = slots != self.last_slot
        if others.any():
            rank = slots[others] - (slots[others] > self.last_slot)
            blocks[others] = Permutation(self.num_blocks - 1, seed=self.seed, epoch=self.epoch)(rank)
        return blocks


def _mix_blocks(positions: Int64[np.ndarray, " n"], line: _BlockLine, mixed: int) -> Int64[np.ndarray, " n"]:
    """Return positions of the line, the samples of every `mixed` slots shuffled among one another."""
    groups = line.places(positions) // (line.block * mixed)
    found = np.empty_like(positions)
    for group in np.unique(groups).tolist():
        start, stop = line.start(group * mixed), line.start((group + 1) * mixed)
        order = Permutation(stop - start, seed=line.seed, epoch=line.epoch, part=group + 1)
        mine = groups == group
        found[mine] = start + order(positions[mine] - start)
    return found


def _mix_lanes(positions: Int64[np.ndarray, " n"], line: _BlockLine, shuffle: StreamShuffle) -> Int64[np.ndarray, " n"]:
    """Return positions of the line, which is cut into lanes that take turns.

    Where lanes are not of one length, the first ones have a sample more, which they give last.
    """
    length, longer = divmod(line.num_samples, shuffle.lanes)
    steps, lanes = np.divmod(positions, shuffle.lanes)
    runs = steps // shuffle.run
    for run in np.unique(runs[steps < length]).tolist():
        start, stop = run * shuffle.run, min((run + 1) * shuffle.run, length)
        mine = (runs == run) & (steps < length)
        # One order for all lanes: they are at places that have nothing to do with one another.
        order = Permutation(stop - start, seed=line.seed, epoch=line.epoch, part=run + 1)
        steps[mine] = start + order(steps[mine] - start)
    return lanes * length + np.minimum(lanes, longer) + steps
