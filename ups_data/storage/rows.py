"""Rows of arrays: how they are asked for, wherever they stand, and how those in files are found, read and checked.

A row is one inner chunk of an array, see `shard.py`. Whoever reads several arrays reads them by `read_together`, which
waits twice in all: once for what tells where rows lie, and once for the rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from jaxtyping import Int64, Integer, Shaped, UInt8

from ups_data.errors import CorruptionError
from ups_data.storage.byte_store import ByteStore, CheckedRange
from ups_data.storage.codec import ChunkCodec, Row
from ups_data.storage.shard import ArraySpec


class RowReader(ABC):
    """Reads rows of one array, wherever they stand.

    Attributes:
        spec: the array, as the Zarr store has it.
    """

    spec: ArraySpec

    @abstractmethod
    def read_rows(self, rows: Integer[np.ndarray, " row"]) -> Shaped[np.ndarray, "row *chunk"]:
        """Read the given rows, in the given order.

        Neighbouring rows that are asked one after another are read as one range.

        Raises:
            CorruptionError: a row's bytes are not what was written; names file and row.
        """

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the values, as they are stored."""
        return np.dtype(self.spec.dtype).newbyteorder("<")

    def check_rows(self, rows: Integer[np.ndarray, " row"]) -> None:
        """Refuse rows that the array does not have."""
        if rows.size and (rows.min() < 0 or rows.max() >= self.spec.num_rows):
            raise IndexError(f"{self.spec.key}: rows {rows.min()} to {rows.max()} outside of [0, {self.spec.num_rows})")


@dataclass(frozen=True, kw_only=True, eq=False)
class RowPlaces:
    """Where encoded rows lie.

    Attributes:
        files: number of the file of each row.
        offsets, lengths: its bytes there.
    """

    files: Int64[np.ndarray, " row"]
    offsets: Int64[np.ndarray, " row"]
    lengths: Int64[np.ndarray, " row"]


class FileRows(RowReader):
    """Rows in files, each followed by its checksum: ranges merged, checksums compared.

    Attributes:
        source: where the files lie.
        codec: how a row is encoded.
    """

    source: ByteStore
    codec: ChunkCodec

    @abstractmethod
    def index_ranges(self, rows: Integer[np.ndarray, " row"]) -> list[CheckedRange]:
        """Return what must be read before `find` knows these rows; it is kept when it is accepted."""

    @abstractmethod
    def find(self, rows: Integer[np.ndarray, " row"]) -> RowPlaces:
        """Return where rows lie, once their `index_ranges` were read.

        Raises:
            CorruptionError: they lie nowhere.
        """

    @abstractmethod
    def name_row(self, file: int, row: int) -> tuple[str, Row]:
        """Return the key of a file, and the name of a row in it for messages."""

    def trim(self) -> None:
        """Let go of the oldest of what `index_ranges` brought, where it is much."""

    def read_rows(self, rows: Integer[np.ndarray, " row"]) -> Shaped[np.ndarray, "row *chunk"]:
        """Read the given rows, in the given order."""
        return read_together([(self, rows)])[0]

    def plan(self, rows: Integer[np.ndarray, " row"], raw: UInt8[np.ndarray, "row byte"]) -> list[CheckedRange]:
        """Return the ranges in which rows lie, to be decoded into `raw`."""
        if not rows.size:
            return []
        places = self.find(rows)
        files, offsets, lengths = places.files, places.offsets, places.lengths
        apart = (np.diff(files) != 0) | (offsets[1:] != offsets[:-1] + lengths[:-1]) | (np.diff(rows) != 1)
        edges = [0, *(np.flatnonzero(apart) + 1).tolist(), rows.size]
        ranges = []
        for start, stop in pairwise(edges):
            key, where = self.name_row(int(files[start]), int(rows[start]))
            sizes = lengths[start:stop].tolist()
            accept = partial(_decode, codec=self.codec, lengths=sizes, out=raw[start:stop], where=where)
            ranges.append(CheckedRange(key=key, offset=int(offsets[start]), length=sum(sizes), accept=accept))
        return ranges


def read_together(
    wanted: Sequence[tuple[FileRows, Integer[np.ndarray, " _"]]],
) -> list[Shaped[np.ndarray, "..."]]:
    """Read rows of several arrays at once, each in the given order.

    Raises:
        CorruptionError: a row's bytes are not what was written; names file and row.
    """
    for reader, rows in wanted:
        reader.check_rows(rows)
    _read_ranges((reader.source, reader.index_ranges(rows)) for reader, rows in wanted)
    buffers = [np.empty((rows.size, reader.codec.chunk_bytes), dtype=np.uint8) for reader, rows in wanted]
    _read_ranges((reader.source, reader.plan(rows, raw)) for (reader, rows), raw in zip(wanted, buffers, strict=True))
    for (reader, _), raw in zip(wanted, buffers, strict=True):
        reader.source.count.num_decoded_bytes += raw.nbytes
        reader.trim()
    return [
        raw.view(reader.dtype).reshape(len(raw), *reader.spec.chunk_shape[1:])
        for (reader, _), raw in zip(wanted, buffers, strict=True)
    ]


class HeldRows(RowReader):
    """Rows of one array that are in memory.

    Args:
        spec: the array.
        others: reads rows that are not held; without it they are an error.
    """

    def __init__(self, spec: ArraySpec, others: RowReader | None = None) -> None:
        self.spec, self._others = spec, others
        self._held: dict[int, Shaped[np.ndarray, "row *chunk"]] = {}

    def hold(self, first: int, rows: Shaped[np.ndarray, "row *chunk"]) -> None:
        """Keep neighbouring rows from number `first` on."""
        self._held[first] = rows

    def drop(self, first: int) -> None:
        """Let go of the rows that were given under this number."""
        del self._held[first]

    def read_rows(self, rows: Integer[np.ndarray, " row"]) -> Shaped[np.ndarray, "row *chunk"]:
        """Return the given rows, in the given order."""
        self.check_rows(rows)
        found = np.empty((rows.size, *self.spec.chunk_shape[1:]), dtype=self.dtype)
        starts = np.array(sorted(self._held), dtype=np.int64)
        places = np.searchsorted(starts, rows, side="right") - 1
        for place in np.unique(places).tolist():
            here = places == place
            start = int(starts[place]) if place >= 0 else 0
            held = self._held[start] if place >= 0 else found[:0]
            within = rows[here] - start
            if (within >= len(held)).any():
                return self._read_others(rows)
            found[here] = held[within]
        return found

    def _read_others(self, rows: Integer[np.ndarray, " row"]) -> Shaped[np.ndarray, "row *chunk"]:
        if self._others is None:
            raise CorruptionError(f"rows {rows.min()} to {rows.max()} of {self.spec.key} have not come")
        return self._others.read_rows(rows)


def _read_ranges(wanted: Iterable[tuple[ByteStore, list[CheckedRange]]]) -> None:
    """Read ranges of each source at once."""
    by_source: dict[int, tuple[ByteStore, list[CheckedRange]]] = {}
    for source, ranges in wanted:
        by_source.setdefault(id(source), (source, []))[1].extend(ranges)
    for source, ranges in by_source.values():
        source.read_checked(ranges)


def _decode(
    data: bytes, *, codec: ChunkCodec, lengths: list[int], out: UInt8[np.ndarray, "row byte"], where: Row
) -> None:
    codec.decode_run(np.frombuffer(data, dtype=np.uint8), lengths, out, where=where)
