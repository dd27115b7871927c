"""From what `prove` found to what a page shows of it: one row for each integrand and sampler."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from preprocess.report.records import Proof, ProofDraws, ProofRow

_WORDS = {
    "value": "{channel}",
    "square": "{channel}, squared",
    "change": "{channel} change, squared",
    "importance": "importance map",
    "weight_sum": "sum of the weights",
}


def summarise_proof(content: Mapping[str, Any]) -> Proof:
    """Return a proof over frames and trajectories.

    Args:
        content: what `ProveReport.to_dict` returns, or `ups-preprocess prove --json` prints.
    """
    rows = content["rows"]
    places = dict.fromkeys((row["integrand"], row["channel"], row["sampler"]) for row in rows)
    order = list(dict.fromkeys(place[:2] for place in places))
    names = [row["sampler"] for row in content["samplers"]]
    return Proof(
        ok=content["ok"],
        ratio=content["ratio"],
        num_draws=content["draws"],
        num_trajectories=len(content["trajectories"]),
        split=content["split"],
        z_limit=content["z_limit"],
        rows=tuple(
            _summarise([row for row in rows if (row["integrand"], row["channel"], row["sampler"]) == place])
            for place in sorted(places, key=lambda place: order.index(place[:2]))
        ),
        draws=tuple(
            _average([row for row in content["samplers"] if row["sampler"] == name]) for name in dict.fromkeys(names)
        ),
    )


def _summarise(rows: Sequence[Mapping[str, Any]]) -> ProofRow:
    multipliers = [row["multiplier"] for row in rows if row["multiplier"] is not None]
    first = rows[0]
    return ProofRow(
        sampler=first["sampler"],
        integrand=_WORDS.get(first["integrand"], first["integrand"]).format(channel=first["channel"]),
        of_field=first["channel"] is not None,
        num_tests=len(rows),
        largest_z=max((row["z"] for row in rows), key=abs),
        multiplier=statistics.geometric_mean(multipliers) if multipliers else None,
        least_multiplier=min(multipliers, default=None),
    )


def _average(rows: Sequence[Mapping[str, Any]]) -> ProofDraws:
    def mean(*names: str) -> float:
        return statistics.fmean(sum(row["cost"][name] for name in names) for row in rows)

    return ProofDraws(
        sampler=rows[0]["sampler"],
        num_points=statistics.fmean(row["drawn_points"] for row in rows),
        effective_points=statistics.fmean(row["effective_points"] for row in rows),
        largest_weight=max(row["largest_weight"] * row["drawn_points"] / row["num_points"] for row in rows),
        weight_sum=statistics.fmean(row["weight_sum"] for row in rows),
        point_bytes=mean("point_bytes"),
        value_bytes=mean("value_bytes"),
        index_bytes=mean("index_bytes"),
        num_ranges=mean("value_ranges", "index_ranges"),
    )
