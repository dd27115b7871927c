"""Rows of one array in the shards of a Zarr store."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import google_crc32c
import numpy as np
from jaxtyping import Integer, UInt64

from ups_data.errors import CorruptionError, StoreNotFoundError
from ups_data.storage.byte_store import ByteStore, CheckedRange
from ups_data.storage.codec import CRC_BYTES, Row
from ups_data.storage.rows import FileRows, RowPlaces
from ups_data.storage.shard import INDEX_ENTRY_BYTES, MISSING, ArraySpec

_MAX_CACHED_INDEX_BYTES = 64 * 2**20


class ShardedArray(FileRows):
    """Reads rows of one array from its shards, whose indices are kept."""

    def __init__(self, spec: ArraySpec, source: ByteStore) -> None:
        self.spec, self.source, self.codec = spec, source, spec.codec_of_chunk
        self._indices: OrderedDict[int, UInt64[np.ndarray, "row 2"]] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        return {"spec": self.spec, "source": self.source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["spec"], state["source"])  # type: ignore[misc]  # a copy starts with an empty cache

    def index_ranges(self, rows: Integer[np.ndarray, " row"]) -> list[CheckedRange]:
        """Return the indices of shards that are not known yet; none where rows can be found without."""
        if self.codec.encoded_bytes is not None:
            return []
        shards = np.unique(rows // self.spec.rows_per_shard).tolist()
        return [self._index_range(shard, self._indices) for shard in shards if shard not in self._indices]

    def find(self, rows: Integer[np.ndarray, " row"]) -> RowPlaces:
        """Return where rows lie."""
        shards, places = np.divmod(rows.astype(np.int64), self.spec.rows_per_shard)
        size = self.codec.encoded_bytes
        if size is not None:
            return RowPlaces(files=shards, offsets=places * size, lengths=np.full(rows.size, size, dtype=np.int64))
        found = np.empty((rows.size, 2), dtype=np.uint64)
        for shard in np.unique(shards).tolist():
            here = shards == shard
            self._indices.move_to_end(shard)
            found[here] = self._indices[shard][places[here]]
            if (found[here] == MISSING).any():
                raise CorruptionError(f"{self.spec.shard_key(shard)}: the index does not list all of its rows")
        offsets, lengths = found.astype(np.int64).T
        return RowPlaces(files=shards, offsets=offsets, lengths=lengths)

    def name_row(self, file: int, row: int) -> tuple[str, Row]:
        """Return the key of a shard, and the name of a row in it."""
        key = self.spec.shard_key(file)
        return key, Row(key=key, number=row % self.spec.rows_per_shard)

    def trim(self) -> None:
        """Let go of the oldest indices, where they are many."""
        bytes_each = self.spec.rows_per_shard * INDEX_ENTRY_BYTES
        while len(self._indices) > 1 and len(self._indices) * bytes_each > _MAX_CACHED_INDEX_BYTES:
            self._indices.popitem(last=False)

    def read_shard_index(self, shard: int) -> UInt64[np.ndarray, "row 2"]:
        """Read and check the index of a shard: (offset, length) of each row.

        Raises:
            CorruptionError: checksum mismatch, or an entry that points outside of the shard's chunks.
        """
        found: dict[int, UInt64[np.ndarray, "row 2"]] = {}
        self.source.read_checked([self._index_range(shard, found)])
        return found[shard]

    def _index_range(self, shard: int, found: dict[int, UInt64[np.ndarray, "row 2"]]) -> CheckedRange:
        """Return where the index of a shard lies, to be put into `found` when it was checked."""
        key = self.spec.shard_key(shard)
        length = self.spec.rows_per_shard * INDEX_ENTRY_BYTES
        try:
            end = self.source.size(key) - CRC_BYTES - length
        except StoreNotFoundError as error:
            raise CorruptionError(f"{error}: restore it or convert again") from error
        if end < 0:
            raise CorruptionError(f"{key} is too short to hold its index: restore it or convert again")

        def accept(data: bytes) -> None:
            found[shard] = _parse_index(key, data, end)

        return CheckedRange(key=key, offset=end, length=length + CRC_BYTES, accept=accept)


def _parse_index(key: str, data: bytes, end: int) -> UInt64[np.ndarray, "row 2"]:
    """Check the index of a shard, whose chunks end at byte `end`."""
    entries, stated = data[:-CRC_BYTES], data[-CRC_BYTES:]
    if google_crc32c.value(entries) != int.from_bytes(stated, "little"):
        raise CorruptionError(f"{key}: checksum of the shard index does not match; restore it or convert again")
    index = np.frombuffer(entries, dtype="<u8").reshape(-1, 2)
    used = index[index[:, 0] != MISSING]
    if (used > end).any() or (used[:, 0] + used[:, 1] > end).any():
        raise CorruptionError(f"{key}: the shard index points outside of the shard; restore it or convert again")
    return index
