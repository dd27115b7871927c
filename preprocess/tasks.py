"""Carry out the tasks of a conversion: importance, pages and statistics of trajectories, and whole shards.

A task reads the source and what earlier tasks left in the conversion's folder, writes files there, and notes each in
the ledger once it is in place. It shares no memory with other tasks, so any process may carry it out, at any time after
those that it builds upon, and twice.

Memory of one process does not grow with the number of frames or trajectories. It is about 100 MB for Python and its
libraries; a chunk of frames twice, as the source gives it and as it is stored (256 MiB each, or one frame where that is
larger); a shard of each array; and while a trajectory is laid out, importance, order and pages: on grids about 32 bytes
a point for one channel of float32 and the default recipe, and 20 for each further one (`scripts/study_memory.py`: 3.7
GiB in all for 10^8 points), on clouds about 170 bytes a point.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, Int64, Integer, Shaped

from preprocess.ledger import CommittedFile, Ledger
from preprocess.partition import (
    JoinPieces,
    LayOut,
    Partition,
    RowTask,
    Segment,
    Task,
    WriteFrames,
    shard_rows,
    table_path,
)
from preprocess.sources.base import Source, TrajectoryInfo
from ups_data.coordinates import check_axis, grid_measures
from ups_data.errors import SourceError, StoreError
from ups_data.importance import CloudGeometry, Geometry, GridGeometry, ImportanceMap
from ups_data.pages import PageLayout, PageTable, build_pages, cloud_order, grid_order
from ups_data.statistics import FieldStatistics
from ups_data.storage.shard import ShardBuffer
from ups_data.storage.writer import sync_directory, write_durably, write_scratch
from ups_data.storage.zarr_store import COORDINATES, FIELDS, IMPORTANCE, INDEX, MEASURES, VALUES

# Squares of values, and of their changes and gradients, must stay finite in float64.
_MAX_SIZE = 1e100
# Rows are gathered from a frame in pieces of this size, so that no second frame is held.
_GATHER_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class Workbench:
    """What every task needs; picklable, sent to a process once.

    Attributes:
        source: the data set; it opens its files again where it is unpickled.
        partition: the plan and its tasks.
        counted: which trajectories the statistics cover.
        folder: the conversion's folder, `.NAME.partial`.
        staging: where files are written before they get their names. It belongs to this run alone and is removed at its
            end, so that a process that nobody knows of any more can put nothing in place.
        ledger: name of the ledger that the tasks are noted in.
        dest: where the store will lie, for messages.
        wanted: files of the store that are to be written, if not all.
    """

    source: Source
    partition: Partition
    counted: Shaped[np.ndarray, " trajectory"]
    folder: Path
    staging: Path
    ledger: str
    dest: Path
    wanted: frozenset[str] | None = None

    @property
    def may_miss(self) -> Bool[np.ndarray, " channel"]:
        """Whether values of each channel may be missing."""
        fields, missing = self.source.fields, self.source.missing_fields
        return np.array([field.name in missing for field in fields for _ in field.components])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ground:
    """What of a trajectory does not depend on its fields.

    Attributes:
        geometry: where its points lie.
        order: its points in curve order.
        measures: of their cells, None where they are neither stored nor counted.
    """

    geometry: Geometry
    order: Int32[np.ndarray, " point"]
    measures: Float64[np.ndarray, " point"] | None


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What a task committed.

    Attributes:
        name: the task.
        files: files that it put in place.
    """

    name: str
    files: tuple[CommittedFile, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Laid:
    """What is known of trajectories once their pages are dealt; kept in a file until the tables are written.

    Attributes:
        drawn_points: as in the tables (B,).
        stratum_pages, stratum_mass: as in the tables (B, S).
        moments: statistics of each trajectory, see `FieldStatistics.to_array`; zeros where they are not counted.
        grids: number of each trajectory's grid among `shapes`; 0 for points.
        shapes: nodes per axis of each grid (G, D).
        nodes: node coordinates, grid after grid, axis after axis.
    """

    drawn_points: Int64[np.ndarray, " block"]
    stratum_pages: Int32[np.ndarray, "block stratum"]
    stratum_mass: Float64[np.ndarray, "block stratum"]
    moments: Float64[np.ndarray, "trajectory 2 moment channel"]
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


class Worker:
    """Carries out tasks, one after another."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._ledger = Ledger(bench.folder, bench.ledger)
        self._written: list[CommittedFile] = []
        # Of the last shape only: of 10^8 points it takes 400 MB.
        self._grid_order: tuple[tuple[int, ...], Int32[np.ndarray, " point"]] | None = None

    def run(self, task: Task) -> TaskResult:
        """Carry out a task and note it in the ledger.

        Raises:
            SourceError: the source cannot be read, or a value is not finite; names file, item, frame and point.
            SchemaError: coordinates that break a rule.
            StoreError: the disk is full or read-only.
        """
        self._written = []
        if isinstance(task, LayOut):
            self._lay_out(task)
        elif isinstance(task, WriteFrames):
            self._write_frames(task)
        else:
            self._join(task)
        self._ledger.add_task(task.name)
        return TaskResult(name=task.name, files=tuple(self._written))

    def commit(self, path: str, content: bytes | memoryview, *, scratch: bool) -> None:
        """Put a file in place unless it is there, and note it in either case.

        Whoever put it there may have died before it was noted; a file that holds something else is replaced.

        Args:
            path: below the conversion's folder.
            content: all of it.
            scratch: not part of the store, and not synced: what a power cut takes of it is found by its hash.
        """
        if not scratch and not self._is_wanted(path):
            return
        place = self._bench.folder / path
        if not _holds(place, content):
            if scratch:
                write_scratch(place, content, staging=self._bench.staging)
            else:
                write_durably(place, content, dest=self._bench.dest, staging=self._bench.staging)
        elif not scratch:
            sync_directory(place.parent)
        self._note(path, content)

    def _note(self, path: str, content: bytes | memoryview) -> None:
        file = CommittedFile(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        self._ledger.add_file(file)
        self._written.append(file)

    # -- laying out ----------------------------------------------------------------------------------------------

    def _lay_out(self, task: LayOut) -> None:
        writers = self._open_rows(task)
        gathered = _LaidRows(self._bench)
        for trajectory in range(task.first, task.stop):
            ground = self._read_ground(trajectory)
            frames = _FrameReader(self._bench, trajectory)
            statistics = FieldStatistics(self._bench.partition.plan.num_channels)
            tables = []
            for block, importance in enumerate(self._measure(trajectory, ground, frames, statistics)):
                table = self._deal(trajectory, block, importance, ground.order)
                gathered.add_block(table.layout)
                _write_static(writers, table.index, importance, ground)
                if task.long:
                    path = table_path(trajectory, block)
                    self.commit(path, _to_npy(table.index), scratch=True)
                else:
                    tables.append(table.index)
            gathered.add(statistics, ground.geometry)
            for block, index in enumerate(tables):
                start, count = self._bench.partition.block_ranges(trajectory)[block]
                self._write_pages(writers, index, (trajectory, block), frames.chunks(start, start + count))
        _close_rows(writers)
        self.commit(task.summary_path, gathered.result().to_bytes(), scratch=True)

    def _deal(
        self,
        trajectory: int,
        block: int,
        importance: Float64[np.ndarray, " point"],
        order: Int32[np.ndarray, " point"],
    ) -> PageTable:
        plan = self._bench.partition.plan
        return build_pages(
            importance,
            order,
            page_points=plan.layout.page_points,
            num_strata=plan.layout.num_strata,
            block_points=plan.layout.block_points,
            seed=plan.layout.seed,
            key=(trajectory, block),
            all_pages=self._bench.partition.all_pages(trajectory, block),
        )

    def _read_ground(self, trajectory: int) -> _Ground:
        geometry, order = self._read_geometry(trajectory)
        return _Ground(geometry=geometry, order=order, measures=self._read_measures(trajectory, geometry))

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
        if not ((measures >= 0) & (measures <= _MAX_SIZE)).all() or not measures.any():
            point = int(np.argmin((measures >= 0) & (measures <= _MAX_SIZE)))
            raise SourceError(
                f"{where}: measures of cells must be finite, not negative, and not all zero; point {point} has "
                f"{measures[point]}"
            )
        return measures.astype(np.float64)

    def _read_geometry(self, trajectory: int) -> tuple[Geometry, Int32[np.ndarray, " point"]]:
        """Return the geometry of a trajectory and its points in curve order."""
        source, info = self._bench.source, self._bench.source.trajectories[trajectory]
        where = f"{source.name}: {info.item}"
        parts = tuple(np.asarray(part, dtype=np.float64) for part in source.read_coordinates(trajectory))
        curve = self._bench.partition.plan.layout.curve
        if source.kind != "grid":
            (coordinates,) = parts
            if coordinates.shape != (info.num_points, len(source.axes)) or not np.isfinite(coordinates).all():
                raise SourceError(
                    f"{where}: coordinates must be finite and of shape {(info.num_points, len(source.axes))}"
                )
            cells = partial(source.read_mesh, trajectory)
            return CloudGeometry(coordinates=coordinates, read_mesh=cells), cloud_order(coordinates, curve=curve)
        _check_grid(source, info, parts, where)
        if self._grid_order is None or self._grid_order[0] != info.shape:
            self._grid_order = (info.shape, grid_order(info.shape, curve=curve))
        periods = tuple(axis.upper - axis.lower if axis.periodic else None for axis in source.axes)
        return GridGeometry(axes=parts, periods=periods), self._grid_order[1]

    def _measure(
        self, trajectory: int, ground: _Ground, frames: _FrameReader, statistics: FieldStatistics
    ) -> Iterator[Float64[np.ndarray, " point"]]:
        """Go through all frames once: refuse bad values, gather statistics, yield the importance of each block."""
        plan = self._bench.partition.plan
        ranges = self._bench.partition.block_ranges(trajectory)
        measures = ground.measures if plan.estimand == "integral" else None
        begun: deque[ImportanceMap] = deque()
        number, ended = 0, 0
        recent: deque[Float[np.ndarray, "channel *space"]] = deque(maxlen=1)
        for start, chunk in frames.chunks(0, frames.num_frames):
            self._refuse_bad_values(trajectory, start, chunk)
            for frame in chunk:
                if ended + len(begun) < len(ranges) and ranges[ended + len(begun)][0] == number:
                    begun.append(ImportanceMap(plan.importance, ground.geometry, plan.subject))
                    self._begin_block(trajectory, ranges[ended + len(begun) - 1], begun[-1], recent)
                    if not number and len(ranges) > 1:
                        recent = deque(maxlen=begun[-1].num_preceding)
                for importance in begun:
                    importance.update(frame)
                if self._bench.counted[trajectory]:
                    statistics.update(frame, recent[-1] if recent else None)
                recent.append(frame)
                number += 1
                while begun and sum(ranges[ended]) == number:
                    yield self._finish_importance(trajectory, ranges[ended], begun.popleft(), measures)
                    ended += 1
            if number < frames.num_frames:
                # The next chunk may lie in the memory of this one.
                recent = deque((frame.copy() for frame in recent), maxlen=recent.maxlen)

    def _begin_block(
        self,
        trajectory: int,
        frames: tuple[int, int],
        importance: ImportanceMap,
        preceding: Sequence[Float[np.ndarray, "channel *space"]],
    ) -> None:
        """Tell the map of a block of frames what it may know of the trajectory."""
        start, count = frames
        times = self._bench.source.trajectories[trajectory].times[start - len(preceding) : start + count]
        parameters = self._bench.partition.plan.parameters[trajectory]
        importance.begin(tuple(preceding), times.astype(np.float64), parameters)

    def _finish_importance(
        self,
        trajectory: int,
        frames: tuple[int, int],
        importance: ImportanceMap,
        measures: Float64[np.ndarray, " point"] | None,
    ) -> Float64[np.ndarray, " point"]:
        if not importance.num_points:
            source, (start, count) = self._bench.source, frames
            raise SourceError(
                f"{source.name}: {source.trajectories[trajectory].item} lacks every value of frames {start} to "
                f"{start + count - 1}, so there is nothing to draw; leave these frames or the trajectory out"
            )
        return importance.result(measures)

    def _refuse_bad_values(self, trajectory: int, start: int, chunk: Float[np.ndarray, "time channel *space"]) -> None:
        limit = min(_MAX_SIZE, float(np.finfo(chunk.dtype).max))
        missing = self._bench.may_miss
        # NaN compares as False, so this refuses it too. Frame by frame: a whole chunk would be held twice more.
        if all(_all_sound(frame, limit, missing) for frame in chunk):
            return
        sound = np.abs(chunk) <= limit
        sound[:, missing] |= np.isnan(chunk[:, missing])
        source = self._bench.source
        frame, channel, *place = np.unravel_index(int(np.argmin(sound)), chunk.shape)
        names = [name for field in source.fields for name in field.channel_names]
        raise SourceError(
            f"{source.name}: {source.trajectories[trajectory].item}, frame {start + frame}, channel "
            f"{names[channel]}, point {tuple(map(int, place))} holds {chunk[frame, channel, *place]}; "
            f"{int((~sound).sum())} of {sound.size} values of this block are not finite or over {_MAX_SIZE:g} in size. "
            f"Mend the source, or declare what is missing where its format can: missing values are never filled"
        )

    # -- frames and shards ---------------------------------------------------------------------------------------

    def _write_frames(self, task: WriteFrames) -> None:
        writers = self._open_rows(task)
        path = self._bench.folder / table_path(task.trajectory, task.block)
        index = np.load(path, mmap_mode="r", allow_pickle=False)
        frames = _FrameReader(self._bench, task.trajectory)
        self._write_pages(writers, index, (task.trajectory, task.block), frames.chunks(task.start, task.stop))
        _close_rows(writers)

    def _write_pages(
        self,
        writers: dict[str, _RowWriter],
        index: Integer[np.ndarray, "page entry"],
        block: tuple[int, int],
        chunks: Iterator[tuple[int, Float[np.ndarray, "time channel *space"]]],
    ) -> None:
        """Write frames as pages, and densely those that the next block does not have too."""
        own = self._bench.partition.own_frames(*block)[1]
        for start, chunk in chunks:
            for number, frame in enumerate(chunk, start):
                _write_frame(writers, index, frame, dense=FIELDS in writers and number < own)

    def _join(self, task: JoinPieces) -> None:
        spec = self._bench.partition.plan.arrays[task.key]
        path = f"store/{spec.shard_key(task.shard)}"
        pieces = [self._bench.folder / piece for piece in task.pieces]
        try:
            contents = [np.frombuffer(piece.read_bytes(), dtype=spec.dtype) for piece in pieces]
        except FileNotFoundError:
            # Pieces are removed once the shard is there: another process did all this, and died before it said so.
            self._note_shard(path)
        else:
            start, stop = shard_rows(spec, task.shard)
            buffer, filled = ShardBuffer(spec, stop - start), 0
            for content in contents:
                rows = content.reshape(-1, *spec.chunk_shape[1:])
                buffer.rows[filled : filled + len(rows)] = rows
                filled += len(rows)
            self.commit(path, buffer.encode(), scratch=False)
        for piece in pieces:
            piece.unlink(missing_ok=True)

    def _note_shard(self, path: str) -> None:
        try:
            self._note(path, (self._bench.folder / path).read_bytes())
        except FileNotFoundError as error:
            raise StoreError(
                f"{error.filename} is gone, and so is a piece of it: run the same command again"
            ) from error

    def _is_wanted(self, path: str) -> bool:
        return self._bench.wanted is None or path in self._bench.wanted

    def _open_rows(self, task: RowTask) -> dict[str, _RowWriter]:
        partition = self._bench.partition
        return {key: _RowWriter(self, key, partition.segments(task, key)) for key in partition.rows(task)}

    def room_of(self, key: str, segment: Segment) -> _Room:
        """Return memory for the rows of a shard that one task owns."""
        spec = self._bench.partition.plan.arrays[key]
        if not segment.is_piece:
            return ShardBuffer(spec, segment.num_rows)
        return _PieceBuffer(np.empty((segment.num_rows, *spec.chunk_shape[1:]), dtype=spec.dtype))

    def write_segment(self, key: str, segment: Segment, room: _Room) -> None:
        """Write the rows of a shard that one task owns."""
        if not segment.is_piece:
            self.commit(segment.path, room.encode(), scratch=False)
            return
        shard = f"store/{self._bench.partition.plan.arrays[key].shard_key(segment.shard)}"
        if self._is_wanted(shard) and not _is_there(self._bench.folder / shard):
            self.commit(segment.path, room.encode(), scratch=True)


@dataclass(frozen=True)
class _PieceBuffer:
    """The rows of a piece of a shard, one after another as they are."""

    rows: Shaped[np.ndarray, "row *chunk"]

    def encode(self) -> memoryview:
        """Return the bytes of the piece."""
        return self.rows.reshape(-1).data.cast("B")


_Room = ShardBuffer | _PieceBuffer


class _RowWriter:
    """Takes the rows of one array that a task owns, in order; memory holds one shard."""

    def __init__(self, worker: Worker, key: str, segments: Iterator[Segment]) -> None:
        self._worker, self._key, self._segments = worker, key, segments
        self._room: _Room | None = None
        self._filled = 0
        self._segment = next(segments, None)

    def append(self, rows: Shaped[np.ndarray, "row *chunk"]) -> None:
        """Add rows; they are copied, so that their memory may be used again."""
        while len(rows):
            if self._segment is None:
                raise StoreError(f"{self._key}: {len(rows)} rows came after the last one that was planned")
            if self._room is None:
                self._room = self._worker.room_of(self._key, self._segment)
            part = rows[: self._segment.num_rows - self._filled]
            place = self._room.rows[self._filled : self._filled + len(part)]
            place[...] = part.reshape(place.shape)
            self._filled += len(part)
            rows = rows[len(part) :]
            if self._filled == self._segment.num_rows:
                self._worker.write_segment(self._key, self._segment, self._room)
                self._room, self._filled = None, 0
                self._segment = next(self._segments, None)

    def close(self) -> None:
        """Check that all rows came."""
        if self._segment is not None:
            raise StoreError(f"{self._key}: shard {self._segment.shard} lacks rows of {self._segment.path}")


class _LaidRows:
    """Gathers what `Laid` holds, block by block and trajectory by trajectory."""

    def __init__(self, bench: Workbench) -> None:
        self._dims = len(bench.source.axes)
        self._layouts: list[PageLayout] = []
        self._moments: list[Float64[np.ndarray, "2 moment channel"]] = []
        self._numbers: list[int] = []
        self._grids: dict[bytes, int] = {}
        self._axes: list[tuple[Float64[np.ndarray, " _"], ...]] = []

    def add_block(self, layout: PageLayout) -> None:
        """Add a block of the next trajectory."""
        self._layouts.append(layout)

    def add(self, statistics: FieldStatistics, geometry: Geometry) -> None:
        """Add a trajectory."""
        self._moments.append(statistics.to_array())
        self._numbers.append(0 if isinstance(geometry, CloudGeometry) else self._number(geometry))

    def result(self) -> Laid:
        """Return all of them."""
        nodes = [axis for axes in self._axes for axis in axes]
        return Laid(
            drawn_points=np.array([layout.num_points for layout in self._layouts], dtype=np.int64),
            stratum_pages=np.stack([layout.stratum_pages for layout in self._layouts]).astype(np.int32),
            stratum_mass=np.stack([layout.stratum_mass for layout in self._layouts]),
            moments=np.stack(self._moments),
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


def _write_static(
    writers: dict[str, _RowWriter],
    index: Int32[np.ndarray, "page entry"],
    importance: Float64[np.ndarray, " point"],
    ground: _Ground,
) -> None:
    geometry, measures = ground.geometry, ground.measures
    for pages in _slices(index, _GATHER_BYTES):
        padding = pages < 0
        writers[INDEX].append(pages)
        writers[IMPORTANCE].append(np.where(padding, np.nan, importance[pages]))
        if isinstance(geometry, CloudGeometry):
            coordinates = np.where(padding[..., None], np.nan, geometry.coordinates[pages])
            writers[COORDINATES].append(coordinates.transpose(0, 2, 1))
        if MEASURES in writers and measures is not None:
            writers[MEASURES].append(np.where(padding, np.nan, measures[pages]))


def _write_frame(
    writers: dict[str, _RowWriter],
    index: Integer[np.ndarray, "page entry"],
    frame: Float[np.ndarray, "channel *space"],
    *,
    dense: bool,
) -> None:
    flat = frame.reshape(len(frame), -1)
    for part in _slices(index, _GATHER_BYTES // len(frame)):
        # `take` is three times as fast as an index; -1 takes the last value, which the next lines remove.
        pages = np.take(flat, part, axis=1).transpose(1, 0, 2)
        padded = part[:, -1] < 0  # padding stands at the end of a page
        if padded.any():
            pages[np.broadcast_to((part < 0)[:, None], pages.shape)] = np.nan
        writers[VALUES].append(pages)
    if dense:
        writers[FIELDS].append(frame)


def _all_sound(
    frame: Float[np.ndarray, "channel *space"], limit: float, may_miss: Bool[np.ndarray, " channel"]
) -> bool:
    # NaN compares as False, so this is not enough where values miss.
    if -limit <= frame.min() and frame.max() <= limit:
        return True
    sound = np.abs(frame) <= limit
    return bool((sound | (np.isnan(frame) & may_miss.reshape(-1, *[1] * (frame.ndim - 1)))).all())


def _slices(index: Integer[np.ndarray, "page entry"], num_bytes: int) -> Iterator[Integer[np.ndarray, "part entry"]]:
    """Cut a page table into pieces whose gathered values take about `num_bytes`."""
    step = max(1, num_bytes // (8 * index.shape[1]))
    for start in range(0, len(index), step):
        yield index[start : start + step]


def _close_rows(writers: dict[str, _RowWriter]) -> None:
    for writer in writers.values():
        writer.close()


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # Whoever may not look may not write there either, and is told so then.
        return False


def _holds(path: Path, content: bytes | memoryview) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        # Whatever is in the way there is told by who writes.
        return False


def _to_npy(values: Shaped[np.ndarray, "..."]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


class _FrameReader:
    """Frames of one trajectory in chunks of at most `block_bytes`; read once where all of them fit in one chunk."""

    def __init__(self, bench: Workbench, trajectory: int) -> None:
        self._source, self._trajectory = bench.source, trajectory
        self._info = bench.source.trajectories[trajectory]
        self.num_frames = self._info.num_frames
        plan = bench.partition.plan
        self._dtype = np.dtype(plan.dtype)
        self._shape = (plan.num_channels, *self._info.shape)
        self._length = int(max(1, bench.partition.block_bytes // bench.partition.frame_bytes[trajectory]))
        self._kept: Float[np.ndarray, "time channel *space"] | None = None

    def chunks(self, start: int, stop: int) -> Iterator[tuple[int, Float[np.ndarray, "time channel *space"]]]:
        """Yield frames [start, stop), each chunk after the number of its first frame.

        A chunk is read only, and holds until the next one is asked for: the source may reuse its memory.
        """
        for first in range(start, stop, self._length):
            yield first, self._read(first, min(first + self._length, stop))

    def _read(self, start: int, stop: int) -> Float[np.ndarray, "time channel *space"]:
        if self._kept is not None:
            return self._kept[start:stop]
        chunk = self._source.read_frames(self._trajectory, start, stop)
        if chunk.shape != (stop - start, *self._shape):
            raise SourceError(
                f"{self._source.name}: {self._info.item} gives frames of shape {chunk.shape}, "
                f"{(stop - start, *self._shape)} was announced"
            )
        if not np.can_cast(chunk.dtype, self._dtype, "safe"):
            raise SourceError(
                f"{self._source.name}: {self._info.item} gives values of dtype {chunk.dtype}, {self._source.dtype} was "
                f"announced, and storing them as {self._dtype} would round them"
            )
        chunk = np.ascontiguousarray(chunk, dtype=self._dtype)
        if stop - start == self.num_frames:
            self._kept = chunk
        return chunk


def _check_grid(source: Source, info: TrajectoryInfo, axes: tuple[Shaped[np.ndarray, "..."], ...], where: str) -> None:
    sizes = tuple(axis.size for axis in axes)
    if sizes != info.shape:
        raise SourceError(f"{where}: axes have {sizes} nodes, the field has {info.shape}")
    for values, spec in zip(axes, source.axes, strict=True):
        check_axis(values, spec, where=where)
