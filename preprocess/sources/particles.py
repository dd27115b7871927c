"""Moving particles in Zarr, as the Universal Simulator has them: one group a trajectory.

A group holds `positions` (T, N, D), `velocities` of that shape, other arrays (T, N) or (T, N, C), and perhaps `time`
(T,); without it the attribute `dt` of the group or the option `time_step` tells the distance of frames. A directory is
one group, or holds one for each trajectory.

A particle is a point that lies where it starts; the field `position` tells where it is in every frame. What `neighbors`
tells follows from the positions and `radius`, and is left out; `radius` becomes a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pydantic
import zarr
from jaxtyping import Float64, Shaped

from preprocess.sources.array_files import ArrayReader, StoredArray, find_array
from preprocess.sources.axes import as_float, grid_axis, read_increasing
from preprocess.sources.base import Source, TrajectoryInfo
from preprocess.sources.exact import exact_cast, stored_dtype
from preprocess.sources.naming import check_name, name_field
from preprocess.sources.zarr_files import is_zarr, list_zarr_arrays, note_absent_chunks, zarr_shape
from ups_data.errors import SourceError, UnknownFormatError
from ups_data.schema import FieldSpec, Finite, GeometryKind, Record
from ups_data.yaml_records import parse_record

_AXES = ("x", "y", "z")
_POSITIONS, _VELOCITIES, _TIME, _RADIUS = "positions", "velocities", "time", "radius"
_FIELD_NAMES = {_POSITIONS: "position", _VELOCITIES: "velocity"}
_MOVING = "points move: each lies where it starts, and the field position tells where it is in every frame"


class ParticlesOptions(Record):
    """What may have to be said of particles.

    Attributes:
        time_step: time between two frames, where the files do not tell.
    """

    time_step: Annotated[Finite, pydantic.Field(gt=0)] | None = None


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One trajectory: its directory, its name for messages, and its arrays by field name."""

    path: Path
    name: str
    arrays: Mapping[str, StoredArray]
    info: TrajectoryInfo
    left_out: tuple[str, ...]


class ParticlesSource(Source):
    """Moving particles, one or several groups of Zarr."""

    format: ClassVar[str] = "particles"
    summary: ClassVar[str] = "moving particles in Zarr groups with positions (T, N, D), velocities and other arrays"

    def __init__(self, paths: Sequence[Path], options: ParticlesOptions) -> None:
        self.paths = tuple(paths)
        self.name, self.time_unit = self.paths[0].stem, None
        self.kind: GeometryKind = "points"
        self._runs = tuple(_describe_run(path, options) for root in paths for path in _groups_in(root))
        self._readers: dict[tuple[int, str], ArrayReader] = {}
        first = self._runs[0]
        for run in self._runs:
            _check_same(first, run)
        self.fields = tuple(_describe_field(name, array) for name, array in first.arrays.items())
        arrays = [array for run in self._runs for array in run.arrays.values()]
        self.dtype = stored_dtype((array.dtype for array in arrays), where=self.paths[0].name)
        self.trajectories = tuple(run.info for run in self._runs)
        self.axes = tuple(
            grid_axis(axis, ends, periodic=False, where=f"{self.paths[0].name}: {axis} of {_POSITIONS}")
            for axis, ends in zip(_AXES, self._bound().T, strict=False)
        )
        left_out = dict.fromkeys(name for run in self._runs for name in run.left_out)
        absent = (note_absent_chunks(array.path, array.key or "") for array in arrays)
        self.notes = (
            _MOVING,
            *((f"left out: {', '.join(left_out)}",) if left_out else ()),
            *(note for note in absent if note is not None),
        )

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell by an array `positions` of three dimensions in a group, or in all groups of a directory."""
        try:
            groups = _groups_in(path)
            return bool(groups) and len(zarr_shape(groups[0], _POSITIONS) or ()) == 3
        except (OSError, SourceError):
            return False

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> Self:
        """Open groups of one data set; `options` are those of `ParticlesOptions`."""
        for path in paths:
            if not _groups_in(path):
                raise UnknownFormatError(f"{path} holds no Zarr group with an array {_POSITIONS!r}")
        return cls(paths, parse_record(ParticlesOptions, options, where="options of format 'particles'"))

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read frames [start, stop) of a trajectory; see `Source.read_frames`."""
        run, parts = self._runs[trajectory], []
        for name, array in run.arrays.items():
            values = self._read(trajectory, name, slice(start, stop))
            values = exact_cast(values, self.dtype, where=f"{run.name}: {array.key}")
            parts.append(values[:, None] if values.ndim == 2 else values.swapaxes(1, 2))
        return np.concatenate(parts, axis=1)

    def read_coordinates(self, trajectory: int) -> tuple[Float64[np.ndarray, "..."], ...]:
        """Return where the particles start; see `Source.read_coordinates`."""
        return (self._read(trajectory, "position", slice(0, 1))[0].astype(np.float64),)

    def __getstate__(self) -> dict[str, Any]:
        """Leave open arrays behind: another process opens them itself."""
        return {**self.__dict__, "_readers": {}}

    def _read(self, trajectory: int, name: str, frames: slice) -> Shaped[np.ndarray, "time point ..."]:
        place = (trajectory, name)
        if place not in self._readers:
            self._readers[place] = self._runs[trajectory].arrays[name].open()
        return self._readers[place].read((frames,))

    def _bound(self) -> Float64[np.ndarray, "end dim"]:
        """Return the box of all points where they start."""
        ends = []
        for number, run in enumerate(self._runs):
            (points,) = self.read_coordinates(number)
            if not np.isfinite(points).all():
                point, axis = map(int, np.argwhere(~np.isfinite(points))[0])
                raise SourceError(f"{run.name}: {_POSITIONS} holds {points[point, axis]} at (0, {point}, {axis})")
            ends.append((points.min(axis=0), points.max(axis=0)))
        lower, upper = (np.array(side) for side in zip(*ends, strict=True))
        return np.stack([lower.min(axis=0), upper.max(axis=0)])


