"""What the search for a layout found: rows of numbers, what follows from them, and a table for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from ups_data.schema import ImportanceSpec

_SHOWN = 8
_WORTHWHILE = 1.1
"""How much better than that of the store a layout must be to convert again for it."""
_TOLERABLE_NOISE = 0.1
_SAME = 0.03


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A layout that a conversion could make.

    Attributes:
        importance: recipe of the map.
        num_strata, block_points, frames_per_block, target_span: see `LayoutSpec`.
    """

    importance: ImportanceSpec
    num_strata: int
    block_points: int
    frames_per_block: int | None
    target_span: int

    def __hash__(self) -> int:
        return hash(self.options)

    @property
    def metrics(self) -> str:
        """Names of the metrics."""
        return " + ".join(self.importance.metrics)

    @property
    def options(self) -> str:
        """The options of `ups-preprocess convert` that make this layout."""
        spec = self.importance
        metrics = ",".join(f"{name}={weight:g}" for name, weight in spec.metrics.items())
        clip = {} if spec.clip is None else spec.clip.model_dump(exclude_none=True)
        clips = "".join(f",clip.{name}={value:g}" for name, value in clip.items())
        blocks = ""
        if self.frames_per_block is not None:
            blocks = f" --frames-per-block {self.frames_per_block} --target-span {self.target_span}"
        return (
            f"--importance {metrics},exponent={spec.exponent:g},floor={spec.floor:g}{clips} --strata {self.num_strata} "
            f"--block-points {self.block_points}{blocks}"
        )

    @property
    def copies(self) -> float:
        """How often a frame stands on pages, the ids of points and their importance counted as values."""
        if self.frames_per_block is None:
            return 1.0
        return (self.frames_per_block + self.target_span - 1 + 2) / self.frames_per_block


@dataclass(frozen=True, kw_only=True)
class LayoutRow:
    """What the draws of one sampler from one layout are worth.

    Attributes:
        candidate: the layout.
        uniform_share: lambda of `ImportanceSampler`; 1 is the draw of `BalancedSampler`.
        multipliers: variance of uniform points / variance of the draw, one a trajectory, target frame and channel.
    """

    candidate: Candidate
    uniform_share: float
    multipliers: tuple[float, ...]

    @property
    def sampler(self) -> str:
        """The sampler in words."""
        return "balanced" if self.uniform_share == 1 else f"importance, lambda {self.uniform_share:g}"

    @property
    def mean(self) -> float:
        """Geometric mean of the multipliers."""
        return statistics.geometric_mean(self.multipliers)

    @property
    def least(self) -> float:
        """The least multiplier."""
        return min(self.multipliers)


@dataclass(frozen=True, kw_only=True)
class RatioRow:
    """What a draw of another size from the best layout is worth.

    Attributes:
        ratio: drawn points / points of the trajectory.
        multiplier: geometric mean.
        noise: mean variance of a draw over the variance of the truth between the samples; None where these are alike.
    """

    ratio: float
    multiplier: float
    noise: float | None


