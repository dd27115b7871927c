"""Steady clouds of points whose coordinates, fields and measures lie in arrays: what several formats share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from preprocess.sources.array_files import StoredArray
from preprocess.sources.base import Source, TrajectoryInfo
from preprocess.sources.exact import exact_cast, stored_dtype
from preprocess.sources.mesh_points import check_nodes, describe_box
from preprocess.sources.zarr_files import is_zarr, note_absent_chunks
from ups_data.errors import SourceError
from ups_data.schema import FieldSpec, GeometryKind


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns [first, stop) of an array of one row a point; of an array without columns, the one that it is."""

    array: StoredArray
    first: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class StoredCloud:
    """One trajectory.

    Attributes:
        item: its name.
        coordinates: array (N, D).
        columns: those of each field, in the order of the fields.
        measures: array (N,) of lengths, areas or volumes, None where there is none.
        parameters: scalars.
    """

    item: str
    coordinates: StoredArray
    columns: tuple[Columns, ...]
    measures: StoredArray | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)


class StoredCloudSource(Source):
    """Clouds of points in arrays; formats say which array is what.

    Points without measure are refused, or left out where the user says so.
    """

    def __init__(
        self,
        *,
        name: str,
        paths: Sequence[Path],
        fields: tuple[FieldSpec, ...],
        clouds: Sequence[StoredCloud],
        drop_faulty: bool,
        notes: Sequence[str] = (),
    ) -> None:
        self.name, self.paths, self.fields, self.time_unit = name, tuple(paths), fields, None
        self.kind: GeometryKind = "points"
        self._clouds, self._drop_faulty = tuple(clouds), drop_faulty
        self.has_measures = all(cloud.measures is not None for cloud in self._clouds)
        self.dtype = stored_dtype(
            (columns.array.dtype for cloud in self._clouds for columns in cloud.columns),
            where=", ".join(dict.fromkeys(columns.array.where for columns in self._clouds[0].columns)),
        )
        infos, found = [], list(notes)
        box = np.stack([np.full(3, np.inf), np.full(3, -np.inf)])[:, : self._clouds[0].coordinates.shape[-1]]
        for cloud in self._clouds:
            _check_shapes(cloud)
            found += _look_at_chunks(cloud)
            points, rows, left_out = self._load_points(cloud)
            found += left_out
            box = np.stack([np.minimum(box[0], points.min(axis=0)), np.maximum(box[1], points.max(axis=0))])
            infos.append(
                TrajectoryInfo(item=cloud.item, shape=(len(rows),), times=np.zeros(1), parameters=cloud.parameters)
            )
        self.trajectories = tuple(infos)
        self.axes, self._kept_axes, dropped = describe_box(box, where=self.name)
        self.notes = tuple(dict.fromkeys([*found, *dropped]))

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read the one frame of a cloud; see `Source.read_frames`."""
        cloud = self._clouds[trajectory]
        rows = self._find_rows(cloud)[0]
        loaded: dict[tuple[Path, str | None], Shaped[np.ndarray, "point column"]] = {}
        parts = []
        for columns in cloud.columns:
            array = columns.array
            place = (array.path, array.key)
            if place not in loaded:
                values = array.load()
                loaded[place] = exact_cast(values, self.dtype, where=array.where).reshape(len(values), -1)
            parts.append(loaded[place][rows, columns.first : columns.stop].T)
        return np.concatenate(parts)[None][start:stop]

    def read_coordinates(self, trajectory: int) -> tuple[Float64[np.ndarray, "..."], ...]:
        """Return the points of a cloud; see `Source.read_coordinates`."""
        points = self._load_points(self._clouds[trajectory])[0]
        return (np.ascontiguousarray(points[:, self._kept_axes]),)

    def read_measures(self, trajectory: int) -> Float64[np.ndarray, " point"] | None:
        """Return the measures of the points; see `Source.read_measures`."""
        cloud = self._clouds[trajectory]
        if cloud.measures is None:
            return None
        return cloud.measures.load().reshape(-1).astype(np.float64)[self._find_rows(cloud)[0]]

    def _load_points(
        self, cloud: StoredCloud
    ) -> tuple[Float64[np.ndarray, "point dim"], Int64[np.ndarray, " point"], tuple[str, ...]]:
        points = cloud.coordinates.load().astype(np.float64)
        check_nodes(points, where=cloud.coordinates.where)
        rows, notes = self._find_rows(cloud)
        return points[rows], rows, notes

    def _find_rows(self, cloud: StoredCloud) -> tuple[Int64[np.ndarray, " point"], tuple[str, ...]]:
        """Return the points that have a measure, and how many have none."""
        if cloud.measures is None:
            return np.arange(cloud.coordinates.shape[0]), ()
        measures = cloud.measures.load().reshape(-1)
        sound = np.isfinite(measures) & (measures > 0)
        if sound.all():
            return np.arange(measures.size), ()
        first, count = int(np.argmin(sound)), int((~sound).sum())
        if not self._drop_faulty or count == measures.size:
            raise SourceError(
                f"{cloud.measures.where} holds {measures[first]} at entry {first}, and {count} of {measures.size} "
                f"entries are not positive; say --option drop_faulty=true to leave such points out"
            )
        return np.flatnonzero(sound), (
            f"{cloud.item}: {count} of {measures.size} points without measure were left out",
        )


def _check_shapes(cloud: StoredCloud) -> None:
    shape = cloud.coordinates.shape
    if len(shape) != 2 or not 1 <= shape[1] <= 3 or cloud.coordinates.dtype.kind not in "iuf":
        raise SourceError(
            f"{cloud.coordinates.where} has shape {shape} and type {cloud.coordinates.dtype}; numbers of shape "
            f"(points, 1 to 3) are wanted"
        )
    for columns in cloud.columns:
        array = columns.array
        width = 1 if len(array.shape) == 1 else array.shape[-1]
        if len(array.shape) > 2 or array.shape[0] != shape[0] or width < columns.stop:
            raise SourceError(
                f"{array.where} has shape {array.shape}; {shape[0]} points as in {cloud.coordinates.where}, and at "
                f"least {columns.stop} columns, are wanted"
            )
    measures = cloud.measures
    if measures is not None and (measures.shape not in {(shape[0],), (shape[0], 1)} or measures.dtype.kind != "f"):
        raise SourceError(
            f"{measures.where} has shape {measures.shape} and type {measures.dtype}; one floating-point measure for "
            f"each of {shape[0]} points is wanted"
        )


def _look_at_chunks(cloud: StoredCloud) -> list[str]:
    """Refuse chunks of Zarr that are damaged, and note those that are not there."""
    arrays = [cloud.coordinates, *(columns.array for columns in cloud.columns)]
    arrays += [] if cloud.measures is None else [cloud.measures]
    notes = []
    for path, key in dict.fromkeys((array.path, array.key) for array in arrays if is_zarr(array.path)):
        notes.append(note_absent_chunks(path, key or ""))
    return [note for note in notes if note is not None]
