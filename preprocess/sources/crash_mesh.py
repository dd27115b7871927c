"""PhysicsNeMo-Curator's crash meshes (`MeshZarrSink`): nodes that move, and the edges between them.

A store has `mesh_pos` (time, node, 3), `edges` (edge, 2), `thickness` (node) and further data of nodes. Our geometry
does not move: points are the nodes of the first frame, and the field `displacement` tells how far each has gone from
there, in float64, so that position = point + displacement gives `mesh_pos` back exactly. Other data of nodes are fields
that do not change. Edges are kept as the cells of the mesh; they have no measure that would mean one of the shell, and
data of cells (`cell_*`) are not converted. Times are not told: `time_step` states them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pydantic
from jaxtyping import Float64, Shaped

from preprocess.sources.array_files import ArrayReader, StoredArray, find_array
from preprocess.sources.base import Source, TrajectoryInfo
from preprocess.sources.exact import exact_cast
from preprocess.sources.mesh_points import check_nodes, describe_box, simplex_cells
from preprocess.sources.naming import name_field
from preprocess.sources.zarr_files import is_zarr, list_zarr_arrays, note_absent_chunks, zarr_shape
from ups_data.errors import ConfigError, SourceError
from ups_data.mesh import Mesh
from ups_data.schema import FieldSpec, GeometryKind, Record
from ups_data.yaml_records import parse_record

_POSITIONS, _EDGES = "mesh_pos", "edges"
_AXES = ("x", "y", "z")


class CrashOptions(Record):
    """What must be told of crash meshes.

    Attributes:
        time_step: time from one frame to the next.
        time_unit: its unit.
    """

    time_step: float = pydantic.Field(gt=0, allow_inf_nan=False)
    time_unit: str | None = None


class CrashMeshSource(Source):
    """Runs, a store of Zarr each."""

    format: ClassVar[str] = "crash_mesh"
    summary: ClassVar[str] = "PhysicsNeMo-Curator's crash meshes (Zarr with mesh_pos, edges, thickness)"

    def __init__(self, paths: Sequence[Path], options: CrashOptions) -> None:
        self.paths, self.name, self.time_unit = tuple(paths), paths[0].stem, options.time_unit
        self.dtype = np.dtype(np.float64)
        self._positions = tuple(_find_positions(path) for path in self.paths)
        names = tuple(_find_constants(self.paths[0]))
        self._constants = tuple(_choose_constants(path, names, self.paths[0]) for path in self.paths)
        self.fields = (
            FieldSpec(name="displacement", components=_AXES),
            *(_describe_field(array, name) for name, array in zip(names, self._constants[0], strict=True)),
        )
        with_edges = {bool(zarr_shape(path, _EDGES)) for path in self.paths}
        if len(with_edges) > 1:
            raise SourceError(f"{self.name}: some stores have {_EDGES} and others have none; convert them apart")
        self.kind: GeometryKind = "mesh" if with_edges.pop() else "points"
        self._readers: dict[int, ArrayReader] = {}
        self._describe(options.time_step)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell by the positions."""
        return is_zarr(path) and is_zarr(path / _POSITIONS)

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> Self:
        """Open runs of one data set; `options` are those of `CrashOptions`."""
        for path in paths:
            if not is_zarr(path):
                raise SourceError(f"{path} is no directory of Zarr, as crash meshes are")
        if "time_step" not in options:
            raise ConfigError(
                f"{paths[0].name} does not tell the time of its frames; state it: --option time_step=0.005, and "
                f"--option time_unit=s"
            )
        return cls(paths, parse_record(CrashOptions, options, where="options of format 'crash_mesh'"))

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read frames [start, stop) of a run; see `Source.read_frames`."""
        first = self.read_first(trajectory)
        moved = self._reader(trajectory).read((slice(start, stop),))
        displacement = moved.astype(np.float64) - first
        # Two float32 that differ by a factor of 2^29 or more have no exact difference in float64.
        lost = (first + displacement).astype(moved.dtype) != moved
        if (lost & ~np.isnan(moved)).any():
            frame, node, axis = (int(i) for i in np.argwhere(lost)[0])
            raise SourceError(
                f"{self._positions[trajectory].where}: node {node} goes from {first[node, axis]} to "
                f"{moved[frame, node, axis]} along {_AXES[axis]} in frame {start + frame}; float64 does not hold the "
                f"difference exactly"
            )
        parts = [displacement.transpose(0, 2, 1)]
        for array in self._constants[trajectory]:
            values = exact_cast(array.load(), self.dtype, where=array.where).reshape(len(first), -1).T
            parts.append(np.broadcast_to(values, (stop - start, *values.shape)))
        return np.concatenate(parts, axis=1)

    def read_first(self, trajectory: int) -> Float64[np.ndarray, "point 3"]:
        """Return the nodes of the first frame."""
        return self._reader(trajectory).read((0,)).astype(np.float64)

    def read_coordinates(self, trajectory: int) -> tuple[Float64[np.ndarray, "..."], ...]:
        """Return the nodes of the first frame; see `Source.read_coordinates`."""
        return (np.ascontiguousarray(self.read_first(trajectory)[:, self._kept_axes]),)

    def read_mesh(self, trajectory: int) -> Mesh | None:
        """Return nodes and edges; see `Source.read_mesh`."""
        if self.kind != "mesh":
            return None
        nodes, edges = self.read_first(trajectory), find_array(self.paths[trajectory], _EDGES)
        if edges.shape[1:] != (2,):
            raise SourceError(f"{edges.where} has shape {edges.shape}; (edges, 2) is wanted")
        cells = simplex_cells(nodes, edges.load(), where=edges.where)
        mesh = Mesh(
            location="nodes",
            nodes=nodes,
            types=cells.types,
            offsets=cells.offsets,
            connectivity=cells.connectivity,
        )
        return mesh.take_axes(self._kept_axes)

    def __getstate__(self) -> dict[str, Any]:
        """Leave open arrays behind: another process opens them itself."""
        return {**self.__dict__, "_readers": {}}

    def _reader(self, trajectory: int) -> ArrayReader:
        if trajectory not in self._readers:
            self._readers[trajectory] = self._positions[trajectory].open()
        return self._readers[trajectory]

    def _describe(self, time_step: float) -> None:
        box = np.stack([np.full(3, np.inf), np.full(3, -np.inf)])
        infos = []
        for trajectory, path in enumerate(self.paths):
            first, (frames, count, _) = self.read_first(trajectory), self._positions[trajectory].shape
            check_nodes(first, where=self._positions[trajectory].where)
            for array in self._constants[trajectory]:
                if array.shape[0] != count:
                    raise SourceError(f"{array.where} has shape {array.shape}, and there are {count} nodes")
            box = np.stack([np.minimum(box[0], first.min(axis=0)), np.maximum(box[1], first.max(axis=0))])
            infos.append(TrajectoryInfo(item=path.name, shape=(count,), times=time_step * np.arange(frames)))
        self.trajectories = tuple(infos)
        self.axes, self._kept_axes, dropped = describe_box(box, where=self.name)
        if self.kind == "mesh":
            for trajectory in range(len(self.paths)):
                self.read_mesh(trajectory)
        notes = ["points are the nodes of the first frame; position = point + displacement, exactly"]
        cells = [key for key in list_zarr_arrays(self.paths[0]) if key.startswith("cell_")]
        notes += [f"data of cells that were not converted: {', '.join(cells)}"] if cells else []
        arrays = [*self._positions, *(array for found in self._constants for array in found)]
        absent = (note_absent_chunks(array.path, array.key or "") for array in arrays)
        self.notes = (*notes, *(note for note in absent if note is not None), *dropped)


def _find_positions(path: Path) -> StoredArray:
    array = find_array(path, _POSITIONS)
    if len(array.shape) != 3 or array.shape[2] != 3 or array.dtype.newbyteorder("=") != np.float32:
        raise SourceError(
            f"{array.where} has shape {array.shape} and type {array.dtype}; (time, node, 3) of float32 is wanted"
        )
    return array


def _find_constants(path: Path) -> dict[str, StoredArray]:
    """Return data of nodes that do not change, by name."""
    keys = [key for key in list_zarr_arrays(path) if key not in (_POSITIONS, _EDGES) and not key.startswith("cell_")]
    return {key: find_array(path, key) for key in sorted(keys)}


def _choose_constants(path: Path, names: tuple[str, ...], first: Path) -> tuple[StoredArray, ...]:
    found = _find_constants(path)
    if tuple(found) != names:
        raise SourceError(
            f"{path} has data {', '.join(found) or 'none'}, {first.name} has {', '.join(names) or 'none'}"
        )
    return tuple(found.values())


def _describe_field(array: StoredArray, name: str) -> FieldSpec:
    if len(array.shape) > 2:
        raise SourceError(f"{array.where} has shape {array.shape}; one row a node is wanted")
    count = 1 if len(array.shape) == 1 else array.shape[1]
    components = ("",) if count == 1 else _AXES if count == 3 else tuple(map(str, range(count)))
    return name_field(name, components, where=array.where)
