"""Meshes in files of VTK: `.vtk`, `.vtu`, `.vtp`, `.vts` and their kin, and `.pvd` collections of them.

Data on nodes make the nodes the points of a trajectory, data on cells their centres; of a file with both, an option
says which, as every point has all fields. The measure of a centre is that of its cell, the measure of a node an equal
share of each of its cells. A file of nodes alone is a cloud without measures. Grids that VTK files hold are read as
meshes.

Which files make a trajectory is told in `preprocess.sources.vtk_series`; its steps must have the same nodes and cells.

An axis along which all nodes of all files have one coordinate is left out: a plane mesh has two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pydantic
from jaxtyping import Float64, Shaped

from preprocess.sources.base import TrajectoryInfo
from preprocess.sources.exact import exact_cast, stored_dtype
from preprocess.sources.mesh_points import check_nodes, locate_points, take_cells
from preprocess.sources.mesh_source import MeshSource, SourcePoints
from preprocess.sources.naming import check_name, name_field
from preprocess.sources.stl_files import is_stl
from preprocess.sources.vtk_files import VtkFile, looks_like_vtk
from preprocess.sources.vtk_process import shared_process
from preprocess.sources.vtk_series import Case, find_cases, join_times
from ups_data.errors import SourceError, suggest
from ups_data.mesh import PointLocation
from ups_data.schema import FieldSpec, Record
from ups_data.yaml_records import parse_record

_AXES = ("x", "y", "z")
_COMPONENTS = {
    3: _AXES,
    9: tuple(row + column for row in _AXES for column in _AXES),
}
_POLYHEDRON = 42
_CELL_DIMS = {"lines": 1, "surface": 2, "volume": 3}


class VtkOptions(Record):
    """What may be told of files of VTK.

    Attributes:
        location: whether points are the `nodes` or the centres of the `cells`, where a file has data on both.
        series: what files with numbered names are: `time` steps, or `trajectories`.
        time_step: time from one number in the names to the next, where the files do not tell their times.
        fields: the arrays that become fields; by default all at the points.
        names: a field's name by that of its array, where a store cannot hold that one.
        cells: which cells count, where a file has several kinds: `lines`, `surface` or `volume`.
        block: name of the block to read, of files that have several.
        drop_faulty: leave out cells without extent, cells that stand there twice and nodes of no cell; otherwise they
            are refused.
        polyhedra: `nodes` keeps of polyhedra their nodes, centres and volumes, without the faces, which a store cannot
            hold; otherwise they are refused.
    """

    location: PointLocation | None = None
    series: Literal["time", "trajectories"] | None = None
    time_step: float | None = pydantic.Field(default=None, gt=0, allow_inf_nan=False)
    fields: tuple[str, ...] | None = None
    names: dict[str, str] = pydantic.Field(default_factory=dict)
    cells: Literal["lines", "surface", "volume"] | None = None
    block: str | None = None
    drop_faulty: bool = False
    polyhedra: Literal["nodes"] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Points(SourcePoints):
    """The points of one file; `rows` are those of the file's arrays, which has cells of other dimensions too."""

    rows: Shaped[np.ndarray, " point"] | None
    faceless: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out."""
        return (*super().notes, *self.faceless)

    def choose(self, values: Shaped[np.ndarray, "row *component"]) -> Shaped[np.ndarray, "point *component"]:
        """Return the values at the points, of those of all nodes or cells of the file."""
        return values if self.rows is None else values[self.rows]

    @property
    def digest(self) -> bytes:
        """Tells meshes apart."""
        digest = hashlib.sha256(np.ascontiguousarray(self.coordinates).tobytes())
        if self.located is not None:
            digest.update(self.located.mesh.offsets.tobytes() + self.located.mesh.connectivity.tobytes())
        return digest.digest()


class VtkSource(MeshSource):
    """Meshes and clouds in one or several files of VTK."""

    format: ClassVar[str] = "vtk"
    summary: ClassVar[str] = "VTK meshes (.vtk, .vtu, .vtp and their kin, .pvd collections)"

    def __init__(self, paths: Sequence[Path], options: VtkOptions) -> None:
        self._options = options
        self.name, self.time_unit = paths[0].stem, None
        self._cases = find_cases(paths, series=options.series, time_step=options.time_step)
        self._read: tuple[Path, VtkFile, _Points] | None = None
        first = self._load(self._cases[0].files[0])[0]
        self._location: PointLocation = _choose_location(first, options, self._cases[0].files[0])
        self._arrays = self._choose_arrays(first)
        self.fields = tuple(self._describe_field(first, name) for name in self._arrays)
        self._read = None
        self._describe()
        self.paths = tuple(dict.fromkeys([*paths, *(file for case in self._cases for file in case.files)]))

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell by the first bytes."""
        try:
            return looks_like_vtk(path)
        except OSError:
            return False

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> Self:
        """Open files of one data set; `options` are those of `VtkOptions`."""
        for path in paths:
            if not path.is_file() or not looks_like_vtk(path):
                raise SourceError(f"{path} is no file of VTK: it begins neither as legacy nor as XML files do")
            if is_stl(path):
                raise SourceError(
                    f"{path} holds a surface and no data, as every STL file does, so there is no field to convert. "
                    f"Name it in a description of the arrays that hold the fields, {path.with_suffix('.yaml').name}, "
                    f"and give that:\n"
                    f"  kind: mesh\n  dims: [point]\n  fields:\n    pressure: {{file: pressure.npy}}\n"
                    f"  axes: {{x: {{}}, y: {{}}, z: {{}}}}\n"
                    f"  coordinates: {{file: {path.name}, key: points}}\n"
                    f"  cells: {{file: {path.name}, key: triangles, type: triangle, location: cells}}"
                )
        return cls(paths, parse_record(VtkOptions, options, where="options of format 'vtk'"))

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read frames [start, stop) of a trajectory; see `Source.read_frames`."""
        return np.stack([self._read_frame(file) for file in self._cases[trajectory].files[start:stop]])

    def __getstate__(self) -> dict[str, Any]:
        """Leave the content of files behind: another process reads them itself."""
        return {**self.__dict__, "_read": None}

    def _load_points(self, trajectory: int) -> _Points:
        return self._load(self._cases[trajectory].files[0])[1]

    def _load(self, path: Path) -> tuple[VtkFile, _Points]:
        """Read a file; the last one is kept."""
        if self._read is None or self._read[0] != path:
            self._read = None
            file = shared_process().read_file(path, block=self._options.block)
            self._read = (path, file, self._locate(file, path))
        return self._read[1], self._read[2]

    def _locate(self, file: VtkFile, path: Path) -> _Points:
        dims = np.unique(file.dims[file.dims > 0]).tolist()
        if not dims:
            check_nodes(file.cells.nodes, where=path.name)
            return _Points(coordinates=file.cells.nodes, rows=None, located=None)
        location = getattr(self, "_location", None) or _choose_location(file, self._options, path)
        chosen = np.flatnonzero(file.dims == _choose_dim(dims, self._options, path))
        polyhedra = int(np.count_nonzero(file.cells.types[chosen] == _POLYHEDRON))
        if polyhedra and self._options.polyhedra is None:
            raise SourceError(
                f"{path.name} has {polyhedra} polyhedra of {chosen.size} cells, whose faces a store cannot hold; say "
                f"--option polyhedra=nodes to keep nodes, centres and volumes without them, or cut them into tetrahedra"
            )
        whole = chosen.size == len(file.dims)
        located = locate_points(
            file.cells if whole else take_cells(file.cells, chosen),
            location,
            drop_faulty=self._options.drop_faulty,
            where=path.name,
        )
        rows = located.rows if whole or location == "nodes" else chosen[located.rows]
        faceless = (f"{path.name}: faces of {polyhedra} polyhedra were not kept",) if polyhedra else ()
        return _Points(coordinates=located.coordinates, rows=rows, located=located, faceless=faceless)

    def _read_frame(self, path: Path) -> Shaped[np.ndarray, "channel point"]:
        file, points = self._load(path)
        parts = []
        for name, spec in zip(self._arrays, self.fields, strict=True):
            values = self._array(file, name, path)
            block = exact_cast(values, self.dtype, where=f"{path.name}: {name}").reshape(len(values), -1)
            if block.shape[1] != len(spec.components):
                raise SourceError(
                    f"{path.name}: {name} has {block.shape[1]} components, elsewhere {len(spec.components)}"
                )
            parts.append(points.choose(block).T)
        return np.concatenate(parts)

    def _array(self, file: VtkFile, name: str, path: Path) -> Shaped[np.ndarray, "point *component"]:
        arrays = _arrays_at(file, self._location)
        if name not in arrays:
            raise SourceError(f"{path} has no array {name!r} at its {self._location}. {suggest(name, arrays)}")
        return arrays[name]

    def _choose_arrays(self, file: VtkFile) -> tuple[str, ...]:
        path, arrays = self._cases[0].files[0], _arrays_at(file, self._location)
        wanted = self._options.fields
        if wanted is None:
            return tuple(name for name, values in arrays.items() if values.dtype.kind in "biuf")
        for name in wanted:
            if name not in arrays:
                raise SourceError(f"{path} has no array {name!r} at its {self._location}. {suggest(name, arrays)}")
        return wanted

    def _describe_field(self, file: VtkFile, name: str) -> FieldSpec:
        values, path = _arrays_at(file, self._location)[name], self._cases[0].files[0]
        count = int(np.prod(values.shape[1:], dtype=np.int64))
        components = ("",) if count == 1 else _COMPONENTS.get(count, tuple(map(str, range(count))))
        where = f"{path.name}: array {name!r} (--option 'names={{{name}: NEW}}' gives it another name)"
        return name_field(self._options.names.get(name, name), components, where=where)

    def _describe(self) -> None:
        """Read all files once: sizes, times, the box around all points, numbers, what was left out."""
        infos, boxes, are_meshes = [], [], []
        notes: list[str] = []
        dtypes: set[np.dtype[Any]] = set()
        numbers: list[dict[str, float]] = []
        for case in self._cases:
            seen = self._survey(case)
            infos.append((case.item, seen.num_points, seen.times))
            numbers.append(seen.numbers)
            notes += seen.notes
            dtypes |= seen.dtypes
            boxes.append(seen.box)
            are_meshes.append(seen.is_mesh)
        dropped = self._settle_geometry(boxes, are_meshes)
        shared = [name for name in numbers[0] if all(name in other for other in numbers)]
        left = sorted({name for other in numbers for name in other} - set(shared))
        if left:
            notes.append(f"numbers that not every trajectory has were not converted: {', '.join(left)}")
        self.dtype = stored_dtype(sorted(dtypes, key=str), where=self.name)
        self.trajectories = tuple(
            TrajectoryInfo(
                item=item,
                shape=(count,),
                times=times,
                parameters={check_name(self._options.names.get(name, name), where=item): own[name] for name in shared},
            )
            for (item, count, times), own in zip(infos, numbers, strict=True)
        )
        self.notes = tuple(dict.fromkeys([*notes, *dropped]))

    def _survey(self, case: Case) -> _Survey:
        """Read the files of a trajectory."""
        path = case.files[0]
        file, points = self._load(path)
        digest, numbers, told = points.digest, dict(file.numbers), [file.time]
        notes, dtypes = list(points.notes), {self._array(file, name, path).dtype for name in self._arrays}
        box, count = points.box, len(points.coordinates)
        left = [name for name in (*file.at_nodes, *file.at_cells) if name not in self._arrays]
        if left:
            notes.append(f"arrays that were not converted: {', '.join(dict.fromkeys(left))}")
        for path in case.files[1:]:
            file, step = self._load(path)
            if step.digest != digest:
                raise SourceError(
                    f"{path} has other nodes or cells than {case.files[0]}; the steps of one trajectory must share them"
                )
            numbers = {name: value for name, value in numbers.items() if file.numbers.get(name) == value}
            told.append(file.time)
            dtypes |= {self._array(file, name, path).dtype for name in self._arrays}
        return _Survey(
            num_points=count,
            times=join_times(case, told),
            numbers=numbers,
            notes=tuple(notes),
            dtypes=frozenset(dtypes),
            is_mesh=points.located is not None,
            box=box,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Survey:
    """What describing a trajectory found."""

    num_points: int
    times: Float64[np.ndarray, " time"]
    numbers: dict[str, float]
    notes: tuple[str, ...]
    dtypes: frozenset[np.dtype[Any]]
    is_mesh: bool
    box: Float64[np.ndarray, "2 dim"]


def _arrays_at(file: VtkFile, location: PointLocation) -> Mapping[str, Shaped[np.ndarray, "..."]]:
    return file.at_nodes if location == "nodes" else file.at_cells


def _choose_location(file: VtkFile, options: VtkOptions, path: Path) -> PointLocation:
    nodes, cells = list(file.at_nodes), list(file.at_cells)
    if options.location is not None:
        if not (nodes if options.location == "nodes" else cells):
            raise SourceError(
                f"{path} has no data at its {options.location}; at nodes {nodes or 'none'}, at cells {cells or 'none'}"
            )
        return options.location
    if nodes and cells:
        raise SourceError(
            f"{path} has data at its nodes ({', '.join(nodes)}) and at its cells ({', '.join(cells)}), and a point has "
            f"all fields; say which: --option location=nodes, or location=cells"
        )
    if not nodes and not cells:
        raise SourceError(f"{path} holds a mesh and no data at its nodes or cells, so there is no field to convert")
    return "nodes" if nodes else "cells"


def _choose_dim(dims: list[int], options: VtkOptions, path: Path) -> int:
    names = [name for name, dim in _CELL_DIMS.items() if dim in dims]
    if options.cells is not None:
        if options.cells not in names:
            raise SourceError(f"{path} has no cells of kind {options.cells!r}. {suggest(options.cells, names)}")
        return _CELL_DIMS[options.cells]
    if len(names) > 1:
        raise SourceError(f"{path} has cells of {' and '.join(names)}; say which count: --option cells={names[-1]}")
    return dims[0]
