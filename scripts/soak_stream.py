#!/usr/bin/env python
"""Stream very many batches from an S3 server through faults, and look for what grows or differs.

A store of small samples is written and uploaded to an S3 server (moto) on loopback, which is read through a proxy that
spoils a share of its answers (server errors, throttling, resets, short, stalled, slow, shifted, flipped and replaced
ones), by several worker processes that share a cache of a tenth of the data. The digest of every epoch is held against
that of the same epoch from the local files. Memory, file handles, threads and shared memory of this process and of each
worker are noted every few batches, and straight lines laid through them, the first tenth left out. Exit status 1 where
an epoch differs, a line rises by more than its limit, or the cache outgrows its own.

Example: scripts/soak_stream.py --batches 100000 --output soak_stream.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

import ups_data
from machine import machine_line
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from ups_data.storage.range_cache import database_bytes
from ups_data.testing.fault_server import forward_to, mixed, serving
from ups_data.testing.s3_server import s3_server, upload

_DESCRIPTION = """
dims: [trajectory, time, x, y]
fields: {u: {file: u.npy}}
axes: {x: {start: 0, stop: 1}, y: {start: 0, stop: 1}}
times: {start: 0, step: 1}
"""
_FRAMES, _SIDE = 17, 32
_TOGETHER = 16
"""Batches that a worker reads at once: one wait for all of them."""
LIMITS = {"memory_mib": 1.0, "handles": 2.0, "threads": 2.0, "shared_mib": 0.1}
"""How much each may rise in 10,000 batches: memory in every process, the others in all of them together."""
CACHE_JOURNAL_BYTES = 10 * 2**20
"""What a cache may take beyond its limit: the journal of its database."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was in use after so many batches; one entry a process where there are several.

    Attributes:
        batches: batches served.
        seconds: since the first one.
        memory_mib: resident memory of this process and of each worker.
        handles: open file descriptors.
        threads: threads.
        shared_mib: resident shared memory.
        cache_mib: size of the cache.
    """

    batches: int
    seconds: float
    memory_mib: tuple[float, ...]
    handles: tuple[int, ...]
    threads: tuple[int, ...]
    shared_mib: tuple[float, ...]
    cache_mib: float


@dataclass(kw_only=True)
class SoakReport:
    """What happened.

    Attributes:
        batches: batches served from afar.
        epochs: whole epochs that were compared.
        data_mib, cache_limit_mib: size of the store and limit of the cache.
        seconds: of streaming.
        p50_ms, p99_ms: times that the caller waited for the batches that are read at once, together.
        requests, faults: that reached the proxy, and those of them that it spoiled.
        read_mib: what workers read from afar.
        rises: growth in 10,000 batches of each quantity, see `LIMITS`.
        samples: what was in use over time.
        wrong: what did not hold.
    """

    batches: int = 0
    epochs: int = 0
    data_mib: float = 0.0
    cache_limit_mib: float = 0.0
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    requests: int = 0
    faults: int = 0
    read_mib: float = 0.0
    rises: dict[str, float] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how hard.

    Attributes:
        batches: batches to serve; whole epochs, so that it may be some more.
        batch_size: samples of a batch.
        trajectories: of 17 frames of 32 x 32 points.
        workers: worker processes.
        share: share of the answers that are spoiled.
        every: batches between two notes of what is in use.
        seed: of fields and faults.
    """

    batches: int
    batch_size: int = 1
    trajectories: int = 160
    workers: int = 4
    share: float = 0.05
    every: int = 500
    seed: int = 0


