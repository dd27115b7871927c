"""How many points are enough: what was found, what follows from it, and a table for people."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

SPREAD = "spread"
"""The integrand that stands for a residual all over the field: the gradient of a small decoder at its optimum."""


@dataclass(frozen=True, kw_only=True)
class SizeRow:
    """Draws of one sampler and size from the store's own layout, over all target frames, exact.

    Attributes:
        sampler: `uniform`, `balanced` or `importance`.
        channel: name of the channel.
        integrand: `change` from the frame before to the target, `square` of a steady field, or `spread`.
        ratio: drawn points / points of the trajectory.
        multiplier: variance of as many uniform points / variance of the draw, geometric mean; None if none varies.
        error: standard error of one draw over the dense value, root mean square; None for `spread`, whose dense value
            is zero, and where the dense value is.
    """

    sampler: str
    channel: str
    integrand: str
    ratio: float
    multiplier: float | None
    error: float | None


@dataclass(frozen=True, kw_only=True)
class SizeReport:
    """Errors of draws by their size.

    Attributes:
        wanted: relative standard error of a sample's dense loss that is aimed at.
        ratio: at which the table shows what points are worth.
        rows: of all samplers, channels, integrands and ratios that can be drawn.
    """

    wanted: float
    ratio: float
    rows: tuple[SizeRow, ...]

    @property
    def samplers(self) -> tuple[str, ...]:
        """Names of the samplers."""
        return tuple(dict.fromkeys(row.sampler for row in self.rows))

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(dict.fromkeys(row.channel for row in self.rows))

    @property
    def integrand(self) -> str:
        """The one that stands for the loss."""
        return next((row.integrand for row in self.rows if row.integrand != SPREAD), SPREAD)

    def errors(self, sampler: str, channel: str) -> tuple[tuple[float, float], ...]:
        """Return ratios and relative standard errors of the loss, by rising ratio."""
        rows = self._rows(sampler, channel, self.integrand)
        return tuple(sorted((row.ratio, row.error) for row in rows if row.error is not None))

    def ratio_for(self, sampler: str, channel: str) -> float | None:
        """Return the ratio from which on the error is at most the wanted one, a power law between those worked out.

        None where no ratio that was worked out is enough; the least of them where each is.
        """
        points = self.errors(sampler, channel)
        for number, (ratio, error) in enumerate(points):
            if error <= self.wanted:
                if number == 0 or error <= 0:
                    return ratio
                before, more = points[number - 1]
                share = math.log(more / self.wanted) / math.log(more / error)
                return before * (ratio / before) ** share
        return None

    def worth(self, sampler: str, integrand: str, channel: str | None = None) -> float | None:
        """Return what a point is worth at the report's ratio; the geometric mean over the channels if None is named."""
        names = self.channels if channel is None else (channel,)
        rows = [row for name in names for row in self._rows(sampler, name, integrand) if row.ratio == self.ratio]
        known = [row.multiplier for row in rows if row.multiplier is not None]
        return statistics.geometric_mean(known) if known else None

    def _rows(self, sampler: str, channel: str, integrand: str) -> Sequence[SizeRow]:
        wanted = (sampler, channel, integrand)
        return [row for row in self.rows if (row.sampler, row.channel, row.integrand) == wanted]

    def lines(self) -> Iterator[str]:
        """Yield what follows, in words."""
        for channel in self.channels:
            found = {sampler: self.ratio_for(sampler, channel) for sampler in self.samplers}
            if not any(self.errors(sampler, channel) for sampler in self.samplers):
                continue
            enough = {sampler: ratio for sampler, ratio in found.items() if ratio is not None}
            sizes = ", ".join(
                f"{sampler} {_percent(enough[sampler])}" if sampler in enough else f"{sampler} more than was tried"
                for sampler in sorted(found, key=lambda name: enough.get(name, math.inf))
            )
            yield f"for a standard error of {self.wanted:.0%} of the dense {self.integrand} of {channel} draw: {sizes}"
        spread = {sampler: self.worth(sampler, SPREAD) for sampler in self.samplers}
        known = {sampler: worth for sampler, worth in spread.items() if worth is not None and sampler != "uniform"}
        if known:
            best = max(known, key=lambda name: known[name])
            worth = ", ".join(f"{sampler} {value:.2f}" for sampler, value in known.items())
            yield (
                f"where a model's residual is spread over the whole field, {best} draws are the better ones: for the "
                f"gradient of a small decoder a point is worth this many uniform ones: {worth}"
            )

    def to_table(self) -> Table:
        """Return worth and sufficient ratios, a line a channel."""
        table = Table(
            title=f"Sizes: worth of a drawn point at ratio {self.ratio:g}; ratio for an error of {self.wanted:.0%}",
            title_justify="left",
            title_style="bold",
            caption=(
                f"{self.integrand}: the loss. spread: gradient of a decoder of few Fourier modes at its optimum, which "
                f"stands for a residual all over the field. Error: standard error of a draw over the dense "
                f"{self.integrand} of a sample."
            ),
            caption_justify="left",
        )
        table.add_column("channel")
        drawn = [sampler for sampler in self.samplers if sampler != "uniform"]
        for integrand in (self.integrand, SPREAD):
            for sampler in drawn:
                table.add_column(f"{sampler}: {integrand}", justify="right")
        for sampler in self.samplers:
            table.add_column(f"{sampler}: ratio", justify="right")
        for channel in self.channels:
            cells = [_number(self.worth(name, what, channel)) for what in (self.integrand, SPREAD) for name in drawn]
            sizes = [_percent(self.ratio_for(sampler, channel)) for sampler in self.samplers]
            table.add_row(Text(channel), *cells, *sizes)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON knows it."""
        return {
            "wanted_error": self.wanted,
            "ratio": self.ratio,
            "recommendation": list(self.lines()),
            "sufficient": [
                {"sampler": sampler, "channel": channel, "ratio": self.ratio_for(sampler, channel)}
                for channel in self.channels
                for sampler in self.samplers
            ],
            "rows": [asdict(row) for row in self.rows],
        }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.3g} %"
