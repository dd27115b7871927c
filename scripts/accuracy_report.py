"""The report of the study of accuracy: tables of Markdown and one picture, from nothing but the finished runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accuracy_cases import CASES, DENSE, DRAWS, MAIN, RATIOS, RECIPES, Arm, arms_of
from accuracy_outcomes import Clock, Outcome, Pair, median, pair_up

PROMISED_SHARE = 0.5
PROMISED_GAPS = {0.3: 0.01, 0.1: 0.03}
SIZES = (32, 64, 128, 256)
CLOCKS = {"cpu": "CPU seconds of the training process, which has one thread", "wall": "wall-clock seconds of training"}
_COLOURS = ("#222222", "#c1272d", "#0071bc", "#3f9b4b", "#e08214", "#7b3294", "#8c6d31")


def write_report(outcomes: Sequence[Outcome], path: Path, *, clock: Clock) -> None:
    """Write the tables to `path`, and the picture beside it as .svg."""
    picture = path.with_suffix(".svg")
    parts = [
        write_head(outcomes, picture.name, clock),
        write_time(outcomes, clock),
        write_longer(outcomes, clock),
        write_steps(outcomes, clock),
        write_resolution(outcomes),
        write_matrix(outcomes, clock),
        write_losses(outcomes, clock),
    ]
    path.write_text("\n".join(parts), encoding="utf-8")
    draw(outcomes, picture, clock)


def write_head(outcomes: Sequence[Outcome], picture: str, clock: Clock) -> str:
    """Return what was compared, how, and where."""
    machines = "; ".join(dict.fromkeys(outcome.machine for outcome in outcomes))
    return f"""# Accuracy: sparse against dense training

Written by `scripts/study_accuracy.py` from the {len(outcomes)} runs in `accuracy.jsonl`; no number is typed. Again, or
on from where it stopped:

    scripts/study_accuracy.py --data study --winds monthly_navy_winds.cdf \\
        --output docs/accuracy.jsonl --report docs/accuracy.md

Machine: {machines}; others used it too. Seconds are
{CLOCKS[clock]}; evaluations are not counted.

Data: the winds over the globe of 132 months, measured, each encoded and answered again at every point; the next frame
of 2-D Burgers flow with sharp fronts; the next frame of 2-D turbulence at scattered points. Configurations are in
`configs/`. Errors are relative L2 on all points of test samples. A run is held against the dense run of the same
seed, which begins with the same weights and sees the same samples in the same order. Runs are bounded by steps, over
which the learning rate rises and falls to zero; all runs of a data set differ in nothing but what a row names. "few
to many" is a curriculum: the ratio rises linearly from half of what is named to one and a half times it.

![error by time, error by steps, and gap by resolution]({picture})
"""


def write_time(outcomes: Sequence[Outcome], clock: Clock) -> str:
    """Return the tables of time to accuracy."""
    parts = [
        f"""## Time to the dense error

