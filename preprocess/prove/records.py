"""What a proof found: rows of numbers, verdicts with their limits, JSON, and tables for people."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from preprocess.inspect import format_bytes
from preprocess.prove.bias import BiasRow, bias_table, find_bias
from preprocess.prove.estimates import EstimateRow
from preprocess.prove.integrands import CHANGE, FIELD_INTEGRANDS
from preprocess.prove.layout_records import LayoutReport
from preprocess.prove.size_records import SizeReport

FAMILY_ERROR = 1e-3
"""Chance that a sound store fails, for the estimates and for the coverage each."""

_MAX_PROBLEMS = 20


@dataclass(frozen=True, kw_only=True)
class ReadCost:
    """What reading one draw costs, on average, counted by the reader; shard indices are cached.

    Attributes:
        index_bytes, index_ranges: read to learn which points stand on the pages, and where they lie.
        value_bytes, value_ranges: read for all channels of one frame.
        point_bytes: size of the values that were drawn, for comparison.
    """

    index_bytes: float
    index_ranges: float
    value_bytes: float
    value_ranges: float
    point_bytes: float


@dataclass(frozen=True, kw_only=True)
class DrawRow:
    """What the draws of one sampler from one trajectory are like.

    Attributes:
        sampler: label of the sampler.
        trajectory: number in the store.
        block: number of the block of frames in the trajectory.
        num_draws: draws that were made.
        num_points: points that draws may take, N.
        drawn_points, drawn_points_min, drawn_points_max: points of a draw: mean, least, most.
        effective_points: (sum w)^2 / sum w^2, mean over draws (Kish 1965).
        largest_weight: largest weight of all draws, times N.
        weight_sum: mean sum of the weights.
        weight_sum_error: largest distance of a sum from 1.
        coverage_z: how far the number of visits of `coverage_point`, the worst point, is from what its weight promises.
        coverage_visits: how often that point came.
        cost: of reading a draw.
    """

    sampler: str
    trajectory: int
    block: int
    num_draws: int
    num_points: int
    drawn_points: float
    drawn_points_min: int
    drawn_points_max: int
    effective_points: float
    largest_weight: float
    weight_sum: float
    weight_sum_error: float
    coverage_z: float
    coverage_point: int
    coverage_visits: int
    cost: ReadCost


@dataclass(frozen=True, kw_only=True)
class ProveReport:
    """Everything that `prove` measured, and its verdict.

    Attributes:
        location: the store.
        split: whose trajectories were drawn from.
        trajectories: those that were.
        ratio: drawn points / points of the trajectory, for samplers given by name.
        draws: draws of each sampler from each trajectory.
        seed: of the draws.
        rows: one a sampler, trajectory, integrand, channel and frame.
        draw_rows: one a sampler, trajectory and block.
        faults: draws that broke a rule, values that were not those of the dense frame.
        layouts: which layout would be worth most; None where that was not asked.
        sizes: errors of draws by their size; None where that was not asked.
        inexact: labels of the samplers whose weights are known to bring a bias, by the kind of their weights.
        strict: whether that bias is a problem, too.
    """

    location: str
    split: str
    trajectories: tuple[int, ...]
    ratio: float
    draws: int
    seed: int
    rows: tuple[EstimateRow, ...]
    draw_rows: tuple[DrawRow, ...]
    faults: tuple[str, ...]
    layouts: LayoutReport | None = None
    sizes: SizeReport | None = None
    inexact: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False

    @property
    def ok(self) -> bool:
        """Whether no draw broke a rule, and no bias or coverage is over its limit."""
        return not self.problems

    @property
    def tested(self) -> tuple[EstimateRow, ...]:
        """Rows that must show no bias: those of exact weights, or all."""
        return tuple(row for row in self.rows if self.strict or row.sampler not in self.inexact)

    @property
    def z_limit(self) -> float:
        """Largest |z| that chance explains: two-sided normal, corrected for the number of rows (Sidak 1967)."""
        single = -math.expm1(math.log1p(-FAMILY_ERROR) / max(1, len(self.tested)))
        return -statistics.NormalDist().inv_cdf(single / 2)

    @property
    def coverage_limit(self) -> float:
        """Largest |coverage_z| that chance explains: 2 exp(-z^2 / 2) for each point that was watched (Bonferroni)."""
        watched = sum(row.num_points for row in self.draw_rows)
        return math.sqrt(2 * math.log(2 * max(1, watched) / FAMILY_ERROR))

    @property
    def problems(self) -> tuple[str, ...]:
        """One line each; of many the worst."""
        biased = sorted((row for row in self.tested if abs(row.z) > self.z_limit), key=lambda row: -abs(row.z))
        lines = [*self.faults, *self._coverage_problems(), *(self._describe(row) for row in biased[:_MAX_PROBLEMS])]
        if len(biased) > _MAX_PROBLEMS:
            lines.append(f"and {len(biased) - _MAX_PROBLEMS} more estimates are biased")
        return tuple(lines)

    def _describe(self, row: EstimateRow) -> str:
        frame = "" if row.frame is None else f", frame {row.frame}"
        return (
            f"{row.sampler} is biased: trajectory {row.trajectory}, {row.label}{frame}: {row.truth + row.bias:.6g} "
            f"where the dense truth is {row.truth:.6g}; z = {row.z:.1f} is over the limit of {self.z_limit:.1f} for "
            f"{len(self.tested)} tests"
        )

    def _coverage_problems(self) -> Iterator[str]:
        for row in self.draw_rows:
            if abs(row.coverage_z) > self.coverage_limit:
                yield (
                    f"{row.sampler}, trajectory {row.trajectory}: point {row.coverage_point} came "
                    f"{row.coverage_visits} times in {row.num_draws} draws, which is not what its weight stands for "
                    f"(deviation {row.coverage_z:.1f}, limit {self.coverage_limit:.1f})"
                )

    @property
    def known_bias(self) -> tuple[BiasRow, ...]:
        """What weights that are not exact bring, the worst over trajectories and frames for each integrand."""
        return tuple(find_bias(self.rows, tuple(self.inexact), draws=self.draws))

    @property
    def samplers(self) -> tuple[str, ...]:
        """Labels of the samplers, in the order asked."""
        measured = [row.sampler for row in self.draw_rows]
        return tuple(dict.fromkeys([*measured, *(row.sampler for row in self.rows)]))

    def multipliers(self, sampler: str, *integrands: str) -> tuple[float, ...]:
        """Return the multipliers of a sampler over channels, frames and trajectories; all field integrands for none."""
        chosen = integrands or FIELD_INTEGRANDS
        rows = (row for row in self.rows if row.sampler == sampler and row.integrand in chosen)
        return tuple(row.multiplier for row in rows if row.multiplier is not None)

    @property
    def recommendation(self) -> str:
        """Say which sampler suits these data best, by the geometric mean of its multipliers."""
        means = self._means(*FIELD_INTEGRANDS)
        if not means:
            return "no recommendation: no integrand of these fields varies, or every point is drawn"
        order = sorted(means, key=lambda name: -means[name])
        worth = ", ".join(f"{name} {means[name]:.2f}" for name in order)
        text = f"at ratio {self.ratio:g} take {order[0]}: a drawn point is worth this many uniform ones: {worth}"
        change = self._means(CHANGE)
        best = max(change, key=lambda name: change[name], default=order[0])
        if best != order[0]:
            text += f"; for the squared change alone {best} is better, {change[best]:.2f} to {change[order[0]]:.2f}"
        return text

    def _means(self, *integrands: str) -> dict[str, float]:
        found = {name: self.multipliers(name, *integrands) for name in self.samplers}
        return {name: statistics.geometric_mean(values) for name, values in found.items() if values}

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON knows it."""
        return {
            "ok": self.ok,
            **{key: getattr(self, key) for key in ("location", "split", "ratio", "draws", "seed")},
            "trajectories": list(self.trajectories),
            "z_limit": self.z_limit,
            "coverage_limit": self.coverage_limit,
            "recommendation": self.recommendation,
            "problems": list(self.problems),
            "strict": self.strict,
            "weights": dict(self.inexact),
            "bias": [asdict(row) for row in self.known_bias],
            "samplers": [asdict(row) for row in self.draw_rows],
            "rows": [asdict(row) for row in self.rows],
            "layouts": None if self.layouts is None else self.layouts.to_dict(),
            "sizes": None if self.sizes is None else self.sizes.to_dict(),
        }

    def to_tables(self) -> RenderableType:
        """Return tables for a terminal: the draws, the estimates, the verdict."""
        tables = [self._draw_table(), self._estimate_table()]
        if self.inexact:
            tables.append(bias_table(self.known_bias, self.inexact))
        if self.sizes is not None:
            tables.append(self.sizes.to_table())
        if self.layouts is not None and self.layouts.rows:
            tables.append(self.layouts.to_table())
        return Group(*tables, *(Text(line) for line in self.closing_lines()))

    def to_frame_table(self, integrand: str = CHANGE) -> Table:
        """Return multipliers over uniform sampling frame by frame, one column a sampler, and their geometric means."""
        table = _new_table(f"Multiplier over uniform sampling, integrand {integrand!r}", "frame", *self.samplers)
        rows = [row for row in self.rows if row.integrand == integrand]
        for place in dict.fromkeys((row.trajectory, row.channel, row.frame) for row in rows):
            here = [row for row in rows if (row.trajectory, row.channel, row.frame) == place]
            cells = {row.sampler: "-" if row.multiplier is None else f"{row.multiplier:.2f}" for row in here}
            name = "trajectory {}, {}, frame {}".format(*place)
            table.add_row(Text(name), *(cells.get(sampler, "-") for sampler in self.samplers), end_section=False)
        table.add_section()
        means = self._means(integrand)
        table.add_row("geometric mean", *(f"{means[name]:.2f}" if name in means else "-" for name in self.samplers))
        worst = {name: _worst(row for row in rows if row.sampler == name) for name in self.samplers}
        table.add_row("worst |z|", *(f"{worst[name]:.1f}" for name in self.samplers))
        return table

    def _draw_table(self) -> Table:
        title = f"Draws: {self.draws} of each sampler, {len(self.trajectories)} trajectories of split {self.split}"
        columns = ("points", "effective", "weight x N", "weight sum", "coverage", "bytes drawn", "bytes read", "of ids")
        table = _new_table(title, "sampler", *columns, "ranges")
        for name in self.samplers:
            rows = [row for row in self.draw_rows if row.sampler == name]
            if not rows:
                continue
            costs = [row.cost for row in rows]
            table.add_row(
                Text(name),
                f"{_mean(row.drawn_points for row in rows):.0f}",
                f"{_mean(row.effective_points for row in rows):.0f}",
                f"{max(row.largest_weight for row in rows):.1f}",
                f"{_mean(row.weight_sum for row in rows):.4f} ± {max(row.weight_sum_error for row in rows):.1g}",
                f"{max(abs(row.coverage_z) for row in rows):.1f}",
                format_bytes(round(_mean(cost.point_bytes for cost in costs))),
                format_bytes(round(_mean(cost.value_bytes for cost in costs))),
                format_bytes(round(_mean(cost.index_bytes for cost in costs))),
                f"{_mean(cost.value_ranges for cost in costs):.1f} + {_mean(cost.index_ranges for cost in costs):.1f}",
            )
        table.caption = (
            "effective: (sum w)² / sum w². weight x N: the largest. coverage: worst deviation of a point's visits from "
            "its weight. Bytes a draw and frame: of the points drawn, read for their values, read once for their ids "
            "and places; contiguous ranges of both."
        )
        return table

    def _estimate_table(self) -> Table:
        table = _new_table("Multiplier over uniform sampling, geometric mean (least); worst |z|", "integrand")
        for name in self.samplers:
            table.add_column(Text(name), justify="right")
        for label in dict.fromkeys(row.label for row in self.rows):
            here = [row for row in self.rows if row.label == label]
            table.add_row(Text(label), *(_cell(row for row in here if row.sampler == name) for name in self.samplers))
        table.caption = (
            "Uniform: (1 - n/N) S² / n, without replacement, exact. -: exact to rounding, or nothing to vary. change: "
            "(u - u at the frame before)². Variances of n draws are known within sqrt(2/n)."
        )
        return table

    def closing_lines(self) -> Iterator[str]:
        """Yield the verdict and what follows from it, in words."""
        yield f"largest |z|: {_worst(self.tested):.2f}; limit {self.z_limit:.2f} for {len(self.tested)} tests"
        yield from (f"problem: {problem}" for problem in self.problems)
        for label, kind in self.inexact.items():
            worst = max((row.share for row in self.known_bias if row.sampler == label), default=0.0)
            yield f"{label}: weights {kind!r} bring a bias, up to {worst:.0%} of the mean squared error of an estimate"
        yield self.recommendation
        if self.sizes is not None:
            yield from self.sizes.lines()
        if self.layouts is not None:
            yield from self.layouts.lines()


def _new_table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", caption_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _cell(rows: Iterable[EstimateRow]) -> str:
    rows = list(rows)
    known = [row.multiplier for row in rows if row.multiplier is not None]
    worth = f"{statistics.geometric_mean(known):.2f} ({min(known):.2f})" if known else "-"
    return f"{worth}; {_worst(rows):.1f}"


def _worst(rows: Iterable[EstimateRow]) -> float:
    return max((abs(row.z) for row in rows), default=0.0)


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)
