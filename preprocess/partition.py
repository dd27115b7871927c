"""Cut a conversion into independent tasks such that every shard has one writer. Pure: nothing is read or written.

Shards of one array cross trajectories, those of different arrays at different places, so no cut of the trajectories
leaves all shards whole. Each task therefore owns a range of rows of each array. It writes the shards that lie in
its ranges, and keeps the rows of others, at most two a range, as *pieces*; a shard of several pieces is put
together by a task of its own once they are all there.

Where the cuts lie depends on the plan and on two sizes in bytes, never on who does the work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from preprocess.plan import ConvertPlan
from ups_data.errors import ConfigError
from ups_data.storage.shard import ArraySpec
from ups_data.storage.zarr_store import FIELDS, VALUES

BLOCK_BYTES = 256 * 2**20
"""Frames that are held at once; a trajectory that is not larger is read once, a longer one twice."""
# What one trajectory costs beside its values, as bytes that take as long: many tiny ones are no small task.
_TRAJECTORY_BYTES = 64 * 2**10


@dataclass(frozen=True, kw_only=True)
class LayOut:
    """Measure trajectories [first, stop), deal their pages, and write them but for the frames of a long one.

    Attributes:
        first, stop: the trajectories.
        long: one trajectory that is larger than a block: its frames are tasks of their own.
    """

    first: int
    stop: int
    long: bool

    @property
    def name(self) -> str:
        """Name in the ledger."""
        return f"lay-{self.first}"

    @property
    def summary_path(self) -> str:
        """Where the task leaves what the tables and statistics need."""
        return f"laid/{self.first}.npz"


@dataclass(frozen=True, kw_only=True)
class WriteFrames:
    """Write frames [start, stop) of a block of a long trajectory, whose pages are dealt already."""

    trajectory: int
    block: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Name in the ledger."""
        return f"frames-{self.trajectory}-{self.block}-{self.start}"