The time in which a run first reaches the last error of the dense run, over the whole time of the dense run (promised
of the recipe, in the median: at most {PROMISED_SHARE:.0%}). Sparse runs have more steps, and take no more than about
half of the dense run's time. The recipe is the first sparse row; below it the same steps on uniform points of
constant number, and the recipe's draws for the decoder without locality.
"""
    ]
    header = ("draws", "steps", "seconds", "last error: seeds", "time to the dense error: seeds", "median", "promise")
    for name in MAIN:
        found = {arm: pair_up(outcomes, name, arm) for arm in arms_of("time", CASES[name])}
        rows = [_time_row(arm, pairs, clock) for arm, pairs in found.items() if pairs]
        parts.append(f"**{CASES[name].title}**\n\n{_table(header, rows)}")
    return "\n".join(parts)


def _time_row(arm: Arm, pairs: Sequence[Pair], clock: Clock) -> tuple[str, ...]:
    shares = [pair.time_share(clock) for pair in pairs]
    held = "held" if median(shares) <= PROMISED_SHARE else "**not held**"
    return (
        arm.name,
        f"{pairs[0].run.last.step:,}",
        f"{median(pair.run.last.seconds(clock) for pair in pairs):.1f}",
        _list(pair.run.last.error for pair in pairs),
        _list((100 * share for share in shares), "{:.0f} %"),
        "never" if math.isinf(median(shares)) else f"{median(shares):.0%}",
        held if arm in RECIPES.values() else "",
    )


def write_longer(outcomes: Sequence[Outcome], clock: Clock) -> str:
    """Return the table of dense runs that have as many steps as the sparse ones of the first part."""
    rows, helped = [], []
    for name in MAIN:
        _, long, twice = arms_of("longer", CASES[name])
        shares = [pair.time_share(clock) for pair in pair_up(outcomes, name, long)]
        if shares:
            helped.append(f"{median(shares):.0%} ({CASES[name].title})")
        for arm in (long, *arms_of("time", CASES[name])[1:], twice):
            pairs = pair_up(outcomes, name, arm, against=long)
            if pairs:
                steps, title = f"{pairs[0].run.last.step:,}", CASES[name].title if arm == long else ""
                times = _list((100 * pair.time_share(clock) for pair in pairs), "{:.0f} %")
                rows.append((title, arm.name, steps, *_gap_cells(pairs, clock), times))
    header = ("data", "draws", "steps", "error: seeds", "gap: seeds", "median", "time", "time to its error: seeds")
    return f"""## The same against longer dense runs

The runs are short, and a longer one keeps its learning rate high for longer: a dense run of as many steps as the sparse
ones above reaches the last error of the short dense run early too, in this share of that run's time:
{"; ".join(helped) or "not run"}. Held against these longer dense runs:

{_table(header, rows)}"""


def write_steps(outcomes: Sequence[Outcome], clock: Clock) -> str:
    """Return the table of gaps at equal steps."""
    rows = []
    for arm in arms_of("steps", CASES["fronts_256"]):
        pairs = pair_up(outcomes, "fronts_256", arm)
        if pairs:
            rows.append((arm.name, *_gap_cells(pairs, clock), _verdict(arm, pairs)))
    header = ("draws", "error: seeds", "gap: seeds", "median", "time", "promise")
    promised = ", ".join(f"{gap:.0%} at {ratio:g}" for ratio, gap in PROMISED_GAPS.items())
    return f"""## Equal steps at 256 x 256

{CASES["fronts_256"].title}. The gap is the error over that of the dense run after the same steps, less 1 (promised, in
the median: {promised}); time is over that of the dense run.

{_table(header, rows)}"""


def write_resolution(outcomes: Sequence[Outcome]) -> str:
    """Return the table of gaps by resolution."""
    rows = []
    for arm in arms_of("resolution", CASES["fronts_256"]):
        found = [pair_up(outcomes, f"fronts_{size}", arm) for size in SIZES]
        if arm == DENSE:
            cells = [f"{median(pair.run.last.error for pair in pairs):.4f}" if pairs else "-" for pairs in found]
            rows.append(("dense: error", *cells))
        elif any(found):
            cells = [
                f"{_median_gap(pairs)} ({_list((100 * pair.gap for pair in pairs), '{:+.1f}')})" for pairs in found
            ]
            rows.append((f"{arm.name}: gap", *cells))
    header = ("draws", *(f"{size} x {size}" for size in SIZES))
    return f"""## The gap at equal steps by resolution

The same fields on every eighth, fourth, second and every node of each axis, patches of 2 to 16 nodes, so that the
tokens stand for the same parts of the domain. Median gap (seeds, in %).

{_table(header, rows)}"""


def write_matrix(outcomes: Sequence[Outcome], clock: Clock) -> str:
    """Return the tables of all ratios, samplers and curricula."""
    parts = [
        """## Ratios, samplers and curricula

