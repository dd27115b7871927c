"""What a training run is: strict records, each default exactly once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

import pydantic
import torch

import ups_data
from ups_data.errors import ConfigError
from ups_data.models import OperatorConfig
from ups_data.samplers import DenseSampler, FeedbackRule, Sampler
from ups_data.schema import Record
from ups_data.training.data_config import AtLeastOne, AtLeastZero, DataConfig
from ups_data.training.losses import LossConfig
from ups_data.training.schedules import RampConfig, ScheduledCount, ScheduledShare, schedule_of
from ups_data.yaml_records import parse_record

_KINDS: dict[str, Callable[..., Sampler]] = {
    "adaptive": ups_data.AdaptiveSampler,
    "uniform": ups_data.UniformSampler,
    "stratified": ups_data.StratifiedSampler,
    "balanced": ups_data.BalancedSampler,
    "importance": ups_data.ImportanceSampler,
}


class FeedbackConfig(Record):
    """How the sampler `adaptive` learns from losses; see `ups_data.FeedbackRule`, which has the defaults."""

    every: AtLeastOne | None = None
    lag: AtLeastZero | None = None
    decay: Annotated[float, pydantic.Field(ge=0, le=1)] | None = None
    warmup: AtLeastZero | None = None
    trust: Annotated[float, pydantic.Field(ge=0, le=1)] | None = None
    least_effective: Annotated[float, pydantic.Field(ge=0)] | None = None

    def build(self) -> FeedbackRule:
        """Return the rule."""
        return FeedbackRule(**self.model_dump(exclude_none=True))


class SamplerConfig(Record):
    """Which points are drawn.

    Attributes:
        kind: name of the sampler, see `ups_data.samplers`.
        ratio: drawn points / points of the trajectory: a number, or a ramp over the batches of the run; or
        num_queries: points to draw: a number, or a ramp.
        feedback: of the sampler `adaptive`.
    """

    kind: Literal["dense", "uniform", "stratified", "balanced", "importance", "adaptive"] = "importance"
    ratio: ScheduledShare | None = None
    num_queries: ScheduledCount | None = None
    feedback: FeedbackConfig | None = None

    @pydantic.model_validator(mode="after")
    def _is_whole(self) -> Self:
        sizes = [size for size in (self.ratio, self.num_queries) if size is not None]
        if self.kind == "dense" and sizes:
            raise ValueError("kind: dense takes every point; leave out ratio and num_queries")
        if self.kind != "dense" and len(sizes) != 1:
            raise ValueError(f"kind: {self.kind} needs ratio or num_queries, one of them")
        if self.feedback is not None and self.kind != "adaptive":
            raise ValueError(f"kind: {self.kind} learns nothing from feedback; leave it out, or take kind: adaptive")
        if isinstance(self.ratio, RampConfig) and not 0 < min(self.ratio.ends) <= max(self.ratio.ends) <= 1:
            raise ValueError("a ratio lies above 0 and is at most 1, from the start of a ramp to its end")
        if isinstance(self.num_queries, RampConfig) and min(self.num_queries.ends) < 1:
            raise ValueError("num_queries is at least 1, from the start of a ramp to its end")
        return self

    def build(self) -> Sampler:
        """Return the sampler."""
        if self.kind == "dense":
            return DenseSampler()
        return _KINDS[self.kind](
            ratio=None if self.ratio is None else schedule_of(self.ratio),
            num_queries=None if self.num_queries is None else schedule_of(self.num_queries),
            **({} if self.feedback is None else {"feedback": self.feedback.build()}),
        )


class OptimizerConfig(Record):
    """AdamW with a linear warm-up and a cosine to zero.

    Attributes:
        learning_rate: at its peak.
        weight_decay: of AdamW.
        warmup: share of the run in which the learning rate rises.
        clip_norm: largest norm of the gradient.
        ema_decay: decay of the average of weights, which is what is evaluated and kept; 0 for none.
        accumulate: batches whose gradients are averaged for one optimiser step. Schedules of a sampler count batches.
    """

    learning_rate: Annotated[float, pydantic.Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, pydantic.Field(ge=0)] = 1e-4
    warmup: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.05
    clip_norm: Annotated[float, pydantic.Field(gt=0)] = 1.0
    ema_decay: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.99
    accumulate: AtLeastOne = 1


class TrainConfig(Record):
    """A training run.

    Attributes:
        steps: optimiser steps; or
        seconds: wall-clock seconds of training, evaluation not counted. The learning rate then follows the clock, so
            such a run cannot be repeated to the bit.
        evaluations: dense evaluations, spread evenly over the run, the last one at its end. Each leaves a checkpoint.
        seed: of weights, order and draws.
        threads: CPU threads of torch; its own choice if None.
        device: as torch names it; `auto` is the GPU where there is one. Under `torchrun`, `cuda` is the GPU of each
            process.
        precision: `bfloat16` computes in that type what may lose digits (autocast).
        compile: compile the parts of the model (`torch.compile`); batches are then of one shape.
        patience: end the run after so many evaluations without a new least error; never if None.
        keep_checkpoints: checkpoints to keep; with more than one, those before the last are `step_N.safetensors`.
        tensorboard: write figures for TensorBoard into the run's folder.
    """

    data: DataConfig = DataConfig()
    sampler: SamplerConfig = SamplerConfig(ratio=0.1)
    model: OperatorConfig = OperatorConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    steps: AtLeastOne | None = None
    seconds: Annotated[float, pydantic.Field(gt=0)] | None = None
    evaluations: AtLeastOne = 10
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**63)] = 0
    threads: AtLeastOne | None = None
    device: str = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    patience: AtLeastOne | None = None
    keep_checkpoints: AtLeastOne = 1
    tensorboard: bool = False

    @pydantic.model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if (self.steps is None) == (self.seconds is None):
            raise ValueError(
                f"a run needs steps or seconds, one of them; got steps={self.steps}, seconds={self.seconds}"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _rolls_out_without_gaps(self) -> Self:
        window = self.data.window
        if window.drawn_targets is not None and 1 < window.drawn_targets < window.targets:
            raise ValueError(
                f"target frames are reached one from the other, and drawn ones have gaps: data.window.drawn_targets is "
                f"1 here, or is left out; got {window.drawn_targets} of {window.targets}"
            )
        return self

    def choose_device(self) -> torch.device:
        """Return the device that is asked for.

        Raises:
            ConfigError: torch does not know it, or it is not there.
        """
        return find_device(self.device)

    def with_changes(self, **sections: Any) -> Self:
        """Return the configuration with some keys replaced; sections as dictionaries.

        A section `sampler` is replaced as a whole, since its keys depend on one another.
        """
        content = self.model_dump(mode="json", exclude_unset=True)
        if "sampler" in sections:
            content.pop("sampler", None)
        return parse_record(type(self), merge_sections(content, sections), where="the changed configuration")


def find_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is a GPU if there is one, else the CPU.

    Raises:
        ConfigError: torch does not know it, or it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device: {name} cannot be used here ({reason}); use auto or cpu") from error
    return device


def merge_sections(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections with some of their keys replaced, at any depth."""
    merged = dict(content)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = merge_sections(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged
