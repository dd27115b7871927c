"""What the runs of the study of accuracy gave: a file of lines, and what is read off their curves."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from accuracy_cases import DENSE, Arm

Clock = Literal["cpu", "wall"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A dense evaluation.

    Attributes:
        step: optimiser steps before it.
        cpu: CPU seconds of the process before it, evaluations not counted, the start of the run counted.
        wall: wall-clock seconds of training before it, neither counted.
        error: relative L2 on all points of the test samples.
    """

    step: int
    cpu: float
    wall: float
    error: float

    def seconds(self, clock: Clock) -> float:
        """Return the seconds of a clock."""
        return self.cpu if clock == "cpu" else self.wall


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finished run.

    Attributes:
        case: name of the data set.
        arm, seed: which run.
        machine: what it ran on.
        settings: keys of its configuration.
        curve: its evaluations.
    """

    case: str
    arm: Arm
    seed: int
    machine: str
    settings: dict[str, Any]
    curve: tuple[Point, ...]

    @property
    def key(self) -> tuple[str, Arm, int]:
        """What tells it from other runs."""
        return (self.case, self.arm, self.seed)

    @property
    def last(self) -> Point:
        """The evaluation at its end."""
        return self.curve[-1]

    def to_line(self) -> str:
        """Return it as a line of JSON."""
        return f"{json.dumps(asdict(self))}\n"

    @classmethod
    def from_line(cls, line: str) -> Outcome:
        """Read it from a line of JSON."""
        content = json.loads(line)
        curve = tuple(Point(**point) for point in content.pop("curve"))
        return cls(**content | {"arm": Arm(**content["arm"]), "curve": curve})

    def seconds_to(self, error: float, clock: Clock) -> float:
        """Return when its curve first reaches an error, linear between evaluations; infinity where it never does."""
        before = self.curve[0]
        for point in self.curve:
            if point.error <= error:
                drop = before.error - point.error
                share = (before.error - error) / drop if drop > 0 else 1.0
                return before.seconds(clock) + share * (point.seconds(clock) - before.seconds(clock))
            before = point
        return float("inf")

    def error_at(self, seconds: float, clock: Clock) -> float:
        """Return its error at a time, linear between evaluations; NaN outside of its curve."""
        for before, after in zip(self.curve[:-1], self.curve[1:], strict=True):
            start, stop = before.seconds(clock), after.seconds(clock)
            if start <= seconds <= stop:
                return before.error + (seconds - start) / (stop - start) * (after.error - before.error)
        return float("nan")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A run, and the dense run of the same data set and seed: the same weights at first, the same order of samples."""

    run: Outcome
    dense: Outcome

    @property
    def gap(self) -> float:
        """Error at the end over that of the dense run, less 1."""
        return self.run.last.error / self.dense.last.error - 1

    def time_share(self, clock: Clock) -> float:
        """Return the time to the last error of the dense run over the whole time of that run."""
        return self.run.seconds_to(self.dense.last.error, clock) / self.dense.last.seconds(clock)

    def cost(self, clock: Clock) -> float:
        """Return the whole time over that of the dense run."""
        return self.run.last.seconds(clock) / self.dense.last.seconds(clock)

    def gap_in_time(self, clock: Clock) -> float:
        """Return the error at the end over that of the dense run at the same time, less 1; NaN before its curve."""
        return self.run.last.error / self.dense.error_at(self.run.last.seconds(clock), clock) - 1


def read_outcomes(path: Path) -> list[Outcome]:
    """Read the finished runs; none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Outcome.from_line(line) for line in lines]


def pair_up(outcomes: Sequence[Outcome], case: str, arm: Arm, *, against: Arm = DENSE) -> list[Pair]:
    """Return the runs of an arm, by seed, each with its dense run; those without one are not there."""
    found = {outcome.key: outcome for outcome in outcomes}
    seeds = sorted(seed for name, other, seed in found if (name, other) == (case, arm))
    return [
        Pair(run=found[case, arm, seed], dense=found[case, against, seed])
        for seed in seeds
        if (case, against, seed) in found
    ]


def median(values: Iterable[float]) -> float:
    """Return the median over seeds."""
    return statistics.median(values)
