#!/usr/bin/env python
"""Find out how the points of a layout are best dealt to pages and drawn: exact variances, nothing is drawn at random.

On the fields of `layout_fields.py`, with the importance maps of a conversion by default, one choice after another is
changed: the curve, the shifts of the runs, whether strata start together, the number of strata, the points of a page. A
common shift makes pages lattices where a run of the curve is a box. `half lattice` draws half of its pages from a
lattice over all points and half by importance, each point weighed by how often both together bring it, which is
unbiased. Integrands and multipliers are those of `study_layouts.py`.

Example: scripts/study_dealing.py --output study_dealing.json --plot dealing.svg --winds FOLDER/monthly_navy_winds.cdf
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import rich.console
import rich.table

from layout_fields import RATIOS, draw_by_ratio, integrands, open_fields, target_frames, worth_in_blocks
from machine import machine_line
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from ups_data.errors import SamplerError
from ups_data.pages import (
    PageTable,
    build_pages,
    cloud_order,
    grid_order,
    page_budgets,
    page_shares,
    page_sums,
    run_estimates,
    uniform_variance,
)
from ups_data.pages.deal import van_der_corput_order
from ups_data.schema import CurveName
from ups_data.storage import Store, open_store

LATTICE_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Dealing:
    """How pages are made and drawn.

    Attributes:
        num_strata: bands of importance; 1 is a balanced draw; that of the store if None.
        curve: order of the points.
        shifts: whether each run of the curve is shifted by a number of its own, or all are alike.
        starts: whether each stratum starts anywhere, or all of them at the same share of their pages.
        pages: points of a page, as a multiple of the store's.
        lattice: whether half of the draw comes from a lattice over all points.
    """

    num_strata: int | None = None
    curve: CurveName = "hilbert"
    shifts: Literal["random", "alike"] = "random"
    starts: Literal["own", "common"] = "own"
    pages: float = 1.0
    lattice: bool = False


LATTICE = Dealing(num_strata=1, curve="morton", shifts="alike")
DEALINGS = {
    "balanced (1 stratum)": Dealing(num_strata=1),
    "balanced, Morton": Dealing(num_strata=1, curve="morton"),
    "balanced, shifts alike": Dealing(num_strata=1, shifts="alike"),
    "lattice: balanced, Morton, alike": LATTICE,
    "importance, as by default": Dealing(),
    "Morton": Dealing(curve="morton"),
    "shifts alike": Dealing(shifts="alike"),
    "Morton, shifts alike": Dealing(curve="morton", shifts="alike"),
    "common start": Dealing(starts="common"),
    "2 strata": Dealing(num_strata=2),
    "8 strata": Dealing(num_strata=8),
    "16 strata": Dealing(num_strata=16),
    "pages of a quarter": Dealing(pages=0.25),
    "pages of four": Dealing(pages=4.0),
    "half lattice, half importance": Dealing(lattice=True),
}
PLOTTED = (
    "blocks, unweighed",
    "random in blocks",
    "balanced (1 stratum)",
    "importance, as by default",
    "lattice: balanced, Morton, alike",
    "half lattice, half importance",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What draws of one kind and size are worth on one field, frame by frame."""

    field: str
    dealing: str
    ratio: float
    loss: tuple[float, ...]
    gradient: tuple[float, ...]

    def mean(self, integrand: str) -> float:
        """Return the geometric mean over frames."""
        return statistics.geometric_mean(getattr(self, integrand))


