"""Errors and spectra of rollouts, step by step into the future, on every point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float64

from ups_data.errors import DatasetError
from ups_data.inference.predictor import Predictor
from ups_data.inference.rollout import iterate_rollout
from ups_data.inference.spectra import power_spectrum, uniform_lengths
from ups_data.inference.state import PHYSICAL, RolloutPlan, RolloutState
from ups_data.models import NeuralOperator
from ups_data.sample import SparseSample
from ups_data.training.metrics import dense_errors


@dataclass(frozen=True, kw_only=True)
class StepErrors:
    """Errors of rollouts after some steps; each is the mean over starts of an error of the start.

    Attributes:
        step: steps from the last input frame, from 1.
        relative_l2, vrmse, nrmse: as in `DenseErrors`, of this frame alone.
        persistence: relative L2 of the last input frame, held: what a prediction is worth nothing without beating.
        spectra: by field, on uniform periodic grids, else empty; see `Spectra`.
    """

    step: int
    relative_l2: float
    vrmse: dict[str, float]
    nrmse: dict[str, float]
    persistence: float
    spectra: dict[str, Spectra]

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON knows it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Spectra:
    """Power by wave number of what was predicted, of the truth, and of the error; the mean over starts.

    Attributes:
        wave_numbers: cycles per unit of length.
        predicted, truth, error: see `power_spectrum`.
    """

    wave_numbers: tuple[float, ...]
    predicted: tuple[float, ...]
    truth: tuple[float, ...]
    error: tuple[float, ...]


@runtime_checkable
class Roll(Protocol):
    """Finds the states of a rollout, as `iterate_rollout` does."""

    def __call__(
        self, model: NeuralOperator, sample: SparseSample, times: Sequence[float], *, plan: RolloutPlan
    ) -> Iterable[RolloutState]:
        """Return the state at each time."""
        ...


def rollout_errors(
    predictor: Predictor,
    starts: Sequence[tuple[int, int]],
    num_steps: int,
    *,
    plan: RolloutPlan = PHYSICAL,
    roll: Roll = iterate_rollout,
) -> tuple[StepErrors, ...]:
    """Roll out from some starts and hold every frame against the store, on every point.

    Memory holds a frame of one start and its truth at a time.

    Args:
        predictor: model and data.
        starts: trajectory and first frame of the input window of each.
        num_steps: steps of each, all of which the store must have.
        plan: physical or latent space.
        roll: how the states are found.

    Returns:
        One entry a step.

    Raises:
        DatasetError: no start, or a trajectory that ends before the last step.
        ConfigError: a model that cannot follow the plan.
    """
    if not starts:
        raise DatasetError("errors of rollouts need at least one start")
    tallies = [_Tally() for _ in range(num_steps)]
    for trajectory, frame in starts:
        _follow(predictor, (trajectory, frame), tallies, plan, roll)
    return tuple(tally.mean(step) for step, tally in enumerate(tallies, 1))


def _follow(
    predictor: Predictor, start: tuple[int, int], tallies: Sequence[_Tally], plan: RolloutPlan, roll: Roll
) -> None:
    """Add the errors of one start."""
    sample = predictor.start(*start)
    frames = predictor.truth_frames(sample, len(tallies))
    if len(frames) < len(tallies):
        raise DatasetError(
            f"from frame {start[1]} of trajectory {start[0]} the store goes on for {len(frames)} steps, and "
            f"{len(tallies)} were asked for; start earlier, or take fewer steps"
        )
    store, fields = predictor.dataset.store, predictor.dataset.target_fields
    channels = store.manifest.channels_of(tuple(field.name for field in fields))
    sizes = {field.name: len(field.components) for field in fields}
    lengths = uniform_lengths(store, sample.trajectory)

    def read(frame: int) -> Float64[np.ndarray, "channel point"]:
        values = store.read_frames(sample.trajectory, (frame,), channels)[0]
        return values.reshape(len(channels), -1).astype(np.float64)

    held = read(sample.input_frames[-1])
    states = roll(predictor.model, sample, predictor.times_after(sample, len(frames)), plan=plan)
    for tally, frame, state in zip(tallies, frames, states, strict=True):
        truth = read(frame)
        predicted = state.answer().astype(np.float64)
        tally.add_errors(_errors(predicted, truth, sizes), _errors(held, truth, sizes)["relative_l2"])
        if lengths is not None and np.isfinite(truth).all():
            shape = store.shape(sample.trajectory)
            tally.add_spectra(_field_spectra(predicted, truth, sizes, shape, lengths))


def _errors(
    predicted: Float64[np.ndarray, "channel point"], truth: Float64[np.ndarray, "channel point"], sizes: dict[str, int]
) -> dict[str, float]:
    valid = torch.from_numpy(np.isfinite(truth))
    found = dense_errors(
        _as_batch(torch.from_numpy(np.nan_to_num(predicted))),
        _as_batch(torch.from_numpy(np.nan_to_num(truth))),
        _as_batch(valid),
        sizes,
    )
    return {name: float(error) for name, error in found.items()}


def _as_batch(values: torch.Tensor) -> torch.Tensor:
    return values.T[None, None]


def _field_spectra(
    predicted: Float64[np.ndarray, "channel point"],
    truth: Float64[np.ndarray, "channel point"],
    sizes: dict[str, int],
    shape: tuple[int, ...],
    lengths: tuple[float, ...],
) -> dict[str, tuple[Float64[np.ndarray, " band"], Float64[np.ndarray, "3 band"]]]:
    found, start = {}, 0
    for name, size in sizes.items():
        part = slice(start, start + size)
        kinds = (predicted[part], truth[part], predicted[part] - truth[part])
        powers = [power_spectrum(values.reshape(size, *shape), lengths) for values in kinds]
        found[name] = (powers[0][0], np.stack([power for _, power in powers]))
        start += size
    return found


class _Tally:
    """Adds up the errors of one step over starts."""

    def __init__(self) -> None:
        self._errors: list[dict[str, float]] = []
        self._persistence: list[float] = []
        self._spectra: list[dict[str, tuple[Float[np.ndarray, " band"], Float[np.ndarray, "3 band"]]]] = []

    def add_errors(self, errors: dict[str, float], persistence: float) -> None:
        self._errors.append(errors)
        self._persistence.append(persistence)

    def add_spectra(self, spectra: dict[str, tuple[Float[np.ndarray, " band"], Float[np.ndarray, "3 band"]]]) -> None:
        self._spectra.append(spectra)

    def mean(self, step: int) -> StepErrors:
        """Return the means."""
        means = {name: float(np.mean([part[name] for part in self._errors])) for name in self._errors[0]}
        fields = [name.removeprefix("vrmse ") for name in means if name.startswith("vrmse ")]
        return StepErrors(
            step=step,
            relative_l2=means["relative_l2"],
            vrmse={name: means[f"vrmse {name}"] for name in fields},
            nrmse={name: means[f"nrmse {name}"] for name in fields},
            persistence=float(np.mean(self._persistence)),
            spectra={name: self._mean_spectra(name) for name in (fields if self._spectra else ())},
        )

    def _mean_spectra(self, name: str) -> Spectra:
        # Grids of a store that differ have bands of their own: spectra are then those of the first kind.
        wave_numbers = self._spectra[0][name][0]
        alike = [part[name][1] for part in self._spectra if np.array_equal(part[name][0], wave_numbers)]
        predicted, truth, error = np.mean(alike, axis=0).tolist()
        return Spectra(
            wave_numbers=tuple(wave_numbers.tolist()),
            predicted=tuple(predicted),
            truth=tuple(truth),
            error=tuple(error),
        )