def main() -> int:
    """Run the soak and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=100_000, help="batches to serve (100,000)")
    parser.add_argument("--batch-size", type=int, default=Plan.batch_size)
    parser.add_argument("--trajectories", type=int, default=Plan.trajectories, help="of 17 frames of 32 x 32 points")
    parser.add_argument("--workers", type=int, default=Plan.workers)
    parser.add_argument("--share", type=float, default=Plan.share, help="share of spoiled answers (0.05)")
    parser.add_argument("--every", type=int, default=Plan.every, help="batches between two notes (500)")
    parser.add_argument("--seed", type=int, default=Plan.seed, help="of fields and faults (0)")
    parser.add_argument("--output", type=Path, help="write everything that was noted, as JSON")
    chosen = vars(parser.parse_args())
    output = chosen.pop("output")
    plan = Plan(**chosen)
    with tempfile.TemporaryDirectory() as folder:
        report = soak(Path(folder), plan)
    report.wrong += find_rises(report)
    print(describe(report))
    if output is not None:
        content = {"machine": machine_line(), "plan": asdict(plan), **asdict(report)}
        output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if report.wrong else 0


def soak(folder: Path, plan: Plan) -> SoakReport:
    """Write the store, serve it from the files and through faults, and compare."""
    root = write_store(folder, plan)
    data_bytes = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    cache = ups_data.CacheOptions(path=folder / "cache", max_bytes=data_bytes // 10)
    report = SoakReport(data_mib=data_bytes / 2**20, cache_limit_mib=cache.max_bytes / 2**20)
    local = build(ups_data.open_store(root), plan)
    expected: list[str] = []
    while len(expected) * len(local) < plan.batches:
        expected.append(digest_epoch(local))
    del local  # and its workers
    with s3_server() as port, proxy_of(port, plan) as (endpoint, counts):
        url = upload(port, root, "soak")
        # Faults come at once, a busy machine answers late: only what stalls shall meet the timeout.
        remote = ups_data.RemoteOptions(
            endpoint=endpoint, region="us-east-1", allow_http=True, timeout_s=10.0, free_gap_bytes=2**17
        )
        os.environ.setdefault("AWS_ACCESS_KEY_ID", "soak")
        os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "soak")
        loader = build(ups_data.open_store(url, remote=remote, cache=cache), plan)
        watch = Watch(report, Path(cache.path), every=plan.every)
        for epoch, digest in enumerate(expected):
            if digest_epoch(loader, watch) != digest:
                report.wrong.append(f"epoch {epoch} differs from that of the local files")
            report.epochs += 1
        stats = loader.stats()
        report.read_mib = stats.read_bytes / 2**20
        del loader
        counts.send(None)
        report.requests, report.faults = counts.recv()
    watch.finish()
    return report


def write_store(folder: Path, plan: Plan) -> Path:
    """Convert waves with noise."""
    random = np.random.default_rng(plan.seed)
    x = np.linspace(0, 2 * np.pi, _SIDE)
    waves = np.sin(random.integers(1, 5, size=(plan.trajectories, _FRAMES, 1, 1)) * x[:, None] + np.cos(x))
    np.save(folder / "u.npy", (waves + 0.01 * random.standard_normal(waves.shape)).astype(np.float32))
    (folder / "waves.yaml").write_text(_DESCRIPTION, encoding="utf-8")
    settings = ConvertSettings(splits={"train": 1.0}, page_points=32, num_strata=2, shard_mib=1)
    convert(open_source([folder / "waves.yaml"]), folder / "store", settings)
    return folder / "store"


def build(store: ups_data.Store, plan: Plan) -> ups_data.QueryLoader:
    """Return a loader whose order needs few blocks at a time, as a cache likes it."""
    dataset = ups_data.QueryDataset(store, sampler=ups_data.ImportanceSampler(0.1), seed=plan.seed)
    shuffle = ups_data.BlockShuffle(block=_FRAMES - 1, mixed=2)
    return ups_data.build_loader(
        dataset,
        batch_size=plan.batch_size,
        shuffle=shuffle,
        read_together=_TOGETHER,
        num_workers=plan.workers,
        multiprocessing_context="spawn" if plan.workers else None,
        timeout=120 if plan.workers else 0,
    )


def digest_epoch(loader: ups_data.QueryLoader, watch: Watch | None = None) -> str:
    """Serve an epoch and return a digest of all of its batches."""
    digest = hashlib.sha256()
    asked = time.perf_counter()
    for batch in loader:
        waited = time.perf_counter() - asked
        digest.update(batch.buffer.numpy().tobytes())
        if watch is not None:
            watch.note(waited)
        asked = time.perf_counter()
    return digest.hexdigest()


class Watch:
    """Notes what is in use while batches are served.

    Args:
        report: what to note it in.
        cache: directory of the cache.
        every: batches between two notes.
    """

    def __init__(self, report: SoakReport, cache: Path, *, every: int) -> None:
        self._report, self._cache, self._every = report, cache, every
        self._waits: list[float] = []
        self._began = time.perf_counter()

    def note(self, waited: float) -> None:
        """Count a batch that was waited for."""
        self._waits.append(waited)
        self._report.batches += 1
        if self._report.batches % self._every == 0:
            self._report.samples.append(self._look())

    def finish(self) -> None:
        """Sum up."""
        report = self._report
        report.seconds = time.perf_counter() - self._began
        whole = len(self._waits) // _TOGETHER * _TOGETHER
        together = np.array(self._waits[:whole]).reshape(-1, _TOGETHER).sum(axis=1)
        p50, p99 = np.quantile(together, [0.5, 0.99]).tolist()
        report.p50_ms, report.p99_ms = 1e3 * p50, 1e3 * p99

    def _look(self) -> Sample:
        workers = sorted(child.pid or 0 for child in multiprocessing.active_children() if child.name != _PROXY)
        found = [use_of(process) for process in (os.getpid(), *workers)]
        memory, shared, threads, handles = zip(*found, strict=True)
        return Sample(
            batches=self._report.batches,
            seconds=round(time.perf_counter() - self._began, 1),
            memory_mib=memory,
            handles=handles,
            threads=threads,
            shared_mib=shared,
            cache_mib=database_bytes(self._cache) / 2**20,
        )


def use_of(process: int) -> tuple[float, float, int, int]:
    """Return MiB of private and of shared resident memory, threads and file descriptors of a process."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    told = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value.split()}
    shared = int(told["RssShmem"]) / 1024
    handles = len(list(Path(f"/proc/{process}/fd").iterdir()))
    return int(told["VmRSS"]) / 1024 - shared, shared, int(told["Threads"]), handles


