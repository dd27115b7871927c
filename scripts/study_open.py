#!/usr/bin/env python
"""Measure what opening a store of very many trajectories takes, in time and memory.

A thousand short 1-D trajectories are converted, and what they became is written again and again by the writer of stores
until there are enough. A process of its own then opens the store and draws the first batch; memory is what its largest
resident size grows by over that of the process with everything imported. Exit status 1 where opening takes more
processor time or memory than the limits; on a machine that does nothing else, and once the files were read, processor
time is all of the time.

Example: scripts/study_open.py --trajectories 1000000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

import ups_data
from machine import machine_line
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from ups_data.storage import ZarrStore
from ups_data.storage.tables import TrajectoryTables
from ups_data.storage.writer import StoreWriter, table_files

FIRST = 1000
_SHARD = 50
"""Repetitions that share a shard."""

_DESCRIPTION = """
dims: [trajectory, time, x]
fields: {u: {file: u.npy}}
axes: {x: {start: 0, stop: 1}}
times: {start: 0, step: 1}
"""
_SHARED = {"geometry_shape", "axis_nodes", "mesh", "mesh_sizes"}
"""Tables that do not grow with the trajectories: all lie on one grid."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What opening took.

    Attributes:
        trajectories: of the store.
        open_seconds: of `open_store`.
        open_cpu_seconds: processor time of it.
        open_mib: growth of memory by it, at its peak.
        batch_seconds: until the first batch was there, the dataset and its loader included.
        batch_mib: growth of memory by all of it, at its peak.
    """

    trajectories: int
    open_seconds: float
    open_cpu_seconds: float
    open_mib: float
    batch_seconds: float
    batch_mib: float


def main() -> int:
    """Write the store, open it a few times, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=10**6, help=f"a multiple of {FIRST} (1,000,000)")
    parser.add_argument("--rounds", type=int, default=5, help="processes that open it (5)")
    parser.add_argument("--limit-seconds", type=float, default=1.0, help="processor time for opening (1)")
    parser.add_argument("--limit-mib", type=float, default=190.7, help="for opening (190.7, which is 200 MB)")
    parser.add_argument("--folder", type=Path, help="where to work (the system's folder for temporary files)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child is not None:
        print(json.dumps(asdict(open_here(chosen.child))))
        return 0
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        began = time.perf_counter()
        root = write_store(Path(folder), chosen.trajectories)
        num_bytes = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        print(f"machine: {machine_line()}")
        print(f"written: {chosen.trajectories:,} trajectories, {num_bytes / 1e6:,.0f} MB, in", end=" ")
        print(f"{time.perf_counter() - began:.0f} s", flush=True)
        found = median([open_apart(root) for _ in range(chosen.rounds)])
    cpu = f"{found.open_cpu_seconds:.2f} s of processor time"
    print(f"open_store: {found.open_seconds:.2f} s, {cpu}, {found.open_mib:.0f} MiB")
    print(f"with dataset, loader and first batch: {found.batch_seconds:.2f} s, {found.batch_mib:.0f} MiB")
    return 0 if found.open_cpu_seconds < chosen.limit_seconds and found.open_mib < chosen.limit_mib else 1


def write_store(folder: Path, trajectories: int) -> Path:
    """Convert the first trajectories, and write them over and over."""
    values = np.random.default_rng(0).standard_normal((FIRST, 2, 8)).astype(np.float32)
    np.save(folder / "u.npy", values)
    (folder / "lines.yaml").write_text(_DESCRIPTION, encoding="utf-8")
    settings = ConvertSettings(page_points=4, num_strata=4, splits={"train": 1.0})
    convert(open_source([folder / "lines.yaml"]), folder / "first", settings)
    first = ZarrStore(folder / "first")
    repeat_store(first, folder / "store", times=trajectories // FIRST)
    return folder / "store"


def repeat_store(store: ZarrStore, dest: Path, *, times: int) -> None:
    """Write the trajectories of a store so many times one after another; statistics are the same, of so many more."""
    manifest = store.manifest
    totals = {name: times * getattr(manifest, name) for name in ("num_trajectories", "num_frames", "num_points")}
    with StoreWriter(dest, overwrite=False) as writer:
        for reader in store.arrays.values():
            entries, *rest = reader.spec.shape
            together = reader.spec.rows_per_shard * min(times, _SHARD)
            array = writer.create_array(replace(reader.spec, shape=(times * entries, *rest), rows_per_shard=together))
            rows = reader.read_rows(np.arange(reader.spec.num_rows))
            for _ in range(times):
                array.append(rows)
            array.close()
        tables = {name: getattr(store.tables, name) for name in TrajectoryTables.names()}
        repeated = {name: repeat_table(name, tables[name], times) for name in tables}
        writer.write_files(table_files(TrajectoryTables(**repeated)))
        splits = {name: times * count for name, count in manifest.splits.items()}
        counted = tuple(one.model_copy(update={"count": times * one.count}) for one in manifest.statistics)
        changed = {**totals, "splits": splits, "statistics": counted, "name": dest.name}
        writer.finish(manifest.model_copy(update=changed))


def repeat_table(name: str, table: Int64[np.ndarray, "..."], times: int) -> Int64[np.ndarray, "..."]:
    """Return a table of so many times the trajectories."""
    return table if name in _SHARED else np.concatenate([table] * times)


def open_apart(root: Path) -> Opened:
    """Open a store in a new process."""
    command = [sys.executable, __file__, "--child", str(root)]
    return Opened(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def open_here(root: Path) -> Opened:
    """Open a store and draw a batch in this process, with everything imported before."""
    sampler, build = ups_data.ImportanceSampler(1.0), ups_data.build_loader
    before = restart_peak()
    began, computed = time.perf_counter(), time.process_time()
    store = ups_data.open_store(root)
    opened, open_cpu, open_peak = time.perf_counter(), time.process_time() - computed, peak_mib()
    next(iter(build(ups_data.QueryDataset(store, sampler=sampler), batch_size=16)))
    return Opened(
        trajectories=len(store),
        open_seconds=opened - began,
        open_cpu_seconds=open_cpu,
        open_mib=open_peak - before,
        batch_seconds=time.perf_counter() - began,
        batch_mib=peak_mib() - before,
    )


def restart_peak() -> float:
    """Let the kernel count the largest resident size from here on; return it."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_mib()


def peak_mib() -> float:
    """Return the largest resident size of this process in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def median(found: list[Opened]) -> Opened:
    """Return the median of each figure."""
    names = [field.name for field in fields(Opened)]
    return Opened(
        **{name: type(getattr(found[0], name))(np.median([getattr(one, name) for one in found])) for name in names}
    )


if __name__ == "__main__":
    sys.exit(main())
