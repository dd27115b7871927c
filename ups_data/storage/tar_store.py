"""A store in tar shards: random reads of single pages by the index beside each tar, on local files or far away."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer, Shaped

from ups_data.errors import CorruptionError
from ups_data.schema import MAX_MANIFEST_BYTES, FileEntry
from ups_data.storage.byte_store import ByteStore, CheckedRange
from ups_data.storage.codec import CRC_BYTES, Row
from ups_data.storage.rows import FileRows, RowPlaces, RowReader
from ups_data.storage.shard import ArraySpec
from ups_data.storage.tables import TrajectoryTables
from ups_data.storage.tar_format import (
    INDEX_DTYPE,
    MAX_DESCRIPTION_BYTES,
    TAR_BLOCK_BYTES,
    TAR_MANIFEST_NAME,
    ZARR_PREFIX,
    MemberCounts,
    TarManifest,
    in_tar,
    npy_header,
)
from ups_data.storage.zarr_store import ZarrStore, reopen

_MAX_CACHED_INDEX_BYTES = 64 * 2**20
_MEND = "restore the file or pack the store again"
_AROUND_BYTES = 4 * TAR_BLOCK_BYTES  # more than the headers and the padding of a member
_END_BYTES = 32 * TAR_BLOCK_BYTES  # more than what closes a tar file


class MetadataByteStore(ByteStore):
    """What a tar store keeps of its Zarr store as files: everything but the shards of its arrays."""

    def __init__(self, inner: ByteStore) -> None:
        super().__init__()
        self._inner = inner
        self.location, self.survives_fork = inner.location, inner.survives_fork
        self.is_remote, self.num_attempts = inner.is_remote, inner.num_attempts
        self.count = inner.count

    def bind(self, entries: Sequence[FileEntry]) -> None:
        """Do nothing: the files were compared with the manifest of the tar store, which lists them all."""

    def size(self, key: str) -> int:
        """Return the size of a file in bytes."""
        return self._inner.size(_below_zarr(key))

    def read(self, key: str, *, max_bytes: int) -> bytes:
        """Return a whole file of at most `max_bytes`."""
        return self._inner.read(_below_zarr(key), max_bytes=max_bytes)

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each (offset, length)."""
        return self._inner.read_ranges(_below_zarr(key), ranges)

    def read_checked(self, ranges: Sequence[CheckedRange]) -> None:
        """Read ranges and hand each to its `accept`."""
        self._inner.read_checked(
            [
                CheckedRange(key=_below_zarr(part.key), offset=part.offset, length=part.length, accept=part.accept)
                for part in ranges
            ]
        )


