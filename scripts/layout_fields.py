"""The fields that layouts are compared on, and what is estimated of them.

Turbulence (512 x 512 and 256 x 256) and shocks in 2-D, shocks in 1-D and 3-D, a 2-D and a 3-D cloud, reaction and
diffusion on a closed surface, and monthly winds over the globe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyvista
import yaml

from preprocess.prove.integrands import choose_frames
from preprocess.prove.sizes import mode_numbers, mode_values
from preprocess.report.figures import LIGHT, chart_style, set_log_ticks
from preprocess.sources import open_source
from preprocess.sources.base import Source
from preprocess.sources.generated import GenerateSettings, generate
from ups_data.pages import uniform_variance
from ups_data.storage import Store

RATIOS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
RECIPES: dict[str, dict[str, Any]] = {
    "turbulence": {"resolution": 512, "num_frames": 7},
    "navier_stokes": {"num_frames": 9},
    "burgers": {"num_frames": 9},
    "burgers_1d": {"resolution": 4096, "num_frames": 9},
    "burgers_3d": {"resolution": 64, "num_frames": 6},
    "navier_stokes_points": {"num_points": 65536, "num_frames": 6},
    "beltrami_points": {"num_points": 65536, "num_frames": 6},
}
MOST_MODES = {1: 16, 2: 4, 3: 2}


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


def integrands(store: Store, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss (N, 1) and the derivatives of the decoder's loss (N, K) at every point."""
    before, after = store.read_dense(0, [target - 1, target]).astype(np.float64)
    squares = np.square(after - before)
    loss = (squares / squares.mean(axis=1, keepdims=True)).sum(axis=0)[:, None]
    coordinates = store.coordinates(0)
    dims = coordinates.shape[1]
    modes = mode_values(coordinates, mode_numbers(dims, MOST_MODES[dims]))
    scaled = (after - after.mean(axis=1, keepdims=True)) / after.std(axis=1, keepdims=True)
    # The modes are close to orthogonal, so the normal equations lose nothing.
    fitted = np.linalg.solve(modes.T @ modes, modes.T @ scaled.T)
    residuals = scaled.T - modes @ fitted
    return loss, np.concatenate([modes * residual[:, None] for residual in residuals.T], axis=1)


def worth_in_blocks(store: Store, ratio: float, values: np.ndarray, *, as_published: bool) -> float:
    """Return what random points in equal blocks of a grid are worth, in uniform points.

    Args:
        store: its trajectory 0 is meant.
        ratio: drawn points / points, n / N.
        values: integrands (N, K).
        as_published: floor(n ** (1 / D)) blocks an axis, equally many points of each, the rest at random anywhere, and
            the plain mean of all: biased where blocks differ in size, and the squared bias counts as variance does.
            Otherwise one point of each block, weighed by the block's size: no bias.
    """
    shape = store.shape(0)
    num_points = int(np.prod(shape))
    num_queries = round(ratio * num_points)
    per_axis = max(1, int(num_queries ** (1 / len(shape)) + 1e-9))
    numbers = np.zeros(shape, dtype=np.int64)
    for axis, size in enumerate(shape):
        places = np.arange(size) * min(per_axis, size) // size
        numbers = numbers * per_axis + places.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    blocks = np.unique(numbers.reshape(-1), return_inverse=True)[1]
    sizes = np.bincount(blocks).astype(np.float64)
    sums, squares = (
        np.stack([np.bincount(blocks, weights=column) for column in part.T], axis=1)
        for part in (values, np.square(values))
    )
    spread = (squares - np.square(sums) / sizes[:, None]) / np.maximum(sizes - 1, 1)[:, None]
    if not as_published:
        shares = (sizes / num_points)[:, None]
        drawn = (np.square(shares) * (1 - 1 / sizes[:, None]) * spread).sum(axis=0)
        return float(uniform_variance(values, float(sizes.size)).sum() / drawn.sum())
    quota = np.minimum(num_queries // sizes.size, sizes)[:, None]
    rest = num_queries - quota.sum()
    mean = values.mean(axis=0)
    bias = ((quota * sums / sizes[:, None]).sum(axis=0) + rest * mean) / num_queries - mean
    variance = (quota * (1 - quota / sizes[:, None]) * spread).sum(axis=0) + rest * values.var(axis=0)
    error = np.square(bias) + variance / num_queries**2
    return float(uniform_variance(values, float(num_queries)).sum() / error.sum())


def target_frames(store: Store, wanted: int) -> tuple[int, ...]:
    """Return up to `wanted` target frames of trajectory 0, evenly spread, each with a frame before it."""
    return choose_frames(store.num_frames(0), wanted)


def draw_by_ratio(lines: Mapping[str, Mapping[str, Mapping[float, float]]], path: Path) -> None:
    """Draw multipliers by ratio, a panel for each integrand.

    Args:
        lines: by the name of a draw, then of the integrand, then by ratio.
        path: FILE.svg or FILE.png.
    """
    from matplotlib.figure import Figure

    colours = ("muted", "input", "dense", "sparse", "third", "ink")
    with chart_style(LIGHT):
        figure = Figure(figsize=(9.6, 4.2), layout="constrained", facecolor="white")
        for axes, integrand in zip(figure.subplots(1, 2), ("loss", "gradient"), strict=True):
            for number, (label, worth) in enumerate(lines.items()):
                colour, style = LIGHT[colours[number % len(colours)]], "-" if number < len(colours) else "--"
                points = worth[integrand]
                axes.plot(list(points), list(points.values()), f"o{style}", color=colour, markersize=3, label=label)
            axes.axhline(1.0, color=LIGHT["muted"], linewidth=1.0)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks(RATIOS, [f"{ratio:g}" for ratio in RATIOS])
            axes.minorticks_off()
            set_log_ticks(axes, lambda value: f"{value:g}")
            axes.set_axisbelow(True)
            axes.grid(visible=True)
            axes.set_xlabel("drawn points / points")
            axes.set_title(f"{integrand}: uniform points that one is worth", loc="left", fontsize=10)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
