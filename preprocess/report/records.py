"""What a report tells: plain records, each checked when it is made.

They know nothing of models and training, whose results arrive here as arrays and numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Float64, Int64

RunName = Literal["sparse", "dense"]
Image = Float[np.ndarray, "x y"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The data set, and what a model learns on it.

    Attributes:
        title: of the data set, for people.
        equation: what was solved.
        field: name of the field that is learned.
        unit: of the field; empty if it has none.
        axes: names of the two axes, in stored order.
        time_unit: empty if times have none.
        shape: nodes per axis.
        num_frames: over all trajectories.
        splits: trajectories of each split.
        lead: time from a model's input to its target.
    """

    title: str
    equation: str
    field: str
    unit: str
    axes: tuple[str, str]
    time_unit: str
    shape: tuple[int, int]
    num_frames: int
    splits: Mapping[str, int]
    lead: float

    @property
    def num_points(self) -> int:
        """Points of a frame."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnPoints:
    """One draw.

    Attributes:
        sampler: name of the sampler.
        coordinates: physical coordinates of the drawn points.
        stands_for: weight of each point times the points of the frame: how many of them it stands for.
    """

    sampler: str
    coordinates: Float64[np.ndarray, "point 2"]
    stands_for: Float64[np.ndarray, " weight"]

    def __post_init__(self) -> None:
        if len(self.coordinates) != len(self.stands_for) or not len(self.stands_for):
            raise ValueError(
                f"{len(self.coordinates)} drawn points and {len(self.stands_for)} weights: give one for each"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawExample:
    """A field, its importance map, and points drawn from it.

    Attributes:
        trajectory, frame, time: where the field comes from.
        values: the field.
        importance: its trajectory's map, mean 1.
        extent: lower and upper end of each axis.
        draws: of different samplers, beside each other.
    """

    trajectory: int
    frame: int
    time: float
    values: Image
    importance: Float[np.ndarray, "row column"]
    extent: tuple[tuple[float, float], tuple[float, float]]
    draws: tuple[DrawnPoints, ...]

    def __post_init__(self) -> None:
        if self.values.shape != self.importance.shape:
            raise ValueError(f"field of shape {self.values.shape}, importance of {self.importance.shape}")


@dataclass(frozen=True, kw_only=True)
class ProofRow:
    """How one sampler estimates one integrand, over all frames and trajectories that were tried.

    Attributes:
        sampler: its label.
        integrand: what was estimated, for people.
        of_field: whether it is a function of a field, and not of the importance map or the weights alone.
        num_tests: frames and trajectories.
        largest_z: the bias with the largest size, in standard errors, with its sign.
        multiplier: variance of uniform random draws over the variance of these, at equal numbers of points; geometric
            mean, None where nothing varies.
        least_multiplier: the least of them.
    """

    sampler: str
    integrand: str
    of_field: bool
    num_tests: int
    largest_z: float
    multiplier: float | None
    least_multiplier: float | None


@dataclass(frozen=True, kw_only=True)
class ProofDraws:
    """What the draws of one sampler are like, mean over trajectories.

    Attributes:
        sampler: its label.
        num_points: drawn points.
        effective_points: (sum w)^2 / sum w^2.
        largest_weight: of all draws, in units of the mean weight 1 / num_points.
        weight_sum: mean of the sums of weights.
        point_bytes: size of the drawn values of one frame.
        value_bytes, index_bytes: read for them, and to learn which points they are.
        num_ranges: contiguous ranges that were read.
    """

    sampler: str
    num_points: float
    effective_points: float
    largest_weight: float
    weight_sum: float
    point_bytes: float
    value_bytes: float
    index_bytes: float
    num_ranges: float


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The outcome of `prove`; see `summarise_proof`.

    Attributes:
        ok: whether no fault and no bias was found.
        ratio: drawn points / points.
        num_draws: of each sampler from each trajectory.
        num_trajectories: that were drawn from.
        split: theirs.
        z_limit: the |z| that none may exceed.
        rows: one for each integrand and sampler.
        draws: one for each sampler.
    """

    ok: bool
    ratio: float
    num_draws: int
    num_trajectories: int
    split: str
    z_limit: float
    rows: tuple[ProofRow, ...]
    draws: tuple[ProofDraws, ...]

    @property
    def num_tests(self) -> int:
        """Estimates that were held against the truth."""
        return sum(row.num_tests for row in self.rows)

    @property
    def largest_z(self) -> float:
        """The largest |z| of all."""
        return max(abs(row.largest_z) for row in self.rows)

    def multiplier(self, sampler: str) -> float | None:
        """Return the geometric mean of a sampler's multipliers over the integrands of fields; None if it has none."""
        rows = [row for row in self.rows if row.sampler == sampler and row.of_field]
        values = [row.multiplier for row in rows if row.multiplier is not None]
        return float(np.exp(np.mean(np.log(values)))) if values else None