def _groups_in(path: Path) -> tuple[Path, ...]:
    """Return the directories of the trajectories below a directory, or itself."""
    if not path.is_dir():
        return ()
    if is_zarr(path / _POSITIONS):
        return (path,)
    return tuple(folder for folder in sorted(path.iterdir()) if is_zarr(folder / _POSITIONS))


def _describe_run(path: Path, options: ParticlesOptions) -> _Run:
    where = f"{path.parent.name}/{path.name}"
    positions = find_array(path, _POSITIONS)
    if len(positions.shape) != 3 or not 1 <= positions.shape[2] <= 3:
        raise SourceError(f"{where}: {_POSITIONS} has shape {positions.shape}; (T, N, D) with D of 1 to 3 is wanted")
    arrays, left_out = {"position": positions}, []
    for key in sorted(list_zarr_arrays(path)):
        if key in {_POSITIONS, _TIME, _RADIUS}:
            continue
        array = find_array(path, key)
        if key == _VELOCITIES and array.shape != positions.shape:
            raise SourceError(f"{where}: {key} has shape {array.shape}, {_POSITIONS} has {positions.shape}")
        if "/" in key or len(array.shape) not in {2, 3} or array.shape[:2] != positions.shape[:2]:
            left_out.append(key)
        else:
            arrays[_FIELD_NAMES.get(key, check_name(key, where=where))] = array
    attributes = _read_attributes(path, where)
    info = TrajectoryInfo(
        item=where,
        shape=(positions.shape[1],),
        times=_read_times(path, where, positions.shape[0], attributes.get("dt"), options),
        parameters=_read_radius(path, where, attributes.get(_RADIUS)),
    )
    return _Run(path=path, name=where, arrays=arrays, info=info, left_out=tuple(left_out))


def _read_attributes(path: Path, where: str) -> Mapping[str, Any]:
    try:
        return dict(zarr.open_group(path, mode="r").attrs)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SourceError(f"{where} is no Zarr group, or its metadata are damaged: {error}") from error


def _read_times(
    path: Path, where: str, num_frames: int, step: object, options: ParticlesOptions
) -> Float64[np.ndarray, " time"]:
    if is_zarr(path / _TIME):
        times = read_increasing(find_array(path, _TIME).load(), where=f"{where}: {_TIME}")
        if times.size != num_frames:
            raise SourceError(f"{where}: {_TIME} has {times.size} entries, {_POSITIONS} has {num_frames} frames")
        return times
    told = options.time_step if step is None else as_float(step, where=f"{where}: attribute dt")
    if told is None or told <= 0:
        raise SourceError(
            f"{where} has no array {_TIME!r} and no positive attribute 'dt' (got {step!r:.40}), so the times of its "
            f"frames are not told; state their distance: --option time_step=0.01"
        )
    return told * np.arange(num_frames)


def _read_radius(path: Path, where: str, told: object) -> dict[str, float]:
    if is_zarr(path / _RADIUS):
        return {_RADIUS: as_float(find_array(path, _RADIUS).load(), where=f"{where}: {_RADIUS}")}
    return {} if told is None else {_RADIUS: as_float(told, where=f"{where}: attribute {_RADIUS}")}


def _describe_field(name: str, array: StoredArray) -> FieldSpec:
    count = array.shape[2] if len(array.shape) == 3 else 1
    components = _AXES[:count] if name in _FIELD_NAMES.values() else tuple(map(str, range(count)))
    return name_field(name, components if len(array.shape) == 3 else ("",), where=array.where)


def _check_same(first: _Run, other: _Run) -> None:
    mine, theirs = ({name: array.shape[2:] for name, array in run.arrays.items()} for run in (first, other))
    if mine != theirs:
        raise SourceError(f"{other.name} holds {theirs}, {first.name} holds {mine}; convert them one by one")
    if first.info.parameters.keys() != other.info.parameters.keys():
        raise SourceError(f"{other.name} and {first.name}: one tells {_RADIUS!r}, the other does not")
