"""The contract of an importance metric: frames in, non-negative maps out, streaming.

A metric of your own is a class like those beside this file, in a module that can be imported, named in the recipe as
`module:class`:

    class Loudness(RootMeanSquareMetric):
        def update(self, frame):
            self.add_squares(np.square(frame, dtype=np.float64))
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from jaxtyping import Float, Float64, Int32

from ups_data.mesh import Mesh
from ups_data.schema import AxisSpec, BoundarySpec, FieldSpec, GeometryKind
from ups_data.scratch import Scratch

Made = TypeVar("Made")

SHARED_POINTS = 2**22
"""Points of a cloud of which no more is kept than is in use; of smaller ones what was made is kept for later."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is known of a data set before a frame of it is read.

    Attributes:
        kind: kind of geometry.
        axes: names of the axes, in stored order.
        fields: fields in channel order.
        specs: extent, period and kind of each axis; empty where they are not known, and then all are linear.
        boundaries: conditions on the boundary of the domain that the source tells.
        missing_fields: fields that may lack values.
        parameters: names of the scalars of a trajectory, in order.
        least_frames: frames of the shortest trajectory; None where it is not known.
    """

    kind: GeometryKind
    axes: tuple[str, ...]
    fields: tuple[FieldSpec, ...]
    specs: tuple[AxisSpec, ...] = ()
    boundaries: tuple[BoundarySpec, ...] = ()
    missing_fields: frozenset[str] = frozenset()
    parameters: tuple[str, ...] = ()
    least_frames: int | None = None

    @property
    def num_channels(self) -> int:
        """Components of all fields."""
        return sum(len(field.components) for field in self.fields)


@dataclass(frozen=True, kw_only=True, eq=False)
class GridGeometry:
    """What a metric on a grid may know: node coordinates, and the period of each periodic axis.

    Attributes:
        axes: strictly increasing node coordinates of each axis.
        periods: period of each axis, None where the axis does not wrap.
        spacings: from node to node of each axis whose nodes lie evenly, across its seam too, but for the rounding of
            float64; None for other axes. Worked out where it is not given.
    """

    axes: tuple[Float64[np.ndarray, " _"], ...]
    periods: tuple[float | None, ...]
    spacings: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.spacings:
            spacings = tuple(map(_even_spacing, self.axes, self.periods))
            object.__setattr__(self, "spacings", spacings)

    @property
    def shape(self) -> tuple[int, ...]:
        """Nodes per axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod(self.shape)


def _even_spacing(nodes: Float64[np.ndarray, " _"], period: float | None) -> float | None:
    if nodes.size < 2:
        return None
    if period is not None:
        nodes = np.append(nodes, nodes[0] + period)
    spacing = float((nodes[-1] - nodes[0]) / (nodes.size - 1))
    rounding = _ROUNDINGS * np.finfo(np.float64).eps * float(np.abs(nodes).max())
    return spacing if np.abs(np.diff(nodes) - spacing).max() <= rounding else None


@dataclass(frozen=True, kw_only=True, eq=False)
class CloudGeometry:
    """What a metric on scattered points may know.

    Attributes:
        coordinates: of the points (N, D).
        order: the points such that those near each other in it lie near each other, as along a space-filling curve;
            None where it is not known. It makes the search for neighbours fast.
        read_mesh: gives the cells between them, None where there are none; read when a metric asks for them.
        folder: where a metric may keep a temporary file; the system's folder for them if None.
    """

    coordinates: Float[np.ndarray, "point dim"]
    order: Int32[np.ndarray, " point"] | None = None
    read_mesh: Callable[[], Mesh | None] | None = None
    folder: Path | None = None
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return what is made of the points, the same for all metrics that ask for it by one key.

        Where there are more than `SHARED_POINTS` it is made for each, and let go with it: it may be large.
        """
        if self.size > SHARED_POINTS:
            return make()
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of points, as the shape of a map."""
        return (len(self.coordinates),)

    @property
    def size(self) -> int:
        """Number of points."""
        return len(self.coordinates)


Geometry = GridGeometry | CloudGeometry

Part = slice | Int32[np.ndarray, " node"]
"""Some nodes of the first axis of a grid, or some points of a cloud."""

# Roundings of a node, of the one beside it and of the spacing, with room to spare.
_ROUNDINGS = 8

