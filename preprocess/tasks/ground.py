"""What of a trajectory does not depend on its fields: where its points lie, their order, measures of their cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float64, Int32, Shaped

from preprocess.sources.base import Source, TrajectoryInfo
from preprocess.tasks.bench import Workbench
from preprocess.tasks.frames import MAX_SIZE
from ups_data.coordinates import check_axis, grid_measures
from ups_data.errors import SourceError
from ups_data.importance import CloudGeometry, Geometry, GridGeometry
from ups_data.importance.base import SHARED_POINTS
from ups_data.pages import cloud_order, grid_order


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """What of a trajectory does not depend on its fields.

    Attributes:
        geometry: where its points lie.
        order: its points in curve order.
        measures: of their cells, None where they are neither stored nor counted.
    """

    geometry: Geometry
    order: Int32[np.ndarray, " point"]
    measures: Float64[np.ndarray, " point"] | None


class GroundReader:
    """Reads the ground of one trajectory after another."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        # Of the last shape only: of 10^8 points it takes 400 MB.
        self._grid_order: tuple[tuple[int, ...], Int32[np.ndarray, " point"]] | None = None
        # The last cloud, unless it is large: many data sets have one for all trajectories.
        self._cloud: CloudGeometry | None = None

    def read(self, trajectory: int) -> Ground:
        """Read that of one trajectory.

        Raises:
            SourceError: coordinates or measures that break a rule.
            SchemaError: axes that do.
        """
        geometry, order = self._read_geometry(trajectory)
        return Ground(geometry=geometry, order=order, measures=self._read_measures(trajectory, geometry))

    def _read_geometry(self, trajectory: int) -> tuple[Geometry, Int32[np.ndarray, " point"]]:
        """Return the geometry of a trajectory and its points in curve order."""
        source, info = self._bench.source, self._bench.source.trajectories[trajectory]
        where = f"{source.name}: {info.item}"
        curve = self._bench.partition.plan.layout.curve
        if source.kind != "grid":
            # As the source has them: of 10^8 points in float64 they take 2.4 GB.
            (coordinates,) = source.read_coordinates(trajectory)
            if coordinates.shape != (info.num_points, len(source.axes)) or not np.isfinite(coordinates).all():
                raise SourceError(
                    f"{where}: coordinates must be finite and of shape {(info.num_points, len(source.axes))}"
                )
            cloud = self._cloud
            if cloud is None or not np.array_equal(cloud.coordinates, coordinates):
                if is_small := info.num_points <= SHARED_POINTS:
                    coordinates = coordinates.copy()  # a source may read the next ones into the same memory
                order = cloud_order(coordinates, curve=curve)
                cloud = CloudGeometry(coordinates=coordinates, order=order, folder=self._bench.folder)
                self._cloud = cloud if is_small else None
            assert cloud.order is not None
            # Its own coordinates: 0 and -0 are equal, and stored as they are.
            cells = partial(source.read_mesh, trajectory)
            return replace(cloud, coordinates=coordinates, read_mesh=cells), cloud.order
        parts = tuple(np.asarray(part, dtype=np.float64) for part in source.read_coordinates(trajectory))
        _check_grid(source, info, parts, where)
        if self._grid_order is None or self._grid_order[0] != info.shape:
            self._grid_order = (info.shape, grid_order(info.shape, curve=curve))
        periods = tuple(axis.upper - axis.lower if axis.periodic else None for axis in source.axes)
        return GridGeometry(axes=parts, periods=periods), self._grid_order[1]

    def _read_measures(self, trajectory: int, geometry: Geometry) -> Float64[np.ndarray, " point"] | None:
        """Return the measures of cells where they are stored, or draws shall estimate integrals."""
        source, integral = self._bench.source, self._bench.partition.plan.estimand == "integral"
        if isinstance(geometry, GridGeometry):
            return grid_measures(geometry.axes, source.axes) if integral else None
        measures = source.read_measures(trajectory) if source.has_measures else None
        if measures is None:
            return None
        where = f"{source.name}: {source.trajectories[trajectory].item}"
        if measures.shape != (geometry.size,):
            raise SourceError(f"{where}: {measures.shape} measures of cells were given for {geometry.size} points")
        # NaN compares as False, so this refuses it too.
        if not ((measures >= 0) & (measures <= MAX_SIZE)).all() or not measures.any():
            point = int(np.argmin((measures >= 0) & (measures <= MAX_SIZE)))
            raise SourceError(
                f"{where}: measures of cells must be finite, not negative, and not all zero; point {point} has "
                f"{measures[point]}"
            )
        return measures.astype(np.float64)


def _check_grid(source: Source, info: TrajectoryInfo, axes: tuple[Shaped[np.ndarray, "..."], ...], where: str) -> None:
    sizes = tuple(axis.size for axis in axes)
    if sizes != info.shape:
        raise SourceError(f"{where}: axes have {sizes} nodes, the field has {info.shape}")
    for values, spec in zip(axes, source.axes, strict=True):
        check_axis(values, spec, where=where)
