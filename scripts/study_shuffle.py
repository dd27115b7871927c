#!/usr/bin/env python
"""Measure how well block and stream shuffles mix, against a full permutation and the stored order.

Samples are windows of trajectories, stored trajectory after trajectory; windows of one trajectory are alike. Each
trajectory has a normal number u of its own, and of the means of u over batches the table shows

* spread: their variance over that of batches drawn by a full permutation. 1 is a perfect shuffle; the noise of a
  gradient grows by it, as far as the gradient depends on the trajectory;
* correlation: between one batch and the next;
* displacement: mean distance of a sample from its stored place, over the number of samples; 1/3 is a full permutation;
* open: the most shards whose samples are under way at one time, which is what a cache must hold.

Example: scripts/study_shuffle.py --trajectories 2000 --windows 100 --shard 1000 --batch 32
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np
import rich.console
import rich.table
from jaxtyping import Float64, Int64

from ups_data.order import BlockShuffle, Shuffle, StreamShuffle
from ups_data.order.shuffle import SampleOrder
from ups_data.random import Stream, generator


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How well an order mixes; see the head of this file."""

    spread: float
    correlation: float
    displacement: float
    open_shards: int


def main() -> int:
    """Run the study and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=2000)
    parser.add_argument("--windows", type=int, default=100, help="samples of a trajectory (100)")
    parser.add_argument("--shard", type=int, default=1000, help="samples of a shard, the block (1000)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=4, help="epochs to average over (4)")
    chosen = parser.parse_args()
    table = rich.table.Table("shuffle", "spread", "correlation", "displacement", "open shards", box=None)
    shuffles: dict[str, Shuffle] = {"full": True}
    for mixed in (1, 4, 16, 64):
        shuffles[f"blocks of a shard, {mixed} mixed"] = BlockShuffle(block=chosen.shard, mixed=mixed)
    for lanes, run in ((1, 8), (1, 32), (4, 8), (16, 8)):
        stream = StreamShuffle(block=chosen.shard, lanes=lanes * chosen.batch, run=run)
        shuffles[f"stream of {stream.lanes} lanes, runs of {run}"] = stream
    shuffles["none"] = False
    for name, shuffle in shuffles.items():
        found = measure(
            shuffle,
            num_trajectories=chosen.trajectories,
            windows=chosen.windows,
            shard=chosen.shard,
            batch_size=chosen.batch,
            epochs=chosen.epochs,
        )
        table.add_row(
            name,
            f"{found.spread:.2f}",
            f"{found.correlation:.2f}",
            f"{found.displacement:.3f}",
            str(found.open_shards),
        )
    rich.console.Console().print(table)
    return 0


def measure(
    shuffle: Shuffle, *, num_trajectories: int, windows: int, shard: int, batch_size: int, epochs: int
) -> Quality:
    """Measure a shuffle over some epochs; orders and numbers u are keyed by the epoch."""
    size = num_trajectories * windows
    spreads, correlations, displacements, opened = [], [], [], 0
    for epoch in range(epochs):
        numbers = generator(seed=1, stream=Stream.PROVE, words=(epoch, 0)).normal(size=num_trajectories)
        order = SampleOrder(num_samples=size, seed=0, epoch=epoch, shuffle=shuffle)(np.arange(size))
        means = _batch_means(numbers[order // windows], batch_size)
        # A mean of batch_size numbers drawn without replacement out of all.
        expected = numbers.var() / batch_size * (size - batch_size) / (size - 1)
        spreads.append(means.var() / expected)
        correlations.append(np.corrcoef(means[:-1], means[1:])[0, 1])
        displacements.append(np.abs(order - np.arange(size)).mean() / size)
        opened = max(opened, _most_open(order // shard))
    return Quality(
        spread=float(np.mean(spreads)),
        correlation=float(np.mean(correlations)),
        displacement=float(np.mean(displacements)),
        open_shards=opened,
    )


def _batch_means(values: Float64[np.ndarray, " sample"], batch_size: int) -> Float64[np.ndarray, " batch"]:
    whole = len(values) // batch_size
    return values[: whole * batch_size].reshape(whole, batch_size).mean(axis=1)


def _most_open(shards: Int64[np.ndarray, " sample"]) -> int:
    """Return the most shards that lie between their first and their last sample at one time."""
    positions = np.arange(len(shards))
    count = int(shards.max()) + 1
    last = np.zeros(count, dtype=np.int64)
    last[shards] = positions
    first = np.zeros(count, dtype=np.int64)
    first[shards[::-1]] = positions[::-1]
    changes = np.zeros(len(shards) + 1, dtype=np.int64)
    np.add.at(changes, first, 1)
    np.add.at(changes, last + 1, -1)
    return int(np.cumsum(changes).max())


if __name__ == "__main__":
    sys.exit(main())
