"""Steady meshes, or clouds where files have no cells: what the formats share that hold one of them a trajectory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

from preprocess.sources.base import Source
from preprocess.sources.mesh_points import MeshPoints, describe_box
from ups_data.errors import SourceError
from ups_data.mesh import Mesh


@dataclass(frozen=True, kw_only=True, eq=False)
class SourcePoints:
    """The points of a trajectory; those of a cloud have no mesh and no measures.

    Attributes:
        coordinates: of the points (N, D).
        located: where they are in the mesh.
    """

    coordinates: Float64[np.ndarray, "point dim"]
    located: MeshPoints | None

    @property
    def box(self) -> Float64[np.ndarray, "2 dim"]:
        """Least and largest coordinates, of the nodes where there is a mesh."""
        if self.located is not None:
            return self.located.box
        return np.stack([self.coordinates.min(axis=0), self.coordinates.max(axis=0)])

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out."""
        return () if self.located is None else self.located.notes

    def choose(self, values: Shaped[np.ndarray, "row *component"]) -> Shaped[np.ndarray, "point *component"]:
        """Return the values at the points, of those of all nodes or cells of the file."""
        return values if self.located is None else values[self.located.rows]


class MeshSource(Source):
    """A source whose trajectories are all meshes, or all clouds."""

    _kept_axes: list[int]

    @abstractmethod
    def _load_points(self, trajectory: int) -> SourcePoints:
        """Return the points of a trajectory. Asked for again and again: the last ones are worth keeping."""

    def read_coordinates(self, trajectory: int) -> tuple[Float64[np.ndarray, "..."], ...]:
        """Return the points of a trajectory; see `Source.read_coordinates`."""
        return (np.ascontiguousarray(self._load_points(trajectory).coordinates[:, self._kept_axes]),)

    def read_measures(self, trajectory: int) -> Float64[np.ndarray, " point"] | None:
        """Return measures of cells, or the nodes' shares of them; see `Source.read_measures`."""
        located = self._load_points(trajectory).located
        return None if located is None else located.measures

    def read_mesh(self, trajectory: int) -> Mesh | None:
        """Return nodes and cells; see `Source.read_mesh`."""
        located = self._load_points(trajectory).located
        return None if located is None else located.mesh.take_axes(self._kept_axes)

    def _settle_geometry(
        self, boxes: Sequence[Float64[np.ndarray, "2 dim"]], are_meshes: Sequence[bool]
    ) -> tuple[str, ...]:
        """Set kind and axes from what each trajectory has; return notes on axes that were left out.

        Raises:
            SourceError: meshes and clouds, or all points at one place.
        """
        if len(set(are_meshes)) > 1:
            raise SourceError(f"{self.name}: some trajectories have cells and others points alone; convert them apart")
        self.has_measures = are_meshes[0]
        self.kind = "mesh" if self.has_measures else "points"
        box = np.stack([np.min([box[0] for box in boxes], axis=0), np.max([box[1] for box in boxes], axis=0)])
        self.axes, self._kept_axes, dropped = describe_box(box, where=self.name)
        return dropped