@dataclass(frozen=True, kw_only=True)
class JoinPieces:
    """Put one shard together from its pieces, given in the order of their rows."""

    key: str
    shard: int
    pieces: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name in the ledger."""
        return f"join-{self.key}-{self.shard}"


RowTask = LayOut | WriteFrames
Task = LayOut | WriteFrames | JoinPieces


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The rows of one shard that one task owns.

    Attributes:
        shard: number of the shard.
        num_rows: how many of its rows.
        path: where they go: the shard itself where the task owns all of it, else a piece.
        is_piece: whether it is a piece.
    """

    shard: int
    num_rows: int
    path: str
    is_piece: bool


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of several equal parts of a conversion, which may be done at different times on different machines.

    Attributes:
        number: from 1 to `count`.
        count: how many there are.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(
                f"a part must be one of 1/{max(1, self.count)} to {max(1, self.count)}/{max(1, self.count)}, got {self}"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def name(self) -> str:
        """Name in file names."""
        return f"{self.number}-of-{self.count}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Share:
    """Tasks of a conversion that wait for no others.

    Attributes:
        lay_outs: tasks that lay out pages.
        frames: tasks that write frames of them.
        joins: tasks that put shards together whose pieces all come from tasks of this share.
    """

    lay_outs: tuple[LayOut, ...]
    frames: tuple[WriteFrames, ...]
    joins: tuple[JoinPieces, ...]

    @property
    def rows(self) -> tuple[RowTask, ...]:
        """The tasks that own rows."""
        return (*self.lay_outs, *self.frames)


@dataclass(frozen=True, kw_only=True, eq=False)
class Partition:
    """All tasks of a conversion.

    Attributes:
        plan: what will be written.
        block_bytes: largest trajectory that is held whole.
        task_bytes: values that a task should have: the work that a kill can cost a worker.
    """

    plan: ConvertPlan
    block_bytes: int
    task_bytes: int

    @cached_property
    def frame_bytes(self) -> Int64[np.ndarray, " trajectory"]:
        """Bytes of one frame of each trajectory, as stored."""
        return self.plan.num_points * (self.plan.num_channels * np.dtype(self.plan.dtype).itemsize)

    @cached_property
    def lay_outs(self) -> tuple[LayOut, ...]:
        """The tasks that lay out pages, in the order of trajectories."""
        sizes = (self.frame_bytes * self.plan.num_frames).tolist()
        tasks: list[LayOut] = []
        first, gathered = 0, 0
        for trajectory, size in enumerate(sizes):
            long = size > self.block_bytes
            together = self.plan.trajectories_per_shard
            full = gathered >= self.task_bytes if together is None else trajectory - first >= together
            if trajectory > first and (long or full):
                tasks.append(LayOut(first=first, stop=trajectory, long=False))
                first, gathered = trajectory, 0
            if long:
                tasks.append(LayOut(first=trajectory, stop=trajectory + 1, long=True))
                first = trajectory + 1
            else:
                gathered += size + _TRAJECTORY_BYTES
        if first < len(sizes):
            tasks.append(LayOut(first=first, stop=len(sizes), long=False))
        return tuple(tasks)

    def frame_tasks(self, task: LayOut) -> tuple[WriteFrames, ...]:
        """Return the tasks that may begin when `task` is done."""
        if not task.long:
            return ()
        step = int(max(1, self.task_bytes // self.frame_bytes[task.first]))
        tasks: list[WriteFrames] = []
        for block, (first, count) in enumerate(self.block_ranges(task.first)):
            tasks += [
                WriteFrames(trajectory=task.first, block=block, start=start, stop=min(start + step, first + count))
                for start in range(first, first + count, step)
            ]
        return tuple(tasks)

    def block_ranges(self, trajectory: int) -> list[tuple[int, int]]:
        """Return first frame and number of frames of each block of a trajectory."""
        blocks, (start, stop) = self.plan.blocks, self._block_offsets[trajectory : trajectory + 2]
        return list(zip(blocks.start[start:stop].tolist(), blocks.frames[start:stop].tolist(), strict=True))

    def own_frames(self, trajectory: int, block: int) -> tuple[int, int]:
        """Return the frames [start, stop) of a block up to where the next one begins: each frame is of one block."""
        ranges = self.block_ranges(trajectory)
        start, count = ranges[block]
        return start, ranges[block + 1][0] if block + 1 < len(ranges) else start + count

    def all_pages(self, trajectory: int, block: int) -> int:
        """Return the pages of a block, those of points at rest included."""
        return int(self.plan.block_pages[self._block_offsets[trajectory] + block])

    @cached_property
    def row_tasks(self) -> tuple[RowTask, ...]:
        """All tasks that own rows."""
        tasks: list[RowTask] = []
        for lay_out in self.lay_outs:
            tasks += [lay_out, *self.frame_tasks(lay_out)]
        return tuple(tasks)

    @cached_property
    def join_tasks(self) -> tuple[JoinPieces, ...]:
        """The tasks that put shards together."""
        pieces: dict[tuple[str, int], list[str]] = defaultdict(list)
        for task in self.row_tasks:
            for key in self.rows(task):
                for segment in self.segments(task, key):
                    if segment.is_piece:
                        pieces[key, segment.shard].append(segment.path)
        return tuple(JoinPieces(key=key, shard=shard, pieces=tuple(paths)) for (key, shard), paths in pieces.items())

    def share_of(self, lay_outs: Iterable[LayOut]) -> Share:
        """Return tasks that lay out pages, those of their frames, and those that join pieces of theirs alone."""
        chosen = tuple(lay_outs)
        frames = tuple(part for lay_out in chosen for part in self.frame_tasks(lay_out))
        names = {task.name for task in chosen} | {task.name for task in frames}
        joins = tuple(
            join for join in self.join_tasks if names.issuperset(piece.rpartition("/")[2] for piece in join.pieces)
        )
        return Share(lay_outs=chosen, frames=frames, joins=joins)

    def share_of_part(self, part: Part) -> Share:
        """Return the tasks of a part: as many bytes as the others have, but a trajectory is never divided."""
        sizes = self.frame_bytes * self.plan.num_frames + _TRAJECTORY_BYTES
        ends = np.cumsum([int(sizes[task.first : task.stop].sum()) for task in self.lay_outs]).tolist()
        chosen, start = [], 0
        for task, end in zip(self.lay_outs, ends, strict=True):
            # Whose range the middle of the task lies in.
            if (start + end) * part.count // (2 * ends[-1]) == part.number - 1:
                chosen.append(task)
            start = end
        return self.share_of(chosen)

    def rows(self, task: RowTask) -> dict[str, tuple[int, int]]:
        """Return the rows [start, stop) of each array that a task owns."""
        plan = self.plan
        if isinstance(task, WriteFrames):
            return self._frame_rows(task)
        trajectories = np.array([task.first, task.stop])
        frames, blocks = self._frame_offsets[trajectories], self._block_offsets[trajectories]
        offsets = {key: self._page_offsets[blocks] for key in plan.arrays if key not in {VALUES, FIELDS}}
        if not task.long:
            offsets[VALUES] = self._value_offsets[blocks]
            if FIELDS in plan.arrays:
                offsets[FIELDS] = frames * plan.num_channels
        return {key: (int(start), int(stop)) for key, (start, stop) in offsets.items()}

    def _frame_rows(self, task: WriteFrames) -> dict[str, tuple[int, int]]:
        plan, number = self.plan, int(self._block_offsets[task.trajectory]) + task.block
        first, pages = int(self._value_offsets[number]), int(plan.block_pages[number])
        begin = int(plan.blocks.start[number])
        ranges = {VALUES: (first + (task.start - begin) * pages, first + (task.stop - begin) * pages)}
        own = min(task.stop, self.own_frames(task.trajectory, task.block)[1])
        if FIELDS in plan.arrays and own > task.start:
            first = int(self._frame_offsets[task.trajectory])
            ranges[FIELDS] = ((first + task.start) * plan.num_channels, (first + own) * plan.num_channels)
        return ranges

    def segments(self, task: RowTask, key: str) -> Iterator[Segment]:
        """Cut the rows of an array that a task owns at the borders of shards."""
        spec = self.plan.arrays[key]
        start, stop = self.rows(task)[key]
        for shard in range(start // spec.rows_per_shard, -(-stop // spec.rows_per_shard)):
            low, high = shard_rows(spec, shard)
            whole = start <= low and high <= stop
            yield Segment(
                shard=shard,
                num_rows=min(stop, high) - max(start, low),
                path=f"store/{spec.shard_key(shard)}" if whole else f"pieces/{key}/{shard}/{task.name}",
                is_piece=not whole,
            )

    @cached_property
    def _frame_offsets(self) -> Int64[np.ndarray, " offset"]:
        return _offsets(self.plan.num_frames)

    @cached_property
    def _block_offsets(self) -> Int64[np.ndarray, " offset"]:
        return _offsets(self.plan.blocks.num_blocks)

    @cached_property
    def _page_offsets(self) -> Int64[np.ndarray, " offset"]:
        return _offsets(self.plan.block_pages)

    @cached_property
    def _value_offsets(self) -> Int64[np.ndarray, " offset"]:
        return _offsets(self.plan.blocks.frames * self.plan.block_pages)


def table_path(trajectory: int, block: int) -> str:
    """Where the page table of a block of a long trajectory lies until its frames are written."""
    return f"tables/{trajectory}-{block}.npy"


def shard_rows(spec: ArraySpec, shard: int) -> tuple[int, int]:
    """Return the rows [start, stop) that a shard holds."""
    start = shard * spec.rows_per_shard
    return start, min(start + spec.rows_per_shard, spec.num_rows)


def _offsets(counts: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " offset"]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])
