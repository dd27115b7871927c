"""Settings and logs of rollouts with test-time conditioning."""

from __future__ import annotations

from typing import Annotated, Self

import pydantic

from ups_data.inference.conservation import RewardConfig
from ups_data.schema import Record
from ups_data.training.schedules import Scheduled

AtLeastOne = Annotated[int, pydantic.Field(ge=1, lt=2**31)]
AtLeastZero = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]


class TTCConfig(Record):
    """How a rollout looks for states that keep what they should.

    At each step every path that is kept is continued by several candidates. The first is what the operator gives, and
    the only one where `candidates` is 1; to each of the others a corrector is applied, if there is one, and noise is
    added. Random numbers are a function of the seed, the trajectory, the step and the candidate.

    Attributes:
        reward: what counts.
        candidates: of each path and step.
        beam_width: paths that are kept from a step to the next.
        horizon: steps that a candidate is judged by: its own, and those that the operator would take after it.
        gamma: what a reward is worth one step away, of those to come and of those of the path so far.
        tau_range: strengths of the corrector, drawn evenly from this range.
        noise_std: of the noise on the tokens, over their root mean square; a number, or a ramp over the steps of the
            rollout.
        residual_threshold: where the operator's own candidate loses at most this, no other is looked at.
        early_stop_margin: once a candidate is better than the operator's by this, the path has no more of this step.
        max_evaluations: rewards that are computed at most; a step that might need more than are left is the operator's.
        seed: of the random numbers.
    """

    reward: RewardConfig
    candidates: AtLeastOne = 4
    beam_width: AtLeastOne = 1
    horizon: AtLeastOne = 1
    gamma: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    tau_range: Annotated[tuple[Share, Share], pydantic.Field(strict=False)] = (0.3, 0.7)
    noise_std: Scheduled = 0.0
    residual_threshold: AtLeastZero | None = None
    early_stop_margin: AtLeastZero | None = None
    max_evaluations: AtLeastOne | None = None
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**63)] = 0

    @pydantic.model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.tau_range[0] > self.tau_range[1]:
            raise ValueError(f"tau_range begins above its end, got {list(self.tau_range)}")
        return self


class CandidateOrigin(Record):
    """How a candidate was made.

    Attributes:
        path: which of the paths it continues, 0 the best.
        number: among the candidates of the path; 0 is the operator's.
        tau: strength of the corrector, None without one.
        noise_std: of its noise.
    """

    path: int
    number: int
    tau: float | None = None
    noise_std: float = 0.0


class CandidateLog(CandidateOrigin):
    """One candidate, and what it is worth.

    Attributes:
        lost: what it has lost by term.
        reward: of it alone.
        score: what it was chosen by: its reward, those of the steps to come and those of its path so far.
    """

    lost: dict[str, float]
    reward: float
    score: float


class TTCStepLog(Record):
    """One step.

    Attributes:
        step: from 1.
        time: physical, of the states.
        candidates: all that were looked at, best first; none where the search had used up its evaluations.
        kept: how many of them go on.
        evaluations: rewards that were computed in this step.
    """

    step: int
    time: float
    candidates: tuple[CandidateLog, ...]
    kept: int
    evaluations: int


class TTCLog(Record):
    """A whole search.

    Attributes:
        config: its settings.
        num_points: points that rewards were estimated on.
        steps: one entry a step.
        chosen: the candidate of each step that the answer came from; None where nothing was evaluated.
    """

    config: TTCConfig
    num_points: int
    steps: tuple[TTCStepLog, ...]
    chosen: tuple[CandidateLog | None, ...]

    @property
    def evaluations(self) -> int:
        """Rewards that were computed."""
        return sum(step.evaluations for step in self.steps)
