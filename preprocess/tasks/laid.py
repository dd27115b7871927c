"""What is known of trajectories once their pages are dealt."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int32, Int64

from preprocess.sources.survey import Survey
from ups_data.importance import CloudGeometry, Geometry, GridGeometry
from ups_data.pages import PageLayout
from ups_data.statistics import FieldStatistics


@dataclass(frozen=True, kw_only=True, eq=False)
class Laid:
    """What is known of trajectories once their pages are dealt; kept in a file until the tables are written.

    Attributes:
        drawn_points: as in the tables (B,).
        stratum_pages, stratum_mass: as in the tables (B, S).
        moments: statistics of each trajectory, see `FieldStatistics.to_array`; zeros where they are not counted.
        rounding: largest absolute and relative error of each trajectory's rounding; zeros without any.
        deviations: how far interpolated values of each trajectory are off, see `Deviations.to_array`; of others none.
        grids: number of each trajectory's grid among `shapes`; 0 for points.
        shapes: nodes per axis of each grid (G, D).
        nodes: node coordinates, grid after grid, axis after axis.
    """

    drawn_points: Int64[np.ndarray, " block"]
    stratum_pages: Int32[np.ndarray, "block stratum"]
    stratum_mass: Float64[np.ndarray, "block stratum"]
    moments: Float64[np.ndarray, "trajectory 2 moment channel"]
    rounding: Float64[np.ndarray, "trajectory 2 channel"]
    deviations: Float64[np.ndarray, "_ 3 channel"]
    grids: Int64[np.ndarray, " trajectory"]
    shapes: Int64[np.ndarray, "grid dim"]
    nodes: Float64[np.ndarray, " node"]

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        buffer = io.BytesIO()
        np.savez(buffer, **{part.name: getattr(self, part.name) for part in fields(self)})
        return buffer.getvalue()

    @classmethod
    def read(cls, path: Path) -> Laid:
        """Read the file again."""
        with np.load(path, allow_pickle=False) as content:
            return cls(**{part.name: content[part.name] for part in fields(cls)})


class LaidRows:
    """Gathers what `Laid` holds, block by block and trajectory by trajectory.

    Args:
        dims: axes of the domain.
    """

    def __init__(self, dims: int) -> None:
        self._dims = dims
        self._layouts: list[PageLayout] = []
        self._moments: list[Float64[np.ndarray, "2 moment channel"]] = []
        self._rounding: list[Float64[np.ndarray, "2 channel"]] = []
        self._deviations: list[Float64[np.ndarray, "3 channel"]] = []
        self._numbers: list[int] = []
        self._grids: dict[bytes, int] = {}
        self._axes: list[tuple[Float64[np.ndarray, " _"], ...]] = []

    def add_block(self, layout: PageLayout) -> None:
        """Add a block of the next trajectory."""
        self._layouts.append(layout)

    def add(
        self, statistics: FieldStatistics, rounding_errors: Float64[np.ndarray, "2 channel"], geometry: Geometry
    ) -> None:
        """Add a trajectory."""
        self._moments.append(statistics.to_array())
        self._rounding.append(rounding_errors)
        self._numbers.append(0 if isinstance(geometry, CloudGeometry) else self._number(geometry))

    def add_survey(self, survey: Survey | None) -> None:
        """Add what was measured of the same trajectory on other points, where anything was."""
        if survey is not None:
            self._deviations.append(survey.deviations())

    def result(self) -> Laid:
        """Return all of them."""
        nodes = [axis for axes in self._axes for axis in axes]
        return Laid(
            drawn_points=np.array([layout.num_points for layout in self._layouts], dtype=np.int64),
            stratum_pages=np.stack([layout.stratum_pages for layout in self._layouts]).astype(np.int32),
            stratum_mass=np.stack([layout.stratum_mass for layout in self._layouts]),
            moments=np.stack(self._moments),
            rounding=np.stack(self._rounding),
            deviations=np.array(self._deviations).reshape(-1, 3, self._rounding[0].shape[1]),
            grids=np.array(self._numbers, dtype=np.int64),
            shapes=np.array([axis.size for axis in nodes], dtype=np.int64).reshape(-1, self._dims),
            nodes=np.concatenate(nodes) if nodes else np.empty(0),
        )

    def _number(self, geometry: GridGeometry) -> int:
        key = grid_key(geometry.axes)
        if key not in self._grids:
            self._grids[key] = len(self._grids)
            self._axes.append(geometry.axes)
        return self._grids[key]


def grid_key(axes: tuple[Float64[np.ndarray, " _"], ...]) -> bytes:
    """Return what is equal for equal grids."""
    return repr([axis.size for axis in axes]).encode() + b"".join(axis.tobytes() for axis in axes)
