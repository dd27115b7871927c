"""Flat tables over trajectories: sizes, offsets, splits, strata, parameters, times, grid axes.

Everything ragged is stored flat with the counts beside it, so that a million trajectories open as a few arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8

from ups_data.pages import PageLayout
from ups_data.schema import MAX_POINTS

TABLE_DTYPES = {
    "num_frames": "int64",
    "num_points": "int64",
    "split": "uint8",
    "stratum_pages": "int32",
    "stratum_mass": "float64",
    "parameters": "float64",
    "times": "float64",
    "geometry": "int32",
    "geometry_shape": "int64",
    "axis_nodes": "float64",
}
"""Stored dtype of each table, little-endian."""

_RANKS = {"stratum_pages": 2, "stratum_mass": 2, "parameters": 2, "geometry_shape": 2}


def table_rank(name: str) -> int:
    """Return the number of axes of a table."""
    return _RANKS.get(name, 1)


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
    def axis_offsets(self) -> Int64[np.ndarray, " offset"]:
        """Entries of `axis_nodes` before each axis of each grid, and the total (G * D + 1,)."""
        return _offsets(self.geometry_shape.reshape(-1))

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
        grid, dims = int(self.geometry[trajectory]), self.geometry_shape.shape[1]
        edges = self.axis_offsets[grid * dims : (grid + 1) * dims + 1].tolist()
        return tuple(self.axis_nodes[start:stop] for start, stop in pairwise(edges))

    def find_fault(self, *, page_points: int, splits: tuple[int, ...]) -> str | None:
        """Return what keeps the tables from describing a store, None where nothing does.

        Args:
            page_points: entries of a page.
            splits: trajectories of each split.
        """
        return next((fault for holds, fault in self._rules(page_points, splits) if not holds), None)

    def _rules(self, page_points: int, splits: tuple[int, ...]) -> Iterator[tuple[bool, str]]:
        # Evaluated one after another: a rule may rely on those before it.
        flat = {"times", "axis_nodes", "geometry_shape"}
        lengths = {len(getattr(self, name)) for name in self.names() if name not in flat}
        yield len(lengths) == 1, "they differ in length"
        yield self.stratum_mass.shape == self.stratum_pages.shape, "stratum_mass and stratum_pages differ in shape"
        yield bool((self.num_frames >= 1).all()), "num_frames is not positive"
        yield len(self.times) == self.frame_offsets[-1], "num_frames does not add up to the length of times"
        sized = (self.num_points >= 1) & (self.num_points <= MAX_POINTS)
        yield bool(sized.all()), f"num_points leaves [1, {MAX_POINTS}]"
        paged = (self.stratum_pages >= 0).all() and (self.num_pages == -(-self.num_points // page_points)).all()
        yield bool(paged), "stratum_pages does not add up to the pages of num_points"
        counts = np.bincount(self.split, minlength=len(splits))
        yield tuple(counts.tolist()) == splits, f"split holds {counts.tolist()} trajectories, the manifest {splits}"
        yield bool((self.geometry_shape >= 1).all()), "geometry_shape is not positive"
        yield self.axis_nodes.size == self.axis_offsets[-1], "geometry_shape does not add up to the axis_nodes"
        yield self._grids_fit(), "geometry and geometry_shape do not fit num_points"

    def _grids_fit(self) -> bool:
        grids = len(self.geometry_shape)
        if not grids:
            return True
        inside = bool(((self.geometry >= 0) & (self.geometry < grids)).all())
        return inside and bool((self.geometry_shape.prod(axis=1)[self.geometry] == self.num_points).all())


def _offsets(counts: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " offset"]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
