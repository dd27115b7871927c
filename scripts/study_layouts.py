#!/usr/bin/env python
"""Find out which layout is worth most on which field: exact variances of draws, nothing is drawn at random.

The fields are those of `layout_fields.py`. Each is converted with several layouts (importance metric, exponent, frames
that share a map, strata, points that share a stratum). For target frames t, drawn from the block of frames that t lies
in, two integrands are held against uniform random points:

* loss: (u(t) - u(t - 1))^2 over its mean, added up over channels: the loss of a model that predicts no change;
* gradient: of the mean squared error of a small decoder at its optimum, u(t) fitted by the lowest Fourier modes; the
  variances of all its derivatives are added up.

A multiplier is variance of uniform points / variance of the draw, at the same mean number of points; the tables have
its geometric mean over frames and, in brackets, the least one. Beside our draws stand three that read points singly:
independent draws with 1/p weights, p from the same map, and random points in equal blocks of a grid, weighed as they
must be, or unweighed as published code has them. Pages of shuffled points are uniform draws without replacement: their
multiplier is 1. How the points are dealt within one layout is for `study_dealing.py`.

With `--window T` what is compared are the two ways to draw points for a window of T successive target frames, from the
default layout: the variance of the mean over the frames with the same points at all of them, over that with fresh
points of each, at equally many values read.

Examples: scripts/study_layouts.py --window 4
          scripts/study_layouts.py --output study_layouts.json --plot layouts.svg --winds FOLDER/monthly_navy_winds.cdf
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rich.console
import rich.table

from layout_fields import RATIOS, draw_by_ratio, integrands, open_fields, target_frames, worth_in_blocks
from machine import machine_line
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources.base import Source
from ups_data.pages import draw_variances, uniform_variance
from ups_data.samplers import BalancedSampler, DrawKey, ImportanceSampler, PageSampler
from ups_data.schema import ImportanceSpec
from ups_data.storage import Store, open_store

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
PLOTTED = {
    ("default", "random in blocks"): "random in equal blocks",
    ("default", "blocks, unweighed"): "the same, unweighed",
    ("default", "balanced"): "default, balanced",
    ("default", "importance, lambda 0.25"): "default, importance",
    ("change, 1 frame, exponent 1, S=8, points alone", "importance, lambda 0.1"): "change of each frame, importance",
    ("change, 1 frame, exponent 1, S=8, points alone", "independent, 1/p"): "the same map, independent",
}


@dataclass(frozen=True, kw_only=True)
class Multipliers:
    """What draws of one size from one layout of one field are worth, frame by frame."""

    field: str
    layout: str
    sampler: str
    ratio: float
    loss: tuple[float, ...]
    gradient: tuple[float, ...]


def main() -> int:
    """Convert, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratio", type=float, default=0.02, help="drawn points / points, of the tables (0.02)")
    parser.add_argument("--frames", type=int, default=3, help="target frames of each field (3)")
    parser.add_argument("--fields", nargs="+", help="some of the fields, by name (all)")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS), help="some of them (all)")
    parser.add_argument("--window", type=int, metavar="T", help="compare fresh points with the same ones, see above")
    parser.add_argument("--winds", type=Path, help="monthly_navy_winds.cdf of Debian's package ferret-datasets")
    parser.add_argument("--output", type=Path, help="write what was measured as JSON")
    parser.add_argument("--plot", type=Path, help="draw multipliers by ratio, as FILE.svg or FILE.png")
    arguments = parser.parse_args()
    console = rich.console.Console(width=None if sys.stdout.isatty() else 200)
    if arguments.window is not None:
        with tempfile.TemporaryDirectory() as folder:
            fields = open_fields(Path(folder), arguments.fields, arguments.winds)
            worth = {name: compare_points(name, source, Path(folder), arguments) for name, source in fields}
        console.print(f"machine: {machine_line()}; {arguments.ratio:.1%} of the points, exact variances")
        console.print(to_window_table(worth, arguments.window))
        return 0
    found: list[Multipliers] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, source in open_fields(Path(folder), arguments.fields, arguments.winds):
            found.extend(measure(name, source, Path(folder), arguments))
    console.print(f"machine: {machine_line()}; {arguments.ratio:.1%} of the points, exact variances")
    for integrand in ("loss", "gradient"):
        console.print(to_table([row for row in found if row.ratio == arguments.ratio], integrand))
    if arguments.output is not None:
        rows = [vars(row) for row in found]
        content = {"machine": machine_line(), "ratio": arguments.ratio, "rows": rows}
        arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if arguments.plot is not None:
        lines = by_ratio(found, PLOTTED)
        draw_by_ratio(lines, arguments.plot)
    return 0


