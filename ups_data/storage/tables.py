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
    "num_blocks": "int64",
    "block_start": "int64",
    "block_frames": "int64",
    "block_pages": "int64",
    "drawn_points": "int64",
    "stratum_pages": "int32",
    "stratum_mass": "float64",
    "parameters": "float64",
    "times": "float64",
    "geometry": "int32",
    "geometry_shape": "int64",
    "axis_nodes": "float64",
    "mesh": "int32",
    "mesh_sizes": "int64",
}
"""Stored dtype of each table, little-endian."""

_RANKS = {"stratum_pages": 2, "stratum_mass": 2, "parameters": 2, "geometry_shape": 2, "mesh_sizes": 2}

_PER_TRAJECTORY = ("num_frames", "num_points", "split", "num_blocks", "parameters", "geometry")
_PER_BLOCK = ("block_start", "block_frames", "block_pages", "drawn_points", "stratum_pages", "stratum_mass")


def table_rank(name: str) -> int:
    """Return the number of axes of a table."""
    return _RANKS.get(name, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrajectoryTables:
    """One row a trajectory, one row a block of frames, or flat rows with offsets.

    Blocks (B in all) stand trajectory after trajectory, in the order of their frames.

    Attributes:
        num_frames, num_points: sizes (n,).
        split: number of the split in manifest order (n,).
        num_blocks: blocks of frames that have a page layout of their own (n,).
        block_start: first frame of each block in its trajectory (B,).
        block_frames: frames whose pages are stored with the block (B,).
        block_pages: pages of all points (B,).
        drawn_points: points that may be drawn (B,); the others stand on the last pages.
        stratum_pages: pages of each stratum (B, S).
        stratum_mass: importance of each stratum (B, S), summing to 1.
        parameters: scalars (n, K), K may be 0.
        times: times of all frames of all trajectories, one after another.
        geometry: number of the trajectory's grid (n,); trajectories that share a grid share its axes. For points
            the number is 0 and the tables below are empty.
        geometry_shape: nodes per axis of each grid (G, D).
        axis_nodes: node coordinates of all axes of all grids, grid after grid, axis after axis.
        mesh: number of the trajectory's mesh (n,); trajectories that share one have the same. Empty where no meshes are
            stored.
        mesh_sizes: nodes, cells and corners of each mesh (K, 3).
    """

    num_frames: Int64[np.ndarray, " trajectory"]
    num_points: Int64[np.ndarray, " trajectory"]
    split: UInt8[np.ndarray, " trajectory"]
    num_blocks: Int64[np.ndarray, " trajectory"]
    block_start: Int64[np.ndarray, " block"]
    block_frames: Int64[np.ndarray, " block"]
    block_pages: Int64[np.ndarray, " block"]
    drawn_points: Int64[np.ndarray, " block"]
    stratum_pages: Int32[np.ndarray, "block stratum"]
    stratum_mass: Float64[np.ndarray, "block stratum"]
    parameters: Float64[np.ndarray, "trajectory parameter"]
    times: Float64[np.ndarray, " frame"]
    geometry: Int32[np.ndarray, " trajectory"]
    geometry_shape: Int64[np.ndarray, "geometry dim"]
    axis_nodes: Float64[np.ndarray, " node"]
    mesh: Int32[np.ndarray, " meshed"]
    mesh_sizes: Int64[np.ndarray, "mesh 3"]

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the tables, which are also those of the arrays in `trajectories/`."""
        return tuple(field.name for field in fields(cls))

    @cached_property
    def frame_offsets(self) -> Int64[np.ndarray, " offset"]:
        """Frames of the store before each trajectory, and the total (n + 1,)."""
        return _offsets(self.num_frames)

    @cached_property
    def block_offsets(self) -> Int64[np.ndarray, " offset"]:
        """Blocks of the store before each trajectory, and the total (n + 1,)."""
        return _offsets(self.num_blocks)

    @cached_property
    def page_offsets(self) -> Int64[np.ndarray, " offset"]:
        """Rows of `pages/index` before each block, and the total (B + 1,)."""
        return _offsets(self.block_pages)

    @cached_property
    def value_offsets(self) -> Int64[np.ndarray, " offset"]:
        """Rows of `pages/values` before each block, and the total (B + 1,)."""
        return _offsets(self.block_pages * self.block_frames)

    @cached_property
    def axis_offsets(self) -> Int64[np.ndarray, " offset"]:
        """Entries of `axis_nodes` before each axis of each grid, and the total (G * D + 1,)."""
        return _offsets(self.geometry_shape.reshape(-1))

    def layout(self, block: int, page_points: int) -> PageLayout:
        """Return the page layout of a block, counted over all trajectories."""
        stratum_pages = self.stratum_pages[block].astype(np.int64)
        return PageLayout(
            num_points=int(self.drawn_points[block]),
            page_points=page_points,
            stratum_pages=stratum_pages,
            stratum_mass=self.stratum_mass[block],
            resting_pages=int(self.block_pages[block] - stratum_pages.sum()),
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
        lengths = {len(getattr(self, name)) for name in _PER_TRAJECTORY}
        yield len(lengths) == 1, "they differ in length"
        yield bool((self.num_frames >= 1).all()), "num_frames is not positive"
        yield len(self.times) == self.frame_offsets[-1], "num_frames does not add up to the length of times"
        sized = (self.num_points >= 1) & (self.num_points <= MAX_POINTS)
        yield bool(sized.all()), f"num_points leaves [1, {MAX_POINTS}]"
        yield from self._block_rules(page_points)
        counts = np.bincount(self.split, minlength=len(splits))
        yield tuple(counts.tolist()) == splits, f"split holds {counts.tolist()} trajectories, the manifest {splits}"
        yield bool((self.geometry_shape >= 1).all()), "geometry_shape is not positive"
        yield self.axis_nodes.size == self.axis_offsets[-1], "geometry_shape does not add up to the axis_nodes"
        yield self._grids_fit(), "geometry and geometry_shape do not fit num_points"
        yield self._meshes_fit(), "mesh and mesh_sizes do not fit each other"

    def _block_rules(self, page_points: int) -> Iterator[tuple[bool, str]]:
        counted = bool((self.num_blocks >= 1).all()) and {len(getattr(self, name)) for name in _PER_BLOCK} == {
            int(self.num_blocks.sum())
        }
        yield counted, "num_blocks does not add up to the blocks"
        yield self.stratum_mass.shape == self.stratum_pages.shape, "stratum_mass and stratum_pages differ in shape"
        yield self._blocks_cover_frames(), "block_start and block_frames do not cover num_frames"
        points = np.repeat(self.num_points, self.num_blocks)
        drawn = (self.drawn_points >= 1) & (self.drawn_points <= points)
        yield bool(drawn.all()), "drawn_points leaves [1, num_points]"
        paged = (self.stratum_pages >= 0).all(axis=1) & (
            self.stratum_pages.sum(axis=1, dtype=np.int64) == -(-self.drawn_points // page_points)
        )
        yield bool(paged.all()), "stratum_pages does not add up to the pages of drawn_points"
        needed = -(-self.drawn_points // page_points) - (-(points - self.drawn_points) // page_points)
        most = -(-points // page_points) + 1
        yield bool(((self.block_pages >= needed) & (self.block_pages <= most)).all()), "block_pages leaves its points"

    def _blocks_cover_frames(self) -> bool:
        start, stop = self.block_start, self.block_start + self.block_frames
        if not (self.block_frames >= 1).all():
            return False
        first = self.block_offsets[:-1]
        last = self.block_offsets[1:] - 1
        inner = np.ones(len(start), dtype=bool)
        inner[first] = False
        before = np.flatnonzero(inner) - 1
        rising = (start[before + 1] > start[before]).all() and (start[before + 1] <= stop[before]).all()
        ends = (start[first] == 0).all() and (stop[last] == self.num_frames).all()
        return bool(rising and ends and (stop <= np.repeat(self.num_frames, self.num_blocks)).all())

    def _meshes_fit(self) -> bool:
        count = len(self.mesh_sizes)
        if self.mesh_sizes.shape[1:] != (3,) or len(self.mesh) != (len(self.num_frames) if count else 0):
            return False
        inside = bool(((self.mesh >= 0) & (self.mesh < count)).all())
        return inside and bool(((self.mesh_sizes >= 1) & (self.mesh_sizes <= MAX_POINTS)).all())

    def _grids_fit(self) -> bool:
        grids = len(self.geometry_shape)
        if not grids:
            return True
        inside = bool(((self.geometry >= 0) & (self.geometry < grids)).all())
        return inside and bool((self.geometry_shape.prod(axis=1)[self.geometry] == self.num_points).all())


def _offsets(counts: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " offset"]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