def find_rises(report: SoakReport) -> list[str]:
    """Lay lines through what was in use; return what rises by more than its limit."""
    settled = [sample for sample in report.samples if sample.batches > report.batches // 10]
    batches = [sample.batches for sample in settled]
    if len(batches) < 3:
        return ["too few notes to tell whether anything grows"]
    memory = np.array([sample.memory_mib for sample in settled])
    report.rises = {
        "memory_mib": max(rise(batches, column) for column in memory.T),
        "handles": rise(batches, [sum(sample.handles) for sample in settled]),
        "threads": rise(batches, [sum(sample.threads) for sample in settled]),
        "shared_mib": rise(batches, [sum(sample.shared_mib) for sample in settled]),
    }
    wrong = [
        f"{name} rises by {found:.2f} in 10,000 batches, more than {LIMITS[name]:g}"
        for name, found in report.rises.items()
        if found > LIMITS[name]
    ]
    largest = max(sample.cache_mib for sample in report.samples)
    most = report.cache_limit_mib + CACHE_JOURNAL_BYTES / 2**20
    return wrong + ([f"the cache grew to {largest:.1f} MiB, more than {most:.1f}"] if largest > most else [])


def rise(batches: Sequence[int], values: Sequence[float]) -> float:
    """Return by how much a straight line through the values rises in 10,000 batches."""
    return float(np.polyfit(np.array(batches) / 1e4, values, 1)[0])


def describe(report: SoakReport) -> str:
    """Return what happened, for people."""
    waits = f"waited for {_TOGETHER} batches: {report.p50_ms:.1f} ms in the median, {report.p99_ms:.1f} ms at 99 %"
    lines = [
        f"machine: {machine_line()}",
        f"{report.batches:,} batches, {report.epochs} epochs in {report.seconds:.0f} s from {report.data_mib:.1f} MiB",
        waits,
        f"{report.requests:,} requests, {report.faults:,} of them spoiled, {report.read_mib:,.0f} MiB read",
    ]
    for name in ("memory_mib", "handles", "threads", "shared_mib"):
        first, last = (getattr(report.samples[place], name) for place in (len(report.samples) // 10, -1))
        told = ", ".join(f"{a:.4g} to {b:.4g}" for a, b in zip(first, last, strict=True))
        lines.append(f"{name}: {told} (this process, then workers); in 10,000 batches {report.rises[name]:+.3f}")
    sizes = [sample.cache_mib for sample in report.samples]
    lines.append(f"cache: {max(sizes):.1f} MiB at most, its limit {report.cache_limit_mib:.1f} and a journal")
    return "\n".join([*lines, *(f"WRONG: {fault}" for fault in report.wrong)])


_PROXY = "fault proxy"


@contextmanager
def proxy_of(port: int, plan: Plan) -> Iterator[tuple[str, Connection]]:
    """Run the proxy in a process of its own; yield its address, and where it tells its counts when it is asked."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve_faults, args=(port, plan, there), name=_PROXY, daemon=True)
    process.start()
    try:
        yield here.recv(), here
    finally:
        process.terminate()
        process.join()
        here.close()
        there.close()


def serve_faults(port: int, plan: Plan, pipe: Connection) -> None:
    """Spoil a share of the answers of the server at a port, until the counts are asked for."""
    with serving(forward_to(port)) as server:
        server.plan = mixed(plan.share, seed=plan.seed)
        pipe.send(server.url)
        pipe.recv()
        pipe.send((len(server.log.requests), server.log.num_faults))


if __name__ == "__main__":
    sys.exit(main())
