"""A data set in HDF5 files whose trajectories are rows of data sets, or groups: described by layouts, read alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float64, Shaped

from preprocess.sources.axes import shared_axis
from preprocess.sources.base import Source, TrajectoryInfo
from preprocess.sources.dimensions import arrange
from preprocess.sources.exact import exact_cast, stored_dtype
from preprocess.sources.hdf5_files import open_hdf5, read_part
from ups_data.errors import SourceError
from ups_data.schema import AxisSpec, FieldSpec, GeometryKind

if TYPE_CHECKING:
    import h5py

AXES = ("x", "y", "z")
_GRID: GeometryKind = "grid"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One data set, relative to its trajectory's group, and the dimensions left of it in one trajectory."""

    dataset: str
    dims: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """Where a trajectory lies, and what is its own."""

    path: Path
    group: str
    prefix: tuple[int, ...]
    info: TrajectoryInfo
    nodes: tuple[Float64[np.ndarray, " _"], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """What one file holds.

    Attributes:
        problem: for the name of the data set.
        fields: as the schema has them.
        parts: the data sets that make up the channels, in order.
        dtypes: types of these data sets.
        periodic: whether all axes are.
        places: its trajectories.
        notes: for people.
    """

    problem: str
    fields: tuple[FieldSpec, ...]
    parts: tuple[Part, ...]
    dtypes: tuple[np.dtype[Any], ...]
    periodic: bool
    places: tuple[Place, ...]
    notes: tuple[str, ...]


class HDF5Source(Source):
    """One or several files of one problem on grids with the axes x, y, z."""

    _on_other_periods: ClassVar[str] = ""

    def __init__(self, paths: Sequence[Path], layouts: Sequence[Layout]) -> None:
        self.paths = tuple(paths)
        self._handles: dict[Path, h5py.File] = {}
        first = layouts[0]
        for path, layout in zip(paths, layouts, strict=True):
            if (layout.fields, layout.parts) != (first.fields, first.parts) or layout.periodic != first.periodic:
                raise SourceError(f"{path.name} and {paths[0].name} hold different problems; convert them one by one")
        self.name, self.fields, self.kind = first.problem, first.fields, _GRID
        self._parts, self.time_unit = first.parts, None
        self._places = tuple(place for layout in layouts for place in layout.places)
        self.dtype = stored_dtype((dtype for layout in layouts for dtype in layout.dtypes), where=paths[0].name)
        self.trajectories = tuple(place.info for place in self._places)
        self.axes = self._describe_axes(first.periodic)
        self.notes = tuple(dict.fromkeys(note for layout in layouts for note in layout.notes))

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read frames [start, stop) of a trajectory; see `Source.read_frames`."""
        place = self._places[trajectory]
        file = self._handle(place.path)
        blocks = []
        for part in self._parts:
            where = f"{place.path.name}: {place.group}{part.dataset}"
            cut = (slice(start, stop),) if "time" in part.dims else ()
            values = read_part(file[place.group + part.dataset], (*place.prefix, *cut), where=where)
            block = arrange(values, part.dims, space=self._space, num_frames=stop - start)
            blocks.append(exact_cast(block, self.dtype, where=where))
        return np.concatenate(blocks, axis=1)

    def read_coordinates(self, trajectory: int) -> tuple[Float64[np.ndarray, "..."], ...]:
        """Return the nodes of every axis; see `Source.read_coordinates`."""
        return self._places[trajectory].nodes

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: another process opens its own."""
        return {**self.__dict__, "_handles": {}}

    @property
    def _space(self) -> tuple[str, ...]:
        return AXES[: len(self._places[0].nodes)]

    def _handle(self, path: Path) -> h5py.File:
        if path not in self._handles:
            self._handles[path] = open_hdf5(path)
        return self._handles[path]

    def _describe_axes(self, periodic: bool) -> tuple[AxisSpec, ...]:
        return tuple(
            shared_axis(
                name,
                (place.nodes[number] for place in self._places),
                periodic=periodic,
                where=f"{self.paths[0].name}: {name}",
                hint=self._on_other_periods,
            )
            for number, name in enumerate(self._space)
        )
