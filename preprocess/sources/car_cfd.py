"""neuraloperator's CarCFD: pressure on the surfaces of cars (Umetani and Bickel 2018), as point clouds.

The directory holds `data/<id>/tri_mesh.ply` and `data/<id>/press.npy`, and beside `data` the ids of `train.txt` and
`test.txt`, separated by commas: the split. `press.npy` has 96 entries more than the mesh has vertices; entries 16 to
111 belong to none and are left out, as neuraloperator's own loader does. Faces are not kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float64, Shaped

from preprocess.sources.array_files import StoredArray, find_array
from preprocess.sources.axes import grid_axis
from preprocess.sources.base import Source, TrajectoryInfo
from preprocess.sources.exact import exact_cast, stored_dtype
from preprocess.sources.ply_files import read_ply_points
from ups_data.errors import ConfigError, SourceError, UnknownFormatError, suggest
from ups_data.schema import FieldSpec, GeometryKind

_LISTS = {"train": "train.txt", "test": "test.txt"}
_MESH, _PRESSURE = "tri_mesh.ply", "press.npy"
_FIRST_DROPPED, _FIRST_KEPT = 16, 112


class CarCFDSource(Source):
    """One directory of CarCFD."""

    format: ClassVar[str] = "car_cfd"
    summary: ClassVar[str] = (
        "neuraloperator's CarCFD directory (data/<id>/tri_mesh.ply, press.npy, train.txt, test.txt)"
    )

    def __init__(self, folder: Path) -> None:
        self.name, self.time_unit = "car_cfd", None
        self.kind: GeometryKind = "points"
        self._cars = tuple((split, folder / "data" / car) for split in _LISTS for car in _read_ids(folder, split))
        if not self._cars:
            raise SourceError(f"{folder}: train.txt and test.txt name no car")
        _refuse_repeated(folder, [car.name for _, car in self._cars])
        self._pressures = [_find_pressure(car) for _, car in self._cars]
        self.fields = (FieldSpec(name="pressure"),)
        self.dtype = stored_dtype((array.dtype for array in self._pressures), where=_PRESSURE)
        self._describe()
        lists = [folder / name for name in _LISTS.values() if (folder / name).is_file()]
        self.paths = (*lists, *(car / name for _, car in self._cars for name in (_MESH, _PRESSURE)))

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell by a list of ids beside `data`, and a mesh in it."""
        try:
            return any((path / name).is_file() for name in _LISTS.values()) and any(
                (car / _MESH).is_file() for car in (path / "data").iterdir()
            )
        except OSError:
            return False

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> Self:
        """Open the directory of the data set. There are no options."""
        for option in options:
            raise ConfigError(f"format 'car_cfd' has no option {option!r}")
        if len(paths) != 1 or not paths[0].is_dir():
            raise UnknownFormatError(
                f"{', '.join(map(str, paths))}: format 'car_cfd' is one directory, with data, train.txt and test.txt"
            )
        return cls(paths[0])

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read the one frame of a car; see `Source.read_frames`."""
        array, info = self._pressures[trajectory], self.trajectories[trajectory]
        values = array.load().reshape(-1)
        if values.size != info.num_points:
            values = np.concatenate([values[:_FIRST_DROPPED], values[_FIRST_KEPT:]])
        return exact_cast(values, self.dtype, where=f"{info.item}/{_PRESSURE}")[None, None][start:stop]

    def read_coordinates(self, trajectory: int) -> tuple[Float64[np.ndarray, "..."], ...]:
        """Return the vertices of a car; see `Source.read_coordinates`."""
        return (read_ply_points(self._cars[trajectory][1] / _MESH),)

    def _describe(self) -> None:
        """Read all meshes once: number of points, bounding box."""
        infos, lower, upper = [], [], []
        dropped = 0
        for (split, car), array in zip(self._cars, self._pressures, strict=True):
            points = read_ply_points(car / _MESH)
            surplus = int(np.prod(array.shape)) - len(points)
            if surplus not in {0, _FIRST_KEPT - _FIRST_DROPPED}:
                raise SourceError(
                    f"data/{car.name}/{_PRESSURE} has {int(np.prod(array.shape))} entries, {_MESH} has {len(points)} "
                    f"vertices; as many, or {_FIRST_KEPT - _FIRST_DROPPED} more, are wanted"
                )
            dropped += surplus > 0
            infos.append(TrajectoryInfo(item=f"data/{car.name}", shape=(len(points),), times=np.zeros(1), split=split))
            lower.append(points.min(axis=0))
            upper.append(points.max(axis=0))
        self.trajectories = tuple(infos)
        box = np.stack([np.min(lower, axis=0), np.max(upper, axis=0)])
        self.axes = tuple(
            grid_axis(name, box[:, number], periodic=False, where=f"{_MESH}: {name}")
            for number, name in enumerate(("x", "y", "z"))
        )
        self.notes = (
            f"entries {_FIRST_DROPPED} to {_FIRST_KEPT - 1} of {_PRESSURE} left out, in {dropped} of {len(infos)} cars",
            "faces of the meshes are not kept",
        )


def _read_ids(folder: Path, split: str) -> tuple[str, ...]:
    path = folder / _LISTS[split]
    if not path.is_file():
        return ()
    text = path.read_text(encoding="utf-8", errors="replace")
    ids = tuple(part.strip() for part in text.split(",") if part.strip())
    for car in ids:
        if Path(car).name != car or car == ".." or not (folder / "data" / car).is_dir():
            present = [other.name for other in (folder / "data").iterdir()] if (folder / "data").is_dir() else []
            raise SourceError(f"{path} names {car!r:.80}, which is no folder in data. {suggest(car, present)[:200]}")
    return ids


def _refuse_repeated(folder: Path, ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for car in ids:
        if car in seen:
            raise SourceError(f"{folder}: {car!r} stands twice in train.txt and test.txt")
        seen.add(car)


def _find_pressure(car: Path) -> StoredArray:
    try:
        array = find_array(car / _PRESSURE, None)
        stored_dtype([array.dtype], where=_PRESSURE)
    except SourceError as error:
        raise SourceError(f"data/{car.name}: {error}") from error
    if sum(size != 1 for size in array.shape) > 1:
        raise SourceError(f"{car / _PRESSURE} has shape {array.shape}; one row of pressures is wanted")
    return array
