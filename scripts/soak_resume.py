#!/usr/bin/env python
"""Go on from every batch of two epochs, however the store is kept and read: the rest must be the same bytes.

The state is saved before every batch; from each of them a new loader goes on to the end, for every store (paths and
URLs of one and the same store), batch by batch and a whole buffer at a time, with 0 to 3 workers. What it serves, and
the states that it passes through, are compared with those of one loader of the first store without workers. Exit status
1 where any differs.

Example: scripts/soak_resume.py data/burgers data/burgers-tar --batches 8
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import rich.console
import rich.table

import ups_data
from machine import machine_line

READINGS = {"map-style": 1, "sequential": None}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one way of reading went.

    Attributes:
        store: path or URL.
        reading: batch by batch, or a buffer at a time.
        num_workers: worker processes.
        positions: places that were gone on from.
        wrong: those from which anything differed.
        seconds: for all of them.
    """

    store: str
    reading: str
    num_workers: int
    positions: int
    wrong: tuple[int, ...]
    seconds: float


def main() -> int:
    """Try all ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="+")
    parser.add_argument("--batches", type=int, default=8, help="batches of an epoch (8)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 3])
    chosen = parser.parse_args()
    console = rich.console.Console()
    console.print(f"machine: {machine_line()}")
    table = rich.table.Table("store", "reading", "workers", "went on from", "differed", "seconds", box=None)
    outcomes = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # more workers than cores
        for found in try_all(chosen.stores, num_batches=chosen.batches, workers=chosen.workers):
            outcomes.append(found)
            numbers = (str(found.num_workers), str(found.positions), str(len(found.wrong)), f"{found.seconds:.1f}")
            table.add_row(found.store, found.reading, *numbers)
    console.print(table)
    return 1 if any(found.wrong for found in outcomes) else 0


def try_all(stores: Sequence[str], *, num_batches: int, workers: Sequence[int]) -> Iterator[Outcome]:
    """Go on from every place in every way."""
    expected, states = serve(build(stores[0], "map-style", 0, num_batches))
    for store, reading, num_workers in itertools.product(stores, READINGS, workers):
        began, wrong = time.perf_counter(), []
        for position, state in enumerate(states):
            loader = build(store, reading, num_workers, num_batches)
            loader.load_state_dict(json.loads(state))
            if serve(loader) != (expected[position:], states[position:]):
                wrong.append(position)
        yield Outcome(
            store=store,
            reading=reading,
            num_workers=num_workers,
            positions=len(states),
            wrong=tuple(wrong),
            seconds=time.perf_counter() - began,
        )


def build(store: str, reading: str, num_workers: int, num_batches: int) -> ups_data.QueryLoader:
    """Return a loader with so many batches an epoch, two of which make a buffer."""
    ratio = ups_data.Linear(start=0.5, end=0.1, steps=2 * num_batches)
    dataset = ups_data.QueryDataset(ups_data.open_store(store), sampler=ups_data.ImportanceSampler(ratio=ratio))
    batch_size = -(-len(dataset) // num_batches)
    shuffle = ups_data.StreamShuffle(block=dataset.samples_per_shard, lanes=batch_size, run=2)
    return ups_data.build_loader(
        dataset, batch_size=batch_size, shuffle=shuffle, num_workers=num_workers, read_together=READINGS[reading]
    )


def serve(loader: ups_data.QueryLoader) -> tuple[list[str], list[str]]:
    """Return digests of all batches to the end of the second epoch, and the state before each."""
    digests, states = [], [json.dumps(loader.state_dict())]
    while loader.epoch < 2:
        for batch in loader:
            digests.append(hashlib.sha256(batch.buffer.numpy().tobytes()).hexdigest())
            states.append(json.dumps(loader.state_dict()))
    return digests, states[:-1]


if __name__ == "__main__":
    sys.exit(main())