@dataclass(frozen=True, kw_only=True)
class LayoutReport:
    """Candidates by falling worth.

    Attributes:
        integrand: what the worth is of: `change` from the frame before to the target, or `square` of a steady field.
        ratio: drawn points / points of the trajectory.
        own: the layout of the store.
        rows: best first.
        ratios: of the best.
        own_problem: why the layout of the store could not be measured; None where it was.
    """

    integrand: str
    ratio: float
    own: Candidate
    rows: tuple[LayoutRow, ...]
    ratios: tuple[RatioRow, ...]
    own_problem: str | None = None

    @property
    def best(self) -> LayoutRow | None:
        """The row to recommend."""
        return next(iter(self.best_rows), None)

    @property
    def own_best(self) -> LayoutRow | None:
        """The best row of the store's own layout."""
        return next((row for row in self.best_rows if row.candidate == self.own), None)

    @property
    def best_rows(self) -> tuple[LayoutRow, ...]:
        """One row a layout, best first: the largest lambda that is as good as any to 3 %, being the safer one."""
        chosen: dict[Candidate, LayoutRow] = {}
        for row in self.rows:
            first = chosen.setdefault(row.candidate, row)
            if row.uniform_share > first.uniform_share and row.mean > (1 - _SAME) * self._most[row.candidate]:
                chosen[row.candidate] = row
        return tuple(sorted(chosen.values(), key=lambda row: -row.mean))

    @property
    def _most(self) -> dict[Candidate, float]:
        return {row.candidate: row.mean for row in reversed(self.rows)}

    @property
    def least_ratio(self) -> float | None:
        """The least ratio at which a draw adds at most a tenth to the variance that samples have anyway."""
        low = (row.ratio for row in self.ratios if row.noise is not None and row.noise <= _TOLERABLE_NOISE)
        return min(low, default=None)

    def lines(self) -> Iterator[str]:
        """Yield what follows, in words."""
        best, own = self.best, self.own_best
        if self.own_problem is not None:
            yield f"the layout of this store was not compared: {self.own_problem}"
        if best is None:
            yield f"no layout is recommended: the {self.integrand} does not vary, or all of it is drawn"
            return
        if own is not None and best.mean < _WORTHWHILE * own.mean:
            yield f"the layout of this store is as good as any that was tried: take {own.sampler}, worth {own.mean:.1f}"
        else:
            kept = "" if own is None else f"; from this store at most {own.mean:.1f}, by {own.sampler}"
            yield f"another layout is worth more: convert with {best.candidate.options}"
            yield (
                f"and take {best.sampler}: a drawn point is then worth {best.mean:.1f} (least {best.least:.1f}) "
                f"uniform ones for the {self.integrand}{kept}"
            )
            if best.candidate.copies > 1:
                whole = next((row for row in self.best_rows if row.candidate.copies == 1), None)
                if whole is not None:
                    yield f"with one map a trajectory at most {whole.mean:.1f}, by {whole.candidate.options}"
                yield (
                    f"its pages take about {best.candidate.copies:.1f} times the room of one layout a trajectory, for "
                    f"windows whose targets span {best.candidate.target_span} frames; more need a larger --target-span"
                )
        if self.least_ratio is not None:
            yield (
                f"from ratio {self.least_ratio:g} on, such draws add at most a tenth to the variance that the samples "
                f"have anyway"
            )

    def to_table(self) -> Table:
        """Return the best layouts and that of the store itself."""
        table = Table(
            title=f"Layouts: worth of a drawn point for the {self.integrand}, exact, ratio {self.ratio:g}",
            title_justify="left",
            title_style="bold",
            caption=(
                "Worth: geometric mean over trajectories, target frames and channels; the least of them. lambda: share "
                "of the draw that is spread evenly, 1 is balanced. It holds for this integrand: what a trained model "
                "still gets wrong may lie elsewhere."
            ),
            caption_justify="left",
        )
        table.add_column("importance", overflow="fold")
        for name in ("exponent", "strata", "block", "frames", "lambda", "worth", "least"):
            table.add_column(name, justify="right", no_wrap=True)
        shown = self.best_rows[:_SHOWN]
        for row in [*shown, *(row for row in self.best_rows[_SHOWN:] if row.candidate == self.own)]:
            table.add_row(
                Text(row.candidate.metrics + (" (this store)" if row.candidate == self.own else "")),
                f"{row.candidate.importance.exponent:g}",
                f"{row.candidate.num_strata}",
                f"{row.candidate.block_points}",
                "all" if row.candidate.frames_per_block is None else f"{row.candidate.frames_per_block}",
                f"{row.uniform_share:g}",
                f"{row.mean:.2f}",
                f"{row.least:.2f}",
            )
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON knows it."""
        return {
            "integrand": self.integrand,
            "ratio": self.ratio,
            "least_ratio": self.least_ratio,
            "recommendation": list(self.lines()),
            "rows": [
                {
                    "options": row.candidate.options,
                    "own": row.candidate == self.own,
                    "sampler": row.sampler,
                    "mean": row.mean,
                    "multipliers": list(row.multipliers),
                }
                for row in self.rows
            ],
            "ratios": [asdict(row) for row in self.ratios],
        }
