"""A store in tar shards: random reads of single pages by the index beside each tar, on local files or far away."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer, Shaped

from ups_data.errors import CorruptionError
from ups_data.schema import MAX_MANIFEST_BYTES, FileEntry
from ups_data.storage.byte_store import ByteStore, CheckedRange
from ups_data.storage.codec import CRC_BYTES, Row
from ups_data.storage.shard import ArraySpec, RowReader
from ups_data.storage.tar_format import INDEX_DTYPE, TAR_MANIFEST_NAME, ZARR_PREFIX, TarManifest, in_tar, npy_header
from ups_data.storage.zarr_store import ZarrStore

_MAX_CACHED_INDEX_BYTES = 64 * 2**20
_MEND = "restore the file or pack the store again"


class MetadataByteStore(ByteStore):
    """What a tar store keeps of its Zarr store as files: everything but the shards of its arrays."""

    def __init__(self, inner: ByteStore) -> None:
        super().__init__()
        self._inner = inner
        self.location, self.survives_fork = inner.location, inner.survives_fork
        self.num_attempts = inner.num_attempts
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

    def members(self, shards: Sequence[int]) -> dict[int, Shaped[np.ndarray, " member"]]:
        """Return the members of each shard, by array and row; JSON members last.

        Raises:
            CorruptionError: an index that is not what was written, or that points outside of its tar.
        """
        missing = [shard for shard in shards if shard not in self._indices]
        self.source.read_checked([self._index_range(shard) for shard in missing])
        found = {shard: self._indices[shard] for shard in shards}
        for shard in shards:
            self._indices.move_to_end(shard)
        while len(self._indices) > 1 and sum(one.nbytes for one in self._indices.values()) > _MAX_CACHED_INDEX_BYTES:
            self._indices.popitem(last=False)
        return found

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


class TarArray(RowReader):
    """Reads rows of one array from the members of tar shards."""

    def __init__(self, spec: ArraySpec, shards: TarShards) -> None:
        self.spec = spec
        self._shards = shards
        number = shards.manifest.arrays.index(spec.key)
        self._number = number
        self._starts = np.array([shard.rows[number][0] for shard in shards.manifest.shards], dtype=np.int64)
        # Members hold values as they are, whatever codec the Zarr store has.
        self._codec = spec.codec_of_chunk.uncompressed()
        self._record_bytes = self._codec.chunk_bytes + CRC_BYTES

    def read_rows(self, rows: Integer[np.ndarray, " row"]) -> Shaped[np.ndarray, "row *chunk"]:
        """Read the given rows, in the given order."""
        self._check_rows(rows)
        raw = np.empty((rows.size, self._codec.chunk_bytes), dtype=np.uint8)
        shards, offsets = self._locate(rows.astype(np.int64))
        breaks = (np.diff(offsets) != self._record_bytes) | (np.diff(shards) != 0) | (np.diff(rows) != 1)
        edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), rows.size]
        self._shards.source.read_checked(
            [
                self._range_of(int(shards[start]), int(offsets[start]), int(rows[start]), raw[start:stop])
                for start, stop in pairwise(edges)
                if stop > start
            ]
        )
        return self._as_values(raw)

    def _range_of(self, shard: int, offset: int, first: int, out: Shaped[np.ndarray, "..."]) -> CheckedRange:
        key = self._shards.manifest.shards[shard].key
        accept = partial(
            _decode,
            codec=self._codec,
            lengths=[self._record_bytes] * len(out),
            out=out,
            where=Row(key=f"{key}: {self.spec.key}", number=first),
        )
        return CheckedRange(key=key, offset=offset, length=self._record_bytes * len(out), accept=accept)

    def _locate(self, rows: Int64[np.ndarray, " row"]) -> tuple[Int64[np.ndarray, " row"], Int64[np.ndarray, " row"]]:
        """Return the shard of each row, and where in it the row begins."""
        shards = np.searchsorted(self._starts, rows, side="right").astype(np.int64) - 1
        offsets = np.empty_like(rows)
        needed = np.unique(shards).tolist()
        for shard, members in self._shards.members(needed).items():
            own = members[members["array"] == self._number]
            here = np.flatnonzero(shards == shard)
            place = np.searchsorted(own["first_row"], rows[here], side="right") - 1
            found = own[np.maximum(place, 0)] if len(own) else own
            within = rows[here] - found["first_row"] if len(own) else rows[here]
            if not len(own) or (place < 0).any() or (within >= found["num_rows"]).any():
                raise CorruptionError(
                    f"{self._shards.manifest.shards[shard].index} does not list all rows of {self.spec.key}; {_MEND}"
                )
            offsets[here] = found["rows_offset"] + within * self._record_bytes
            beyond = offsets[here] + self._record_bytes > found["offset"] + found["size_bytes"]
            if beyond.any() or (found["rows_offset"] < found["offset"]).any():
                raise CorruptionError(
                    f"{self._shards.manifest.shards[shard].index} places rows of {self.spec.key} outside of their "
                    f"member; {_MEND}"
                )
        return shards, offsets


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

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (self.shards.source, self.shards.manifest.fingerprint))

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


def _reopen(source: ByteStore, fingerprint: str) -> TarStore:
    """Open the store that was pickled elsewhere, and make sure that it is still the same one."""
    store = TarStore(source)
    if store.shards.manifest.fingerprint != fingerprint:
        raise CorruptionError(f"{source.location} was replaced by another store since it was opened; open it again")
    return store


def read_tar_manifest(source: ByteStore) -> TarManifest:
    """Read and check the manifest of the tar store below a root.

    Raises:
        StoreNotFoundError: there is none.
        SchemaError: it breaks the schema, or was changed after it was written.
        CorruptionError: it is not text, or larger than a manifest can be.
    """
    parse = partial(TarManifest.from_json, where=f"{source.location}/{TAR_MANIFEST_NAME}")
    return source.read_manifest(TAR_MANIFEST_NAME, parse, max_bytes=MAX_MANIFEST_BYTES)


def _decode(data: bytes, *, codec: Any, lengths: list[int], out: Shaped[np.ndarray, "..."], where: Row) -> None:
    codec.decode_run(np.frombuffer(data, dtype=np.uint8), lengths, out, where=where)


def _below_zarr(key: str) -> str:
    return str(PurePosixPath(ZARR_PREFIX) / key)
