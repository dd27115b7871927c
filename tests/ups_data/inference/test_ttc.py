"""Test-time conditioning: nothing changes without candidates, and what is found is what a search by hand finds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pydantic
import pytest
import torch

import ups_data
from tests.ups_data.models.cases import SMALL, dataset_of, model_of
from ups_data.errors import ConfigError
from ups_data.inference import (
    ConservationReward,
    RewardConfig,
    RolloutPlan,
    RolloutState,
    TTCConfig,
    iterate_rollout,
    rollout_ttc,
)
from ups_data.models import Lattice, NeuralOperator
from ups_data.sample import SparseSample
from ups_data.samplers import DenseSampler, FixedSampler

REWARD = RewardConfig(density="u0", velocity="u1", mass=1.0, energy=0.5)
TIMES = (0.1, 0.2, 0.3)
WITH_REWARD = {"reward": {"density": "u0", "mass": 1.0}}
PLANS = {"physical": RolloutPlan(), "latent": RolloutPlan(reencode_every=None)}


def ttc(**settings: object) -> TTCConfig:
    return TTCConfig(reward=REWARD, **settings)


def shaken(dataset: ups_data.QueryDataset, **changes: object) -> NeuralOperator:
    """Return a model that does not conserve anything."""
    model = model_of(dataset, SMALL.model_copy(update=changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model.eval()


@pytest.fixture(scope="module", params=["plane", "cloud"])
def start(request, stores: Mapping[str, ups_data.Store]) -> tuple[NeuralOperator, SparseSample]:
    dataset = dataset_of(stores[request.param], FixedSampler(num_queries=40), window=ups_data.Window())
    return shaken(dataset, residual=request.param == "plane"), dataset[0]


def answers(states) -> np.ndarray:
    return np.stack([state.answer() for state in states])


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_one_candidate_is_the_plain_rollout_to_the_bit(start, plan: RolloutPlan) -> None:
    model, sample = start
    plain = answers(iterate_rollout(model, sample, TIMES, plan=plan))
    one = ttc(candidates=1, noise_std=0.5)
    for config in (one, ttc(candidates=3, noise_std=0.5, residual_threshold=1e6)):
        found = rollout_ttc(model, sample, TIMES, config=config, plan=plan)
        np.testing.assert_array_equal(answers(found.states), plain)
        assert [state.time for state in found.states] == list(TIMES)
        assert [step.evaluations for step in found.log.steps] == [1, 1, 1]
    # A corrector that changes nothing leaves the choice to the operator's own candidate, the first of equals.
    config = ttc(candidates=3, beam_width=2)
    found = rollout_ttc(model, sample, TIMES, config=config, plan=plan, corrector=_unchanged)
    np.testing.assert_array_equal(answers(found.states), plain)
    assert [(choice.path, choice.number) for choice in found.log.chosen if choice] == [(0, 0)] * 3


def _unchanged(state: RolloutState, tau: float) -> Lattice:
    return state.latent


def test_the_same_seed_finds_the_same_and_another_another(start) -> None:
    model, sample = start
    config = ttc(candidates=4, noise_std=0.3, beam_width=2)
    first, again = (rollout_ttc(model, sample, TIMES, config=config) for _ in range(2))
    assert first.log == again.log
    np.testing.assert_array_equal(answers(first.states), answers(again.states))
    torch.rand(7)  # the generator of torch has no say
    other = rollout_ttc(model, sample, TIMES, config=config.model_copy(update={"seed": 1}))
    assert other.log.steps[0].candidates != first.log.steps[0].candidates


def shift_mass(state: RolloutState, tau: float) -> Lattice:
    """Move all tokens one way, by tau: candidates whose numbers are the strengths that are drawn."""
    values = state.latent.values
    return state.latent.with_values(values + (tau - 0.5) * torch.linspace(-1, 1, values.shape[-1]))


def by_hand(model: NeuralOperator, sample: SparseSample, taus: list[list[float | None]], gamma: float) -> list[float]:
    """Return the worth of every sequence of candidates, over all of them, with no search at all."""
    reward = ConservationReward.of(model, sample, REWARD)
    found = []
    for chosen in itertools.product(*taus):
        state, worth = RolloutState.start(model, sample, RolloutPlan()), 0.0
        for time, tau in zip(TIMES, chosen, strict=True):
            state = state.ready()
            state = state.accept(state.propose(time), time)
            if tau is not None:
                state = replace(state, latent=shift_mass(state, tau))
            worth = gamma * worth + reward.total(reward.lost(state))
        found.append(worth)
    return found


@pytest.mark.parametrize("gamma", [1.0, 0.6])
def test_beams_that_keep_every_path_find_the_best_of_all(start, gamma: float) -> None:
    """27 sequences of three candidates: the best, and its worth, are those of trying all of them."""
    model, sample = start
    config = ttc(candidates=3, beam_width=9, gamma=gamma, tau_range=(0.4, 0.4))
    # One strength for all, so that a sequence by hand needs no random numbers: plain, shifted, shifted.
    found = rollout_ttc(model, sample, TIMES, config=config, corrector=shift_mass)
    worths = by_hand(model, sample, [[None, 0.4]] * 3, gamma)
    assert found.log.chosen[-1] is not None
    assert found.log.chosen[-1].score == pytest.approx(max(worths), rel=1e-9)
    scores = [candidate.score for candidate in found.log.steps[-1].candidates]
    assert scores == sorted(scores, reverse=True)
    np.testing.assert_allclose(sorted(set(np.round(scores, 9))), sorted(set(np.round(worths, 9))), rtol=1e-6)
    assert [step.evaluations for step in found.log.steps] == [3, 9, 27]


def test_looking_ahead_sees_what_the_next_step_will_lose(start) -> None:
    """Of one path with a horizon of all steps the first choice is that whose plain continuation loses least."""
    model, sample = start
    config = ttc(candidates=5, horizon=3, gamma=0.5, tau_range=(0.0, 1.0))
    found = rollout_ttc(model, sample, TIMES, config=config, corrector=shift_mass)
    reward = ConservationReward.of(model, sample, REWARD)
    for candidate in found.log.steps[0].candidates:
        state = RolloutState.start(model, sample, RolloutPlan())
        state = state.accept(state.propose(TIMES[0]), TIMES[0])
        if candidate.number:
            assert candidate.tau is not None
            state = replace(state, latent=shift_mass(state, candidate.tau))
        score = reward.total(reward.lost(state))
        assert candidate.reward == pytest.approx(score, rel=1e-9)
        for number, time in enumerate(TIMES[1:], 1):
            state = state.ready()
            state = state.accept(state.propose(time), time)
            score += 0.5**number * reward.total(reward.lost(state))
        assert candidate.score == pytest.approx(score, rel=1e-9)
    chosen = found.log.chosen[0]
    assert chosen == max(found.log.steps[0].candidates, key=lambda candidate: candidate.score)
    assert [step.evaluations for step in found.log.steps] == [15, 10, 5]


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_noise_and_a_choice_conserve_more_than_the_operator_alone(stores, plan: RolloutPlan) -> None:
    """Judged by every point, where the search saw forty."""
    sparse = dataset_of(stores["plane"], FixedSampler(num_queries=40), window=ups_data.Window())
    dense = dataset_of(stores["plane"], DenseSampler(), window=ups_data.Window())
    model, times = shaken(sparse, residual=True), tuple(0.1 * number for number in range(1, 7))
    config = ttc(candidates=12, noise_std=1.0)
    worth = {"plain": 0.0, "searched": 0.0}
    for sample, whole in ((sparse[number], dense[number]) for number in (0, 3)):
        judge = ConservationReward.of(model, whole, REWARD)
        found = rollout_ttc(model, sample, times, config=config, plan=plan)
        worth["searched"] += sum(judge.total(judge.lost(state)) for state in found.states)
        states = iterate_rollout(model, sample, times, plan=plan)
        worth["plain"] += sum(judge.total(judge.lost(state)) for state in states)
        # Noise without a choice does harm: it is the choice that helps.
        first = [min(step.candidates, key=lambda entry: entry.number or 99) for step in found.log.steps]
        assert sum(entry.reward for entry in first) < sum(step.candidates[0].reward for step in found.log.steps)
    assert worth["searched"] > 0.8 * worth["plain"]  # both below 0


def test_searches_end_where_they_are_told_to(start) -> None:
    model, sample = start
    config = ttc(candidates=6, noise_std=0.3, horizon=2)

    def log_of(**changes: object):
        return rollout_ttc(model, sample, TIMES, config=config.model_copy(update=changes)).log

    whole = log_of()
    assert [step.evaluations for step in whole.steps] == [12, 12, 6]
    bounded = log_of(max_evaluations=20)
    assert [step.evaluations for step in bounded.steps] == [12, 0, 6]
    assert bounded.steps[1].candidates == ()
    assert bounded.chosen[1] is None
    assert bounded.steps[0] == whole.steps[0]
    assert log_of(max_evaluations=5).evaluations == 0
    # The first that is better at all ends the step; candidates are those of the whole search, as far as it came.
    eager = log_of(early_stop_margin=0.0)
    assert eager.evaluations < whole.evaluations
    known = {entry.number: entry for entry in whole.steps[0].candidates}
    for entry in eager.steps[0].candidates:
        assert entry == known[entry.number]
    better = [number for number in sorted(known) if number and known[number].score >= known[0].score]
    assert max(entry.number for entry in eager.steps[0].candidates) == better[0]


def test_noise_follows_its_ramp(start) -> None:
    model, sample = start
    ramp = {"schedule": "linear", "start": 0.4, "end": 0.0, "steps": 2}
    config = TTCConfig.model_validate(WITH_REWARD | {"candidates": 2, "noise_std": ramp})
    log = rollout_ttc(model, sample, TIMES, config=config).log
    found = [{entry.noise_std for entry in step.candidates if entry.number} for step in log.steps]
    assert found == [{0.4}, {0.2}, {0.0}]


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"candidates": 0}, "greater than or equal to 1"),
        ({"gamma": 0.0}, "greater than 0"),
        ({"tau_range": (0.7, 0.3)}, "begins above its end"),
        ({"beam": 2}, "beam"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, fault: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=fault):
        TTCConfig.model_validate(WITH_REWARD | settings)


def test_candidates_that_differ_by_nothing_are_refused(start) -> None:
    model, sample = start
    with pytest.raises(ConfigError, match="4 candidates would all be the operator's: set noise_std"):
        rollout_ttc(model, sample, TIMES, config=ttc())
