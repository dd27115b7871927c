#!/usr/bin/env python
"""Measure how long each term of the loss takes, dense and sparse: its value and its gradients.

Tokens and batches lie ready, so that neither encoding nor reading counts. What is timed of a term is all that comes
after: decoding (and encoding again), the loss, and the gradients of all weights and of the tokens. All ratios are
measured in one run, in turns; medians. `inverse` is both inverse terms together.

Example: scripts/benchmark_loss_computation.py --case plane --rounds 5
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmark_cases import CASES, Case, Column, Training, choose_device, make_parser, make_store, publish
from ups_data.storage import open_store
from ups_data.training import inverse_decoding_loss, inverse_encoding_loss, weighted_loss

TERMS = ("L_forward", "L_inv_enc", "L_inv_dec")
INVERSE = ("L_inv_enc", "L_inv_dec")


def main() -> int:
    """Measure and print a table."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns (5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(CASES[arguments.case], arguments, arguments.data or Path(folder))
    publish(arguments, rows, COLUMNS)
    return 0


def _milliseconds(*terms: str) -> Column:
    return lambda row, _: f"{1e3 * sum(row[term] for term in terms):.1f}"


def _times_faster(*terms: str) -> Column:
    return lambda row, dense: f"{sum(dense[term] for term in terms) / sum(row[term] for term in terms):.1f}"


COLUMNS = {
    **{f"{term}, ms": _milliseconds(term) for term in TERMS},
    "inverse, ms": _milliseconds(*INVERSE),
    "inverse, times faster": _times_faster(*INVERSE),
}


def measure(case: Case, arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Return a row a ratio: median seconds of each term."""
    store, device = open_store(make_store(case, folder)), choose_device(arguments.device)
    runs = [_Terms(Training(case, store, ratio, device=device), ratio) for ratio in arguments.ratios]
    taken: dict[tuple[int, str], list[float]] = {}
    for turn in range(arguments.rounds + 1):
        for number, run in enumerate(runs):
            for term in TERMS:
                seconds = run.seconds_of(term, step=turn)
                if turn:  # the first one warms up
                    taken.setdefault((number, term), []).append(seconds)
    return [
        {"ratio": ratio, "fits": True, **{term: statistics.median(taken[number, term]) for term in TERMS}}
        for number, ratio in enumerate(arguments.ratios)
    ]


class _Terms:
    """The terms of one ratio, on one batch.

    Args:
        training: where model and batch come from.
        ratio: drawn points / points.
    """

    def __init__(self, training: Training, ratio: float) -> None:
        self._training, self._ratio = training, ratio
        self._batch = training.next_batch()
        with torch.no_grad():
            self._latent = training.model.encode(self._batch)

    def seconds_of(self, term: str, *, step: int) -> float:
        """Return the seconds that a term takes."""
        model, batch = self._training.model, self._batch
        latent = dataclasses.replace(self._latent, values=self._latent.values.clone().requires_grad_())
        losses: dict[str, Callable[[], torch.Tensor]] = {
            "L_forward": lambda: weighted_loss(
                model.answer(model.rollout(batch, start=latent, frames=1), batch, batch.query_coords),
                batch.query_targets[:, :1],
                batch.query_weights,
            ),
            "L_inv_enc": lambda: inverse_encoding_loss(model, latent, batch),
            "L_inv_dec": lambda: inverse_decoding_loss(model, latent, batch, ratio=self._ratio, step=step),
        }
        model.zero_grad(set_to_none=True)
        self._training.wait_for_device()
        began = time.perf_counter()
        losses[term]().backward()
        self._training.wait_for_device()
        return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
