#!/usr/bin/env python
"""Measure how fast a conversion is, beside a plain dense re-chunk by zarr-python: MB of source a second, one core.

The same trajectories (2-D, 256 x 256 nodes, float32, smooth waves with fronts and noise) are converted with the
defaults (importance maps, pages and dense frames, statistics, checksums, hashes, every file synced), and copied by
zarr-python to one sharded array with the same codec and CRC32C: without hashes, importance or pages, synced to disk
too. In turns, medians, by the clock and by the processor's time, which other work on the machine slows less. The copy
of the bytes alone, by a read and a synced write, is the limit that the machine sets. Then one more conversion with
the codec `none` under a profiler, to tell what its time goes to.

Example: taskset -c 0 scripts/study_speed.py --rounds 5
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rich.console
import rich.table
import zarr

from machine import machine_line
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from ups_data.schema import CodecName

SHAPE = (16, 20, 256, 256)
FRAMES_PER_SHARD = 128
CODECS: tuple[CodecName, ...] = ("none", "zstd", "blosc-lz4")
DESCRIPTION = """
dims: [trajectory, time, x, y]
fields: {u: {file: u.npy}}
axes: {x: {start: 0, stop: 1, periodic: true}, y: {start: 0, stop: 1, periodic: true}}
times: {start: 0, step: 1}
"""
# What a conversion does, by the functions in which it does nothing else.
STAGES = {
    "reading the source": ("FrameReader._read",),
    "checking values": ("FrameReader._refuse_bad_values",),
    "importance maps": ("ImportanceMap.update", "ImportanceMap.result"),
    "statistics": ("FieldStatistics.update",),
    "order and dealing": ("grid_order", "build_pages"),
    "gathering pages": ("_Gatherer.gather",),
    "CRC32C of rows": ("ChunkCodec.seal", "ChunkCodec.encode_parts"),
    "SHA-256": ("'update", "openssl_sha256"),
    "writing": ("'write",),
    "syncing": ("fsync", "posix_fadvise"),
}


def main() -> int:
    """Measure in turns and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (5)")
    arguments = parser.parse_args()
    console = rich.console.Console(width=None if sys.stdout.isatty() else 130)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_source(folder)
        found = measure(folder, arguments.rounds)
        size = np.prod(SHAPE) * 4 / 1e6
        console.print(f"{size:.0f} MB of source, medians of {arguments.rounds}; {machine_line()}")
        for title, number in (("MB/s by the clock", 0), ("MB/s of processor time", 1)):
            console.print(tabulate(title, {key: size / pair[number] for key, pair in found.items()}))
        console.print(break_down(folder, size))
    return 0


def tabulate(title: str, speed: dict[tuple[str, str], float]) -> rich.table.Table:
    """Return a table of speeds."""
    table = rich.table.Table(title=title, title_justify="left")
    for name in ("codec", "bytes alone", "plain re-chunk", "conversion", "times slower than the re-chunk"):
        table.add_column(name, justify="right")
    for codec in CODECS:
        kinds = [speed[kind, codec] for kind in ("copy", "plain", "ours")]
        table.add_row(codec, *(f"{value:.0f}" for value in kinds), f"{kinds[1] / kinds[2]:.2f}")
    return table


def measure(folder: Path, rounds: int) -> dict[tuple[str, str], tuple[float, float]]:
    """Return median seconds, of the clock and of the processor, by kind and codec."""
    spent: dict[tuple[str, str], list[tuple[float, float]]] = {}
    runs: dict[str, Callable[[Path, Any], None]] = {"copy": copy_bytes, "plain": rechunk, "ours": convert_source}
    # Round 0 imports what is needed, and is not counted.
    for number in range(rounds + 1):
        for codec in CODECS:
            for kind, run in runs.items():
                seconds = timed(run, folder, codec)
                if number:
                    spent.setdefault((kind, codec), []).append(seconds)
    return {
        key: (statistics.median(clock for clock, _ in pairs), statistics.median(cpu for _, cpu in pairs))
        for key, pairs in spent.items()
    }


