"""The bias that weights bring which are not the exact ones: rows of numbers, and a table for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from preprocess.prove.estimates import EstimateRow


@dataclass(frozen=True, kw_only=True)
class BiasRow:
    """The bias of one kind of estimate, the worst over trajectories and frames.

    Attributes:
        sampler: label of the sampler.
        integrand: name of it, with its channel.
        relative: the largest |bias| / |truth|; None where the truth is 0.
        share: the largest bias^2 / (bias^2 + variance of one estimate).
    """

    sampler: str
    integrand: str
    relative: float | None
    share: float


def find_bias(rows: Sequence[EstimateRow], samplers: Sequence[str], *, draws: int) -> Iterator[BiasRow]:
    """Yield the bias of some samplers for each integrand.

    The noise of a mean of draws would count as bias: its variance is taken off.

    Args:
        rows: estimates of all samplers.
        samplers: labels of those that are asked for.
        draws: how many each row has.
    """
    for label in samplers:
        mine = [row for row in rows if row.sampler == label]
        for name in dict.fromkeys(row.label for row in mine):
            some = [row for row in mine if row.label == name]
            squares = [max(0.0, row.bias**2 - row.std**2 / draws) for row in some]
            pairs = list(zip(some, squares, strict=True))
            yield BiasRow(
                sampler=label,
                integrand=name,
                relative=max((math.sqrt(square) / abs(row.truth) for row, square in pairs if row.truth), default=None),
                share=max(square / (square + row.std**2) if square else 0.0 for row, square in pairs),
            )


def bias_table(rows: Sequence[BiasRow], weights: Mapping[str, str]) -> Table:
    """Return integrands down and samplers across.

    Args:
        rows: of all of them.
        weights: kind of the weights by the label of the sampler.
    """
    table = Table(
        title="Bias that weights bring: of the truth; share of its square in the mean squared error",
        title_justify="left",
        title_style="bold",
        caption="The worst of all trajectories and frames; what chance alone would show is taken off.",
        caption_justify="left",
    )
    table.add_column("integrand")
    for name, kind in weights.items():
        table.add_column(Text(f"{name}, {kind}"), justify="right")
    found = {(row.sampler, row.integrand): row for row in rows}
    for label in dict.fromkeys(row.integrand for row in rows):
        here = [found.get((name, label)) for name in weights]
        table.add_row(Text(label), *("-" if row is None else _cell(row) for row in here))
    return table


def _cell(row: BiasRow) -> str:
    relative = "-" if row.relative is None else f"{row.relative:.2%}"
    return f"{relative}; {row.share:.0%}"
