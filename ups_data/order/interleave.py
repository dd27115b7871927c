"""Turns among several streams in exact shares: which stream is next, and how often it has been, at any step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Interleave:
    """The turns of streams with given weights, as a pure function of the step.

    Turn j of stream s (from 0) is due at (2 j + 1) / (2 w_s); turns are taken as they fall due, those due at once in
    the order of the streams. It is the rule by which Webster (1832) and Sainte-Laguë (1910) fill seats one by one. With
    D streams and weights that sum to W, stream s has been served t w_s / W times after t steps, to within
    1/2 + D w_s / (2 W), and exactly after every W steps. Any step is looked up alone, in integers: nothing drifts.

    Attributes:
        weights: a positive whole number for each stream; see `whole_weights`.
    """

    weights: tuple[int, ...]

    def turn(self, step: int) -> tuple[int, int]:
        """Return the stream whose turn comes at a step (from 0), and how many turns it has had before."""
        counts = self._served_before_about(step)
        while True:
            stream = min(range(len(self.weights)), key=lambda s: (Fraction(2 * counts[s] + 1, 2 * self.weights[s]), s))
            if sum(counts) == step:
                return stream, counts[stream]
            counts[stream] += 1

    def step_of(self, stream: int, turn: int) -> int:
        """Return the step at which a stream has a given turn (from 0): the inverse of `turn`."""
        due, weight = 2 * turn + 1, 2 * self.weights[stream]
        step = turn
        for other, other_weight in enumerate(self.weights):
            if other != stream:
                # Turns i with (2 i + 1) / (2 w_other) < due / weight, or equal to it for an earlier stream.
                top = due * 2 * other_weight
                step += -(-(top - weight) // (2 * weight)) if other > stream else (top - weight) // (2 * weight) + 1
        return step

    def _served_before_about(self, step: int) -> list[int]:
        """Return counts of turns that all lie before `step` and are at most D short of it."""
        total = sum(self.weights)
        # With due = (step - D / 2) / W, floor(w due + 1/2) adds up to at most w_total due + D / 2 = step.
        twice = 2 * step - len(self.weights)
        return [max(0, (weight * twice + total) // (2 * total)) for weight in self.weights]


def whole_weights(weights: Sequence[float]) -> tuple[int, ...]:
    """Return the smallest whole numbers in the proportions of some weights; a float is read as written: 0.1 is 1/10."""
    exact = [Fraction(str(weight)) for weight in weights]
    scale = math.lcm(*(part.denominator for part in exact))
    whole = [int(part * scale) for part in exact]
    common = math.gcd(*whole)
    return tuple(part // common for part in whole)
