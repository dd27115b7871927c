"""Where a trained model errs: the importance metric `error:CHECKPOINT`.

`ups_data.importance` finds it by name when a conversion asks for it. It computes on the CPU with one thread and in
float32, whatever the run did, so that the maps are the same bytes for any number of workers and after a resume.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64

from ups_data.errors import ConfigError, UpsDataError
from ups_data.importance import Geometry, GridGeometry, RootMeanSquareMetric, Subject
from ups_data.importance.error import path_of, pin_error
from ups_data.inference.decode import decode_dense
from ups_data.inference.fit import find_misfit
from ups_data.inference.points import PointSet
from ups_data.inference.state import LATENT, RolloutState
from ups_data.models import NeuralOperator
from ups_data.sample import Normalisers, SparseSample
from ups_data.schema import FieldSpec
from ups_data.statistics import Normaliser
from ups_data.training.checkpoint import Checkpoint, CheckpointHeader
from ups_data.window import Window


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A model and all that its errors are measured by.

    Attributes:
        header: of its checkpoint.
        model: in evaluation mode.
        window: which frames it was trained on.
    """

    header: CheckpointHeader
    model: NeuralOperator
    window: Window


class ErrorMetric(RootMeanSquareMetric):
    """The error of a trained model at each point: one map, the root mean square over frames and target channels.

    A frame is predicted from each window of inputs before it that has it as its first, second, ... target, in values
    normalised by the statistics of the training store. Frames without such a window, those at the start of a
    trajectory, do not count; of a block that has no others the map is zero. Inputs of a block may lie before it.
    """

    name: ClassVar[str]
    trained: ClassVar[Trained]

    def __init__(self, geometry: Geometry, subject: Subject) -> None:
        super().__init__(geometry, subject)
        window, problem = self.trained.window, self.trained.model.problem
        self.num_preceding = window.span - 1
        self._inputs = _Side.of(self.trained, subject, [field.name for field in problem.input_fields])
        self._targets = _Side.of(self.trained, subject, [field.name for field in problem.target_fields])
        self._may_miss = any(field.name in subject.missing_fields for field in self._inputs.fields)
        self._points = _points_of(geometry)
        # Input frames that a window may still need, the newest last.
        self._seen: deque[tuple[int, Float[np.ndarray, "channel *space"]]] = deque(
            maxlen=(window.inputs - 1) * window.stride + 1
        )
        self._under_way: list[_Flight] = []
        self._number = 0
        self._times: Float64[np.ndarray, " frame"] = np.empty(0)
        self._parameters: Float64[np.ndarray, " parameter"] = np.empty(0)

    @classmethod
    def objection(cls, subject: Subject) -> str | None:
        """Say in what the data are not those that the model was made for."""
        return find_misfit(cls.trained.header, subject)

    def begin(self, times: Float64[np.ndarray, " frame"], parameters: Float64[np.ndarray, " parameter"]) -> None:
        """Hear of the times that the model steps through, and of the parameters that it is told."""
        self._times, self._parameters = times, parameters

    def precede(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Take a frame that is not among those whose errors count."""
        self._take(frame, counts=False)

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the errors at the next frame."""
        self._take(frame, counts=True)

    def _take(self, frame: Float[np.ndarray, "channel *space"], *, counts: bool) -> None:
        window, number = self.trained.window, self._number
        self._number += 1
        self._seen.append((number, self._inputs.normalise(frame)))
        first = number - (window.inputs - 1) * window.stride
        if first >= 0:
            kept = dict(self._seen)
            frames = window.input_frames(first)
            self._under_way.append(
                _Flight(frames=frames, inputs=[kept[place] for place in frames], targets=window.target_frames(first))
            )
        with one_thread():
            for flight in self._under_way:
                if flight.targets[0] == number:
                    self._follow(flight, frame if counts else None)
        self._under_way = [flight for flight in self._under_way if flight.targets]

    def _follow(self, flight: _Flight, truth: Float[np.ndarray, "channel *space"] | None) -> None:
        """Take a window on to its next target, and add the errors there where the truth is given."""
        time = float(self._times[flight.targets[0]])
        state = flight.state or self._start(flight)
        flight.state = state.accept(state.propose(time), time)
        flight.inputs, flight.targets = [], flight.targets[1:]
        if truth is None:
            return
        model = self.trained.model
        predicted = decode_dense(model, flight.state.latent, self._points, base=state.base)
        errors = predicted.reshape(-1, *self.geometry.shape) - self._targets.normalise(truth)
        for error in errors:
            # Each channel is an entry of the mean; NaN, where the truth is missing, is none.
            self.add_squares(np.square(error[None], dtype=np.float64))

    def _start(self, flight: _Flight) -> RolloutState:
        try:
            return RolloutState.start(self.trained.model, self._sample(flight), LATENT)
        except ConfigError as error:
            raise ConfigError(f"importance metric {self.name!r}: {error}") from error

    def _sample(self, flight: _Flight) -> SparseSample:
        values = np.stack(flight.inputs)
        valid = self._validity(values)
        on_grid, channels = isinstance(self.geometry, GridGeometry), self.trained.model.problem.num_targets
        axes = self.geometry.axes if isinstance(self.geometry, GridGeometry) else ()
        return SparseSample(
            sample_id=0,
            trajectory=0,
            input_frames=flight.frames,
            target_frames=flight.targets[:1],
            inputs=_as_tensor(np.nan_to_num(values, nan=0.0)),
            input_axes=tuple(map(_as_tensor, axes)),
            input_coords=None if on_grid else _as_tensor(self._points.coordinates()),
            query_coords=torch.empty(0, self._points.dims),
            query_targets=torch.empty(1, 0, channels),
            query_weights=torch.empty(0),
            query_index=torch.empty(0, dtype=torch.int32),
            parameters=_as_tensor(self._parameters),
            input_times=_as_tensor(self._times[list(flight.frames)]),
            target_times=_as_tensor(self._times[list(flight.targets[:1])]),
            normalisers=Normalisers(input=self._inputs.normaliser, target=self._targets.normaliser),
            input_valid=None if valid is None else torch.from_numpy(valid),
        )

    def _validity(
        self, values: Float[np.ndarray, "time channel *space"]
    ) -> Bool[np.ndarray, "time channel *space"] | None:
        told = bool(self.trained.model.problem.missing_inputs)
        return ~np.isnan(values) if told or self._may_miss else None


@dataclass(kw_only=True, eq=False)
class _Flight:
    """A window that is on its way through its targets.

    Attributes:
        frames: numbers of its input frames.
        inputs: their values, until they are encoded.
        targets: numbers of the target frames that are still to come.
        state: at the last target, None before the first.
    """

    frames: tuple[int, ...]
    inputs: list[Float[np.ndarray, "channel *space"]]
    targets: tuple[int, ...]
    state: RolloutState | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """The fields of one side of the model among those of the data.

    Attributes:
        fields: in the model's order.
        channels: their channels in a frame of the data.
        normaliser: of the training store.
    """

    fields: tuple[FieldSpec, ...]
    channels: Int64[np.ndarray, " channel"]
    normaliser: Normaliser

    @classmethod
    def of(cls, trained: Trained, subject: Subject, names: list[str]) -> _Side:
        """Find the fields by name."""
        channels = [name for field in subject.fields for name in field.channel_names]
        by_name = {field.name: field for field in subject.fields}
        statistics = {record.channel: record for record in trained.header.statistics}
        wanted = [name for field in names for name in by_name[field].channel_names]
        return cls(
            fields=tuple(by_name[name] for name in names),
            channels=np.array([channels.index(name) for name in wanted]),
            normaliser=Normaliser.from_statistics(tuple(statistics[name] for name in wanted)),
        )

    def normalise(self, frame: Float[np.ndarray, "all *space"]) -> Float[np.ndarray, "channel *space"]:
        """Return a copy of these channels, normalised in the precision of the data as samples are."""
        shape = (-1, *[1] * (frame.ndim - 1))
        mean, scale = (
            part.astype(frame.dtype).reshape(shape) for part in (self.normaliser.mean, self.normaliser.scale)
        )
        return (frame[self.channels] - mean) / scale


def error_metric(name: str) -> type[ErrorMetric]:
    """Return the metric of a pinned checkpoint, `error:PATH@SHA256`.

    Raises:
        ConfigError: the checkpoint cannot be read, or is not the one that is pinned.
    """
    content = {"name": name, "trained": _load(name), "__doc__": ErrorMetric.__doc__}
    return type("ErrorMetric", (ErrorMetric,), content)


@lru_cache(maxsize=4)
def _load(name: str) -> Trained:
    try:
        checkpoint = Checkpoint.load(path_of(name))
        model = checkpoint.build_model().eval()
    except UpsDataError as error:
        raise ConfigError(f"importance metric {name!r}: {error}") from error
    # After it was read: whatever took its place meanwhile has another hash.
    pin_error(name)
    window = Window(**checkpoint.header.config.data.window.model_dump())
    return Trained(header=checkpoint.header, model=model, window=window)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread of this process: with several, sums may round in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _points_of(geometry: Geometry) -> PointSet:
    if isinstance(geometry, GridGeometry):
        return PointSet(axes=geometry.axes)
    return PointSet.cloud(geometry.coordinates.astype(np.float64))


def _as_tensor(values: Float[np.ndarray, "..."]) -> Float[torch.Tensor, "..."]:
    return torch.from_numpy(np.array(values, dtype=np.float32))
