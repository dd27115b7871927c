#!/usr/bin/env python
"""Measure what a conversion takes, against points, frames, trajectories, channels: memory at its peak, and time.

Each size is a cube of nodes, or with `--geometry cloud` points scattered in a cube, denser towards a corner; frames of
float32 with a moving front, converted with the defaults by a process of its own, whose largest resident size the kernel
tells. Exit status 1 where a conversion takes more than --limit-gib. A cube of 10^8 points and two frames takes about 4
GB of disk and some minutes, a cloud 21 GB and half an hour.

Example: scripts/study_memory.py --points 1e6 1e7 1e8
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rich.console
import rich.table

from machine import machine_line
from preprocess.convert import convert
from preprocess.memory import largest_resident_bytes
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source

PART_POINTS = 2**20
DESCRIPTIONS = {
    "grid": """
dims: [trajectory, time, component, x, y, z]
fields: {u: {file: u.npy, components: COMPONENTS}}
axes: {x: {start: 0, stop: 1}, y: {start: 0, stop: 1}, z: {start: 0, stop: 1}}
times: {start: 0, step: 1}
""",
    "cloud": """
kind: points
dims: [trajectory, time, component, point]
fields: {u: {file: u.npy, components: COMPONENTS}}
axes: {x: {}, y: {}, z: {}}
coordinates: {file: points.npy}
times: {start: 0, step: 1}
""",
}


def main() -> int:
    """Measure all sizes and print the table."""
    arguments = parse_arguments()
    if arguments.child is not None:
        return convert_here(arguments.child)
    console = rich.console.Console(width=None if sys.stdout.isatty() else 120)
    sizes = (
        f"{arguments.trajectories} trajectories of {arguments.frames} frames, {arguments.channels} channels, "
        f"{arguments.geometry}"
    )
    table = rich.table.Table(title=f"Converting {sizes}; {machine_line()}")
    for name in ("points", "source MB", "peak MiB", "bytes a point", "seconds"):
        table.add_column(name, justify="right")
    held = True
    for points in arguments.points:
        nodes = round(points ** (1 / 3))
        count = nodes**3 if arguments.geometry == "grid" else round(points)
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            if arguments.geometry == "grid":
                write_cubes(Path(folder), nodes, arguments.frames, arguments.trajectories, arguments.channels)
            else:
                write_clouds(Path(folder), count, arguments.frames, arguments.trajectories, arguments.channels)
            command = [sys.executable, __file__, "--child", folder]
            peak, seconds = map(float, subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split())
        held &= peak <= arguments.limit_gib * 2**30
        size = count * 4 * arguments.frames * arguments.trajectories * arguments.channels
        row = (
            f"{count:,}",
            f"{size / 1e6:,.0f}",
            f"{peak / 2**20:,.0f}",
            f"{peak / count:.1f}",
            f"{seconds:.1f}",
        )
        table.add_row(*row)
    console.print(table)
    console.print(f"within {arguments.limit_gib:g} GiB: {'held' if held else 'not held'}")
    return 0 if held else 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=float, nargs="+", default=[1e5, 1e6, 1e7], help="sizes (1e5 1e6 1e7)")
    parser.add_argument("--geometry", choices=tuple(DESCRIPTIONS), default="grid", help="where points lie (grid)")
    parser.add_argument("--frames", type=int, default=2, help="frames of a trajectory (2)")
    parser.add_argument("--trajectories", type=int, default=1, help="how many there are (1)")
    parser.add_argument("--channels", type=int, default=1, help="of a frame (1)")
    parser.add_argument("--limit-gib", type=float, default=4.0, help="largest peak that is allowed (4)")
    parser.add_argument("--folder", type=Path, help="where to work (the system's folder for temporary files)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def write_cubes(folder: Path, nodes: int, num_frames: int, num_trajectories: int, num_channels: int) -> None:
    """Write waves with a front that moves, plane by plane, and their description."""
    shape = (num_trajectories, num_frames, num_channels, nodes, nodes, nodes)
    values = np.lib.format.open_memmap(folder / "u.npy", mode="w+", dtype="float32", shape=shape)
    x = np.linspace(0, 1, nodes, dtype="float32")
    for trajectory, frame, channel in np.ndindex(shape[:3]):
        for plane, z in enumerate(x):
            values[trajectory, frame, channel, plane] = wave(x[:, None], x, z, trajectory, frame + channel)
    values.flush()
    write_description(folder, "grid", num_channels)


def write_clouds(folder: Path, num_points: int, num_frames: int, num_trajectories: int, num_channels: int) -> None:
    """Write the same at scattered points, the same ones for all trajectories, part by part."""
    random = np.random.default_rng(0)
    points = np.lib.format.open_memmap(folder / "points.npy", mode="w+", dtype="float32", shape=(num_points, 3))
    shape = (num_trajectories, num_frames, num_channels, num_points)
    values = np.lib.format.open_memmap(folder / "u.npy", mode="w+", dtype="float32", shape=shape)
    for start in range(0, num_points, PART_POINTS):
        part = slice(start, start + PART_POINTS)
        points[part] = random.random(points[part].shape, dtype="float32") ** 2
        for trajectory, frame, channel in np.ndindex(shape[:3]):
            x, y, z = points[part].T
            values[trajectory, frame, channel, part] = wave(x, y, z, trajectory, frame + channel)
    points.flush()
    values.flush()
    write_description(folder, "cloud", num_channels)


def write_description(folder: Path, geometry: str, num_channels: int) -> None:
    """Describe what was written."""
    names = ", ".join(f"u{number}" for number in range(num_channels))
    text = DESCRIPTIONS[geometry].replace("COMPONENTS", f"[{names}]")
    (folder / "case.yaml").write_text(text, encoding="utf-8")


def wave(x: np.ndarray, y: np.ndarray, z: np.ndarray | float, trajectory: int, frame: int) -> np.ndarray:
    """Return waves along y with a spherical front that moves."""
    radius = np.sqrt((x - 0.5) ** 2 + (y - 0.5) ** 2 + (z - 0.5) ** 2)
    front: np.ndarray = np.tanh(40 * (radius - 0.3 - 0.02 * frame))
    return front + 0.1 * np.sin((9 + trajectory) * y)


def convert_here(folder: Path) -> int:
    """Convert, and print the largest resident size in bytes and the seconds."""
    started = time.perf_counter()
    convert(open_source([folder / "case.yaml"]), folder / "store", ConvertSettings(splits={"train": 1.0}))
    print(largest_resident_bytes(), time.perf_counter() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
