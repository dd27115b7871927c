"""Flat tables over trajectories: sizes, offsets, splits, strata, parameters, times, grid axes.

Everything ragged is stored flat with the counts beside it, so that a million trajectories open as a few arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8

from ups_data.pages import PageLayout


@dataclass(frozen=True, kw_only=True, eq=False)
class TrajectoryTables:
    """One row a trajectory, or flat rows with offsets.

    Attributes:
        num_frames, num_points: sizes (n,).
        split: number of the split in manifest order (n,).
        stratum_pages: pages of each stratum (n, S).
        stratum_mass: importance of each stratum (n, S), summing to 1.
        parameters: scalars (n, K), K may be 0.
        times: times of all frames of all trajectories, one after another.
        geometry: number of the trajectory's grid (n,); trajectories that share a grid share its axes. For points
            the number is 0 and the tables below are empty.
        geometry_shape: nodes per axis of each grid (G, D).
        axis_nodes: node coordinates of all axes of all grids, grid after grid, axis after axis.
    """

    num_frames: Int64[np.ndarray, " trajectory"]
    num_points: Int64[np.ndarray, " trajectory"]
    split: UInt8[np.ndarray, " trajectory"]
    stratum_pages: Int32[np.ndarray, "trajectory stratum"]
    stratum_mass: Float64[np.ndarray, "trajectory stratum"]
    parameters: Float64[np.ndarray, "trajectory parameter"]
    times: Float64[np.ndarray, " frame"]
    geometry: Int32[np.ndarray, " trajectory"]
    geometry_shape: Int64[np.ndarray, "geometry dim"]
    axis_nodes: Float64[np.ndarray, " node"]

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the tables, which are also those of the arrays in `trajectories/`."""
        return tuple(field.name for field in fields(cls))

    @cached_property
    def frame_offsets(self) -> Int64[np.ndarray, " offset"]:
        """Frames of the store before each trajectory, and the total (n + 1,)."""
        return _offsets(self.num_frames)

    @cached_property
    def page_offsets(self) -> Int64[np.ndarray, " offset"]:
        """Rows of `pages/index` before each trajectory, and the total (n + 1,)."""
        return _offsets(self.num_pages)

    @cached_property
    def value_offsets(self) -> Int64[np.ndarray, " offset"]:
        """Rows of `pages/values` before each trajectory, and the total (n + 1,)."""
        return _offsets(self.num_pages * self.num_frames)

    @cached_property
    def num_pages(self) -> Int64[np.ndarray, " trajectory"]:
        """Pages of each trajectory."""
        return self.stratum_pages.sum(axis=1, dtype=np.int64)

    def layout(self, trajectory: int, page_points: int) -> PageLayout:
        """Return the page layout of a trajectory."""
        return PageLayout(
            num_points=int(self.num_points[trajectory]),
            page_points=page_points,
            stratum_pages=self.stratum_pages[trajectory].astype(np.int64),
            stratum_mass=self.stratum_mass[trajectory],
        )

    def times_of(self, trajectory: int) -> Float64[np.ndarray, " time"]:
        """Return the times of a trajectory's frames."""
        return self.times[self.frame_offsets[trajectory] : self.frame_offsets[trajectory + 1]]

    def shape(self, trajectory: int) -> tuple[int, ...]:
        """Return the nodes per axis of a grid, `(N,)` for points."""
        if not len(self.geometry_shape):
            return (int(self.num_points[trajectory]),)
        return tuple(self.geometry_shape[self.geometry[trajectory]].tolist())

    def axes(self, trajectory: int) -> tuple[Float64[np.ndarray, " _"], ...]:
        """Return the node coordinates of each axis of a trajectory's grid."""
        grid = int(self.geometry[trajectory])
        sizes = self.geometry_shape.reshape(-1)
        stops = np.cumsum(sizes)
        dims = self.geometry_shape.shape[1]
        return tuple(
            self.axis_nodes[stops[part] - sizes[part] : stops[part]] for part in range(grid * dims, (grid + 1) * dims)
        )


def _offsets(counts: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " offset"]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
