"""Pages and dense frames as rows of shards, which are written as they come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np
from jaxtyping import Float, Float64, Integer, Shaped

from preprocess.partition import JoinPieces, Partition, RowTask, Segment
from preprocess.tasks.bench import Workbench
from preprocess.tasks.commit import Committer, FileInHand
from preprocess.tasks.ground import Ground
from ups_data.errors import StoreError
from ups_data.importance import CloudGeometry
from ups_data.scratch import Scratch
from ups_data.storage.shard import ArraySpec, ShardEncoder
from ups_data.storage.zarr_store import COORDINATES, FIELDS, IMPORTANCE, INDEX, MEASURES, VALUES

# Entries of pages that are gathered at once: they stay in the processor's cache until they are in their rows.
_GATHER_ENTRIES = 2**17


class TaskRows:
    """Takes the rows of all arrays that a task owns.

    Use as a context: leaving it by an error removes what is unfinished.

    Args:
        task: the task.
        bench: what every task needs.
        committer: puts shards and pieces of them in place.
        scratch: memory for rows that wait to be written.
    """

    def __init__(self, task: RowTask, bench: Workbench, committer: Committer, scratch: Scratch) -> None:
        partition = bench.partition
        self._scratch = scratch
        self._writers = {
            key: _RowWriter(key, partition.segments(task, key), partition, committer, scratch)
            for key in partition.rows(task)
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for writer in self._writers.values():
            writer.discard()

    def add_static(
        self, index: Integer[np.ndarray, "page entry"], importance: Float64[np.ndarray, " point"], ground: Ground
    ) -> None:
        """Add what pages of a block hold beside values."""
        geometry, measures, writers = ground.geometry, ground.measures, self._writers
        for pages in _slices(index, _GATHER_ENTRIES):
            padding = pages < 0
            writers[INDEX].append(pages)
            writers[IMPORTANCE].append(np.where(padding, np.nan, importance[pages]))
            if isinstance(geometry, CloudGeometry):
                coordinates = np.where(padding[..., None], np.nan, geometry.coordinates[pages])
                writers[COORDINATES].append(coordinates.transpose(0, 2, 1))
            if MEASURES in writers and measures is not None:
                writers[MEASURES].append(np.where(padding, np.nan, measures[pages]))

    def add_frames(
        self,
        index: Integer[np.ndarray, "page entry"],
        chunks: Iterator[tuple[int, Float[np.ndarray, "time channel *space"]]],
        own_stop: int,
    ) -> None:
        """Add frames of a block as pages, and densely those before `own_stop`: the next block has the others too."""
        gatherer = _Gatherer(index, self._scratch)
        for start, chunk in chunks:
            for number, frame in enumerate(chunk, start):
                for pages in gatherer.gather(frame.reshape(len(frame), -1)):
                    self._writers[VALUES].append(pages)
                if FIELDS in self._writers and number < own_stop:
                    self._writers[FIELDS].append(frame)
            del chunk, frame  # before the next ones are read

    def close(self) -> None:
        """Check that all rows came."""
        for writer in self._writers.values():
            writer.close()


class _Gatherer:
    """Puts the values of frames in the order of a page table."""

    def __init__(self, index: Integer[np.ndarray, "page entry"], scratch: Scratch) -> None:
        self._index, self._scratch = index, scratch
        # NumPy turns indices into its own at every use; those of small tables are turned once.
        self._whole = index.astype(np.intp) if index.size <= _GATHER_ENTRIES else None

    def gather(self, frame: Float[np.ndarray, "channel point"]) -> Iterator[Float[np.ndarray, "page channel entry"]]:
        """Yield the pages of a frame, NaN on padding; each array holds until the next one is asked for."""
        for part in self._parts():
            pages = self._scratch.take("pages", (len(frame), *part.shape), frame.dtype)
            for channel, values in enumerate(self._bring_near(frame)):
                # -1 is clipped to the first value, which the next lines remove.
                np.take(values, part, out=pages[channel], mode="clip")
            if (part[:, -1] < 0).any():  # padding stands at the end of a page
                pages[:, part < 0] = np.nan
            yield pages.transpose(1, 0, 2)

    def _bring_near(self, frame: Float[np.ndarray, "channel point"]) -> Iterator[Float[np.ndarray, " point"]]:
        """Yield the values of each channel; memory that is read in order comes faster than by pages, here and there."""
        if self._whole is None:
            yield from frame
            return
        for values in frame:
            near = self._scratch.take("near", values.shape, values.dtype)
            near[...] = values
            yield near

    def _parts(self) -> Iterator[Integer[np.ndarray, "part entry"]]:
        if self._whole is not None:
            yield self._whole
            return
        for part in _slices(self._index, _GATHER_ENTRIES):
            wide = self._scratch.take("index", part.shape, np.intp)
            wide[...] = part
            yield wide


class _RowWriter:
    """Takes the rows of one array that a task owns, in order, and writes shards, or pieces of them, as they come."""

    def __init__(
        self, key: str, segments: Iterator[Segment], partition: Partition, committer: Committer, scratch: Scratch
    ) -> None:
        self._key, self._segments, self._spec = key, segments, partition.plan.arrays[key]
        self._committer, self._encoder = committer, ShardEncoder(self._spec, scratch=scratch)
        self._segment: Segment | None = next(segments, None)
        self._filled = 0
        self._output: _ShardOutput | _PieceOutput | None = None

    def append(self, rows: Shaped[np.ndarray, "row *chunk"]) -> None:
        """Add rows; their memory may be used again."""
        while len(rows):
            if self._segment is None:
                raise StoreError(f"{self._key}: {len(rows)} rows came after the last one that was planned")
            if not self._filled:
                self._output = self._open(self._segment)
            part = rows[: self._segment.num_rows - self._filled]
            if self._output is not None:
                self._output.append(part)
            self._filled += len(part)
            rows = rows[len(part) :]
            if self._filled == self._segment.num_rows:
                if self._output is not None:
                    self._output.finish()
                self._output, self._filled = None, 0
                self._segment = next(self._segments, None)

    def close(self) -> None:
        """Check that all rows came."""
        if self._segment is not None:
            raise StoreError(f"{self._key}: shard {self._segment.shard} lacks rows of {self._segment.path}")

    def discard(self) -> None:
        """Remove what is unfinished."""
        if self._output is not None:
            self._output.file.discard()

    def _open(self, segment: Segment) -> _ShardOutput | _PieceOutput | None:
        """Begin the file of a segment; None where nobody waits for it."""
        shard = f"store/{self._spec.shard_key(segment.shard)}"
        if not (self._committer.awaits(shard) if segment.is_piece else self._committer.wants(shard)):
            return None
        file = self._committer.open(segment.path, scratch=segment.is_piece)
        return _PieceOutput(file, self._spec) if segment.is_piece else _ShardOutput(file, self._encoder)


class _ShardOutput:
    """A shard that is being written."""

    def __init__(self, file: FileInHand, encoder: ShardEncoder) -> None:
        self.file, self._encoder = file, encoder
        encoder.begin(file.write)

    def append(self, rows: Shaped[np.ndarray, "row *chunk"]) -> None:
        """Add rows."""
        self._encoder.append(rows)

    def finish(self) -> None:
        """Put it in place."""
        self._encoder.finish()
        self.file.finish()


class _PieceOutput:
    """A piece of a shard that is being written: rows one after another as they are."""

    def __init__(self, file: FileInHand, spec: ArraySpec) -> None:
        self.file, self._dtype = file, spec.dtype

    def append(self, rows: Shaped[np.ndarray, "row *chunk"]) -> None:
        """Add rows."""
        self.file.write(np.ascontiguousarray(rows, dtype=self._dtype).reshape(-1).view(np.uint8).data)

    def finish(self) -> None:
        """Put it in place."""
        self.file.finish()


def join_pieces(task: JoinPieces, bench: Workbench, committer: Committer, scratch: Scratch) -> None:
    """Put a shard together from its pieces, and remove them."""
    spec = bench.partition.plan.arrays[task.key]
    path = f"store/{spec.shard_key(task.shard)}"
    pieces = [bench.folder / piece for piece in task.pieces]
    try:
        with committer.open(path, scratch=False) as file:
            output = _ShardOutput(file, ShardEncoder(spec, scratch=scratch))
            for piece in pieces:
                rows = np.frombuffer(piece.read_bytes(), dtype=spec.dtype)
                output.append(rows.reshape(-1, *spec.chunk_shape[1:]))
            output.finish()
    except FileNotFoundError:
        # Pieces are removed once the shard is there: another process did all this, and died before it said so.
        committer.note_shard(path)
    for piece in pieces:
        piece.unlink(missing_ok=True)


def _slices(index: Integer[np.ndarray, "page entry"], num_entries: int) -> Iterator[Integer[np.ndarray, "part entry"]]:
    """Cut a page table into pieces of about `num_entries`."""
    step = max(1, num_entries // index.shape[1])
    for start in range(0, len(index), step):
        yield index[start : start + step]
