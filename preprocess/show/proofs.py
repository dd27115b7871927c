"""The picture of a proof: what draws are worth, whether they are biased, and which layout would be worth most."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from preprocess.prove import LayoutReport, ProveReport, SizeReport
from preprocess.prove.integrands import FIELD_INTEGRANDS
from preprocess.prove.sizes import RATIOS
from preprocess.report.figures import Palette, set_log_ticks
from preprocess.show.picture import Panel, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INCHES = (6.4, 3.6)
_COLOURS = {"value": "dense", "square": "third", "change": "sparse"}
_SHOWN = 7

Draw = Callable[["Axes", Palette], None]


def picture_proof(report: ProveReport) -> Picture:
    """Return the picture of a proof."""
    panels: list[tuple[str, Draw]] = [
        ("Worth of a drawn point, in uniform ones", partial(_draw_worth, report=report)),
        (f"Bias in standard errors; limit {report.z_limit:.1f}", partial(_draw_bias, report=report)),
    ]
    if report.sizes is not None and report.sizes.rows:
        panels.append(
            (f"Standard error of the {report.sizes.integrand} by ratio", partial(_draw_sizes, sizes=report.sizes))
        )
    if report.layouts is not None and report.layouts.best is not None:
        panels += [
            (
                f"Layouts: worth for the {report.layouts.integrand}, exact",
                partial(_draw_layouts, layouts=report.layouts),
            ),
            ("The best layout by ratio", partial(_draw_ratios, layouts=report.layouts)),
        ]
    verdict = "unbiased" if report.ok else "NOT SOUND"
    lines = report.closing_lines()
    return Picture(
        title=f"{report.location}: {verdict}, {report.draws} draws of each sampler, ratio {report.ratio:g}",
        panels=tuple(Panel(title=title, draw=draw, inches=_INCHES) for title, draw in panels),
        columns=2,
        caption=(
            "Worth: variance of as many uniform points over that of the draw; every dot a trajectory, frame and "
            "channel, the bar their geometric mean. Bias: of every estimate, standard normal by chance alone. Layouts: "
            "worked out over all draws that there are, nothing is drawn."
        ),
        facts=tuple((f"{number}", line) for number, line in enumerate(lines, 1)),
    )


def _draw_worth(axes: Axes, palette: Palette, *, report: ProveReport) -> None:
    rows = [name for name in report.samplers if report.multipliers(name)]
    offsets = {name: 0.22 * (place - 1) for place, name in enumerate(FIELD_INTEGRANDS)}
    axes.axvline(1.0, color=palette["muted"], linewidth=1.0)
    for place, sampler in enumerate(rows):
        for integrand in FIELD_INTEGRANDS:
            found = report.multipliers(sampler, integrand)
            if not found:
                continue
            height, colour = place + offsets[integrand], palette[_COLOURS[integrand]]
            label = integrand if place == 0 else None
            axes.plot(found, [height] * len(found), "o", color=colour, markersize=3, alpha=0.45, markeredgewidth=0)
            axes.plot(statistics.geometric_mean(found), height, "|", color=colour, markersize=12, label=label)
    _name_rows(axes, rows)
    axes.set_xscale("log")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    set_log_ticks(axes, lambda value: f"{value:g}", axis="x")


def _draw_bias(axes: Axes, palette: Palette, *, report: ProveReport) -> None:
    rows = list(report.samplers)
    limit = report.z_limit
    for place, sampler in enumerate(rows):
        found = np.array([row.z for row in report.rows if row.sampler == sampler])
        far = np.abs(found) > limit
        for chosen, colour in ((~far, "dense"), (far, "sparse")):
            heights = place + 0.3 * np.linspace(-1, 1, found.size)[chosen]
            axes.plot(found[chosen], heights, "o", color=palette[colour], markersize=3, alpha=0.5, markeredgewidth=0)
    for edge in (-limit, limit):
        axes.axvline(edge, color=palette["ink"], linewidth=1.2)
    axes.axvline(0, color=palette["muted"], linewidth=1.0)
    reach = 1.15 * max(limit, max((abs(row.z) for row in report.rows), default=0.0))
    axes.set_xlim(-reach, reach)
    _name_rows(axes, rows)
    axes.set_xlabel("z")


def _draw_layouts(axes: Axes, palette: Palette, *, layouts: LayoutReport) -> None:
    chosen = list(layouts.best_rows[:_SHOWN])
    own = layouts.own_best
    if own is not None and own not in chosen:
        chosen.append(own)
    names = []
    for place, row in enumerate(chosen):
        candidate, is_own = row.candidate, row.candidate == layouts.own
        axes.barh(place, row.mean, height=0.62, color=palette["input" if is_own else "sparse"], linewidth=0)
        axes.plot([row.least], [place], "|", color=palette["ink"], markersize=10)
        axes.text(row.mean, place, f" {row.mean:.1f}", va="center", color=palette["ink"], fontsize=8)
        frames = "all frames" if candidate.frames_per_block is None else f"{candidate.frames_per_block} frames"
        cut = f"{frames}, {candidate.num_strata} strata of {candidate.block_points}"
        names.append("this store" if is_own else f"{candidate.metrics}^{candidate.importance.exponent:g}\n{cut}")
    _name_rows(axes, names)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlim(0, 1.15 * max(row.mean for row in chosen))
    axes.set_xlabel("uniform points a drawn point is worth; tick: the least")


def _draw_ratios(axes: Axes, palette: Palette, *, layouts: LayoutReport) -> None:
    ratios = [row.ratio for row in layouts.ratios]
    axes.plot(ratios, [row.multiplier for row in layouts.ratios], "o-", color=palette["sparse"], label="worth")
    noise = {row.ratio: row.noise for row in layouts.ratios if row.noise}
    if noise:
        axes.plot(
            list(noise),
            list(noise.values()),
            "o--",
            color=palette["dense"],
            label="noise of a draw / spread of the samples (variances)",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    axes.minorticks_off()
    axes.grid(visible=True)
    axes.set_xlabel("ratio")
    axes.legend(frameon=False, fontsize=8)


def _draw_sizes(axes: Axes, palette: Palette, *, sizes: SizeReport) -> None:
    colours = {"uniform": "muted", "balanced": "dense", "importance": "sparse"}
    for sampler in sizes.samplers:
        curves = [sizes.errors(sampler, channel) for channel in sizes.channels]
        for number, curve in enumerate(curve for curve in curves if curve):
            ratios, errors = zip(*curve, strict=True)
            label = sampler if number == 0 else None
            axes.plot(ratios, errors, "o-", color=palette[colours[sampler]], markersize=3, linewidth=1.0, label=label)
    axes.axhline(sizes.wanted, color=palette["ink"], linewidth=1.0, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(RATIOS, [f"{ratio:g}" for ratio in RATIOS])
    axes.minorticks_off()
    set_log_ticks(axes, lambda value: f"{100 * value:g} %")
    axes.grid(visible=True)
    axes.set_xlabel("ratio; a line a channel; dotted: the error aimed at")
    axes.legend(frameon=False, fontsize=8)


def _name_rows(axes: Axes, names: list[str]) -> None:
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="x")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