ON_GRIDS_ONLY = "is defined on grids, not on scattered points; use 'gradient' or 'temporal_change'"
"""Why a metric that needs a grid cannot be taken elsewhere."""


class ImportanceMetric(ABC):
    """Accumulates maps over the frames of one trajectory: one map a channel, or one a field, as the metric has it.

    Memory is a few arrays of one frame's size, whatever the number of frames. `needs_grid` tells whether the metric
    is defined on grids only, `num_preceding` how many frames before the first one it looks at, where they exist.
    """

    needs_grid: ClassVar[bool] = False
    num_preceding: int = 1

    def __init__(self, geometry: Geometry, subject: Subject) -> None:
        self.geometry = geometry
        self.subject = subject

    @classmethod
    def objection(cls, subject: Subject) -> str | None:
        """Say why the metric cannot be taken of such data, to follow its name in a message; None where it can."""
        return ON_GRIDS_ONLY if cls.needs_grid and subject.kind != "grid" else None

    def begin(  # noqa: B027  most metrics need to know nothing
        self, times: Float64[np.ndarray, " frame"], parameters: Float64[np.ndarray, " parameter"]
    ) -> None:
        """Hear of the trajectory, before any frame comes.

        Args:
            times: of all frames that will come, those that precede among them.
            parameters: scalars, in the order of `Subject.parameters`.
        """

    def precede(self, frame: Float[np.ndarray, "channel *space"]) -> None:  # noqa: B027  most metrics need none
        """Take a frame before the first one that is added; for metrics of steps in time.

        They come in order, the last `num_preceding` of those that there are.
        """

    @abstractmethod
    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the next frame; NaN where values miss.

        It is read only, and keeps its values until the frame after it was added.
        """

    @abstractmethod
    def result(self) -> Float64[np.ndarray, "map *space"]:
        """Return the maps over the frames that were added, finite and not negative."""


class RootMeanSquareMetric(ImportanceMetric):
    """A metric that is the root of the mean over frames of something squared.

    Attributes:
        num_frames: frames that were added.
        scratch: memory that is used again for every frame.
    """

    def __init__(self, geometry: Geometry, subject: Subject) -> None:
        super().__init__(geometry, subject)
        self.num_frames = 0
        self.scratch = Scratch()
        self._sum: Float64[np.ndarray, "map *space"] | None = None
        # How often each square was there; None where none was ever missing.
        self._counts: Int32[np.ndarray, "map *space"] | None = None
        # What was added of the frame that is not whole yet.
        self._added: list[tuple[slice, Part]] = []
        self._num_added = 0

    def add_squares(
        self,
        squares: Float64[np.ndarray, "map *slab"],
        part: Part = slice(None),
        *,
        only: int | None = None,
        num_maps: int | None = None,
    ) -> None:
        """Add the squares that belong to one frame, NaN where they are missing; the array is changed.

        Args:
            squares: of the whole frame, or of the nodes `part` of its first axis.
            part: which; each node comes once, and all of a frame before the next one.
            only: the one map that they are of, where maps come one after another, each with all its parts; all if None.
            num_maps: how many there are, where not all come together.
        """
        shape, count = self.geometry.shape, num_maps or len(squares)
        maps = slice(0, count) if only is None else slice(only, only + 1)
        if self._sum is None:
            self._sum = np.zeros((count, *shape))
        # One NaN makes the least square NaN, which is found faster than each of them.
        if self._counts is None and np.isnan(squares.min()):
            self._counts = np.full(self._sum.shape, self.num_frames, dtype=np.int32)
            for place in self._added:
                self._counts[place] += 1
        if self._counts is not None:
            missing = np.isnan(squares)
            squares[missing] = 0.0
            self._counts[maps, part] += ~missing
        self._sum[maps, part] += squares
        self._added.append((maps, part))
        self._num_added += squares.size
        if self._num_added == self._sum.size:
            self.num_frames += 1
            self._added, self._num_added = [], 0

    def result(self) -> Float64[np.ndarray, "map *space"]:
        """Return the root of the mean square; zero where nothing was added. Nothing can be added after it."""
        if self._sum is None:
            return np.zeros((1, *self.geometry.shape))
        counts = self.num_frames if self._counts is None else np.maximum(self._counts, 1)
        # In place: of 10^8 points another array takes 800 MB.
        total, self._sum = self._sum, None
        return np.sqrt(np.divide(total, counts, out=total), out=total)
