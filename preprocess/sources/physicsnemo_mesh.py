"""Meshes that `physicsnemo.mesh.io.to_zarr` writes (PhysicsNeMo 2.2): a `Mesh`, or a `DomainMesh` of several.

A mesh has `points`, `cells` of one kind of simplex (or none: a cloud), and data by name in `point_data` and
`cell_data`. Of a `DomainMesh` one part is read, which `part` chooses where several have data: `interior` or
`boundaries/NAME`. Data of points make the points those of a trajectory, data of cells their centres; where there are
both, `location` chooses. Names of nested data are joined by dots. Single numbers and vectors in `global_data` become
parameters. One store is one steady trajectory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float64, Shaped

from preprocess.sources.array_files import StoredArray, find_array
from preprocess.sources.axes import as_float
from preprocess.sources.base import TrajectoryInfo
from preprocess.sources.exact import exact_cast, stored_dtype
from preprocess.sources.mesh_points import check_nodes, locate_points, simplex_cells
from preprocess.sources.mesh_source import MeshSource, SourcePoints
from preprocess.sources.naming import check_name, name_field
from preprocess.sources.zarr_files import (
    is_zarr,
    list_zarr_arrays,
    note_absent_chunks,
    read_zarr_attributes,
    zarr_shape,
)
from ups_data.errors import SourceError, suggest
from ups_data.mesh import PointLocation
from ups_data.schema import FieldSpec, Record
from ups_data.yaml_records import parse_record

_TYPE = "physicsnemo_mesh_type"
_POINTS, _CELLS, _GLOBALS = "points", "cells", "global_data"
_DATA: Mapping[PointLocation, str] = {"nodes": "point_data", "cells": "cell_data"}
_COMPONENTS = ("x", "y", "z")
_MAX_GLOBAL = 9


class PhysicsNeMoOptions(Record):
    """What may be told of meshes of PhysicsNeMo.

    Attributes:
        part: `interior` or `boundaries/NAME`, where several parts have data.
        location: whether points are the `nodes` or the centres of the `cells`, where a part has data on both.
        fields: the data that become fields; by default all.
        drop_faulty: leave out cells without extent, cells that stand there twice and nodes of no cell; otherwise they
            are refused.
    """

    part: str | None = None
    location: PointLocation | None = None
    fields: tuple[str, ...] | None = None
    drop_faulty: bool = False


class PhysicsNeMoMeshSource(MeshSource):
    """Meshes or clouds, a store of Zarr each."""

    format: ClassVar[str] = "physicsnemo_mesh"
    summary: ClassVar[str] = "PhysicsNeMo's mesh Zarr (Mesh or DomainMesh)"

    def __init__(self, paths: Sequence[Path], options: PhysicsNeMoOptions) -> None:
        self._options, self.paths = options, tuple(paths)
        self.name, self.time_unit = self.paths[0].stem, None
        self._part = _choose_part(self.paths[0], options)
        self._location = _choose_location(self.paths[0], self._part, options)
        data = _find_data(self.paths[0], self._part, self._location)
        self._names = tuple(data) if options.fields is None else options.fields
        for name in self._names:
            if name not in data:
                raise SourceError(
                    f"{self.paths[0]} has no data {name!r} at its {self._location}. {suggest(name, data)}"
                )
        self.fields = tuple(_describe_field(data[name], name) for name in self._names)
        self._data = tuple(self._find_arrays(path) for path in self.paths)
        self.dtype = stored_dtype(
            (array.dtype for arrays in self._data for array in arrays),
            where=", ".join(array.where for array in self._data[0]),
        )
        self._loaded: tuple[int, SourcePoints] | None = None
        self._describe()

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell by the attribute that PhysicsNeMo leaves."""
        try:
            return is_zarr(path) and _TYPE in read_zarr_attributes(path)
        except (OSError, SourceError):
            return False

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> Self:
        """Open stores of one data set; `options` are those of `PhysicsNeMoOptions`."""
        for path in paths:
            kind = read_zarr_attributes(path).get(_TYPE) if is_zarr(path) else None
            if kind not in ("Mesh", "DomainMesh"):
                raise SourceError(f"{path} is no mesh of PhysicsNeMo: its attribute {_TYPE} is {kind!r:.80}")
        return cls(paths, parse_record(PhysicsNeMoOptions, options, where="options of format 'physicsnemo_mesh'"))

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read the one frame of a mesh; see `Source.read_frames`."""
        points, parts = self._load_points(trajectory), []
        for array in self._data[trajectory]:
            values = array.load()
            block = exact_cast(values, self.dtype, where=array.where).reshape(len(values), -1)
            parts.append(points.choose(block).T)
        return np.concatenate(parts)[None][start:stop]

    def __getstate__(self) -> dict[str, Any]:
        """Leave points behind: another process reads them itself."""
        return {**self.__dict__, "_loaded": None}

    def _find_arrays(self, path: Path) -> tuple[StoredArray, ...]:
        found = _find_data(path, self._part, self._location)
        for name, spec in zip(self._names, self.fields, strict=True):
            if name not in found:
                raise SourceError(f"{path} has no data {name!r} at its {self._location}. {suggest(name, found)}")
            if _width(found[name]) != len(spec.components):
                raise SourceError(
                    f"{found[name].where} has shape {found[name].shape}; in {self.paths[0].name} it has "
                    f"{len(spec.components)} components"
                )
        return tuple(found[name] for name in self._names)

    def _load_points(self, trajectory: int) -> SourcePoints:
        """Read points and cells; the last ones are kept."""
        if self._loaded is None or self._loaded[0] != trajectory:
            self._loaded = None
            self._loaded = (trajectory, self._read_points(self.paths[trajectory]))
        return self._loaded[1]

    def _read_points(self, path: Path) -> SourcePoints:
        array = find_array(path, f"{self._part}{_POINTS}")
        if len(array.shape) != 2 or not 1 <= array.shape[1] <= 3 or array.dtype.kind != "f":
            raise SourceError(
                f"{array.where} has shape {array.shape} and type {array.dtype}; (points, 1 to 3) are wanted"
            )
        points = array.load().astype(np.float64)
        cells = zarr_shape(path, f"{self._part}{_CELLS}")
        if cells is None or 0 in cells:
            if self._location == "cells":
                raise SourceError(f"{path}: {self._part}{_CELLS} is empty, so nothing has data of cells")
            check_nodes(points, where=array.where)
            return SourcePoints(coordinates=points, located=None)
        corners = find_array(path, f"{self._part}{_CELLS}")
        if len(corners.shape) != 2:
            raise SourceError(f"{corners.where} has shape {corners.shape}; (cells, nodes of a cell) is wanted")
        check_nodes(points, where=array.where)
        located = locate_points(
            simplex_cells(points, corners.load(), where=corners.where),
            self._location,
            drop_faulty=self._options.drop_faulty,
            where=path.name,
        )
        return SourcePoints(coordinates=located.coordinates, located=located)

    def _describe(self) -> None:
        infos, are_meshes = [], []
        boxes: list[Float64[np.ndarray, "2 dim"]] = []
        notes: list[str] = []
        for trajectory, path in enumerate(self.paths):
            points = self._load_points(trajectory)
            count = len(points.coordinates) if points.located is None else self._count_rows(path)
            for array in self._data[trajectory]:
                if array.shape[0] != count:
                    raise SourceError(f"{array.where} has shape {array.shape}, and there are {count} {self._location}")
            if boxes and boxes[0].shape != points.box.shape:
                raise SourceError(
                    f"{path} has points of {points.box.shape[1]} dimensions, {self.paths[0].name} of "
                    f"{boxes[0].shape[1]}"
                )
            boxes.append(points.box)
            are_meshes.append(points.located is not None)
            notes += points.notes
            absent = (note_absent_chunks(array.path, array.key or "") for array in self._data[trajectory])
            notes += [note for note in absent if note is not None]
            infos.append((path, len(points.coordinates), _read_globals(path)))
        dropped = self._settle_geometry(boxes, are_meshes)
        _check_parameters([(path, parameters) for path, _, parameters in infos])
        self.trajectories = tuple(
            TrajectoryInfo(item=path.name, shape=(count,), times=np.zeros(1), parameters=parameters)
            for path, count, parameters in infos
        )
        left = [name for name in _find_data(self.paths[0], self._part, self._location) if name not in self._names]
        left += _other_data(self.paths[0], self._part, self._location)
        notes += [f"data that were not converted: {', '.join(left)}"] if left else []
        self.notes = tuple(dict.fromkeys([*notes, *dropped]))

    def _count_rows(self, path: Path) -> int:
        shape = zarr_shape(path, f"{self._part}{_POINTS if self._location == 'nodes' else _CELLS}")
        return 0 if shape is None else shape[0]


def _choose_part(path: Path, options: PhysicsNeMoOptions) -> str:
    """Return the prefix of the keys of a part: "" for a `Mesh`."""
    keys = list_zarr_arrays(path)
    parts = {key.removesuffix(f"/{_POINTS}") for key in keys if key.endswith(f"/{_POINTS}")}
    parts = {part for part in parts if any(key.startswith(_prefixes(part)) for key in keys)}
    if read_zarr_attributes(path)[_TYPE] == "Mesh":
        if options.part is not None:
            raise SourceError(f"{path} is one Mesh, so option part={options.part} fits nothing in it")
        return ""
    if options.part is not None and options.part not in parts:
        raise SourceError(f"{path} has no part {options.part!r} with data. {suggest(options.part, parts)}")
    if options.part is None and len(parts) != 1:
        raise SourceError(
            f"{path} has data on {len(parts)} parts: {', '.join(sorted(parts)) or 'none'}; say which: --option "
            f"part={min(parts, default='interior')}"
        )
    return f"{options.part or min(parts)}/"


def _prefixes(part: str) -> tuple[str, ...]:
    return tuple(f"{part}/{data}/" for data in _DATA.values())


def _choose_location(path: Path, part: str, options: PhysicsNeMoOptions) -> PointLocation:
    found: dict[PointLocation, list[str]] = {location: list(_find_data(path, part, location)) for location in _DATA}
    with_data = [location for location, names in found.items() if names]
    if options.location is not None and options.location not in with_data:
        raise SourceError(f"{path} has no data at the {options.location} of {part or 'it'}; {found}")
    if not with_data:
        raise SourceError(f"{path} has no data at the points or cells of {part or 'its mesh'}: no field to convert")
    if options.location is None and len(with_data) > 1:
        raise SourceError(
            f"{path} has data at its nodes ({', '.join(found['nodes'])}) and at its cells ({', '.join(found['cells'])}"
            f"), and a point has all fields; say which: --option location=nodes, or location=cells"
        )
    return options.location or with_data[0]


def _find_data(path: Path, part: str, location: PointLocation) -> dict[str, StoredArray]:
    prefix = f"{part}{_DATA[location]}/"
    keys = sorted(key for key in list_zarr_arrays(path) if key.startswith(prefix))
    return {key.removeprefix(prefix).replace("/", "."): find_array(path, key) for key in keys}


def _other_data(path: Path, part: str, location: PointLocation) -> list[str]:
    """Return keys of data at other places: parts that were not chosen, or the other location."""
    chosen = f"{part}{_DATA[location]}/"
    marks = tuple(f"{data}/" for data in _DATA.values())
    keys = (key for key in list_zarr_arrays(path) if any(mark in key for mark in marks))
    return sorted(key for key in keys if not key.startswith(chosen))


def _width(array: StoredArray) -> int:
    return int(np.prod(array.shape[1:], dtype=np.int64))


def _describe_field(array: StoredArray, name: str) -> FieldSpec:
    count = _width(array)
    components = ("",) if count == 1 else _COMPONENTS if count == 3 else tuple(map(str, range(count)))
    return name_field(name, components, where=array.where)


def _read_globals(path: Path) -> dict[str, float]:
    """Return the numbers of `global_data`, of the store and of its interior."""
    parameters: dict[str, float] = {}
    for key in sorted(list_zarr_arrays(path)):
        if not key.startswith((f"{_GLOBALS}/", f"interior/{_GLOBALS}/")):
            continue
        array = find_array(path, key)
        values = array.load().reshape(-1)
        name = key.partition(f"{_GLOBALS}/")[2].replace("/", ".")
        if values.size > _MAX_GLOBAL:
            continue
        for number, value in enumerate(values):
            own = name if values.size == 1 else f"{name}_{number}"
            parameters[check_name(own, where=array.where)] = as_float(value, where=array.where)
    return parameters


def _check_parameters(found: Sequence[tuple[Path, dict[str, float]]]) -> None:
    first, wanted = found[0]
    for path, parameters in found:
        if parameters.keys() != wanted.keys():
            raise SourceError(f"{path} has global data {sorted(parameters)}, {first.name} has {sorted(wanted)}")
