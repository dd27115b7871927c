"""Points between the nodes of a source of grids, with values interpolated from its frames: a source of its own.

A store of them is a store of points like any other. Trajectories, frames, times, parameters and splits are those of the
grid's source, so the two stores belong together: `QueryDataset(grid_store, queries=off_grid_store)`.

Where a value of the grid is missing, so is every value whose stencil it belongs to: a point beside a mask that does not
move has none at all and is never drawn, as nothing is known of what lies there; of one beside a mask that moves, or
that differs between variables, `target_valid` tells which values there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64, Shaped

from preprocess.sources.base import Source, TrajectoryInfo
from preprocess.sources.interpolation import Interpolation, stencil_width
from preprocess.sources.placement import domain_measure, place_points
from preprocess.sources.survey import Deviations, KnownImportance, Survey
from preprocess.sources.wrapped import WrappedSource
from ups_data.coordinates import check_axis, grid_coordinates
from ups_data.errors import ConfigError, SourceError
from ups_data.importance import GridGeometry, ImportanceMap
from ups_data.schema import ImportanceSpec, OffGridSpec, SourceFingerprint

_EXACT = np.dtype(np.float64)
_READ_BYTES = 64 * 2**20


class OffGridSource(WrappedSource):
    """Points between the nodes of another source.

    Args:
        grid: a source of grids.
        spec: scheme, number and seed of the points.

    Raises:
        ConfigError: the source holds no grids.
        SourceError: an axis has too few nodes for the scheme.
    """

    summary = "points between the nodes of another source"
    off_grid: OffGridSpec

    def __init__(self, grid: Source, spec: OffGridSpec) -> None:
        if grid.kind != "grid":
            raise ConfigError(
                f"{grid.name} holds {grid.kind}, which have no nodes to interpolate between; leave off_grid out"
            )
        super().__init__(grid)
        self.off_grid = spec.model_copy(update={"deviations": ()})
        self.format, self.options = grid.format, dict(grid.options)  # type: ignore[misc]  # how the grid is opened again
        self.kind, self.has_measures = "points", True
        self.dtype = np.dtype(np.float32 if np.can_cast(grid.dtype, np.float32, "safe") else np.float64)
        if not np.can_cast(grid.dtype, np.float64, "safe"):
            self.dtype = grid.dtype  # which a plan refuses by its name
        for info in grid.trajectories:
            self._check_nodes(info)
        self.trajectories = [replace(info, shape=(self._count(info),)) for info in grid.trajectories]
        amount = f"{spec.points} a trajectory" if spec.ratio is None else f"{spec.ratio:g} for each node"
        self.notes = (
            *grid.notes,
            f"points between the nodes, {amount}, seed {spec.seed}; values by {spec.scheme} interpolation",
        )

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel point"]:
        """Interpolate frames [start, stop) of the grid."""
        (points,) = self.read_coordinates(trajectory)
        scheme = Interpolation(self.read_grid(trajectory), self.off_grid.scheme)
        parts = [
            scheme.apply(frames, points, self.dtype) for _, frames in self.read_nodes(trajectory, range(start, stop))
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def read_coordinates(self, trajectory: int) -> tuple[Float64[np.ndarray, "point dim"], ...]:
        """Place the points: a function of the nodes, the number of points, the seed and the trajectory."""
        grid, count = self.read_grid(trajectory), self.trajectories[trajectory].num_points
        return (place_points(grid, self.axes, count, seed=self.off_grid.seed, trajectory=trajectory),)

    def read_measures(self, trajectory: int) -> Float64[np.ndarray, " point"]:
        """Return the share that each point has in the domain, the same for all."""
        count = self.trajectories[trajectory].num_points
        return np.full(count, domain_measure(self.read_grid(trajectory), self.axes) / count)

    def fingerprints(self) -> tuple[SourceFingerprint, ...]:
        """Return what identifies the files of the grid."""
        return self._source.fingerprints()

    def survey(self, trajectory: int, blocks: Sequence[tuple[int, int]], recipe: ImportanceSpec) -> Survey:
        """Measure importance, and how far the scheme is off, on the grid."""
        return _GridSurvey(self, trajectory, blocks, recipe)

    def read_grid(self, trajectory: int) -> GridGeometry:
        """Return the nodes of a trajectory.

        Raises:
            SourceError: they do not fit the field.
            SchemaError: they break a rule of axes.
        """
        info = self._source.trajectories[trajectory]
        axes = tuple(np.asarray(axis, dtype=np.float64) for axis in self._source.read_coordinates(trajectory))
        where = f"{self.name}: {info.item}"
        if tuple(axis.size for axis in axes) != info.shape:
            raise SourceError(
                f"{where}: axes have {tuple(axis.size for axis in axes)} nodes, the field has {info.shape}"
            )
        for values, spec in zip(axes, self.axes, strict=True):
            check_axis(values, spec, where=where)
        periods = tuple(axis.upper - axis.lower if axis.periodic else None for axis in self.axes)
        return GridGeometry(axes=axes, periods=periods)

    def read_nodes(
        self, trajectory: int, frames: range
    ) -> Iterator[tuple[int, Shaped[np.ndarray, "time channel *space"]]]:
        """Yield frames of the grid, a few at a time, each after the number of its first one.

        Raises:
            SourceError: they are of another shape than was announced, or a value that may not miss is not finite.
        """
        info, channels = self._source.trajectories[trajectory], len(self.may_miss)
        step = max(1, _READ_BYTES // (info.num_points * channels * self.dtype.itemsize))
        for start in range(frames.start, frames.stop, step):
            chunk = self._source.read_frames(trajectory, start, min(start + step, frames.stop))
            wanted = (min(step, frames.stop - start), channels, *info.shape)
            if chunk.shape != wanted:
                raise SourceError(f"{self.name}: {info.item} gives frames of {chunk.shape}, {wanted} was announced")
            self._refuse_bad_values(info, start, chunk)
            yield start, chunk

    def _refuse_bad_values(
        self, info: TrajectoryInfo, start: int, chunk: Shaped[np.ndarray, "time channel *space"]
    ) -> None:
        sound = np.isfinite(chunk)
        if sound.all():
            return
        may_miss = self.may_miss
        sound[:, may_miss] |= np.isnan(chunk[:, may_miss])
        if not sound.all():
            frame, channel, *node = np.unravel_index(int(np.argmin(sound)), chunk.shape)
            names = [name for field in self.fields for name in field.channel_names]
            raise SourceError(
                f"{self.name}: {info.item}, frame {start + frame}, channel {names[channel]}, node "
                f"{tuple(map(int, node))} holds {chunk[frame, channel, *node]}, from which nothing can be "
                f"interpolated. Mend the source, or declare what is missing where its format can"
            )

    def _count(self, info: TrajectoryInfo) -> int:
        spec = self.off_grid
        if spec.ratio is None:
            assert spec.points is not None
            return spec.points
        return max(1, round(spec.ratio * info.num_points))

    def _check_nodes(self, info: TrajectoryInfo) -> None:
        for size, axis in zip(info.shape, self.axes, strict=True):
            needed = stencil_width(size, self.off_grid.scheme)
            if size < needed:
                raise SourceError(
                    f"{self.name}: {info.item} has {size} nodes along axis {axis.name!r}, and {self.off_grid.scheme} "
                    f"interpolation needs {needed}; use a scheme of fewer nodes"
                )


class _GridSurvey(Survey):
    """What is measured on the nodes of one trajectory."""

    def __init__(
        self, source: OffGridSource, trajectory: int, blocks: Sequence[tuple[int, int]], recipe: ImportanceSpec
    ) -> None:
        self._source, self._trajectory, self._blocks, self._recipe = source, trajectory, blocks, recipe
        self._grid = source.read_grid(trajectory)
        self._halved = _HalvedGrid.of(self._grid, source.off_grid)
        self._deviations = Deviations(source.subject.num_channels)

    def measure_block(self, block: int) -> KnownImportance:
        """Return the importance of a block of frames, interpolated linearly from that of the nodes."""
        start, count = self._blocks[block]
        own = self._blocks[block + 1][0] if block + 1 < len(self._blocks) else start + count
        importance = ImportanceMap(self._recipe, self._grid, self._source.subject)
        earliest = max(0, start - importance.num_preceding)
        read = self._source.read_nodes(self._trajectory, range(earliest, start))
        before = [frame for _, frames in read for frame in frames]
        info = self._source.trajectories[self._trajectory]
        parameters = np.array([info.parameters[name] for name in self._source.subject.parameters], dtype=np.float64)
        importance.begin(before, info.times[earliest : start + count].astype(np.float64), parameters)
        for first, frames in self._source.read_nodes(self._trajectory, range(start, start + count)):
            for frame in frames:
                importance.update(frame)
            if self._halved is not None and first < own:
                self._deviations.update(self._halved.deviate(frames[: own - first]))
        if not importance.num_points:
            # No point has a value either, which whoever asked will say.
            return KnownImportance(np.ones(self._source.trajectories[self._trajectory].num_points))
        at_nodes = importance.result().reshape(1, 1, *self._grid.shape)
        (points,) = self._source.read_coordinates(self._trajectory)
        return KnownImportance(Interpolation(self._grid, "linear").apply(at_nodes, points, _EXACT)[0, 0])

    def deviations(self) -> Float64[np.ndarray, "3 channel"]:
        """Return how far the scheme is off."""
        return self._deviations.to_array()


class _HalvedGrid:
    """Every second node of a grid, and those that lie in the middle of what is left."""

    def __init__(self, grid: GridGeometry, spec: OffGridSpec) -> None:
        self._kept = (slice(None, None, 2),) * len(grid.shape)
        # Beyond the last node that is left there is nothing to interpolate, but across the seam of a periodic axis.
        self._asked = tuple(
            slice(None) if size == 1 else slice(1, size if period is not None else size - 1, 2)
            for size, period in zip(grid.shape, grid.periods, strict=True)
        )
        left = GridGeometry(
            axes=tuple(nodes[part] for nodes, part in zip(grid.axes, self._kept, strict=True)), periods=grid.periods
        )
        self._scheme = Interpolation(left, spec.scheme)
        asked = tuple(nodes[part] for nodes, part in zip(grid.axes, self._asked, strict=True))
        self._points = grid_coordinates(asked)

    @classmethod
    def of(cls, grid: GridGeometry, spec: OffGridSpec) -> _HalvedGrid | None:
        """Return that of a grid, None where too few nodes are left for the scheme."""
        widths = [stencil_width(size, spec.scheme) for size in grid.shape]
        enough = all((size + 1) // 2 >= width for size, width in zip(grid.shape, widths, strict=True))
        return cls(grid, spec) if enough and max(grid.shape) > 1 else None

    def deviate(self, frames: Shaped[np.ndarray, "time channel *space"]) -> Float64[np.ndarray, "time channel point"]:
        """Return what the scheme makes of the nodes that are left, less what the others hold."""
        made = self._scheme.apply(frames[:, :, *self._kept], self._points, _EXACT)
        known = frames[:, :, *self._asked].reshape(made.shape)
        return made - known
