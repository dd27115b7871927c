"""The contract of a store: what every back end answers, in the same numbers."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Float64, Int32, Int64, Integer

from ups_data.coordinates import Domain
from ups_data.errors import DatasetError, suggest
from ups_data.mesh import Mesh
from ups_data.pages import CellDraw, PageLayout, PointDraw, central_places, cloud_order, grid_order
from ups_data.schema import Manifest
from ups_data.storage.byte_store import ReadCount
from ups_data.storage.tables import TrajectoryTables

_MOST_CURVES = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class PagePoints:
    """The points that stand on some pages, page after page, padding included.

    Attributes:
        index: point ids, -1 on padding (Q,).
        coordinates: physical coordinates, NaN on padding (Q, D).
    """

    index: Int64[np.ndarray, " query"]
    coordinates: Float64[np.ndarray, "query dim"]


class Store(ABC):
    """A finished data set, open for reading. `len(store)` is the number of trajectories.

    Values are in physical units and in the stored dtype. Point ids count from 0 in the order that
    `ups_data.coordinates` states. Stores are picklable; a copy opens its own handles.
    """

    manifest: Manifest
    tables: TrajectoryTables
    location: str

    def __len__(self) -> int:
        return self.manifest.num_trajectories

    @property
    def survives_fork(self) -> bool:
        """Whether a process that was forked after reads in its parent can read, too."""
        return True

    @property
    def domain(self) -> Domain:
        """The box that holds all points."""
        return Domain.from_axes(self.manifest.geometry.axes)

    @cached_property
    def splits(self) -> Mapping[str, Int64[np.ndarray, " trajectory"]]:
        """Trajectory numbers of each split, rising."""
        codes = self.tables.split
        names = self.manifest.splits
        return MappingProxyType({name: np.flatnonzero(codes == code) for code, name in enumerate(names)})

    def trajectories_of(self, split: str) -> Int64[np.ndarray, " trajectory"]:
        """Return the trajectory numbers of a split.

        Raises:
            DatasetError: there is no such split.
        """
        if split not in self.manifest.splits:
            raise DatasetError(f"{self.location} has no split {split!r}. {suggest(split, self.manifest.splits)}")
        return self.splits[split]

    def num_frames(self, trajectory: int) -> int:
        """Return the number of frames of a trajectory."""
        return int(self.tables.num_frames[self._check(trajectory)])

    def num_points(self, trajectory: int) -> int:
        """Return the number of points of a trajectory."""
        return int(self.tables.num_points[self._check(trajectory)])

    def shape(self, trajectory: int) -> tuple[int, ...]:
        """Return the nodes per axis of a grid, `(N,)` for points and meshes."""
        return self.tables.shape(self._check(trajectory))

    def times(self, trajectory: int) -> Float64[np.ndarray, " time"]:
        """Return the physical times of a trajectory's frames."""
        return self.tables.times_of(self._check(trajectory))

    def parameters(self, trajectory: int) -> Float64[np.ndarray, " parameter"]:
        """Return the scalar parameters of a trajectory, in manifest order."""
        return self.tables.parameters[self._check(trajectory)]

    def num_blocks(self, trajectory: int) -> int:
        """Return how many blocks of frames of a trajectory have a page layout of their own; most often one."""
        return int(self.tables.num_blocks[self._check(trajectory)])

    def block_frames(self, trajectory: int, block: int) -> range:
        """Return the frames whose values are stored on the pages of a block; blocks overlap."""
        number = self._check_block(trajectory, block)
        start = int(self.tables.block_start[number])
        return range(start, start + int(self.tables.block_frames[number]))

    def block_of(self, trajectory: int, frames: Sequence[int]) -> int:
        """Return the block in which the first of some frames lies, and all others must.

        Raises:
            DatasetError: no block holds all of them.
        """
        chosen = self._check_frames(trajectory, frames)
        first = int(self.tables.block_offsets[trajectory])
        starts = self.tables.block_start[first : first + self.num_blocks(trajectory)]
        block = int(np.searchsorted(starts, chosen.min(), side="right")) - 1
        held = self.block_frames(trajectory, block)
        if chosen.max() not in held:
            raise DatasetError(
                f"target frames {chosen.min()} to {chosen.max()} of trajectory {trajectory} lie in no one block of "
                f"{self.location}: the one that begins at frame {held.start} ends before frame {held.stop}. Use "
                f"windows whose targets span at most {self.manifest.layout.target_span} frames, or convert with a "
                f"larger target_span"
            )
        return block

    def layout(self, trajectory: int, block: int = 0) -> PageLayout:
        """Return how the points of a trajectory are laid out on pages for a block of its frames."""
        return self.tables.layout(self._check_block(trajectory, block), self.manifest.layout.page_points)

    def axes(self, trajectory: int) -> tuple[Float64[np.ndarray, " _"], ...]:
        """Return the node coordinates of each axis of a grid.

        Raises:
            DatasetError: the store holds points or meshes.
        """
        if self.manifest.geometry.kind != "grid":
            raise DatasetError(f"{self.location} holds {self.manifest.geometry.kind}, which have no axes")
        return self.tables.axes(self._check(trajectory))

    def curve_points(self, trajectory: int, block: int = 0) -> Int32[np.ndarray, " point"]:
        """Return the ids of the points that draws may take, along a Hilbert curve; not to be written to.

        The last few are kept: those of a grid are the same for all trajectories of one shape.
        """
        place = (self._check(trajectory), block)
        on_grid, size = self.manifest.geometry.kind == "grid", self.layout(trajectory, block).num_points
        if on_grid and size == self.num_points(trajectory):
            return _grid_curve(self.shape(trajectory))
        if place not in self._curves:
            whole = (
                _grid_curve(self.shape(trajectory))
                if on_grid
                else cloud_order(self.coordinates(trajectory), curve="hilbert")
            )
            drawn = np.zeros(self.num_points(trajectory), dtype=bool)
            drawn[self.drawn_points(trajectory, block)] = True
            while len(self._curves) >= _MOST_CURVES:
                del self._curves[next(iter(self._curves))]
            self._curves[place] = _locked(whole[drawn[whole]])
        return self._curves[place]

    @cached_property
    def _curves(self) -> dict[tuple[int, int], Int32[np.ndarray, "_"]]:
        return {}

    def find_points(self, draw: PointDraw | CellDraw, trajectory: int, block: int = 0) -> Int64[np.ndarray, " query"]:
        """Return the ids of the points of a draw that does not go by pages."""
        if isinstance(draw, PointDraw):
            every = self.layout(trajectory, block).num_points == self.num_points(trajectory)
            return draw.points if every else self.drawn_points(trajectory, block)[draw.points]
        curve = self.curve_points(trajectory, block)
        places = draw.places
        if places is None:
            places = central_places(self.coordinates(trajectory)[curve], draw.sizes)
        return curve[np.cumsum(draw.sizes) - draw.sizes + places].astype(np.int64)

    def read_dense(self, trajectory: int, frames: Sequence[int]) -> Float[np.ndarray, "time channel point"]:
        """Read whole frames: every channel at every point, in point-id order (T, C, N)."""
        return self.read_frames(trajectory, frames, tuple(range(len(self.manifest.channel_names))))

    @property
    @abstractmethod
    def read_count(self) -> ReadCount:
        """Bytes and ranges that this handle has read so far."""

    @abstractmethod
    def read_frames(
        self, trajectory: int, frames: Sequence[int], channels: tuple[int, ...]
    ) -> Float[np.ndarray, "time channel point"]:
        """Read chosen channels of whole frames, in point-id order."""

    @abstractmethod
    def read_page_points(self, trajectory: int, pages: Integer[np.ndarray, " page"], block: int = 0) -> PagePoints:
        """Read which points stand on the given pages of a block, and where they lie."""

    @abstractmethod
    def read_page_measures(
        self, trajectory: int, pages: Integer[np.ndarray, " page"], points: PagePoints, block: int = 0
    ) -> Float64[np.ndarray, " query"]:
        """Return the measures of the cells of the points that `read_page_points` gave for the same pages.

        NaN on padding.

        Raises:
            DatasetError: the store holds points or meshes whose source told none.
        """

    @abstractmethod
    def read_page_values(
        self,
        trajectory: int,
        frames: Sequence[int],
        pages: Integer[np.ndarray, " page"],
        channels: tuple[int, ...],
        block: int = 0,
    ) -> Float[np.ndarray, "time query channel"]:
        """Read chosen channels of all entries of the given pages (T, Q, C), NaN on padding and where values miss.

        Args:
            trajectory: its number.
            frames: frames of the trajectory, all of which the block holds.
            pages: pages of the block.
            channels: channels in the order wanted.
            block: number of the block in its trajectory.
        """

    @abstractmethod
    def coordinates(self, trajectory: int) -> Float64[np.ndarray, "point dim"]:
        """Return the physical coordinates of all points (N, D), in point-id order."""

    def mesh(self, trajectory: int) -> Mesh | None:
        """Return nodes and cells of a trajectory's mesh, None where the store holds no meshes.

        Raises:
            DatasetError: a back end that does not carry them.
        """
        self._check(trajectory)
        if self.manifest.geometry.point_location is not None:
            raise DatasetError(f"{self.location} is of a back end that does not carry meshes")
        return None

    @abstractmethod
    def importance(self, trajectory: int, block: int = 0) -> Float[np.ndarray, " point"]:
        """Return the importance map of a block of frames, in point-id order; NaN where no draw may go."""

    @abstractmethod
    def drawn_points(self, trajectory: int, block: int = 0) -> Int64[np.ndarray, " point"]:
        """Return the points that draws may take in a block, rising: those that have a value in any of its frames."""

    @abstractmethod
    def measures(self, trajectory: int) -> Float64[np.ndarray, " point"]:
        """Return the measure (length, area, volume) of each point's cell, in point-id order.

        Raises:
            DatasetError: the store holds points or meshes whose source told none.
        """

    def _check(self, trajectory: int) -> int:
        if not 0 <= trajectory < len(self):
            raise IndexError(f"trajectory {trajectory} outside of [0, {len(self)}) in {self.location}")
        return trajectory

    def _check_block(self, trajectory: int, block: int) -> int:
        """Return the number of a block over all trajectories."""
        count = self.num_blocks(trajectory)
        if not 0 <= block < count:
            raise IndexError(f"block {block} outside of [0, {count}) of trajectory {trajectory} in {self.location}")
        return int(self.tables.block_offsets[trajectory]) + block

    def _check_frames(self, trajectory: int, frames: Sequence[int]) -> Int64[np.ndarray, " frame"]:
        count = self.num_frames(trajectory)
        chosen = np.array([operator.index(frame) for frame in frames], dtype=np.int64)
        if chosen.size and not (chosen.min() >= 0 and chosen.max() < count):
            raise IndexError(f"frames {list(frames)} outside of [0, {count}) of trajectory {trajectory}")
        return chosen

    def _check_channels(self, channels: tuple[int, ...]) -> tuple[int, ...]:
        count = len(self.manifest.channel_names)
        if not all(0 <= channel < count for channel in channels):
            raise IndexError(f"channels {channels} outside of [0, {count}) of {self.location}")
        return channels


@lru_cache(maxsize=_MOST_CURVES)
def _grid_curve(shape: tuple[int, ...]) -> Int32[np.ndarray, " point"]:
    return _locked(grid_order(shape, curve="hilbert"))


def _locked(curve: Int32[np.ndarray, " point"]) -> Int32[np.ndarray, " point"]:
    curve.setflags(write=False)
    return curve
