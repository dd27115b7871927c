"""Numbers of a configuration that may change over the run, as functions of the global step."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from ups_data.samplers import Constant, Cosine, Exponential, Linear, Schedule
from ups_data.schema import Record

_RAMPS: dict[str, type[Linear] | type[Cosine] | type[Exponential]] = {
    "linear": Linear,
    "cosine": Cosine,
    "exponential": Exponential,
}


class RampConfig(Record):
    """From one value to another, either way: `{schedule: linear, start: 1, end: 0.1, steps: 5000}`.

    Attributes:
        schedule: its shape.
        start, end: values at both ends.
        steps: global steps from one to the other.
        begin: global steps before it begins, at `start`.
    """

    schedule: Literal["linear", "cosine", "exponential"]
    start: float
    end: float
    steps: Annotated[int, pydantic.Field(ge=1)]
    begin: Annotated[int, pydantic.Field(ge=0)] = 0

    @pydantic.model_validator(mode="after")
    def _is_sound(self) -> RampConfig:
        if self.start < 0 or self.end < 0:
            raise ValueError(f"a ramp has no negative end, got {self.start} and {self.end}")
        if self.schedule == "exponential" and 0 in (self.start, self.end):
            raise ValueError("an exponential ramp needs positive ends; use linear or cosine to reach 0")
        return self

    def build(self) -> Schedule:
        """Return the schedule."""
        return _RAMPS[self.schedule](start=self.start, end=self.end, steps=self.steps, begin=self.begin)


Scheduled = Annotated[float, pydantic.Field(ge=0)] | RampConfig
"""A number that is not negative, or a ramp of such numbers."""


def value_at(value: Scheduled, step: int) -> float:
    """Return the value at a global step."""
    return (value.build() if isinstance(value, RampConfig) else Constant(value))(step)