class TarShards:
    """The tar files of a store and their indices, which are read when they are first needed, and checked whole."""

    def __init__(self, source: ByteStore) -> None:
        self.source = source
        self.manifest = read_tar_manifest(source)
        self._entries = {entry.key: entry for entry in self.manifest.files}
        source.bind(self.manifest.files)
        self._indices: OrderedDict[int, Shaped[np.ndarray, " member"]] = OrderedDict()

    def check_sizes(self, specs: dict[str, ArraySpec], tables: TrajectoryTables) -> None:
        """Refuse files that are larger than the trajectories in them make, before any of them is read.

        Raises:
            CorruptionError: an index of another length than its trajectories have members, or a tar file that is longer
                than they can be.
        """
        counts, arrays = MemberCounts.of(specs, tables), self.manifest.arrays
        edges = [*(shard.first_trajectory for shard in self.manifest.shards), len(tables.num_frames)]
        for shard, first, stop in zip(self.manifest.shards, edges[:-1], edges[1:], strict=True):
            groups, members = int(counts.groups[first:stop].sum()), int(counts.arrays[first:stop].sum())
            num_bytes = len(npy_header(INDEX_DTYPE, 0)) + (members + groups) * INDEX_DTYPE.itemsize
            listed = self._entries[shard.index].size_bytes
            if listed != num_bytes:
                raise CorruptionError(
                    f"{self.source.location}/{shard.index} is listed with {listed} bytes where {num_bytes} tell of the "
                    f"{members + groups} members of its tar file; {_MEND}"
                )
            rows = sum(
                (stop_row - start_row) * (specs[key].codec_of_chunk.chunk_bytes + CRC_BYTES)
                for key, (start_row, stop_row) in zip(arrays, shard.rows, strict=True)
            )
            most = rows + (members + groups) * _AROUND_BYTES + groups * MAX_DESCRIPTION_BYTES + _END_BYTES
            listed = self._entries[shard.key].size_bytes
            if listed > most:
                raise CorruptionError(
                    f"{self.source.location}/{shard.key} is listed with {listed} bytes, and its rows make {most} at "
                    f"most; {_MEND}"
                )

    def index_ranges(self, shards: Sequence[int]) -> list[CheckedRange]:
        """Return the indices that are not known yet, to be kept when they are accepted."""
        return [self._index_range(shard) for shard in shards if shard not in self._indices]

    def members(self, shard: int) -> Shaped[np.ndarray, " member"]:
        """Return the members of a shard, by array and row; JSON members last.

        Raises:
            CorruptionError: an index that is not what was written, or that points outside of its tar.
        """
        self.source.read_checked(self.index_ranges([shard]))
        self._indices.move_to_end(shard)
        return self._indices[shard]

    def trim(self) -> None:
        """Let go of the oldest indices, where they are many."""
        while len(self._indices) > 1 and sum(one.nbytes for one in self._indices.values()) > _MAX_CACHED_INDEX_BYTES:
            self._indices.popitem(last=False)

    def _index_range(self, shard: int) -> CheckedRange:
        entry = self._entries[self.manifest.shards[shard].index]

        def accept(data: bytes) -> None:
            where = f"{self.source.location}/{entry.key}"
            if hashlib.sha256(data).hexdigest() != entry.sha256:
                raise CorruptionError(f"{where} is not the file that was committed (SHA-256 differs); {_MEND}")
            self._indices[shard] = self._parse_index(shard, data, where)

        return CheckedRange(key=entry.key, offset=0, length=entry.size_bytes, accept=accept)

    def _parse_index(self, shard: int, data: bytes, where: str) -> Shaped[np.ndarray, " member"]:
        num_members = max(0, len(data) - len(npy_header(INDEX_DTYPE, 0))) // INDEX_DTYPE.itemsize
        header = npy_header(INDEX_DTYPE, num_members)
        if not data.startswith(header) or len(data) != len(header) + num_members * INDEX_DTYPE.itemsize:
            raise CorruptionError(f"{where} is no index of this format; {_MEND}")
        members = np.frombuffer(data, dtype=INDEX_DTYPE, offset=len(header))
        numbers = [members[name] for name in ("first_row", "num_rows", "offset", "size_bytes", "rows_offset")]
        end = self._entries[self.manifest.shards[shard].key].size_bytes
        sound = all((number >= 0).all() and (number <= 2**53).all() for number in numbers)
        if not sound or (members["offset"] + members["size_bytes"] > end).any():
            raise CorruptionError(f"{where} points outside of its tar file; {_MEND}")
        return np.sort(members, order=["array", "first_row"])


