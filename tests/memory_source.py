"""A source of arrays in memory, so that tests convert anything without a file format in between."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.sources.base import Source, TrajectoryInfo
from ups_data.errors import SourceError, UnknownFormatError
from ups_data.schema import AxisSpec, FieldSpec

Array = np.ndarray[Any, Any]


class MemorySource(Source):
    """Trajectories given as arrays; make it with `grid` or `points`.

    Args:
        frames: one array (T, C, *shape) a trajectory; shapes and frame counts may differ.
        axes: spatial axes.
        coordinates: what `read_coordinates` answers for each trajectory.
        kind: `grid` or `points`.
        fields: fields in channel order; scalars `u0`, `u1`, ... by default.
        times: times of each trajectory; 0, 0.1, 0.2, ... by default.
        parameters: scalars of each trajectory; none by default.
        splits: split of each trajectory; none by default.
        missing: names of the fields whose values may be missing, given as NaN.
        measures: measures of the points' cells, one array (N,) a trajectory; none by default.
        settings: what a conversion of this source must be told to make of it what the case is about.
    """

    format = "memory"
    summary = "arrays in memory"

    def __init__(
        self,
        frames: Sequence[Array],
        *,
        axes: tuple[AxisSpec, ...],
        coordinates: Sequence[tuple[Array, ...]],
        kind: str,
        fields: tuple[FieldSpec, ...] | None = None,
        times: Sequence[Array] | None = None,
        parameters: Sequence[Mapping[str, float]] | None = None,
        splits: Sequence[str | None] | None = None,
        missing: Sequence[str] = (),
        measures: Sequence[Array] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.missing_fields, self.has_measures = frozenset(missing), measures is not None
        self.measures, self.settings = measures, dict(settings or {})
        self.name, self.paths, self.notes, self.time_unit = "memory", (), (), None
        self.frames, self.coordinates = list(frames), list(coordinates)
        self.axes, self.kind, self.dtype = axes, kind, self.frames[0].dtype
        self.fields = fields or tuple(FieldSpec(name=f"u{number}") for number in range(self.frames[0].shape[1]))
        self.trajectories = [
            TrajectoryInfo(
                item=f"array[{number}]",
                shape=array.shape[2:],
                times=0.1 * np.arange(len(array)) if times is None else times[number],
                parameters={} if parameters is None else parameters[number],
                split=None if splits is None else splits[number],
            )
            for number, array in enumerate(self.frames)
        ]

    @classmethod
    def grid(
        cls,
        frames: Sequence[Array],
        *,
        periodic: bool | tuple[bool, ...] = False,
        nodes: Sequence[tuple[Array, ...]] | None = None,
        axes: tuple[AxisSpec, ...] | None = None,
        **others: Any,
    ) -> MemorySource:
        """Make a source of grids on [0, 1] per axis: evenly spaced, or with the `nodes` of each trajectory."""
        if axes is not None and nodes is not None:
            return cls(frames, axes=axes, coordinates=nodes, kind="grid", **others)
        dims = frames[0].ndim - 2
        flags = (periodic,) * dims if isinstance(periodic, bool) else periodic
        axes = tuple(
            AxisSpec(name=name, lower=0.0, upper=1.0, periodic=flag)
            for name, flag in zip("xyz"[:dims], flags, strict=True)
        )
        even = [tuple(map(even_nodes, array.shape[2:], flags)) for array in frames]
        return cls(frames, axes=axes, coordinates=nodes or even, kind="grid", **others)

    @classmethod
    def points(cls, frames: Sequence[Array], coordinates: Sequence[Array], **others: Any) -> MemorySource:
        """Make a source of scattered points: frames (T, C, N) and coordinates (N, D) in [0, 1] of each trajectory."""
        axes = tuple(AxisSpec(name=name, lower=0.0, upper=1.0) for name in "xyz"[: coordinates[0].shape[1]])
        return cls(frames, axes=axes, coordinates=[(part,) for part in coordinates], kind="points", **others)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return False

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> MemorySource:
        raise UnknownFormatError("arrays in memory have no file to open")

    def read_frames(self, trajectory: int, start: int, stop: int) -> Array:
        return self.frames[trajectory][start:stop]

    def read_coordinates(self, trajectory: int) -> tuple[Array, ...]:
        return self.coordinates[trajectory]

    def read_measures(self, trajectory: int) -> Array | None:
        return None if self.measures is None else self.measures[trajectory]


def even_nodes(count: int, periodic: bool) -> Array:
    """Return evenly spaced nodes on [0, 1]; the node at 1 is left out where the axis is periodic."""
    return np.linspace(0.0, 1.0, count, endpoint=not periodic)


def wave_frames(
    shape: tuple[int, ...],
    *,
    num_frames: int = 3,
    num_channels: int = 1,
    seed: int = 0,
    dtype: str = "float32",
) -> Array:
    """Return smooth moving waves with a front and a little noise: (num_frames, num_channels, *shape)."""
    random = np.random.default_rng(seed)
    places = np.meshgrid(*[np.linspace(0, 1, count) for count in shape], indexing="ij")
    frames = np.empty((num_frames, num_channels, *shape))
    for channel in range(num_channels):
        waves, phase = random.integers(1, 4, size=len(shape)), random.uniform(0, 2 * np.pi)
        argument = sum((2 * np.pi * wave * place for wave, place in zip(waves, places, strict=True)), phase)
        for frame in range(num_frames):
            front = np.tanh(20 * np.sin(argument + 0.3 * frame) - 10)
            frames[frame, channel] = (channel + 1) * (np.sin(argument + 0.5 * frame) + front) + channel
    return (frames + 1e-3 * random.standard_normal(frames.shape)).astype(dtype)


def cloud(num_points: int, dims: int, *, seed: int = 0) -> Array:
    """Return scattered points in the unit cube (num_points, dims)."""
    return np.random.default_rng(seed).random((num_points, dims))


class StumblingSource(MemorySource):
    """Kills its process, or fails, where one trajectory is read, until a file is there."""

    at: int
    until: Path
    deadly: bool

    def stumble(self, at: int, until: Path, *, deadly: bool) -> StumblingSource:
        """Stumble over trajectory `at` while there is no file `until`."""
        self.at, self.until, self.deadly = at, until, deadly
        return self

    def read_frames(self, trajectory: int, start: int, stop: int) -> Array:
        if trajectory == self.at and not self.until.exists():
            if self.deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            raise SourceError(f"array[{trajectory}] cannot be read now")
        return super().read_frames(trajectory, start, stop)
