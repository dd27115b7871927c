"""A model in the middle of a rollout: what it saw last, and the tokens that it made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from jaxtyping import Float

from ups_data.collate import SparseBatch, collate_samples
from ups_data.errors import ConfigError, suggest
from ups_data.inference.decode import QUERY_CHUNK, decode_dense
from ups_data.inference.points import PointSet
from ups_data.models import Lattice, NeuralOperator
from ups_data.sample import SparseSample


@dataclass(frozen=True, kw_only=True)
class RolloutPlan:
    """How a rollout goes from frame to frame.

    Attributes:
        reencode_every: frames after which the answer is decoded at every point of the input and encoded anew: 1 goes
            in physical space, as a rollout of next-frame models does. None never encodes again: the rollout goes in
            latent space, by the latent operator alone.
        held_fields: input fields that the model does not predict and that keep their values of the start (a map of the
            material, a mask). Others that are not predicted are an error where the answer is encoded anew.
        query_chunk: points decoded at a time, which bounds the memory.
    """

    reencode_every: int | None = 1
    held_fields: tuple[str, ...] = ()
    query_chunk: int = QUERY_CHUNK

    def __post_init__(self) -> None:
        if self.reencode_every is not None and self.reencode_every < 1:
            raise ConfigError(f"reencode_every must be at least 1, or None for latent space, got {self.reencode_every}")

    def check(self, model: NeuralOperator) -> None:
        """Refuse a plan that a model cannot follow.

        Raises:
            ConfigError: an input field is neither predicted nor held, or a held one that there is not.
        """
        if self.reencode_every is None:
            return
        predicted = {field.name for field in model.problem.target_fields}
        names = [field.name for field in model.problem.input_fields]
        for name in self.held_fields:
            if name not in names:
                raise ConfigError(f"held_fields names {name!r}, which the model does not read. {suggest(name, names)}")
        for field in model.problem.input_fields:
            if field.name not in predicted | set(self.held_fields):
                raise ConfigError(
                    f"the model reads the field {field.name!r} and does not predict it: name it in held_fields if it "
                    f"keeps its values, or go on in latent space with reencode_every=None"
                )


PHYSICAL = RolloutPlan()
"""Every answer is encoded anew."""
LATENT = RolloutPlan(reencode_every=None)
"""The latent operator alone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RolloutState:
    """One moment of a rollout of one trajectory. States are never changed: several may go on from one.

    Attributes:
        model: in evaluation mode.
        plan: how it goes on.
        seen: what was encoded last; it has no queries.
        latent: tokens (1, L, E) at `time`.
        base: the frame that a residual model adds its answers to; None for others.
        time: physical.
        frames_since: frames since the last encoding.
    """

    model: NeuralOperator
    plan: RolloutPlan
    seen: SparseSample
    latent: Lattice
    base: Lattice | None
    time: float
    frames_since: int

    @classmethod
    def start(cls, model: NeuralOperator, sample: SparseSample, plan: RolloutPlan) -> Self:
        """Encode the input of a sample; what it was drawn for does not matter.

        Raises:
            ConfigError: the model cannot follow the plan.
        """
        plan.check(model)
        return cls._encode(model, _without_queries(sample), plan)

    @classmethod
    @torch.no_grad()
    def _encode(cls, model: NeuralOperator, seen: SparseSample, plan: RolloutPlan) -> Self:
        batch = _batch_of(seen, model)
        return cls(
            model=model,
            plan=plan,
            seen=seen,
            latent=model.encode(batch),
            base=model.last_frame(batch) if model.config.residual else None,
            time=float(seen.input_times[-1]),
            frames_since=0,
        )

    def ready(self) -> RolloutState:
        """Return the state from which the next step is taken: encoded anew if the plan says so by now."""
        return self.reencode() if self.frames_since == self.plan.reencode_every else self

    @torch.no_grad()
    def propose(self, time: float, latent: Lattice | None = None) -> Lattice:
        """Return the tokens that the latent operator gives for another time, from these tokens or from others."""
        latent = self.latent if latent is None else latent
        return self.model.step(
            latent,
            start=self._filled(latent, self.time),
            stop=self._filled(latent, time),
            parameters=self.seen.parameters.to(latent.values).expand(len(latent.values), -1),
        )

    def accept(self, latent: Lattice, time: float) -> RolloutState:
        """Return the state that goes on with some tokens at a later time."""
        return replace(self, latent=latent, time=time, frames_since=self.frames_since + 1)

    def answer(self, points: PointSet | None = None) -> Float[np.ndarray, "channel point"]:
        """Decode the target channels in physical units (C, N): at the points of the input, or at others."""
        normaliser = self.seen.normalisers.target
        if points is not None:
            return decode_dense(
                self.model,
                self.latent,
                points,
                base=self.base,
                normaliser=normaliser,
                query_chunk=self.plan.query_chunk,
            )
        return self._nodes * normaliser.scale[:, None].astype("float32") + normaliser.mean[:, None].astype("float32")

    @cached_property
    def points(self) -> PointSet:
        """The points of the input."""
        if self.seen.input_coords is None:
            return PointSet(axes=tuple(axis.double().numpy() for axis in self.seen.input_axes))
        return PointSet.cloud(self.seen.input_coords.double().numpy())

    @cached_property
    def _nodes(self) -> Float[np.ndarray, "channel point"]:
        """The normalised answer at the points of the input, decoded once for the answer and the next input."""
        return decode_dense(self.model, self.latent, self.points, base=self.base, query_chunk=self.plan.query_chunk)

    def reencode(self) -> RolloutState:
        """Put the answer behind the input window, whose first frame leaves it, and encode what is there then.

        Fields that are not predicted keep the values of the last frame, and values stay missing where they were.
        """
        seen = self.seen
        newest = seen.inputs[-1].flatten(1).clone()
        newest[list(_predicted_inputs(self.model))] = torch.from_numpy(self._nodes)[_sources(self.model)]
        newest = newest.reshape(seen.inputs.shape[1:])
        valid = seen.input_valid
        if valid is not None:
            newest = newest.masked_fill(~valid[-1], 0.0)
            valid = torch.cat([valid[1:], valid[-1:]])
        times = torch.cat([seen.input_times[1:], torch.tensor([self.time], dtype=seen.input_times.dtype)])
        shifted = replace(seen, inputs=torch.cat([seen.inputs[1:], newest[None]]), input_valid=valid, input_times=times)
        return self._encode(self.model, shifted, self.plan)

    def _filled(self, latent: Lattice, time: float) -> Float[torch.Tensor, " batch"]:
        return torch.full((len(latent.values),), time, dtype=latent.values.dtype, device=latent.values.device)


