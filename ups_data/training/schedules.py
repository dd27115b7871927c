"""Numbers of a configuration that may change over the run, as functions of the global step."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from ups_data.samplers import Constant, Cosine, Exponential, Linear, Schedule
from ups_data.schema import Record
from ups_data.yaml_records import form

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

    @property
    def ends(self) -> tuple[float, float]:
        """Values at start and end."""
        return (self.start, self.end)

    def build(self) -> Schedule:
        """Return the schedule."""
        return _RAMPS[self.schedule](start=self.start, end=self.end, steps=self.steps, begin=self.begin)


def _form_of(value: Any) -> str:
    return "(ramp)" if isinstance(value, (dict, RampConfig)) else "(number)"


# One form is checked, the one that was written: what is wrong with a ramp is told without what a number would need.
_Ramp = Annotated[RampConfig, form("ramp")]
_OneForm = pydantic.Discriminator(_form_of)

Scheduled = Annotated[Annotated[float, pydantic.Field(ge=0), form("number")] | _Ramp, _OneForm]
"""A number that is not negative, or a ramp of such numbers."""

ScheduledShare = Annotated[Annotated[float, pydantic.Field(gt=0, le=1), form("number")] | _Ramp, _OneForm]
"""A share above 0 and up to 1, or a ramp of such shares."""

ScheduledCount = Annotated[Annotated[int, pydantic.Field(ge=1), form("number")] | _Ramp, _OneForm]
"""A number from 1 on, or a ramp of such numbers."""


def schedule_of(value: float | RampConfig) -> Schedule:
    """Return a number or a ramp as a schedule."""
    return value.build() if isinstance(value, RampConfig) else Constant(value)


def value_at(value: float | RampConfig, step: int) -> float:
    """Return the value at a global step."""
    return schedule_of(value)(step)
