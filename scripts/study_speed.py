#!/usr/bin/env python
"""Measure how fast a conversion is, beside a plain dense re-chunk by zarr-python: MB of source a second, one core.

The same trajectories (2-D, 256 x 256 nodes, float32, smooth waves with fronts and noise) are converted with the
defaults (importance maps, pages and dense frames, statistics, checksums, hashes, every file synced), and copied by
zarr-python to one sharded array with the same codec and CRC32C. In turns, medians; the plain copy is synced to disk
too. The copy of the bytes alone, by a read and a synced write, is the limit that the machine sets.

Example: scripts/study_speed.py --rounds 5
"""

from __future__ import annotations

import argparse
import os
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
DESCRIPTION = """
dims: [trajectory, time, x, y]
fields: {u: {file: u.npy}}
axes: {x: {start: 0, stop: 1, periodic: true}, y: {start: 0, stop: 1, periodic: true}}
times: {start: 0, step: 1}
"""


def main() -> int:
    """Measure in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.rounds)
    size = np.prod(SHAPE) * 4 / 1e6
    title = f"{size:.0f} MB of source, MB/s, medians of {arguments.rounds}; {machine_line()}"
    table = rich.table.Table(title=title)
    for name in ("codec", "bytes alone", "plain re-chunk", "conversion", "times slower than the re-chunk"):
        table.add_column(name, justify="right")
    for codec in ("none", "zstd", "blosc-lz4"):
        copied, plain, ours = (found[kind, codec] for kind in ("copy", "plain", "ours"))
        table.add_row(codec, *(f"{size / seconds:.0f}" for seconds in (copied, plain, ours)), f"{ours / plain:.2f}")
    rich.console.Console(width=None if sys.stdout.isatty() else 130).print(table)
    return 0


def measure(folder: Path, rounds: int) -> dict[tuple[str, str], float]:
    """Return median seconds by kind and codec."""
    write_source(folder)
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for codec in ("none", "zstd", "blosc-lz4"):
            for kind, run in {"copy": copy_bytes, "plain": rechunk, "ours": convert_source}.items():
                seconds.setdefault((kind, codec), []).append(timed(run, folder, codec))
    return {key: statistics.median(values) for key, values in seconds.items()}


def timed(run: Callable[[Path, Any], None], folder: Path, codec: str) -> float:
    """Return the seconds that one run takes into an empty place."""
    for place in ("copy", "plain", "ours", ".ours.partial"):
        shutil.rmtree(folder / place, ignore_errors=True)
    os.sync()
    started = time.perf_counter()
    run(folder, codec)
    return time.perf_counter() - started


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
