"""neuraloperator's CarCFD: pressure on the surfaces of cars (Umetani and Bickel 2018), triangulated.

The directory holds `data/<id>/tri_mesh.ply` and `data/<id>/press.npy`, and beside `data` the ids of `train.txt` and
`test.txt`, separated by commas: the split. `press.npy` has 96 entries more than the mesh has vertices; entries 16 to
111 belong to none and are left out, as neuraloperator's own loader does: what is left, in its order, are the pressures
at the vertices of the `.ply` file, by whose numbers its faces name them. A vertex has an equal share of the area of
each of its triangles. Cars whose files have no faces are point clouds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Shaped

from preprocess.sources.array_files import StoredArray, find_array
from preprocess.sources.base import TrajectoryInfo
from preprocess.sources.exact import exact_cast, stored_dtype
from preprocess.sources.mesh_points import locate_points, simplex_cells
from preprocess.sources.mesh_source import MeshSource, SourcePoints
from preprocess.sources.ply_files import read_ply
from ups_data.errors import SourceError, UnknownFormatError, suggest
from ups_data.schema import FieldSpec, Record
from ups_data.yaml_records import parse_record

_LISTS = {"train": "train.txt", "test": "test.txt"}
_MESH, _PRESSURE = "tri_mesh.ply", "press.npy"
_FIRST_DROPPED, _FIRST_KEPT = 16, 112


class CarCFDOptions(Record):
    """What may be told of CarCFD.

    Attributes:
        drop_faulty: leave out triangles without extent, triangles that stand there twice and vertices of no triangle;
            otherwise they are refused.
    """

    drop_faulty: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class _Car(SourcePoints):
    """The points of a car: those of its mesh, or all vertices where the file has no faces."""

    num_vertices: int


class CarCFDSource(MeshSource):
    """One directory of CarCFD."""

    format: ClassVar[str] = "car_cfd"
    summary: ClassVar[str] = (
        "neuraloperator's CarCFD directory (data/<id>/tri_mesh.ply, press.npy, train.txt, test.txt)"
    )

    def __init__(self, folder: Path, options: CarCFDOptions) -> None:
        self._options = options
        self.name, self.time_unit = "car_cfd", None
        self._last: tuple[int, _Car] | None = None
        self._cars = tuple((split, folder / "data" / car) for split in _LISTS for car in _read_ids(folder, split))
        if not self._cars:
            raise SourceError(f"{folder} has neither train.txt nor test.txt, which name its cars")
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
        """Open the directory of the data set; `options` are those of `CarCFDOptions`."""
        told = parse_record(CarCFDOptions, options, where="options of format 'car_cfd'")
        if len(paths) != 1 or not paths[0].is_dir():
            raise UnknownFormatError(
                f"{', '.join(map(str, paths))}: format 'car_cfd' is one directory, with data, train.txt and test.txt"
            )
        return cls(paths[0], told)

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read the one frame of a car; see `Source.read_frames`."""
        array, info, car = self._pressures[trajectory], self.trajectories[trajectory], self._load_points(trajectory)
        values = array.load().reshape(-1)
        if values.size != car.num_vertices:
            values = np.concatenate([values[:_FIRST_DROPPED], values[_FIRST_KEPT:]])
        return exact_cast(car.choose(values), self.dtype, where=f"{info.item}/{_PRESSURE}")[None, None][start:stop]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last car behind: another process reads it itself."""
        return {**self.__dict__, "_last": None}

    def _load_points(self, trajectory: int) -> _Car:
        """Read a car; the last one is kept."""
        if self._last is None or self._last[0] != trajectory:
            self._last = None
            self._last = (trajectory, self._read_car(self._cars[trajectory][1]))
        return self._last[1]

    def _read_car(self, folder: Path) -> _Car:
        mesh, where = read_ply(folder / _MESH), f"data/{folder.name}/{_MESH}"
        if not len(mesh.triangles):
            return _Car(coordinates=mesh.points, located=None, num_vertices=len(mesh.points))
        located = locate_points(
            simplex_cells(mesh.points, mesh.triangles, where=where),
            "nodes",
            drop_faulty=self._options.drop_faulty,
            where=where,
        )
        return _Car(coordinates=located.coordinates, located=located, num_vertices=len(mesh.points))

    def _describe(self) -> None:
        """Read all meshes once: number of points, bounding box."""
        infos, boxes, are_meshes = [], [], []
        dropped, notes = 0, list[str]()
        for number, ((split, folder), array) in enumerate(zip(self._cars, self._pressures, strict=True)):
            car, count = self._load_points(number), int(np.prod(array.shape))
            surplus = count - car.num_vertices
            if surplus not in {0, _FIRST_KEPT - _FIRST_DROPPED}:
                raise SourceError(
                    f"data/{folder.name}/{_PRESSURE} has {count} entries, {_MESH} has {car.num_vertices} vertices; as "
                    f"many, or {_FIRST_KEPT - _FIRST_DROPPED} more, are wanted"
                )
            dropped += surplus > 0
            notes += car.notes
            shape = (len(car.coordinates),)
            infos.append(TrajectoryInfo(item=f"data/{folder.name}", shape=shape, times=np.zeros(1), split=split))
            boxes.append(car.box)
            are_meshes.append(car.located is not None)
        self.trajectories = tuple(infos)
        flat = self._settle_geometry(boxes, are_meshes)
        self.notes = (
            f"entries {_FIRST_DROPPED} to {_FIRST_KEPT - 1} of {_PRESSURE} left out, in {dropped} of {len(infos)} cars",
            *notes,
            *flat,
        )


def _read_ids(folder: Path, split: str) -> tuple[str, ...]:
    path = folder / _LISTS[split]
    if not path.is_file():
        return ()
    text = path.read_text(encoding="utf-8", errors="replace")
    ids = tuple(part.strip() for part in text.split(",") if part.strip())
    if not ids:
        raise SourceError(f"{path} names no car; where a split has none, leave its list out")
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
