"""Rollouts with test-time conditioning: several candidates a step, those are kept that conserve most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ups_data.errors import ConfigError
from ups_data.inference.conservation import ConservationReward
from ups_data.inference.state import PHYSICAL, RolloutPlan, RolloutState, check_times
from ups_data.inference.ttc_records import CandidateLog, CandidateOrigin, TTCConfig, TTCLog, TTCStepLog
from ups_data.models import Lattice, NeuralOperator
from ups_data.random import Stream, generator
from ups_data.sample import SparseSample
from ups_data.training.schedules import value_at

Corrector = Callable[[RolloutState, float], Lattice]
"""A state and a strength tau in; its tokens, corrected, out: a trained diffusion model's step, say."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TTCRollout:
    """What was found.

    Attributes:
        states: one a step, of the best path.
        log: how they were found.
    """

    states: tuple[RolloutState, ...]
    log: TTCLog


@dataclass(frozen=True, kw_only=True, eq=False)
class _Path:
    """States one after another, and what they were worth.

    Attributes:
        state: the last one.
        before: the path up to there, None at the start.
        past: rewards so far, those of a step earlier worth `gamma` of it.
        entry: of the log.
    """

    state: RolloutState
    before: _Path | None = None
    past: float = 0.0
    entry: CandidateLog | None = None

    def steps(self) -> Iterator[_Path]:
        """Yield the path from its last step to its first."""
        path = self
        while path.before is not None:
            yield path
            path = path.before


def rollout_ttc(
    model: NeuralOperator,
    sample: SparseSample,
    times: Sequence[float],
    *,
    config: TTCConfig,
    corrector: Corrector | None = None,
    plan: RolloutPlan = PHYSICAL,
) -> TTCRollout:
    """Go from the input of a sample through some times, on the path that conserves most.

    With one candidate it is the rollout of `iterate_rollout`, bit by bit. Rewards are estimated on the queries of the
    sample, so they cost a decoding of these, and not of the grid: give the dataset a `FixedSampler`.

    Args:
        model: put into evaluation mode by the caller.
        sample: the start; its queries, with their weights, are the points that rewards are estimated on.
        times: physical, rising.
        config: the search, and what it is for.
        corrector: makes other candidates of the operator's; without one they differ by noise alone.
        plan: physical or latent space. Steps that a candidate is judged by go as the plan says.

    Raises:
        ConfigError: times that do not rise, a model that cannot follow the plan, fields that a reward does not find,
            candidates that differ by nothing.
        DatasetError: a start that nothing can be lost of; see `Integrals.lost_since`.
    """
    if config.candidates > 1 and config.noise_std == 0 and corrector is None:
        raise ConfigError(
            f"{config.candidates} candidates would all be the operator's: set noise_std above 0, give a corrector, or "
            f"set candidates to 1"
        )
    start = RolloutState.start(model, sample, plan)
    search = _Search(
        config=config,
        reward=ConservationReward.of(model, sample, config.reward),
        corrector=corrector,
        times=check_times(sample, times),
    )
    paths = [_Path(state=start)]
    steps: list[TTCStepLog] = []
    for step in range(len(search.times)):
        paths, entry = search.take(paths, step, left=_left(config, steps))
        steps.append(entry)
    best = list(paths[0].steps())[::-1]
    log = TTCLog(
        config=config,
        num_points=len(search.reward.points),
        steps=tuple(steps),
        chosen=tuple(path.entry for path in best),
    )
    return TTCRollout(states=tuple(path.state for path in best), log=log)


