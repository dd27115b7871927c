"""One array of a store: Zarr v3 metadata, shards of inner chunks, and reading rows of them.

A shard is what Zarr's `sharding_indexed` codec specifies: encoded inner chunks one after another, then an index of
(offset, length) pairs as little-endian uint64 in C order of the chunks, then the CRC32C of the index. Inner
chunks are *rows*: they have length 1 along the sharded axis and are whole along the others, but for `fields`, whose
rows are single channels of single frames. Chunk i of a shard is written at its place i, so with the codec `none`
offsets follow from i and the index need not be read.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import google_crc32c
import numpy as np
from jaxtyping import Integer, Shaped, UInt8, UInt64

from ups_data.errors import CorruptionError, StoreNotFoundError
from ups_data.schema import CodecName
from ups_data.storage.byte_store import ByteStore, CheckedRange
from ups_data.storage.codec import CRC_BYTES, ChunkCodec, Row

_INDEX_ENTRY_BYTES = 16
_MISSING = np.uint64(2**64 - 1)
_MAX_CACHED_INDEX_BYTES = 64 * 2**20
_MAX_CHUNK_BYTES = 2**31


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """Shape, chunking and codec of one array.

    Attributes:
        key: path below the store's root, such as `pages/values`.
        shape: length along each axis.
        chunk_shape: inner chunk, a row.
        rows_per_shard: inner chunks of a shard.
        dtype: NumPy name of the stored values.
        codec: compressor of the inner chunks.
        dimension_names: one name an axis, for people.
    """

    key: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    rows_per_shard: int
    dtype: str
    codec: CodecName
    dimension_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.chunk_shape) != len(self.shape) or min(self.shape) < 1 or min(self.chunk_shape) < 1:
            raise ValueError(f"{self.key}: chunks {self.chunk_shape} do not fit shape {self.shape}")
        if self.rows_per_shard % self.rows_per_index:
            raise ValueError(f"{self.key}: a shard must hold whole entries of the first axis")
        if self.codec_of_chunk.chunk_bytes > _MAX_CHUNK_BYTES:
            raise ValueError(f"{self.key}: a chunk of {self.chunk_shape} is larger than {_MAX_CHUNK_BYTES} bytes")

    @property
    def rows_per_index(self) -> int:
        """Rows that one entry of the first axis holds: 1, or the channels of a frame."""
        return math.prod(-(-n // c) for n, c in zip(self.shape[1:], self.chunk_shape[1:], strict=True))

    @property
    def num_rows(self) -> int:
        """Rows of the whole array."""
        return self.shape[0] * self.rows_per_index

    @property
    def num_shards(self) -> int:
        """Shards of the whole array; the last one may be partly filled."""
        return -(-self.num_rows // self.rows_per_shard)

    @property
    def shard_shape(self) -> tuple[int, ...]:
        """Shape of a shard, in values."""
        return (self.rows_per_shard // self.rows_per_index, *self.shape[1:])

    @property
    def uncompressed_bytes(self) -> int:
        """Bytes of all shards with the codec `none`: values, a checksum a row, and an index a shard."""
        index = self.rows_per_shard * _INDEX_ENTRY_BYTES + CRC_BYTES
        return self.num_rows * (self.codec_of_chunk.chunk_bytes + CRC_BYTES) + self.num_shards * index

    @property
    def codec_of_chunk(self) -> ChunkCodec:
        """The codec of one inner chunk."""
        item = np.dtype(self.dtype).itemsize
        return ChunkCodec(name=self.codec, item_bytes=item, chunk_bytes=item * math.prod(self.chunk_shape))

    def shard_key(self, shard: int) -> str:
        """Return the key of a shard's file."""
        return "/".join([self.key, "c", str(shard), *["0"] * (len(self.shape) - 1)])