def window_step(sample: SparseSample) -> float:
    """Return the time from one frame of a window to the next: what a rollout takes as its step.

    Raises:
        ConfigError: a steady problem, whose targets belong to the time of the input.
    """
    step = float(sample.target_times[0] - sample.input_times[-1])
    if step == 0:
        raise ConfigError("inputs and targets are of one time: a steady problem has no rollout; use predict")
    return step


def check_times(sample: SparseSample, times: Sequence[float]) -> tuple[float, ...]:
    """Return the times of a rollout.

    Raises:
        ConfigError: none, or times that do not go on from the input.
    """
    before = [float(sample.input_times[-1]), *times[:-1]]
    if not times or any(later <= earlier for earlier, later in zip(before, times, strict=True)):
        raise ConfigError(f"the times of a rollout must rise from that of the last input, {before[0]:g}; got {times}")
    return tuple(float(time) for time in times)


def _without_queries(sample: SparseSample) -> SparseSample:
    channels, points = sample.query_targets.shape[-1], sample.points_at(0)
    return replace(
        sample,
        query_coords=points.coords[:0],
        query_targets=sample.query_targets.new_zeros(1, 0, channels),
        query_weights=points.weights[:0],
        query_index=points.index[:0],
        target_times=sample.target_times[:1],
        target_valid=None,
        stratum_queries=None,
    )


def _batch_of(sample: SparseSample, model: NeuralOperator) -> SparseBatch:
    return collate_samples([sample]).to(model.device)


def _predicted_inputs(model: NeuralOperator) -> tuple[int, ...]:
    """Return the numbers of the input channels that the model predicts."""
    return tuple(inside for inside, _ in _channel_pairs(model))


def _sources(model: NeuralOperator) -> list[int]:
    """Return the target channel of each predicted input channel."""
    return [target for _, target in _channel_pairs(model)]


def _channel_pairs(model: NeuralOperator) -> list[tuple[int, int]]:
    starts, start = {}, 0
    for field in model.problem.target_fields:
        starts[field.name] = start
        start += field.channels
    pairs, inside = [], 0
    for field in model.problem.input_fields:
        if field.name in starts:
            pairs += [(inside + number, starts[field.name] + number) for number in range(field.channels)]
        inside += field.channels
    return pairs
