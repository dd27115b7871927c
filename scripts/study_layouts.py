#!/usr/bin/env python
"""Find out which layout is worth most on which field: exact variances of draws, nothing is drawn at random.

Fields: turbulence (512 x 512 and 256 x 256) and shocks in 2-D, shocks in 1-D and 3-D, a 2-D and a 3-D cloud, reaction
and diffusion on a closed surface, and with `--winds` monthly winds over the globe. Each is converted with several
layouts (importance metric, exponent, frames that share a map, strata, points that share a stratum). For target frames
t, drawn from the block of frames that t lies in, two integrands are held against uniform random points:

* loss: (u(t) - u(t - 1))^2 over its mean, added up over channels: the loss of a model that predicts no change;
* gradient: of the mean squared error of a small decoder at its optimum, u(t) fitted by the lowest Fourier modes; the
  variances of all its derivatives are added up.

A multiplier is variance of uniform points / variance of the draw, at the same mean number of points; the table has its
geometric mean over frames and, in brackets, the least one. Beside our draws stand two that read points one by one:
independent draws with 1/p weights, p from the same map, and random points in equal blocks of a grid. Pages of shuffled
points are uniform draws without replacement: their multiplier is 1.

Example: scripts/study_layouts.py --output study_layouts.json --winds FOLDER/monthly_navy_winds.cdf
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvista
import rich.console
import rich.table
import yaml

from machine import machine_line
from preprocess.convert import convert
from preprocess.prove.integrands import choose_evenly
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.base import Source
from preprocess.sources.generated import GenerateSettings, generate
from ups_data.pages import draw_variances, uniform_variance
from ups_data.samplers import BalancedSampler, DrawKey, ImportanceSampler, PageSampler
from ups_data.schema import ImportanceSpec
from ups_data.storage import Store, open_store

RECIPES: dict[str, dict[str, Any]] = {
    "turbulence": {"resolution": 512, "num_frames": 7},
    "navier_stokes": {"num_frames": 9},
    "burgers": {"num_frames": 9},
    "burgers_1d": {"resolution": 4096, "num_frames": 9},
    "burgers_3d": {"resolution": 64, "num_frames": 6},
    "navier_stokes_points": {"num_points": 65536, "num_frames": 6},
    "beltrami_points": {"num_points": 65536, "num_frames": 6},
}
CHANGE = {"temporal_change": 1.0}
LAYOUTS: dict[str, dict[str, Any]] = {
    "default": {},
    "S=8, points alone": {"num_strata": 8, "block_points": 1},
    "change": {"importance": ImportanceSpec(metrics=CHANGE)},
    "both, 2 frames, S=8, points alone": {"frames_per_block": 2, "num_strata": 8, "block_points": 1},
    "both, 1 frame, S=8, points alone": {"frames_per_block": 1, "num_strata": 8, "block_points": 1},
    "change, 2 frames, exponent 1, S=8, points alone": {
        "importance": ImportanceSpec(metrics=CHANGE, exponent=1),
        "frames_per_block": 2,
        "num_strata": 8,
        "block_points": 1,
    },
    "change, 1 frame, exponent 1, S=8, points alone": {
        "importance": ImportanceSpec(metrics=CHANGE, exponent=1),
        "frames_per_block": 1,
        "num_strata": 8,
        "block_points": 1,
    },
}
MOST_MODES = {1: 16, 2: 4, 3: 2}


@dataclass(frozen=True, kw_only=True)
class Multipliers:
    """What draws from one layout of one field are worth, frame by frame."""

    field: str
    layout: str
    sampler: str
    loss: tuple[float, ...]
    gradient: tuple[float, ...]


def main() -> int:
    """Convert, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratio", type=float, default=0.02, help="drawn points / points (0.02)")
    parser.add_argument("--frames", type=int, default=3, help="target frames of each field (3)")
    parser.add_argument("--fields", nargs="+", help="some of the fields, by name (all)")
    parser.add_argument("--winds", type=Path, help="monthly_navy_winds.cdf of Debian's package ferret-datasets")
    parser.add_argument("--output", type=Path, help="write what was measured as JSON")
    arguments = parser.parse_args()
    found: list[Multipliers] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, source in open_fields(Path(folder), arguments.fields, arguments.winds):
            found.extend(measure(name, source, Path(folder) / f"{name}-store", arguments.ratio, arguments.frames))
    console = rich.console.Console(width=None if sys.stdout.isatty() else 200)
    console.print(f"machine: {machine_line()}; {arguments.ratio:.1%} of the points, exact variances")
    for integrand in ("loss", "gradient"):
        console.print(to_table(found, integrand))
    if arguments.output is not None:
        rows = [vars(row) for row in found]
        content = {"machine": machine_line(), "ratio": arguments.ratio, "rows": rows}
        arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def open_fields(folder: Path, wanted: list[str] | None, winds: Path | None) -> Iterator[tuple[str, Source]]:
    """Make the fields, one trajectory of each."""
    for recipe, made in RECIPES.items():
        if wanted is None or recipe in wanted:
            settings = GenerateSettings(num_trajectories=1, **made)
            yield recipe, open_source([generate(recipe, folder / recipe, settings)])
    if wanted is None or "surface" in wanted:
        yield "surface", open_source([make_surface(folder / "surface")])
    if winds is not None and (wanted is None or "winds" in wanted):
        yield "winds", open_source([winds], options={"frames_per_trajectory": 12})


def make_surface(folder: Path) -> Path:
    """Write fronts of u_t = u - u^3 - k L u on a bent sphere of 40,962 nodes, L the Laplacian of its graph of edges."""
    mesh = pyvista.Icosphere(nsub=6)
    faces = mesh.faces.reshape(-1, 4)[:, 1:]
    starts, ends = np.concatenate([faces, faces[:, [1, 2, 0]], faces[:, [2, 0, 1]]])[:, :2].T
    points = np.asarray(mesh.points, dtype=np.float64)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    x, y, z = points.T
    points *= (1 + 0.25 * np.sin(3 * x) * np.cos(2 * y + 1) + 0.15 * np.sin(4 * z))[:, None]
    u = np.random.default_rng(0).standard_normal(len(points))
    degree = np.bincount(starts, minlength=len(u))
    frames = []
    for step in range(80):
        if step >= 50 and step % 5 == 0:
            frames.append(u)
        for _ in range(10):
            flow = np.bincount(starts, weights=u[ends], minlength=len(u)) / degree - u
            u = u + 0.9 * flow + 0.01 * (u - u**3)
    folder.mkdir()
    np.save(folder / "u.npy", np.array(frames, dtype=np.float32)[None])
    np.save(folder / "points.npy", points[None])
    description = {
        "name": "surface",
        "kind": "points",
        "dims": ["trajectory", "time", "point"],
        "fields": {"u": {"file": "u.npy"}},
        "axes": {axis: {"extent": [-1.5, 1.5]} for axis in "xyz"},
        "coordinates": {"file": "points.npy"},
        "times": {"start": 0.0, "step": 1.0},
    }
    path = folder / "surface.yaml"
    path.write_text(yaml.safe_dump(description), encoding="utf-8")
    return path


def measure(name: str, source: Source, path: Path, ratio: float, num_frames: int) -> Iterator[Multipliers]:
    """Convert a field with every layout and work out what draws from it are worth."""
    for layout, chosen in LAYOUTS.items():
        settings = ConvertSettings(target_span=1 if "frames_per_block" in chosen else None, **chosen)
        convert(source, path, settings, overwrite=path.exists())
        store = open_store(path)
        targets = [1 + frame for frame in choose_evenly(store.num_frames(0) - 1, num_frames)]
        samplers: dict[str, PageSampler] = {
            "importance, lambda 0.25": ImportanceSampler(ratio),
            "importance, lambda 0.1": ImportanceSampler(ratio, uniform_share=0.1),
        }
        if layout == "default":
            samplers = {"balanced": BalancedSampler(ratio), **samplers}
        worth: dict[str, list[list[float]]] = {label: [] for label in samplers}
        for target in targets:
            pair = integrands(store, target)
            for label, sampler in samplers.items():
                worth[label].append([worth_of(store, target, sampler, values) for values in pair])
        worth["independent, 1/p"] = [worth_alone(store, target, ratio) for target in targets]
        if layout == "default" and store.manifest.geometry.kind == "grid":
            worth["random in blocks"] = [worth_in_blocks(store, target, ratio) for target in targets]
        for label, found in worth.items():
            losses, gradients = zip(*found, strict=True)
            yield Multipliers(field=name, layout=layout, sampler=label, loss=losses, gradient=gradients)