def _left(config: TTCConfig, steps: Sequence[TTCStepLog]) -> int | None:
    """Return the evaluations that are left, None where there is no limit."""
    if config.max_evaluations is None:
        return None
    return config.max_evaluations - sum(step.evaluations for step in steps)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Search:
    """What all steps of a search share."""

    config: TTCConfig
    reward: ConservationReward
    corrector: Corrector | None
    times: tuple[float, ...]

    def take(self, paths: Sequence[_Path], step: int, *, left: int | None) -> tuple[list[_Path], TTCStepLog]:
        """Continue paths, best first, by a step."""
        looked_ahead = min(self.config.horizon, len(self.times) - step)
        ready = [path.state.ready() for path in paths]
        if left is not None and len(paths) * self.config.candidates * looked_ahead > left:
            found = [self._continue_plainly(ready[0], paths[0], step)]
            looked = 0
        else:
            found = [
                candidate
                for number, (state, before) in enumerate(zip(ready, paths, strict=True))
                for candidate in self._candidates(state, before, step, number)
            ]
            # Python's sort keeps the order of equals: the operator's own candidate first.
            found.sort(key=_score, reverse=True)
            looked = len(found)
        kept = found[: self.config.beam_width]
        entry = TTCStepLog(
            step=step + 1,
            time=self.times[step],
            candidates=tuple(path.entry for path in found if path.entry is not None),
            kept=len(kept),
            evaluations=looked * looked_ahead,
        )
        return kept, entry

    def _continue_plainly(self, state: RolloutState, before: _Path, step: int) -> _Path:
        return _Path(state=self._step(state, step), before=before, past=self.config.gamma * before.past)

    def _step(self, state: RolloutState, step: int) -> RolloutState:
        return state.accept(state.propose(self.times[step]), self.times[step])

    def _candidates(self, state: RolloutState, before: _Path, step: int, number: int) -> Iterator[_Path]:
        """Yield the candidates of one path, the operator's first."""
        plain, config = self._step(state, step), self.config
        first = self._judge(plain, CandidateOrigin(path=number, number=0), before, step)
        yield first
        assert first.entry is not None
        if config.residual_threshold is not None and -first.entry.reward <= config.residual_threshold:
            return
        for other in range(1, config.candidates):
            found = self._judge(*self._vary(plain, step, CandidateOrigin(path=number, number=other)), before, step)
            yield found
            if config.early_stop_margin is not None and _score(found) - _score(first) >= config.early_stop_margin:
                return

    def _vary(self, plain: RolloutState, step: int, origin: CandidateOrigin) -> tuple[RolloutState, CandidateOrigin]:
        """Return another candidate than the operator's."""
        # All of these are below 2^31, so a pair of words is of one candidate only.
        words = (plain.seen.trajectory << 32 | step, origin.path << 32 | origin.number)
        numbers = generator(seed=self.config.seed, stream=Stream.SEARCH, words=words)
        tau = float(numbers.uniform(*self.config.tau_range))
        latent = plain.latent if self.corrector is None else self.corrector(plain, tau)
        std = value_at(self.config.noise_std, step)
        if std:
            noise = torch.from_numpy(numbers.standard_normal(tuple(latent.values.shape))).to(latent.values)
            size = latent.values.square().mean().sqrt()
            latent = latent.with_values(latent.values + std * size * noise)
        return replace(plain, latent=latent), origin.model_copy(
            update={"tau": None if self.corrector is None else tau, "noise_std": std}
        )

    def _judge(self, state: RolloutState, origin: CandidateOrigin, before: _Path, step: int) -> _Path:
        """Score a state: its own reward, those of the operator's next steps, and those of its path so far."""
        gamma = self.config.gamma
        lost = self.reward.lost(state)
        reward = self.reward.total(lost)
        past = gamma * before.past + reward
        score, worth, ahead = past, 1.0, state
        for later in range(step + 1, min(step + self.config.horizon, len(self.times))):
            ahead = self._step(ahead.ready(), later)
            worth *= gamma
            score += worth * self.reward.total(self.reward.lost(ahead))
        entry = CandidateLog(**origin.model_dump(), lost=lost, reward=reward, score=score)
        return _Path(state=state, before=before, past=past, entry=entry)


def _score(path: _Path) -> float:
    assert path.entry is not None
    # A state that is not finite is worse than any other; NaN would leave the order undefined.
    return path.entry.score if np.isfinite(path.entry.score) else -np.inf