def timed(run: Callable[[Path, Any], None], folder: Path, codec: str) -> tuple[float, float]:
    """Return the seconds, of the clock and of the processor, that one run takes into an empty place."""
    clear(folder)
    clock, cpu = time.perf_counter(), time.process_time()
    run(folder, codec)
    return time.perf_counter() - clock, time.process_time() - cpu


def clear(folder: Path) -> None:
    """Remove what runs left, and wait for the disk."""
    for place in ("copy", "plain", "ours", ".ours.partial"):
        shutil.rmtree(folder / place, ignore_errors=True)
    os.sync()


def break_down(folder: Path, size: float) -> rich.table.Table:
    """Convert once more under a profiler, and tell what the time goes to."""
    clear(folder)
    profile = cProfile.Profile()
    profile.runcall(convert_source, folder, "none")
    found = pstats.Stats(profile).get_stats_profile()
    seconds = dict.fromkeys(STAGES, 0.0)
    for entry in profile.getstats():
        name = entry.code if isinstance(entry.code, str) else entry.code.co_qualname
        for stage, functions in STAGES.items():
            if any(name.strip("<>").split(" of ")[0].strip("'").endswith(function) for function in functions):
                seconds[stage] += entry.totaltime
    total = found.total_tt
    stored = sum(path.stat().st_size for path in (folder / "ours").rglob("*") if path.is_file()) / 1e6
    table = rich.table.Table(
        title=f"codec none, by the clock under a profiler: {size:.0f} MB read, {stored:.0f} MB written and hashed",
        title_justify="left",
    )
    table.add_column("what")
    table.add_column("s", justify="right")
    table.add_column("%", justify="right")
    for stage, spent in {**seconds, "the rest": total - sum(seconds.values())}.items():
        table.add_row(stage, f"{spent:.3f}", f"{100 * spent / total:.0f}")
    return table


def write_source(folder: Path) -> None:
    """Write waves with fronts and noise, and their description."""
    random = np.random.default_rng(0)
    x = np.linspace(0, 2 * np.pi, SHAPE[2], endpoint=False)
    values = np.empty(SHAPE, dtype="float32")
    for trajectory in values:
        waves, sizes = random.integers(1, 8, size=(6, 2)), random.normal(size=6)
        for number, frame in enumerate(trajectory):
            parts = [s * np.sin(k[0] * x[:, None] + k[1] * x + 0.1 * number) for s, k in zip(sizes, waves, strict=True)]
            frame[...] = np.tanh(5 * sum(parts)) + 0.01 * random.standard_normal(frame.shape)
    np.save(folder / "u.npy", values)
    (folder / "waves.yaml").write_text(DESCRIPTION, encoding="utf-8")


def convert_source(folder: Path, codec: CodecName) -> None:
    """Convert with the defaults."""
    convert(open_source([folder / "waves.yaml"]), folder / "ours", ConvertSettings(codec=codec))


def rechunk(folder: Path, codec: CodecName) -> None:
    """Copy to one array: a frame an inner chunk, shards of as many bytes as a conversion's, CRC32C, synced."""
    codecs: dict[str, list[Any]] = {
        "none": [],
        "zstd": [zarr.codecs.ZstdCodec(level=5)],
        "blosc-lz4": [zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=4)],
    }
    values = np.load(folder / "u.npy", mmap_mode="r").reshape(-1, *SHAPE[2:])
    array = zarr.create_array(
        folder / "plain",
        shape=values.shape,
        chunks=(1, *SHAPE[2:]),
        shards=(FRAMES_PER_SHARD, *SHAPE[2:]),
        dtype="float32",
        filters=None,
        compressors=[*codecs[codec], zarr.codecs.Crc32cCodec()],
    )
    for start in range(0, len(values), FRAMES_PER_SHARD):
        array[start : start + FRAMES_PER_SHARD] = values[start : start + FRAMES_PER_SHARD]
    sync(folder / "plain")


def copy_bytes(folder: Path, codec: CodecName) -> None:  # noqa: ARG001  the same for all
    """Read the source and write it again, as it is."""
    (folder / "copy").mkdir()
    (folder / "copy" / "u").write_bytes((folder / "u.npy").read_bytes())
    sync(folder / "copy")


def sync(folder: Path) -> None:
    """Sync all files below a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())


if __name__ == "__main__":
    sys.exit(main())
