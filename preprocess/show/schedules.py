"""The picture of a schedule: a ratio, or any other number, over the global steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64

from preprocess.report.figures import Palette
from preprocess.show.picture import Panel, Picture
from ups_data.errors import ConfigError, suggest
from ups_data.samplers import Constant, Cosine, Exponential, Linear, Schedule, Step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RAMPS: Mapping[str, type[Linear] | type[Cosine] | type[Exponential]] = {
    "linear": Linear,
    "cosine": Cosine,
    "exponential": Exponential,
}
SCHEDULES = ("constant", *_RAMPS, "step")
"""Schedules by name."""

_INCHES = (9.0, 3.6)
_NUM_PLACES = 601
_NUM_FACTS = 5


@dataclass(frozen=True, kw_only=True)
class ScheduleRequest:
    """Which schedule to draw.

    Attributes:
        kind: one of `SCHEDULES`.
        start: value at the start; of `constant` everywhere.
        end: value after `steps` steps; of ramps only.
        steps: length of a ramp; otherwise how far the picture reaches.
        begin: steps before a ramp begins.
        values, boundaries: of `step`: value i holds from boundary i - 1 on.
    """

    kind: str
    start: float | None = None
    end: float | None = None
    steps: int | None = None
    begin: int = 0
    values: tuple[float, ...] = ()
    boundaries: tuple[int, ...] = ()

    def build(self) -> Schedule:
        """Return the schedule.

        Raises:
            ConfigError: no such kind, or a number that the kind needs and was not given, or does not have.
            SamplerError: numbers that make no schedule.
        """
        if self.kind not in SCHEDULES:
            raise ConfigError(f"there is no schedule {self.kind!r}. {suggest(self.kind, SCHEDULES)}")
        wanted = {"constant": {"start"}, "step": {"values", "boundaries"}}.get(self.kind, {"start", "end", "steps"})
        allowed = wanted | {"steps"} | ({"begin"} if self.kind in _RAMPS else set())
        numbers = ("start", "end", "steps", "begin", "values", "boundaries")
        given = {name for name in numbers if getattr(self, name) not in (None, (), 0)}
        # A zero is a number too, where it can be told from what was not given.
        given |= {name for name in ("start", "end", "steps") if getattr(self, name) is not None}
        if not wanted <= given or not given <= allowed:
            raise ConfigError(
                f"schedule {self.kind!r} takes {_listed(wanted)}{_optional(allowed - wanted)}; given: {_listed(given)}"
            )
        if self.kind == "constant":
            assert self.start is not None
            return Constant(self.start)
        if self.kind == "step":
            return Step(values=self.values, boundaries=self.boundaries)
        assert self.start is not None
        assert self.end is not None
        assert self.steps is not None
        return _RAMPS[self.kind](start=self.start, end=self.end, steps=self.steps, begin=self.begin)

    @property
    def last_step(self) -> int:
        """Where the picture ends: a tenth beyond the last change."""
        if self.kind in _RAMPS:
            return self.begin + round(1.1 * (self.steps or 1))
        return self.steps or round(1.1 * max(self.boundaries, default=1000))


def picture_schedule(request: ScheduleRequest) -> Picture:
    """Return the picture of a schedule.

    Raises:
        ConfigError, SamplerError: as of `ScheduleRequest.build`.
    """
    schedule = request.build()
    steps = np.unique(np.linspace(0, max(1, request.last_step), _NUM_PLACES).round().astype(np.int64))
    if request.boundaries:
        # A jump is drawn where it is, and not on the way to the next place.
        edges = np.array(request.boundaries, dtype=np.int64)
        steps = np.unique(np.concatenate([steps, edges, np.maximum(edges - 1, 0)]))
    values = np.array([schedule(int(step)) for step in steps])
    told = np.unique(np.linspace(0, max(1, request.last_step), _NUM_FACTS).round().astype(np.int64))
    return Picture(
        title=f"Schedule {request.kind}: {values[0]:g} to {values[-1]:g}",
        panels=(Panel(title="Value by global step", draw=partial(_draw, steps=steps, values=values), inches=_INCHES),),
        columns=1,
        caption="A schedule is a function of the global step: every worker and rank computes the same value.",
        facts=tuple((f"step {step:,}", f"{schedule(int(step)):.6g}") for step in told),
    )


def _draw(
    axes: Axes, palette: Palette, *, steps: Int64[np.ndarray, " place"], values: Float64[np.ndarray, " place"]
) -> None:
    axes.plot(steps, values, color=palette["sparse"], linewidth=2.0, drawstyle="steps-post")
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="y")
    axes.set_xlim(0, steps[-1])
    low, high = float(values.min()), float(values.max())
    axes.set_ylim(min(0.0, low), high + 0.06 * ((high - min(0.0, low)) or 1.0))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("global step")
    axes.set_ylabel("value")


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def _optional(names: set[str]) -> str:
    return f" and, if wanted, {_listed(names)}" if names else ""