def integrands(store: Store, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss (N, 1) and the derivatives of the decoder's loss (N, K) at every point."""
    before, after = store.read_dense(0, [target - 1, target]).astype(np.float64)
    squares = np.square(after - before)
    loss = (squares / squares.mean(axis=1, keepdims=True)).sum(axis=0)[:, None]
    modes = low_modes(store.coordinates(0))
    scaled = (after - after.mean(axis=1, keepdims=True)) / after.std(axis=1, keepdims=True)
    fitted, *_ = np.linalg.lstsq(modes, scaled.T, rcond=None)
    residuals = scaled.T - modes @ fitted
    return loss, np.concatenate([modes * residual[:, None] for residual in residuals.T], axis=1)


def low_modes(coordinates: np.ndarray) -> np.ndarray:
    """Return sines and cosines of low wave numbers over the box of the points (N, K)."""
    lowest, highest = coordinates.min(axis=0), coordinates.max(axis=0)
    angles = 2 * np.pi * (coordinates - lowest) / (highest - lowest)
    most = MOST_MODES[coordinates.shape[1]]
    numbers = np.array(list(itertools.product(range(-most, most + 1), repeat=coordinates.shape[1])))
    half = numbers[len(numbers) // 2 :]
    phases = angles @ half.T
    return np.concatenate([np.cos(phases), np.sin(phases[:, 1:])], axis=1)


def worth_of(store: Store, target: int, sampler: PageSampler, values: np.ndarray) -> float:
    """Return the variance of uniform points over that of the draw, both added up over the integrands."""
    block = store.block_of(0, [target])
    layout = store.layout(0, block)
    index = store.read_page_points(0, np.arange(layout.num_pages), block).index.reshape(layout.num_pages, -1)
    draw = sampler.draw(layout, DrawKey(seed=0, epoch=0, sample=0))
    num_queries = float((index[draw.pages] >= 0).sum())
    uniform = uniform_variance(values, num_queries)
    return float(uniform.sum() / draw_variances(layout, index, [draw], values).sum())


def worth_alone(store: Store, target: int, ratio: float) -> list[float]:
    """Return the same for independent draws with probabilities p that a tenth spreads evenly, and 1/p weights."""
    importance = store.importance(0, store.block_of(0, [target])).astype(np.float64)
    chances = (0.1 + 0.9 * importance / importance.mean()) / importance.size
    num_queries, worth = round(ratio * importance.size), []
    for values in integrands(store, target):
        second = (np.square(values) / chances[:, None]).sum(axis=0) / importance.size**2
        drawn = (second - np.square(values.mean(axis=0))) / num_queries
        worth.append(float(uniform_variance(values, float(num_queries)).sum() / drawn.sum()))
    return worth


def worth_in_blocks(store: Store, target: int, ratio: float) -> list[float]:
    """Return the same for equally many random points in each of about as many equal blocks of the grid as points."""
    shape = store.shape(0)
    per_axis = max(1, int((ratio * np.prod(shape)) ** (1 / len(shape))))
    numbers = np.zeros(shape, dtype=np.int64)
    for axis, size in enumerate(shape):
        places = np.arange(size) * per_axis // size
        numbers = numbers * per_axis + places.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    blocks = numbers.reshape(-1)
    sizes = np.bincount(blocks).astype(np.float64)
    worth = []
    for values in integrands(store, target):
        sums, squares = (
            np.stack([np.bincount(blocks, weights=column) for column in part.T], axis=1)
            for part in (values, np.square(values))
        )
        spread = (squares - np.square(sums) / sizes[:, None]) / np.maximum(sizes - 1, 1)[:, None]
        shares = (sizes / blocks.size)[:, None]
        drawn = (np.square(shares) * (1 - 1 / sizes[:, None]) * spread).sum(axis=0)
        worth.append(float(uniform_variance(values, float(sizes.size)).sum() / drawn.sum()))
    return worth


def to_table(found: list[Multipliers], integrand: str) -> rich.table.Table:
    """Return a table: layouts and samplers down, fields across, and the geometric mean over the fields."""
    fields = list(dict.fromkeys(row.field for row in found))
    table = rich.table.Table(
        title=f"{integrand}: multipliers, geometric mean over frames (least)", title_justify="left"
    )
    for column in ("layout", "sampler", *fields, "all"):
        table.add_column(column)
    for layout, sampler in dict.fromkeys((row.layout, row.sampler) for row in found):
        rows = [row for row in found if (row.layout, row.sampler) == (layout, sampler)]
        worth = [getattr(row, integrand) for row in rows]
        means = [statistics.geometric_mean(values) for values in worth]
        cells = [f"{mean:.1f} ({min(values):.1f})" for mean, values in zip(means, worth, strict=True)]
        table.add_row(layout, sampler, *cells, f"{statistics.geometric_mean(means):.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
