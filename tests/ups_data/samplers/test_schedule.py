"""Schedules in both directions, at their ends and outside of them."""

from itertools import pairwise

import pytest

from ups_data.errors import SamplerError
from ups_data.samplers import Constant, Cosine, Exponential, Linear, Schedule, Step


@pytest.mark.parametrize("kind", [Linear, Cosine, Exponential])
@pytest.mark.parametrize(("start", "end"), [(1.0, 0.1), (0.1, 1.0)])
def test_curriculum_sampling_schedule(kind: type, start: float, end: float) -> None:
    schedule = kind(start=start, end=end, steps=100, begin=20)
    values = [schedule(step) for step in range(150)]
    assert values[:21] == [pytest.approx(start)] * 21
    assert values[120:] == [pytest.approx(end)] * 30
    steps = [b - a for a, b in pairwise(values[20:121])]
    assert all((step > 0) == (end > start) for step in steps)
    assert schedule.bounds == (0.1, 1.0)
    assert isinstance(schedule, Schedule)


def test_middles() -> None:
    assert Linear(start=1.0, end=0.0, steps=10)(5) == pytest.approx(0.5)
    assert Cosine(start=1.0, end=0.0, steps=10)(5) == pytest.approx(0.5)
    assert Exponential(start=1.0, end=0.01, steps=10)(5) == pytest.approx(0.1)
    assert Constant(0.3)(10**9) == 0.3


def test_step_changes_at_its_boundaries() -> None:
    schedule = Step(values=(0.1, 0.2, 1.0), boundaries=(10, 20))
    assert [schedule(step) for step in (0, 9, 10, 19, 20, 99)] == [0.1, 0.1, 0.2, 0.2, 1.0, 1.0]


def test_bad_schedules_are_refused() -> None:
    with pytest.raises(SamplerError, match="steps >= 1"):
        Linear(start=1.0, end=0.1, steps=0)
    with pytest.raises(SamplerError, match="finite ends"):
        Cosine(start=float("nan"), end=0.1, steps=5)
    with pytest.raises(SamplerError, match="positive ends"):
        Exponential(start=0.0, end=0.1, steps=5)
    with pytest.raises(SamplerError, match="one value more"):
        Step(values=(1.0,), boundaries=(5,))
    with pytest.raises(SamplerError, match="rising boundaries"):
        Step(values=(1.0, 0.5, 0.1), boundaries=(5, 5))
