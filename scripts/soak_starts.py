#!/usr/bin/env python
"""Start workers in every way on every kind of store: each finishes with the same batches or is refused, none hangs.

All combinations of the stores given (paths and URLs of one and the same store), start method, whether the parent has
read before, and persistent workers; each in a process of its own, which is ended after 30 seconds (`--limit`; a machine
that is busy otherwise needs more). Exit status 1 where one hangs, fails otherwise, or gives other batches.

Example: scripts/soak_starts.py data/burgers http://127.0.0.1:8000/burgers
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import rich.console
import rich.table

import ups_data
from ups_data.errors import DatasetError

METHODS = ("fork", "forkserver", "spawn")


@dataclass(frozen=True, kw_only=True)
class Start:
    """One way to start.

    Attributes:
        store: path or URL.
        method: start method of the workers.
        parent_has_read: whether the parent read a sample before.
        persistent: whether workers stay from epoch to epoch.
        endpoint: address of the S3 service, if it is not Amazon's.
    """

    store: str
    method: str
    parent_has_read: bool
    persistent: bool
    endpoint: str | None = None

    def arguments(self) -> list[str]:
        """Return the command line that tries it."""
        flags = {"--read": self.parent_has_read, "--persistent": self.persistent}
        endpoint = [] if self.endpoint is None else ["--endpoint", self.endpoint]
        return [self.store, *endpoint, "--try", self.method, *(flag for flag, given in flags.items() if given)]

    def open(self) -> ups_data.Store:
        """Open the store."""
        if self.endpoint is None or "://" not in self.store:
            return ups_data.open_store(self.store)
        return ups_data.open_store(self.store, remote=ups_data.RemoteOptions(endpoint=self.endpoint, allow_http=True))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How it went: `finished` with a digest of the batches, `refused` or `failed` with the reason, or `hung`."""

    start: Start
    result: str
    detail: str
    seconds: float


def main() -> int:
    """Try one start, or all of them and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="+")
    parser.add_argument("--endpoint", help="address of the S3 service")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds after which one hangs (30)")
    parser.add_argument("--try", dest="method", choices=METHODS, help="try this one start in this process")
    parser.add_argument("--read", action="store_true")
    parser.add_argument("--persistent", action="store_true")
    chosen = parser.parse_args()
    if chosen.method is not None:
        start = Start(
            store=chosen.stores[0],
            method=chosen.method,
            parent_has_read=chosen.read,
            persistent=chosen.persistent,
            endpoint=chosen.endpoint,
        )
        return try_start(start)
    outcomes = list(try_all(chosen.stores, endpoint=chosen.endpoint, limit_s=chosen.limit))
    table = rich.table.Table("store", "method", "parent read", "persistent", "result", "seconds", box=None)
    for found in outcomes:
        start = found.start
        flags = ("yes" if start.parent_has_read else "no", "yes" if start.persistent else "no")
        table.add_row(start.store, start.method, *flags, found.result, f"{found.seconds:.1f}")
    rich.console.Console().print(table)
    for found in outcomes:
        if found.result not in {"finished", "refused"}:
            print(f"{found.start}: {found.result}: {found.detail}", file=sys.stderr)
    return 0 if is_well(outcomes) else 1


def is_well(outcomes: list[Outcome]) -> bool:
    """Say whether every start finished with the same batches or was refused."""
    digests = {found.detail for found in outcomes if found.result == "finished"}
    return len(digests) == 1 and all(found.result in {"finished", "refused"} for found in outcomes)


def try_all(stores: list[str], *, endpoint: str | None, limit_s: float) -> Iterator[Outcome]:
    """Try every combination, each in a process of its own."""
    for store, method, read, persistent in itertools.product(stores, METHODS, (False, True), (False, True)):
        start = Start(store=store, method=method, parent_has_read=read, persistent=persistent, endpoint=endpoint)
        yield try_apart(start, limit_s=limit_s)


def try_apart(start: Start, *, limit_s: float) -> Outcome:
    """Try one start in a process of its own, with a limit of time."""
    began = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, __file__, *start.arguments()],
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        return Outcome(start=start, result="hung", detail=f"no end after {limit_s} s", seconds=limit_s)
    result = {0: "finished", 2: "refused"}.get(done.returncode, "failed")
    detail = done.stdout.strip() if result == "finished" else done.stderr.strip()
    return Outcome(start=start, result=result, detail=detail, seconds=time.perf_counter() - began)


def try_start(start: Start) -> int:
    """Serve two epochs of 8 samples each and print a digest of them."""
    store = start.open()
    dataset = ups_data.QueryDataset(store, sampler=ups_data.ImportanceSampler(ratio=0.25))
    if start.parent_has_read:
        dataset.sample(0)
    try:
        loader = ups_data.build_loader(
            dataset,
            batch_size=4,
            num_workers=2,
            multiprocessing_context=start.method,
            persistent_workers=start.persistent,
        )
    except DatasetError as error:
        print(error, file=sys.stderr)
        return 2
    digest = hashlib.sha256()
    for _ in range(2):
        for batch in itertools.islice(loader, 2):
            digest.update(batch.buffer.numpy().tobytes())
    print(digest.hexdigest())
    return 0


if __name__ == "__main__":
    sys.exit(main())