def measure(name: str, source: Source, folder: Path, arguments: argparse.Namespace) -> Iterator[Multipliers]:
    """Convert a field with every layout and work out what draws from it are worth."""
    ratios = sorted({*RATIOS, arguments.ratio})
    stores = {}
    for layout in arguments.layouts:
        chosen, path = LAYOUTS[layout], folder / f"{name} {layout}"
        convert(source, path, ConvertSettings(target_span=1 if "frames_per_block" in chosen else None, **chosen))
        stores[layout] = open_store(path)
    worth: dict[tuple[str, str, float], list[list[float]]] = {}
    for target in target_frames(next(iter(stores.values())), arguments.frames):
        pair = integrands(next(iter(stores.values())), target)
        for layout, store in stores.items():
            for sampler, ratio, found in worth_at(store, target, pair, ratios, others=layout == "default"):
                worth.setdefault((layout, sampler, ratio), []).append(found)
    for (layout, sampler, ratio), pairs in worth.items():
        losses, gradients = zip(*pairs, strict=True)
        yield Multipliers(field=name, layout=layout, sampler=sampler, ratio=ratio, loss=losses, gradient=gradients)


def worth_at(
    store: Store, target: int, pair: tuple[np.ndarray, np.ndarray], ratios: Sequence[float], *, others: bool
) -> Iterator[tuple[str, float, list[float]]]:
    """Yield sampler, ratio, and what a point is worth for both integrands of a target frame.

    Args:
        store: converted with some layout.
        target: number of the frame.
        pair: its integrands.
        ratios: sizes of the draws.
        others: with the draws that do not depend on the importance map.
    """
    block = store.block_of(0, [target])
    layout = store.layout(0, block)
    index = store.read_page_points(0, np.arange(layout.num_pages), block).index.reshape(layout.num_pages, -1)
    samplers: dict[tuple[str, float], PageSampler] = {}
    for ratio in ratios:
        if others:
            samplers["balanced", ratio] = BalancedSampler(ratio)
        for share in (0.25, 0.1):
            samplers[f"importance, lambda {share}", ratio] = ImportanceSampler(ratio, uniform_share=share)
    able = {key: one for key, one in samplers.items() if one.num_pages(layout, 0) >= layout.num_strata}
    draws = [sampler.draw(layout, DrawKey(seed=0, epoch=0, sample=0)) for sampler in able.values()]
    sizes = [float((index[draw.pages] >= 0).sum()) for draw in draws]
    worth = []
    for values in pair:
        drawn = draw_variances(layout, index, draws, values).sum(axis=1)
        worth.append([uniform_variance(values, size).sum() / one for size, one in zip(sizes, drawn, strict=True)])
    for number, (sampler, ratio) in enumerate(able):
        yield sampler, ratio, [float(part[number]) for part in worth]
    importance = store.importance(0, block).astype(np.float64)
    for ratio in ratios:
        yield "independent, 1/p", ratio, [worth_alone(importance, ratio, values) for values in pair]
        if others and store.manifest.geometry.kind == "grid":
            blocks = {"random in blocks": False, "blocks, unweighed": True}
            for label, as_published in blocks.items():
                found = [worth_in_blocks(store, ratio, values, as_published=as_published) for values in pair]
                yield label, ratio, found


