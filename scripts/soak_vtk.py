#!/usr/bin/env python
"""Change random bytes of sound files of VTK, and read each as a conversion does: a typed error, or a valid mesh.

Files of every kind that is read (legacy, XML, compressed or not, text or binary, meshes, surfaces and grids), of a few
hundred bytes to a few thousand, with one to sixteen bytes changed, cut out or put in, by the seed. What VTK makes of
each is checked by making a mesh of it. The crashes that VTK's own reader would have taken this process down with are
counted. Exit status 1 where anything but an error of this project comes out.

Example: scripts/soak_vtk.py --count 20000
"""

from __future__ import annotations

import argparse
import collections
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyvista
import rich.console
import rich.progress
import rich.table

from machine import machine_line
from preprocess.sources import open_source
from ups_data.errors import SourceError, UpsDataError

CONSOLE = rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 120)
KINDS: dict[str, tuple[str, bool]] = {
    "legacy": (".vtk", True),
    "legacy, text": (".vtk", False),
    "XML": (".vtu", True),
    "XML, text": (".vtu", False),
    "surface": (".vtp", True),
    "surface, text": (".vtp", False),
    "grid": (".vts", True),
    "image": (".vti", True),
}
"""Suffix of a kind of file, and whether it is binary."""


def main() -> int:
    """Damage files and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="damaged files (2000)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes, seconds = soak(Path(folder), count=arguments.count, seed=arguments.seed)
    table = rich.table.Table(
        title=f"{arguments.count} damaged files of VTK, slowest {seconds:.1f} s. {machine_line()}", title_justify="left"
    )
    columns = sorted({outcome for _, outcome in outcomes})
    for column in ("file", *columns):
        table.add_column(column)
    for kind in KINDS:
        table.add_row(kind, *(str(outcomes[kind, column]) for column in columns))
    CONSOLE.print(table)
    return 0


def soak(folder: Path, *, count: int, seed: int) -> tuple[collections.Counter[tuple[str, str]], float]:
    """Read `count` damaged files.

    Returns:
        How often what came of which kind, and the seconds that the slowest took.

    Raises:
        Exception: anything that is no error of this project, as it was.
    """
    sound = {kind: write_sound(folder, kind) for kind in KINDS}
    for suffix in {suffix for suffix, _ in KINDS.values()}:
        assert read(folder / f"sound{suffix}") == "read"
    random = np.random.default_rng(seed)
    outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
    slowest = 0.0
    progress = rich.progress.Progress(console=CONSOLE, disable=not sys.stdout.isatty())
    with progress:
        for number in progress.track(range(count), description="damaged files"):
            kind = list(KINDS)[number % len(KINDS)]
            path = folder / f"damaged{KINDS[kind][0]}"
            path.write_bytes(damage(sound[kind], random))
            started = time.perf_counter()
            outcomes[kind, read(path)] += 1
            slowest = max(slowest, time.perf_counter() - started)
    return outcomes, slowest


def read(path: Path) -> str:
    """Read a file whole; return `read`, `refused`, or how VTK's reader ended.

    Raises:
        AssertionError: an error that does not name the file.
    """
    try:
        source = open_source([path], "vtk", {"location": "nodes"})
        frame = source.read_frames(0, 0, 1)
        if frame.shape[2:] != source.trajectories[0].shape or len(source.read_coordinates(0)[0]) != frame.shape[2]:
            raise SourceError(f"{path} gives {frame.shape} values on {source.trajectories[0].shape} points")
        source.read_measures(0)
        source.read_mesh(0)
    except UpsDataError as error:
        message = str(error)
        assert path.stem in message, message
        crash = re.search(r"crashed on it \((SIG\w+)", message)
        if crash:
            return crash[1]
        return "hung" if "come to an end" in message else "killed" if "was killed" in message else "refused"
    return "read"


def damage(content: bytes, random: np.random.Generator) -> bytes:
    """Change bytes, or cut some out, or put some in."""
    changed = bytearray(content)
    for _ in range(int(random.integers(1, 17))):
        place = int(random.integers(len(changed)))
        way = int(random.integers(10))
        if way == 0:
            del changed[place : place + int(random.integers(1, 9))]
        elif way == 1:
            changed[place:place] = random.bytes(int(random.integers(1, 9)))
        elif way == 2:
            # One digit for another: what a parser takes.
            changed[place] = int(random.integers(48, 58))
        else:
            changed[place] = int(random.integers(256))
    return bytes(changed)


def write_sound(folder: Path, kind: str) -> bytes:
    """Return the bytes of a sound file of a kind."""
    suffix, binary = KINDS[kind]
    nodes = np.array([[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0], [4, 0.5, 0]], dtype=np.float32)
    mesh: Any = pyvista.UnstructuredGrid({9: np.array([[0, 1, 2, 3]]), 5: np.array([[1, 4, 2]])}, nodes)
    makers: dict[str, Callable[[], Any]] = {
        ".vtp": lambda: mesh.extract_surface(algorithm="geometry", pass_cellid=False, pass_pointid=False),
        ".vts": lambda: pyvista.ImageData(dimensions=(4, 3, 2)).cast_to_structured_grid(),
        ".vti": lambda: pyvista.ImageData(dimensions=(4, 3, 2)),
    }
    grid = makers.get(suffix, lambda: mesh)()
    random = np.random.default_rng(0)
    grid.point_data["p"] = random.normal(size=grid.n_points).astype(np.float32)
    grid.point_data["U"] = random.normal(size=(grid.n_points, 3))
    grid.field_data["TimeValue"] = np.array([0.5])
    path = folder / f"sound{suffix}"
    grid.save(path, binary=binary)
    return path.read_bytes()


if __name__ == "__main__":
    sys.exit(main())