@dataclass(frozen=True, kw_only=True)
class StreamRow:
    """What one sampler costs, per sample, before a model sees anything.

    Attributes:
        sampler: name of the sampler.
        note: what it is, in a few words.
        num_points: drawn points.
        read_bytes: read from the store, counted at the file system.
        read_ranges: in how many ranges.
        input_bytes: the part of `read_bytes` that is the encoder's input.
        point_bytes: the physical limit of the rest: values and ids of the drawn points.
        shipped_bytes: in the packed buffer.
        shipped_input_bytes: the part of it that is the encoder's input.
        samples_per_s: median over rounds that take turns, one process, warm cache.
    """

    sampler: str
    note: str
    num_points: int
    read_bytes: float
    read_ranges: float
    input_bytes: float
    point_bytes: float
    shipped_bytes: float
    shipped_input_bytes: float
    samples_per_s: float

    @property
    def query_bytes(self) -> float:
        """Bytes read for the targets at the drawn points."""
        return self.read_bytes - self.input_bytes


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The loaders, held against each other; the first row is the sparse one, the last the dense one."""

    batch_size: int
    num_batches: int
    num_rounds: int
    rows: tuple[StreamRow, ...]

    @property
    def sparse(self) -> StreamRow:
        """The row of the sparse run's sampler."""
        return self.rows[0]

    @property
    def dense(self) -> StreamRow:
        """The row that takes every point."""
        return self.rows[-1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One training run.

    Attributes:
        name: `sparse` or `dense`.
        sampler: what was drawn, in a few words.
        ratio: drawn points / points.
        seconds: training time after each step, evaluation not counted.
        losses: loss of each step, as drawn.
        waited: seconds of all that were spent waiting for batches.
        eval_steps, eval_seconds, eval_errors: steps done, training time, and dense relative L2 error on test samples.
        eval_samples: test samples of each evaluation, spread evenly over the split.
    """

    name: RunName
    sampler: str
    ratio: float
    seconds: Float64[np.ndarray, " step"]
    losses: Float64[np.ndarray, " step"]
    waited: float
    eval_steps: Int64[np.ndarray, " evaluation"]
    eval_seconds: Float64[np.ndarray, " evaluation"]
    eval_errors: Float64[np.ndarray, " evaluation"]
    eval_samples: int

    def __post_init__(self) -> None:
        if self.name not in get_args(RunName):
            raise ValueError(f"a run is named one of {get_args(RunName)}, got {self.name!r}")
        if not self.losses.size or not self.eval_errors.size:
            raise ValueError(f"the {self.name} run has {self.losses.size} steps, {self.eval_errors.size} evaluations")

    @property
    def num_steps(self) -> int:
        """Optimiser steps."""
        return self.losses.size

    @property
    def final_error(self) -> float:
        """Dense test error at the end."""
        return float(self.eval_errors[-1])

    @property
    def step_seconds(self) -> float:
        """Mean training time of a step."""
        return float(self.seconds[-1]) / self.num_steps

    def seconds_to(self, error: float) -> float | None:
        """Return the training time at the first evaluation that was at or below an error; None if there was none."""
        reached = np.flatnonzero(self.eval_errors <= error)
        return float(self.eval_seconds[reached[0]]) if reached.size else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """One test sample, as both runs predict it, in physical units.

    Attributes:
        trajectory, input_frame, target_frame: where the sample comes from.
        input_time, target_time: of these frames.
        input, target: the fields.
        predicted: by name of the run.
    """

    trajectory: int
    input_frame: int
    target_frame: int
    input_time: float
    target_time: float
    input: Image
    target: Image
    predicted: Mapping[RunName, Image]

    def error(self, run: RunName) -> float:
        """Return the relative L2 error of a run on this sample."""
        return float(np.linalg.norm(self.predicted[run] - self.target) / np.linalg.norm(self.target))


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line, and what it does."""

    line: str
    purpose: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """All that the page shows.

    Attributes:
        machine, settings: names and values, for people.
        stage_seconds: how long each part took.
        commands: which make this again.
        created: when, for people.
    """

    problem: Problem
    example: DrawExample
    proof: Proof
    stream: Stream
    sparse: Run
    dense: Run
    prediction: Prediction
    machine: Mapping[str, str]
    settings: Mapping[str, str]
    stage_seconds: Mapping[str, float]
    commands: tuple[Command, ...]
    created: str
