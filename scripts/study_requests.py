#!/usr/bin/env python
"""Measure what reading a batch at once is worth where a round trip takes its time.

Batches of a remote store, each read once sample by sample and once at once, in turn; medians of seconds a batch. The
service must lie far away, or be made to by a proxy that waits.

Example: scripts/study_requests.py s3://fields/burgers --endpoint http://127.0.0.1:9000 --batches 15
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import ups_data
from ups_data.sample import SparseSample


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Medians over batches, and requests a sample.

    Attributes:
        single_s: seconds a batch, sample by sample.
        together_s: seconds a batch, all samples at once.
        single_requests, together_requests: requests a sample.
    """

    single_s: float
    together_s: float
    single_requests: float
    together_requests: float


def measure(dataset: ups_data.QueryDataset, *, batch_size: int, batches: int) -> Timing:
    """Read the same batches in both ways, in turn."""
    seconds: dict[str, list[float]] = {"single": [], "together": []}
    requests = {"single": 0, "together": 0}
    dataset.samples(range(batch_size), epoch=batches)  # opens connections, and reads the indices of shards

    def take(name: str, read: Callable[[], list[SparseSample]]) -> list[SparseSample]:
        before, began = dataset.store.read_count.num_ranges, time.perf_counter()
        samples = read()
        seconds[name].append(time.perf_counter() - began)
        requests[name] += dataset.store.read_count.num_ranges - before
        return samples

    for epoch in range(batches):
        indices = [(epoch * batch_size + place) % len(dataset) for place in range(batch_size)]
        one = take("single", lambda: [dataset.sample(index, epoch=epoch) for index in indices])  # noqa: B023  called at once
        two = take("together", lambda: dataset.samples(indices, epoch=epoch))  # noqa: B023  called at once
        assert all(a.query_targets.equal(b.query_targets) for a, b in zip(one, two, strict=True))
    count = batches * batch_size
    return Timing(
        single_s=statistics.median(seconds["single"]),
        together_s=statistics.median(seconds["together"]),
        single_requests=requests["single"] / count,
        together_requests=requests["together"] / count,
    )


def main() -> int:
    """Measure a store and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--endpoint", help="address of the S3 service, if it is not Amazon's")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--batches", type=int, default=15)
    parser.add_argument("--ratio", type=float, default=0.05)
    chosen = parser.parse_args()
    remote = ups_data.RemoteOptions(endpoint=chosen.endpoint, allow_http=chosen.endpoint is not None or None)
    store = ups_data.open_store(chosen.store, remote=remote)
    dataset = ups_data.QueryDataset(store, sampler=ups_data.ImportanceSampler(chosen.ratio))
    found = measure(dataset, batch_size=chosen.batch_size, batches=chosen.batches)
    print(f"sample by sample: {found.single_s * 1e3:.0f} ms a batch, {found.single_requests:.1f} requests a sample")
    print(f"batch at once:    {found.together_s * 1e3:.0f} ms a batch, {found.together_requests:.1f} requests a sample")
    return 0


if __name__ == "__main__":
    sys.exit(main())