def encode_shard(spec: ArraySpec, rows: Shaped[np.ndarray, "row *chunk"]) -> bytes:
    """Encode up to `rows_per_shard` rows as the bytes of one shard."""
    content, lengths = spec.codec_of_chunk.encode_run(rows)
    index = np.full((spec.rows_per_shard, 2), _MISSING, dtype="<u8")
    index[: len(lengths), 0] = np.cumsum(lengths) - lengths
    index[: len(lengths), 1] = lengths
    encoded_index = index.tobytes()
    checksum = google_crc32c.value(encoded_index).to_bytes(CRC_BYTES, "little")
    return b"".join([content, encoded_index, checksum])


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

    def _check_rows(self, rows: Integer[np.ndarray, " row"]) -> None:
        if rows.size and (rows.min() < 0 or rows.max() >= self.spec.num_rows):
            raise IndexError(f"{self.spec.key}: rows {rows.min()} to {rows.max()} outside of [0, {self.spec.num_rows})")

    def _as_values(self, raw: UInt8[np.ndarray, "row byte"]) -> Shaped[np.ndarray, "row *chunk"]:
        return raw.view(np.dtype(self.spec.dtype).newbyteorder("<")).reshape(len(raw), *self.spec.chunk_shape[1:])


class ShardedArray(RowReader):
    """Reads rows of one array from its shards: ranges merged, checksums compared, shard indices cached."""

    def __init__(self, spec: ArraySpec, source: ByteStore) -> None:
        self.spec = spec
        self._source = source
        self._codec = spec.codec_of_chunk
        self._indices: OrderedDict[int, UInt64[np.ndarray, "row 2"]] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        return {"spec": self.spec, "source": self._source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["spec"], state["source"])  # type: ignore[misc]  # a copy starts with an empty cache

    def read_rows(self, rows: Integer[np.ndarray, " row"]) -> Shaped[np.ndarray, "row *chunk"]:
        """Read the given rows, in the given order."""
        self._check_rows(rows)
        raw = np.empty((rows.size, self._codec.chunk_bytes), dtype=np.uint8)
        breaks = (np.diff(rows) != 1) | (rows[1:] % self.spec.rows_per_shard == 0)
        edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), rows.size]
        runs = [(int(rows[start]), raw[start:stop]) for start, stop in pairwise(edges) if stop > start]
        self._load_indices({first // self.spec.rows_per_shard for first, _ in runs})
        self._source.read_checked([self._range_of(first, out) for first, out in runs])
        return self._as_values(raw)

    def _range_of(self, first_row: int, out: Shaped[np.ndarray, "..."]) -> CheckedRange:
        """Return where neighbouring rows lie, to be decoded into `out`."""
        shard, first = divmod(first_row, self.spec.rows_per_shard)
        key = self.spec.shard_key(shard)
        begin, lengths = self._place(shard, first, len(out))

        def accept(data: bytes) -> None:
            self._codec.decode_run(np.frombuffer(data, dtype=np.uint8), lengths, out, where=Row(key=key, number=first))

        return CheckedRange(key=key, offset=begin, length=sum(lengths), accept=accept)

    def _place(self, shard: int, first: int, count: int) -> tuple[int, list[int]]:
        """Return where neighbouring rows begin in their shard, and how long each is."""
        size = self._codec.encoded_bytes
        if size is not None:
            return first * size, [size] * count
        places = self._indices[shard][first : first + count]
        offsets, lengths = places[:, 0], places[:, 1]
        if (offsets == _MISSING).any() or (offsets[1:] != offsets[:-1] + lengths[:-1]).any():
            raise CorruptionError(f"{self.spec.shard_key(shard)}: the index does not list its rows one after another")
        return int(offsets[0]), lengths.tolist()

    def _load_indices(self, shards: set[int]) -> None:
        """Have the indices of the given shards, where rows cannot be found without; read those that are new at once."""
        if self._codec.encoded_bytes is not None:
            return
        missing = sorted(shards - self._indices.keys())
        self._source.read_checked([self._index_range(shard, self._indices) for shard in missing])
        for shard in shards:
            self._indices.move_to_end(shard)
        bytes_each = self.spec.rows_per_shard * _INDEX_ENTRY_BYTES
        while len(self._indices) * bytes_each > _MAX_CACHED_INDEX_BYTES and len(self._indices) > len(shards):
            self._indices.popitem(last=False)

    def read_shard_index(self, shard: int) -> UInt64[np.ndarray, "row 2"]:
        """Read and check the index of a shard: (offset, length) of each row.

        Raises:
            CorruptionError: checksum mismatch, or an entry that points outside of the shard's chunks.
        """
        found: dict[int, UInt64[np.ndarray, "row 2"]] = {}
        self._source.read_checked([self._index_range(shard, found)])
        return found[shard]

    def _index_range(self, shard: int, found: dict[int, UInt64[np.ndarray, "row 2"]]) -> CheckedRange:
        """Return where the index of a shard lies, to be put into `found` when it was checked."""
        key = self.spec.shard_key(shard)
        length = self.spec.rows_per_shard * _INDEX_ENTRY_BYTES
        try:
            end = self._source.size(key) - CRC_BYTES - length
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
    used = index[index[:, 0] != _MISSING]
    if (used > end).any() or (used[:, 0] + used[:, 1] > end).any():
        raise CorruptionError(f"{key}: the shard index points outside of the shard; restore it or convert again")
    return index


def array_metadata(spec: ArraySpec) -> dict[str, Any]:
    """Return the content of the array's `zarr.json`, made by zarr-python."""
    import zarr
    from zarr.codecs import Crc32cCodec, ShardingCodec

    store = zarr.storage.MemoryStore()
    zarr.create_array(
        store,
        shape=spec.shape,
        chunks=spec.shard_shape,
        dtype=spec.dtype,
        fill_value={"f": np.nan, "i": -1, "u": 0}[np.dtype(spec.dtype).kind],
        dimension_names=spec.dimension_names,
        filters=None,
        compressors=None,
        serializer=ShardingCodec(
            chunk_shape=spec.chunk_shape,
            codecs=[zarr.codecs.BytesCodec(), *spec.codec_of_chunk.zarr_compressors()],
            index_codecs=[zarr.codecs.BytesCodec(), Crc32cCodec()],
        ),
    )
    content: dict[str, Any] = json.loads(memory_file(store, "zarr.json"))
    return content


def memory_file(store: Any, key: str) -> bytes:
    """Return a file that zarr-python wrote to one of its memory stores."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    content: bytes = sync(store.get(key, default_buffer_prototype())).to_bytes()
    return content


def spec_from_metadata(key: str, content: dict[str, Any]) -> ArraySpec:
    """Read the metadata of an array that this project wrote.

    Raises:
        CorruptionError: anything but a sharded array of our own codecs.
    """
    try:
        sharding = content["codecs"][0]["configuration"]
        names = [codec["name"] for codec in sharding["codecs"]]
        codec = _codec_name(names, sharding["codecs"])
        shard_shape = tuple(content["chunk_grid"]["configuration"]["chunk_shape"])
        chunk_shape = tuple(sharding["chunk_shape"])
        spec = ArraySpec(
            key=key,
            shape=tuple(content["shape"]),
            chunk_shape=chunk_shape,
            rows_per_shard=math.prod(-(-n // c) for n, c in zip(shard_shape, chunk_shape, strict=True)),
            dtype=content["data_type"],
            codec=codec,
            dimension_names=tuple(content["dimension_names"]),
        )
        fixed = (content["node_type"], content["zarr_format"], shard_shape, sharding["index_location"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise CorruptionError(f"{key}/zarr.json does not describe an array of this format: {error!r}") from error
    if fixed != ("array", 3, spec.shard_shape, "end"):
        raise CorruptionError(f"{key}/zarr.json does not describe an array of this format")
    return spec


def _codec_name(names: list[str], codecs: list[dict[str, Any]]) -> CodecName:
    if names == ["bytes", "crc32c"]:
        return "none"
    if names == ["bytes", "zstd", "crc32c"]:
        return "zstd"
    cname = codecs[1]["configuration"]["cname"] if names == ["bytes", "blosc", "crc32c"] else None
    if cname == "lz4":
        return "blosc-lz4"
    if cname == "zstd":
        return "blosc-zstd"
    raise ValueError(f"codecs {names} are not on the whitelist")