def compare_points(
    name: str, source: Source, folder: Path, arguments: argparse.Namespace
) -> dict[tuple[str, str], float]:
    """Return by integrand and sampler the variance with the same points over that with fresh ones, at the last frames.

    Raises:
        SystemExit: the field has too few frames.
    """
    path, length = folder / name / "window", arguments.window
    convert(source, path, ConvertSettings())
    store = open_store(path)
    if not 1 <= length < store.num_frames(0):
        raise SystemExit(f"--window lies between 1 and {store.num_frames(0) - 1} for {name}, got {length}")
    targets = range(store.num_frames(0) - length, store.num_frames(0))
    layout = store.layout(0, 0)
    index = store.read_page_points(0, np.arange(layout.num_pages), 0).index.reshape(layout.num_pages, -1)
    samplers = {"balanced": BalancedSampler(arguments.ratio), "importance": ImportanceSampler(arguments.ratio)}
    draws = [sampler.draw(layout, DrawKey(seed=0, epoch=0, sample=0)) for sampler in samplers.values()]
    size = float((index[draws[0].pages] >= 0).sum())

    def variances(values: np.ndarray) -> np.ndarray:
        drawn = draw_variances(layout, index, draws, values).sum(axis=1)
        return np.append(drawn, uniform_variance(values, size).sum())

    found: dict[tuple[str, str], float] = {}
    for number, integrand in enumerate(("loss", "gradient")):
        frames = [integrands(store, target)[number] for target in targets]
        fresh = sum(variances(values) for values in frames) / length**2
        same = variances(np.mean(frames, axis=0))
        found |= {
            (integrand, draw): float(a / b) for draw, a, b in zip([*samplers, "uniform"], same, fresh, strict=True)
        }
    return found


def to_window_table(worth: Mapping[str, Mapping[tuple[str, str], float]], length: int) -> rich.table.Table:
    """Return a table: integrands and samplers down, fields across."""
    title = f"variance over {length} frames with the same points / with fresh ones"
    table = rich.table.Table(title=title, title_justify="left")
    for column in ("integrand", "sampler", *worth):
        table.add_column(column)
    for key in next(iter(worth.values())):
        table.add_row(*key, *(f"{found[key]:.2f}" for found in worth.values()))
    return table


def worth_alone(importance: np.ndarray, ratio: float, values: np.ndarray) -> float:
    """Return the same for independent draws with probabilities p that a tenth spreads evenly, and 1/p weights."""
    chances = (0.1 + 0.9 * importance / importance.mean()) / importance.size
    num_queries = round(ratio * importance.size)
    second = (np.square(values) / chances[:, None]).sum(axis=0) / importance.size**2
    drawn = (second - np.square(values.mean(axis=0))) / num_queries
    return float(uniform_variance(values, float(num_queries)).sum() / drawn.sum())


def by_ratio(
    rows: Sequence[Multipliers], draws: Mapping[tuple[str, str], str]
) -> dict[str, dict[str, dict[float, float]]]:
    """Return for each draw, integrand and ratio the geometric mean over the fields that have all of these draws.

    Args:
        rows: what was measured.
        draws: names of the lines, by layout and sampler; those that were not measured are left out.
    """
    lines = {label: [row for row in rows if (row.layout, row.sampler) == key] for key, label in draws.items()}
    lines = {label: some for label, some in lines.items() if some}
    fields = set.intersection(*({row.field for row in some} for some in lines.values()))
    found: dict[str, dict[str, dict[float, float]]] = {label: {"loss": {}, "gradient": {}} for label in lines}
    for label, ratio in itertools.product(lines, sorted({row.ratio for row in rows})):
        some = [row for row in lines[label] if row.ratio == ratio and row.field in fields]
        if len(some) == len(fields):
            for integrand, means in found[label].items():
                worth = [statistics.geometric_mean(getattr(row, integrand)) for row in some]
                means[ratio] = statistics.geometric_mean(worth)
    return found


def to_table(found: list[Multipliers], integrand: str) -> rich.table.Table:
    """Return a table: layouts and samplers down, fields across, and the geometric mean over the fields."""
    fields = list(dict.fromkeys(row.field for row in found))
    table = rich.table.Table(
        title=f"{integrand}: multipliers, geometric mean over frames (least)", title_justify="left"
    )
    for column in ("layout", "sampler", *fields, "all"):
        table.add_column(column)
    for layout, sampler in dict.fromkeys((row.layout, row.sampler) for row in found):
        rows = {row.field: row for row in found if (row.layout, row.sampler) == (layout, sampler)}
        worth = {field: getattr(row, integrand) for field, row in rows.items()}
        means = {field: statistics.geometric_mean(values) for field, values in worth.items()}
        cells = [f"{means[field]:.1f} ({min(worth[field]):.1f})" if field in means else "-" for field in fields]
        table.add_row(layout, sampler, *cells, f"{statistics.geometric_mean(means.values()):.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