By equal steps: the gap to the dense run. By equal time: the gap to the dense run at the time when the sparse
run ended; negative where sparse is ahead, "-" where the dense run had not been evaluated yet. Rows without a
run are left out.
"""
    ]
    for name in MAIN:
        rows = []
        for arm in arms_of("matrix", CASES[name])[1:]:
            pairs = pair_up(outcomes, name, arm)
            if pairs:
                in_time = median(pair.gap_in_time(clock) for pair in pairs)
                cells = _gap_cells(pairs, clock)
                rows.append((arm.name, *cells, "-" if math.isnan(in_time) else f"{in_time:+.1%}"))
        if rows:
            header = ("draws", "error: seeds", "gap: seeds", "median", "time", "gap by equal time")
            parts.append(f"**{CASES[name].title}**\n\n{_table(header, rows)}")
    return "\n".join(parts)


def write_losses(outcomes: Sequence[Outcome], clock: Clock) -> str:
    """Return the runs that do not do what is promised of the recipe or of their ratio."""
    lines = []
    for name in MAIN:
        for arm in arms_of("time", CASES[name])[1:]:
            pairs = pair_up(outcomes, name, arm)
            share = median(pair.time_share(clock) for pair in pairs) if pairs else 0.0
            if share > PROMISED_SHARE:
                words = "never in its time" if math.isinf(share) else f"in {share:.0%} of its time"
                lines.append(f"- {CASES[name].title}: {arm.name} reaches the dense error {words}.")
        long = arms_of("longer", CASES[name])[1]
        for arm in arms_of("time", CASES[name])[1:]:
            pairs = pair_up(outcomes, name, arm, against=long)
            if pairs and median(pair.gap for pair in pairs) > PROMISED_GAPS[arm.ratio]:
                words = f"{_median_gap(pairs)} behind {long.name}, after the same steps"
                lines.append(f"- {CASES[name].title}: {arm.name} is {words}.")
    for case in CASES.values():
        for arm in dict.fromkeys((*arms_of("steps", case), *arms_of("resolution", case), *arms_of("matrix", case))):
            pairs = pair_up(outcomes, case.name, arm)
            if pairs and arm.ratio in PROMISED_GAPS and median(pair.gap for pair in pairs) > PROMISED_GAPS[arm.ratio]:
                lines.append(f"- {case.title}: {arm.name} is {_median_gap(pairs)} behind at equal steps.")
    found = "\n".join(lines) or "None."
    return f"""## Where sparse loses

Every row above that misses half of the time, or after the same steps the gap promised at 256 x 256:

{found}
"""


def _gap_cells(pairs: Sequence[Pair], clock: Clock) -> tuple[str, str, str, str]:
    return (
        _list(pair.run.last.error for pair in pairs),
        _list((100 * pair.gap for pair in pairs), "{:+.1f} %"),
        _median_gap(pairs),
        f"{median(pair.cost(clock) for pair in pairs):.2f}",
    )


def _verdict(arm: Arm, pairs: Sequence[Pair]) -> str:
    promised = PROMISED_GAPS.get(arm.ratio)
    if promised is None:
        return ""
    return "held" if median(pair.gap for pair in pairs) <= promised else "**not held**"


def _median_gap(pairs: Sequence[Pair]) -> str:
    return f"{median(pair.gap for pair in pairs):+.1%}" if pairs else "-"


def _in_brackets(pairs: Sequence[Pair]) -> str:
    return f" ({_list((100 * pair.gap for pair in pairs), '{:+.1f}')})" if pairs else ""


def _list(values: Iterable[float], form: str = "{:.4f}") -> str:
    return ", ".join("never" if math.isinf(value) else form.format(value) for value in values)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw(outcomes: Sequence[Outcome], path: Path, clock: Clock) -> None:
    """Draw error by time on the three data sets, error by steps at 256 x 256, and gap by resolution."""
    with mpl.rc_context(
        {"svg.hashsalt": "accuracy", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(13, 7), layout="constrained")
        axes = figure.subplots(2, 3)
        for place, name in zip(axes[0], MAIN, strict=True):
            _draw_curves(place, outcomes, name, arms_of("time", CASES[name]), clock)
            place.set(title=CASES[name].title, xlabel=f"{'CPU' if clock == 'cpu' else 'wall-clock'} seconds")
        _draw_curves(axes[1, 0], outcomes, "fronts_256", arms_of("steps", CASES["fronts_256"]), None)
        axes[1, 0].set(title="equal steps, 256 x 256", xlabel="steps")
        _draw_gaps(axes[1, 1], outcomes)
        _draw_matrix(axes[1, 2], outcomes)
        figure.savefig(path, metadata={"Date": None})


def _draw_curves(axes: Axes, outcomes: Sequence[Outcome], name: str, arms: Sequence[Arm], clock: Clock | None) -> None:
    """Draw a line a run; against steps where no clock is given."""
    for colour, arm in zip(_COLOURS, arms, strict=False):
        for number, pair in enumerate(pair_up(outcomes, name, arm)):
            across = [point.step if clock is None else point.seconds(clock) for point in pair.run.curve]
            label = arm.name if number == 0 else None
            axes.plot(across, [point.error for point in pair.run.curve], color=colour, lw=1.1, marker=".", label=label)
    axes.set(yscale="log", ylabel="relative L2, all points")
    for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        which("{x:.2g}")
    _add_legend(axes)


def _draw_gaps(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    """Draw the median gap at equal steps by resolution."""
    for colour, arm in zip(_COLOURS[1:], arms_of("resolution", CASES["fronts_256"])[1:], strict=False):
        by_size = [pair_up(outcomes, f"fronts_{size}", arm) for size in SIZES]
        _draw_row(axes, by_size, {"color": colour, "label": arm.name})
    axes.set(title="gap at equal steps, Burgers", xlabel="nodes along an axis")
    _finish_gaps(axes, [f"{size}" for size in SIZES])


def _draw_matrix(axes: Axes, outcomes: Sequence[Outcome]) -> None:
    """Draw the median gap at equal steps by ratio, a line for each sampler and data set."""
    for style, name in zip(("-", "--", ":"), MAIN, strict=True):
        for colour, draws in zip(_COLOURS[1:], DRAWS, strict=False):
            by_ratio = [pair_up(outcomes, name, Arm(draws=draws, ratio=ratio)) for ratio in RATIOS]
            _draw_row(axes, by_ratio, {"color": colour, "linestyle": style, "label": f"{draws}, {name}"})
    axes.set(title="gap at equal steps by ratio", xlabel="ratio")
    _finish_gaps(axes, [f"{ratio:g}" for ratio in RATIOS])
    if axes.get_legend() is not None:
        low, high = axes.get_ylim()
        axes.set_ylim(low - 0.45 * (high - low), high)  # room for the legend, which has a line for each
        axes.legend(fontsize="x-small", ncols=3, loc="lower center", edgecolor="none")


def _draw_row(axes: Axes, found: Sequence[Sequence[Pair]], looks: Mapping[str, Any]) -> None:
    """Draw median gaps at the places of a row where there are runs."""
    gaps = {place: 100 * median(pair.gap for pair in pairs) for place, pairs in enumerate(found) if pairs}
    if gaps:
        axes.plot(list(gaps), list(gaps.values()), marker="o", **looks)


def _finish_gaps(axes: Axes, places: Sequence[str]) -> None:
    axes.axhline(0, color="#999999", lw=0.8)
    axes.set_ylabel("gap to dense, %")
    axes.set_xticks(range(len(places)), places)
    _add_legend(axes)


def _add_legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small", framealpha=0.7, edgecolor="none")
