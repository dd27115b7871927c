"""Many steps into the future, each from the one before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from ups_data.inference.points import PointSet
from ups_data.inference.state import PHYSICAL, RolloutPlan, RolloutState, check_times
from ups_data.models import NeuralOperator
from ups_data.sample import SparseSample


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollout:
    """What a model says of several times.

    Attributes:
        times: (T,), physical.
        values: (T, C, N), target channels in physical units.
        points: where (N).
    """

    times: Float64[np.ndarray, " time"]
    values: Float[np.ndarray, "time channel point"]
    points: PointSet


def iterate_rollout(
    model: NeuralOperator, sample: SparseSample, times: Sequence[float], *, plan: RolloutPlan = PHYSICAL
) -> Iterator[RolloutState]:
    """Go from the input of a sample through some times, and yield the state at each.

    The state answers at any points (`state.answer(points)`), so a long rollout of many points need not be held in
    memory. Times need not be those of the data: the latent operator is told every step.

    Args:
        model: put into evaluation mode by the caller.
        sample: whose input is the start; its queries do not matter. Parameters are those of the sample.
        times: physical, rising.
        plan: physical or latent space.

    Raises:
        ConfigError: times that do not rise, or a model that cannot follow the plan.
    """
    state = RolloutState.start(model, sample, plan)
    for time in check_times(sample, times):
        state = state.ready()
        state = state.accept(state.propose(time), time)
        yield state


def rollout(
    model: NeuralOperator,
    sample: SparseSample,
    times: Sequence[float],
    *,
    plan: RolloutPlan = PHYSICAL,
    points: PointSet | None = None,
) -> Rollout:
    """Collect a rollout at the points of the input, or at others; see `iterate_rollout`."""
    states = iterate_rollout(model, sample, times, plan=plan)
    return collect(states, points)


def collect(states: Iterable[RolloutState], points: PointSet | None = None) -> Rollout:
    """Decode the states of a rollout."""
    times, values, where = [], [], points
    for state in states:
        times.append(state.time)
        values.append(state.answer(points))
        where = state.points if points is None else points
    assert where is not None
    return Rollout(times=np.array(times), values=np.stack(values), points=where)
