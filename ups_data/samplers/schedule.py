"""Schedules: a number as a function of the global step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ups_data.errors import SamplerError


@runtime_checkable
class Schedule(Protocol):
    """Anything that turns a global step into a number, and says which values it can take."""

    def __call__(self, step: int) -> float:
        """Return the value at a global step."""
        ...

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the smallest and the largest value that the schedule takes."""
        ...


@dataclass(frozen=True)
class Constant:
    """The same value at every step."""

    value: float

    def __call__(self, step: int) -> float:  # noqa: ARG002  # of the contract
        """Return the value at a global step."""
        return self.value

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the smallest and the largest value that the schedule takes."""
        return (self.value, self.value)


def share_of(name: str, value: float | Schedule) -> Schedule:
    """Return a share in [0, 1], given as a number or a schedule, as a schedule.

    Raises:
        SamplerError: it does not stay in [0, 1]; names the argument.
    """
    schedule = Constant(float(value)) if isinstance(value, (int, float)) else value
    if not 0 <= schedule.bounds[0] <= schedule.bounds[1] <= 1:
        raise SamplerError(f"{name} must lie in [0, 1], got {value}")
    return schedule


@dataclass(frozen=True, kw_only=True)
class _Ramp:
    """From `start` to `end` over `steps` global steps, after `begin` steps at `start`; either direction."""

    start: float
    end: float
    steps: int
    begin: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.begin < 0:
            raise SamplerError(
                f"a schedule needs steps >= 1 and begin >= 0, got steps={self.steps}, begin={self.begin}"
            )
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise SamplerError(f"a schedule needs finite ends, got start={self.start}, end={self.end}")

    def progress(self, step: int) -> float:
        """Return how much of the ramp is done, from 0 to 1."""
        return min(max((step - self.begin) / self.steps, 0.0), 1.0)

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the smallest and the largest value that the schedule takes."""
        return (min(self.start, self.end), max(self.start, self.end))


@dataclass(frozen=True, kw_only=True)
class Linear(_Ramp):
    """r = start + (end - start) s."""

    def __call__(self, step: int) -> float:
        """Return the value at a global step."""
        return self.start + (self.end - self.start) * self.progress(step)


@dataclass(frozen=True, kw_only=True)
class Cosine(_Ramp):
    """r = end + (start - end) (1 + cos(pi s)) / 2."""

    def __call__(self, step: int) -> float:
        """Return the value at a global step."""
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * self.progress(step))) / 2


@dataclass(frozen=True, kw_only=True)
class Exponential(_Ramp):
    """r = start (end / start) ** s; both ends must be positive."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start <= 0 or self.end <= 0:
            raise SamplerError(f"an exponential schedule needs positive ends, got start={self.start}, end={self.end}")

    def __call__(self, step: int) -> float:
        """Return the value at a global step."""
        return float(self.start * (self.end / self.start) ** self.progress(step))


@dataclass(frozen=True, kw_only=True)
class Step:
    """Piecewise constant: `values[i]` from global step `boundaries[i - 1]` on, `values[0]` before the first one."""

    values: tuple[float, ...]
    boundaries: tuple[int, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.boundaries[:-1], self.boundaries[1:], strict=True))
        if len(self.values) != len(self.boundaries) + 1 or not rising:
            raise SamplerError(
                f"a step schedule needs rising boundaries and one value more than these, got boundaries="
                f"{self.boundaries}, values={self.values}"
            )

    def __call__(self, step: int) -> float:
        """Return the value at a global step."""
        return self.values[sum(step >= boundary for boundary in self.boundaries)]

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the smallest and the largest value that the schedule takes."""
        return (min(self.values), max(self.values))