class TarArray(FileRows):
    """Reads rows of one array from the members of tar shards."""

    def __init__(self, spec: ArraySpec, shards: TarShards) -> None:
        self.spec, self.source = spec, shards.source
        self._shards = shards
        number = shards.manifest.arrays.index(spec.key)
        self._number = number
        self._starts = np.array([shard.rows[number][0] for shard in shards.manifest.shards], dtype=np.int64)
        # Members hold values as they are, whatever codec the Zarr store has.
        self.codec = spec.codec_of_chunk.uncompressed()
        self._record_bytes = self.codec.chunk_bytes + CRC_BYTES

    def index_ranges(self, rows: Integer[np.ndarray, " row"]) -> list[CheckedRange]:
        """Return the indices of tar files that are not known yet."""
        return self._shards.index_ranges(np.unique(self._shards_of(rows)).tolist())

    def find(self, rows: Integer[np.ndarray, " row"]) -> RowPlaces:
        """Return where rows lie."""
        shards = self._shards_of(rows)
        offsets = np.empty_like(shards)
        for shard in np.unique(shards).tolist():
            here = shards == shard
            offsets[here] = self._find_in(shard, rows[here].astype(np.int64))
        return RowPlaces(files=shards, offsets=offsets, lengths=np.full(rows.size, self._record_bytes, dtype=np.int64))

    def name_row(self, file: int, row: int) -> tuple[str, Row]:
        """Return the key of a tar file, and the name of a row in it."""
        key = self._shards.manifest.shards[file].key
        return key, Row(key=f"{key}: {self.spec.key}", number=row)

    def trim(self) -> None:
        """Let go of the oldest indices, where they are many."""
        self._shards.trim()

    def _shards_of(self, rows: Integer[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
        return np.searchsorted(self._starts, rows, side="right").astype(np.int64) - 1

    def _find_in(self, shard: int, rows: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " row"]:
        """Return where rows of one tar file begin in it."""
        index = self._shards.manifest.shards[shard].index
        members = self._shards.members(shard)
        own = members[members["array"] == self._number]
        place = np.searchsorted(own["first_row"], rows, side="right") - 1
        found = own[np.maximum(place, 0)] if len(own) else own
        within = rows - found["first_row"] if len(own) else rows
        if not len(own) or (place < 0).any() or (within >= found["num_rows"]).any():
            raise CorruptionError(f"{index} does not list all rows of {self.spec.key}; {_MEND}")
        offsets = found["rows_offset"] + within * self._record_bytes
        beyond = offsets + self._record_bytes > found["offset"] + found["size_bytes"]
        if beyond.any() or (found["rows_offset"] < found["offset"]).any():
            raise CorruptionError(f"{index} places rows of {self.spec.key} outside of their member; {_MEND}")
        return offsets


class TarStore(ZarrStore):
    """Reads a store that `ups-preprocess pack --to webdataset` wrote; the manifest is that of the Zarr store."""

    def __init__(self, source: ByteStore) -> None:
        self.shards = TarShards(source)
        super().__init__(MetadataByteStore(source))
        fingerprint = self.shards.manifest.store
        if self.manifest.fingerprint != fingerprint or set(self.shards.manifest.arrays) != set(
            filter(in_tar, self.arrays)
        ):
            raise CorruptionError(
                f"{self.location}/{TAR_MANIFEST_NAME} was written for another store than {ZARR_PREFIX}/manifest.json; "
                f"pack again"
            )
        self.shards.check_sizes({key: reader.spec for key, reader in self.arrays.items() if in_tar(key)}, self.tables)

    def __reduce__(self) -> tuple[Any, ...]:
        return (reopen, (type(self), self.shards.source, self.fingerprint))

    @property
    def fingerprint(self) -> str:
        """What a copy is held against: the fingerprint of the tar shards' own manifest."""
        return self.shards.manifest.fingerprint

    def _make_reader(self, spec: ArraySpec) -> RowReader:
        if not in_tar(spec.key):
            return super()._make_reader(spec)
        if spec.key not in self.shards.manifest.arrays:
            raise CorruptionError(f"{self.location}/{TAR_MANIFEST_NAME} does not list the array {spec.key}; pack again")
        last = self.shards.manifest.shards[-1].rows[self.shards.manifest.arrays.index(spec.key)][1]
        if last != spec.num_rows:
            raise CorruptionError(
                f"{self.location}/{TAR_MANIFEST_NAME} lists {last} rows of {spec.key}, which has {spec.num_rows}"
            )
        return TarArray(spec, self.shards)


def read_tar_manifest(source: ByteStore) -> TarManifest:
    """Read and check the manifest of the tar store below a root.

    Raises:
        StoreNotFoundError: there is none.
        SchemaError: it breaks the schema, or was changed after it was written.
        CorruptionError: it is not text, or larger than a manifest can be.
    """
    parse = partial(TarManifest.from_json, where=f"{source.location}/{TAR_MANIFEST_NAME}")
    return source.read_manifest(TAR_MANIFEST_NAME, parse, max_bytes=MAX_MANIFEST_BYTES)


def _below_zarr(key: str) -> str:
    return str(PurePosixPath(ZARR_PREFIX) / key)
