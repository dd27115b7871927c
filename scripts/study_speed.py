#!/usr/bin/env python
"""Measure how fast a conversion is, beside a plain dense re-chunk by zarr-python: MB of source a second, one core.

The same trajectories (2-D, 256 x 256 nodes, float32, smooth waves with fronts and noise) are converted with the
defaults (importance maps, pages and dense frames, statistics, checksums, hashes, every file synced), and copied by
zarr-python to one sharded array with the same codec and CRC32C: without hashes, importance or pages, synced to disk
too. In turns, medians of speeds and of the ratios of each turn, by the clock and by the processor's time, which other
work on the machine slows less. The copy of the bytes alone, by a read and a synced write, is the limit that the
machine sets. Then one more conversion with the codec `none` under a profiler, to tell what its time goes to.

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
from typing import Any, Literal

import numpy as np
import rich.console
import rich.table
import zarr

from machine import machine_line
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from ups_data.schema import CodecName

NUM_FRAMES, NODES = 20, 256
SHARD_BYTES = 2**25
CODECS: tuple[CodecName, ...] = ("none", "zstd", "blosc-lz4")
DESCRIPTION = """
dims: [trajectory, time, component, x, y]
fields: {u: {file: u.npy, components: COMPONENTS}}
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
    parser.add_argument("--trajectories", type=int, default=16, help="of 20 frames (16)")
    parser.add_argument("--channels", type=int, default=1, help="of a frame (1)")
    parser.add_argument("--dense", choices=("stored", "rebuilt"), default="stored", help="keep dense frames (stored)")
    arguments = parser.parse_args()
    console = rich.console.Console(width=None if sys.stdout.isatty() else 130)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_source(folder, arguments.trajectories, arguments.channels)

        def ours(folder: Path, codec: CodecName) -> None:
            convert_source(folder, codec, arguments.dense)

        found = measure(folder, arguments.rounds, {"copy": copy_bytes, "plain": rechunk, "ours": ours})
        size = (folder / "u.npy").stat().st_size / 1e6
        console.print(
            f"{size:.0f} MB of source, {arguments.channels} channels, dense frames {arguments.dense}, medians of "
            f"{arguments.rounds}; {machine_line()}"
        )
        for title, number in (("MB/s by the clock", 0), ("MB/s of processor time", 1)):
            seconds = {key: [pair[number] for pair in pairs] for key, pairs in found.items()}
            console.print(tabulate(title, seconds, size))
        console.print(break_down(folder, lambda: ours(folder, "none")))
    return 0


def tabulate(title: str, seconds: dict[tuple[str, str], list[float]], size: float) -> rich.table.Table:
    """Return a table of speeds."""
    table = rich.table.Table(title=title, title_justify="left")
    for name in ("codec", "bytes alone", "plain re-chunk", "conversion", "times slower than the re-chunk"):
        table.add_column(name, justify="right")
    for codec in CODECS:
        speeds = [f"{size / statistics.median(seconds[kind, codec]):.0f}" for kind in ("copy", "plain", "ours")]
        ratios = [a / b for a, b in zip(seconds["ours", codec], seconds["plain", codec], strict=True)]
        table.add_row(codec, *speeds, f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return table


def measure(
    folder: Path, rounds: int, runs: dict[str, Callable[[Path, CodecName], None]]
) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Return seconds, of the clock and of the processor, of each round, by kind and codec."""
    spent: dict[tuple[str, str], list[tuple[float, float]]] = {}
    # Round 0 imports what is needed, and is not counted.
    for number in range(rounds + 1):
        for codec in CODECS:
            for kind, run in runs.items():
                seconds = timed(run, folder, codec)
                if number:
                    spent.setdefault((kind, codec), []).append(seconds)
    return spent


def timed(run: Callable[[Path, CodecName], None], folder: Path, codec: CodecName) -> tuple[float, float]:
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


def break_down(folder: Path, run: Callable[[], None]) -> rich.table.Table:
    """Convert once more under a profiler, and tell what the time goes to."""
    clear(folder)
    profile = cProfile.Profile()
    profile.runcall(run)
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
        title=f"codec none, by the clock under a profiler: {stored:.0f} MB written and hashed", title_justify="left"
    )
    table.add_column("what")
    table.add_column("s", justify="right")
    table.add_column("%", justify="right")
    for stage, spent in {**seconds, "the rest": total - sum(seconds.values())}.items():
        table.add_row(stage, f"{spent:.3f}", f"{100 * spent / total:.0f}")
    return table


def write_source(folder: Path, num_trajectories: int, num_channels: int) -> None:
    """Write waves with fronts and noise, and their description."""
    random = np.random.default_rng(0)
    x = np.linspace(0, 2 * np.pi, NODES, endpoint=False)
    shape = (num_trajectories, NUM_FRAMES, num_channels, NODES, NODES)
    values = np.lib.format.open_memmap(folder / "u.npy", mode="w+", dtype="float32", shape=shape)
    for channels in values.swapaxes(1, 2):
        for frames in channels:
            waves, sizes = random.integers(1, 8, size=(6, 2)), random.normal(size=6)
            for number, frame in enumerate(frames):
                phases = [k[0] * x[:, None] + k[1] * x + 0.1 * number for k in waves]
                smooth = sum(size * np.sin(phase) for size, phase in zip(sizes, phases, strict=True))
                frame[...] = np.tanh(5 * smooth) + 0.01 * random.standard_normal(frame.shape)
    values.flush()
    names = ", ".join(f"u{number}" for number in range(num_channels))
    (folder / "waves.yaml").write_text(DESCRIPTION.replace("COMPONENTS", f"[{names}]"), encoding="utf-8")


def convert_source(folder: Path, codec: CodecName, dense: Literal["stored", "rebuilt"]) -> None:
    """Convert with the defaults."""
    convert(open_source([folder / "waves.yaml"]), folder / "ours", ConvertSettings(codec=codec, dense=dense))


def rechunk(folder: Path, codec: CodecName) -> None:
    """Copy to one array: a channel of a frame an inner chunk, shards as large as a conversion's, CRC32C, synced."""
    codecs: dict[str, list[Any]] = {
        "none": [],
        "zstd": [zarr.codecs.ZstdCodec(level=5)],
        "blosc-lz4": [zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=4)],
    }
    values = np.load(folder / "u.npy", mmap_mode="r")
    values = values.reshape(-1, *values.shape[2:])
    frames_per_shard = max(1, SHARD_BYTES // values[0].nbytes)
    array = zarr.create_array(
        folder / "plain",
        shape=values.shape,
        chunks=(1, 1, *values.shape[2:]),
        shards=(frames_per_shard, *values.shape[1:]),
        dtype="float32",
        filters=None,
        compressors=[*codecs[codec], zarr.codecs.Crc32cCodec()],
    )
    for start in range(0, len(values), frames_per_shard):
        array[start : start + frames_per_shard] = values[start : start + frames_per_shard]
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
