"""Orders of the samples of an epoch: as stored, wholly shuffled, or shuffled block by block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
class SampleOrder:
    """The order of the samples of one epoch; any position can be looked up alone.

    Attributes:
        num_samples: samples of the dataset.
        seed, epoch: what a shuffle is keyed by.
        shuffle: True permutes all samples, False keeps their order, a `BlockShuffle` lies between the two.
    """

    num_samples: int
    seed: int
    epoch: int
    shuffle: bool | BlockShuffle

    def __call__(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the samples at the given positions of the epoch."""
        if isinstance(self.shuffle, BlockShuffle):
            return _BlockOrder(self.num_samples, self.shuffle, self.seed, self.epoch)(positions)
        if self.shuffle:
            return Permutation(self.num_samples, seed=self.seed, epoch=self.epoch)(positions)
        return positions


class _BlockOrder:
    """Blocks stand in shuffled slots, one of them (the last block) shorter than the rest; groups are runs of slots."""

    def __init__(self, num_samples: int, shuffle: BlockShuffle, seed: int, epoch: int) -> None:
        self.num_samples, self.seed, self.epoch = num_samples, seed, epoch
        self.block, self.mixed = shuffle.block, shuffle.mixed
        self.num_blocks = -(-num_samples // self.block)
        self.missing = self.num_blocks * self.block - num_samples  # what the last block lacks
        random = generator(seed=seed, stream=Stream.BLOCKS, words=(epoch, 0))
        self.last_slot = int(random.integers(self.num_blocks))  # where the last block stands

    def __call__(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        if positions.size and (positions.min() < 0 or positions.max() >= self.num_samples):
            raise IndexError(f"positions must lie in [0, {self.num_samples})")
        groups = self._places(positions) // (self.block * self.mixed)
        mixed = np.empty_like(positions)
        for group in np.unique(groups).tolist():
            start, stop = self._start(group), self._start(group + 1)
            order = Permutation(stop - start, seed=self.seed, epoch=self.epoch, part=group + 1)
            mine = groups == group
            mixed[mine] = start + order(positions[mine] - start)
        slots, offsets = np.divmod(self._places(mixed), self.block)
        return self._blocks(slots) * self.block + offsets

    def _places(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return positions as they would be if the last block were as long as the rest."""
        end_of_last = (self.last_slot + 1) * self.block - self.missing
        return positions + np.where(positions >= end_of_last, self.missing, 0)

    def _start(self, group: int) -> int:
        slot = min(group * self.mixed, self.num_blocks)
        return slot * self.block - (self.missing if slot > self.last_slot else 0)

    def _blocks(self, slots: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        blocks = np.full_like(slots, self.num_blocks - 1)
        others = slots != self.last_slot
        if others.any():
            rank = slots[others] - (slots[others] > self.last_slot)
            blocks[others] = self._block_order(rank)
        return blocks

    @cached_property
    def _block_order(self) -> Permutation:
        return Permutation(self.num_blocks - 1, seed=self.seed, epoch=self.epoch)