def main() -> int:
    """Convert each field once, deal it in every way, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratio", type=float, default=0.02, help="drawn points / points, of the tables (0.02)")
    parser.add_argument("--frames", type=int, default=2, help="target frames of each field (2)")
    parser.add_argument("--fields", nargs="+", help="some of the fields, by name (all)")
    parser.add_argument("--winds", type=Path, help="monthly_navy_winds.cdf of Debian's package ferret-datasets")
    parser.add_argument("--output", type=Path, help="write what was measured as JSON")
    parser.add_argument("--plot", type=Path, help="draw multipliers by ratio, as FILE.svg or FILE.png")
    arguments = parser.parse_args()
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, source in open_fields(Path(folder), arguments.fields, arguments.winds):
            path = Path(folder) / f"{name}-store"
            convert(source, path, ConvertSettings())
            found.extend(measure(name, open_store(path), arguments))
    console = rich.console.Console(width=None if sys.stdout.isatty() else 200)
    console.print(f"machine: {machine_line()}; {arguments.ratio:.1%} of the points, exact variances")
    for integrand in ("loss", "gradient"):
        console.print(to_table([row for row in found if row.ratio == arguments.ratio], integrand))
    if arguments.output is not None:
        content = {"machine": machine_line(), "rows": [vars(row) for row in found]}
        arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if arguments.plot is not None:
        draw_by_ratio(by_ratio(found, PLOTTED), arguments.plot)
    return 0


def measure(name: str, store: Store, arguments: argparse.Namespace) -> Iterator[Row]:
    """Work out what each way of dealing is worth on a field."""
    ratios = sorted({*RATIOS, arguments.ratio})
    worth: dict[tuple[str, float], list[list[float]]] = {}
    on_grid = store.manifest.geometry.kind == "grid"
    tables = {dealing: deal(store, chosen) for dealing, chosen in DEALINGS.items()}
    lattice = tables["lattice: balanced, Morton, alike"]
    for target in target_frames(store, arguments.frames):
        pair = integrands(store, target)
        for dealing, chosen in DEALINGS.items():
            by_integrand = [worth_of(tables[dealing], chosen, lattice, ratios, values) for values in pair]
            for ratio in by_integrand[0]:
                worth.setdefault((dealing, ratio), []).append([found[ratio] for found in by_integrand])
        for label, as_published in {"random in blocks": False, "blocks, unweighed": True}.items() if on_grid else ():
            for ratio in ratios:
                found = [worth_in_blocks(store, ratio, values, as_published=as_published) for values in pair]
                worth.setdefault((label, ratio), []).append(found)
    for (dealing, ratio), pairs in worth.items():
        losses, gradients = zip(*pairs, strict=True)
        yield Row(field=name, dealing=dealing, ratio=ratio, loss=losses, gradient=gradients)


def deal(store: Store, dealing: Dealing) -> PageTable:
    """Lay the points of trajectory 0 out."""
    spec = store.manifest.layout
    on_grid = store.manifest.geometry.kind == "grid"
    curve = dealing.curve
    order = grid_order(store.shape(0), curve=curve) if on_grid else cloud_order(store.coordinates(0), curve=curve)
    table = build_pages(
        store.importance(0, 0),
        order,
        page_points=max(1, round(dealing.pages * spec.page_points)),
        num_strata=dealing.num_strata or spec.num_strata,
        block_points=spec.block_points,
        seed=spec.seed,
        key=(0, 0),
    )
    return table if dealing.shifts == "random" else deal_alike(table, order)


def deal_alike(table: PageTable, order: np.ndarray) -> PageTable:
    """Deal the points of each stratum again, all runs in the same way."""
    layout, rank = table.layout, np.argsort(order)
    parts = []
    for end, size in zip(np.cumsum(layout.stratum_pages), layout.stratum_pages, strict=True):
        members = table.index[end - size : end]
        points = members[members >= 0]
        points = points[np.argsort(rank[points])]
        runs = np.arange(-(-points.size // max(size, 1)))
        places = van_der_corput_order(int(size))[:, None] + runs * size
        part = np.full((size, layout.page_points), -1, dtype=np.int32)
        part[:, : runs.size] = np.where(places < points.size, points[np.minimum(places, points.size - 1)], -1)
        parts.append(part)
    return replace(table, index=np.concatenate(parts))


def worth_of(
    table: PageTable, dealing: Dealing, lattice: PageTable, ratios: list[float], values: np.ndarray
) -> dict[float, float]:
    """Return for each ratio the variance of uniform points over that of the draw, both added up over the integrands.

    Ratios at which a draw has fewer pages than strata are left out.
    """
    worth, sums = {}, sums_of(table, values)
    for ratio in ratios:
        try:
            if dealing.lattice:
                worth[ratio] = worth_of_both(table, lattice, ratio, values)
                continue
            budgets = budgets_of(table, ratio)
        except SamplerError:
            continue
        variance = variance_of(table, budgets, sums, common=dealing.starts == "common")
        worth[ratio] = float(uniform_variance(values, mean_size(table, budgets)).sum() / variance)
    return worth


def worth_of_both(table: PageTable, lattice: PageTable, ratio: float, values: np.ndarray) -> float:
    """Return the same where half of a draw comes from a lattice and half from the strata of `table`."""
    tables = (lattice, table)
    budgets = [
        budgets_of(part, share * ratio) for part, share in zip(tables, (LATTICE_SHARE, 1 - LATTICE_SHARE), strict=True)
    ]
    chances = [chances_of(part, pages) for part, pages in zip(tables, budgets, strict=True)]
    variance = size = 0.0
    for part, pages, own in zip(tables, budgets, chances, strict=True):
        # A point counts by how often both together bring it, whichever brought it: that is unbiased.
        shared = values * (own / (chances[0] + chances[1]))[:, None]
        variance += variance_of(part, pages, sums_of(part, shared), common=False)
        size += mean_size(part, pages)
    return float(uniform_variance(values, size).sum() / variance)


def sums_of(table: PageTable, values: np.ndarray) -> list[np.ndarray]:
    """Return the sums of the integrands over each page, stratum by stratum."""
    pages = table.layout.stratum_pages
    return [page_sums(table.index[end - size : end], values) for end, size in zip(np.cumsum(pages), pages, strict=True)]


def budgets_of(table: PageTable, ratio: float) -> np.ndarray:
    """Return the pages of each stratum, as `ImportanceSampler` shares them out.

    Raises:
        SamplerError: fewer pages than strata.
    """
    layout = table.layout
    num_pages = max(1, round(round(ratio * layout.num_points) / layout.num_points * layout.num_pages))
    return page_budgets(layout, num_pages=num_pages, shares=page_shares(layout, uniform_share=0.25))


def mean_size(table: PageTable, budgets: np.ndarray) -> float:
    """Return how many points a draw has on average."""
    layout = table.layout
    used = layout.stratum_pages > 0
    return float((budgets[used] / layout.stratum_pages[used] * layout.stratum_points[used]).sum())


def chances_of(table: PageTable, budgets: np.ndarray) -> np.ndarray:
    """Return the probability of each point to be drawn."""
    pages = np.repeat(budgets / np.maximum(table.layout.stratum_pages, 1), table.layout.stratum_pages)
    drawn = table.index[: table.layout.num_pages]
    chances = np.zeros(table.layout.num_points)
    chances[drawn[drawn >= 0]] = np.repeat(pages, (drawn >= 0).sum(axis=1))
    return chances


def variance_of(table: PageTable, budgets: np.ndarray, sums: list[np.ndarray], *, common: bool) -> float:
    """Return the variance of an estimate over all starts, added up over the integrands."""
    parts = [
        run_estimates(part, int(budget), table.layout.num_points)
        for part, budget in zip(sums, budgets, strict=True)
        if len(part)
    ]
    if not common:
        return float(sum(part.var(axis=0).sum() for part in parts))
    # One number u in [0, 1) starts them all, stratum s at page floor(u R_s): constant between multiples of 1 / R_s.
    edges = np.unique(np.concatenate([np.arange(len(part)) / len(part) for part in parts] + [np.ones(1)]))
    middles, lengths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    total = sum(part[(middles * len(part)).astype(np.int64)] for part in parts)
    return float((lengths[:, None] * np.square(total - lengths @ total)).sum())


def by_ratio(rows: Sequence[Row], dealings: Sequence[str]) -> dict[str, dict[str, dict[float, float]]]:
    """Return for each way, integrand and ratio the geometric mean over the fields that have all of these ways."""
    members = [{row.field for row in rows if row.dealing == name} for name in dealings]
    fields = set.intersection(*members)
    found: dict[str, dict[str, dict[float, float]]] = {name: {"loss": {}, "gradient": {}} for name in dealings}
    for name, ratio in itertools.product(dealings, sorted({row.ratio for row in rows})):
        some = [row for row in rows if (row.dealing, row.ratio) == (name, ratio) and row.field in fields]
        if len(some) == len(fields):
            for integrand, means in found[name].items():
                means[ratio] = statistics.geometric_mean([row.mean(integrand) for row in some])
    return found


def to_table(rows: list[Row], integrand: str) -> rich.table.Table:
    """Return a table: ways of dealing down, fields across, and the geometric mean over the fields."""
    fields = list(dict.fromkeys(row.field for row in rows))
    table = rich.table.Table(title=f"{integrand}: multipliers, geometric mean over frames", title_justify="left")
    for column in ("draw", *fields, "all"):
        table.add_column(column)
    for dealing in dict.fromkeys(row.dealing for row in rows):
        means = {row.field: row.mean(integrand) for row in rows if row.dealing == dealing}
        cells = [f"{means[field]:.1f}" if field in means else "-" for field in fields]
        table.add_row(dealing, *cells, f"{statistics.geometric_mean(means.values()):.1f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
