"""One array of a store: Zarr v3 metadata, and shards of inner chunks.

A shard is what Zarr's `sharding_indexed` codec specifies: encoded inner chunks one after another, then an index of
(offset, length) pairs as little-endian uint64 in C order of the chunks, then the CRC32C of the index. Inner
chunks are *rows*: they have length 1 along the sharded axis and are whole along the others, but for `fields`, whose
rows are single channels of single frames. Chunk i of a shard is written at its place i, so with the codec `none`
offsets follow from i and the index need not be read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from ups_data.errors import CorruptionError
from ups_data.schema import CodecName
from ups_data.scratch import Scratch
from ups_data.storage.codec import CRC_BYTES, ChunkCodec, checksum

INDEX_ENTRY_BYTES = 16
MISSING = np.uint64(2**64 - 1)
# Of encoded rows; longer rows than a few of a slab are written one by one.
SLAB_BYTES, _LEAST_SLAB_ROWS = 2**20, 16
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
        return self.num_rows * (self.codec_of_chunk.chunk_bytes + CRC_BYTES) + self.num_shards * self.index_bytes

    @property
    def index_bytes(self) -> int:
        """Bytes of the index of a shard, its checksum included."""
        return self.rows_per_shard * INDEX_ENTRY_BYTES + CRC_BYTES

    @property
    def codec_of_chunk(self) -> ChunkCodec:
        """The codec of one inner chunk."""
        item = np.dtype(self.dtype).itemsize
        return ChunkCodec(name=self.codec, item_bytes=item, chunk_bytes=item * math.prod(self.chunk_shape))

    def shard_key(self, shard: int) -> str:
        """Return the key of a shard's file."""
        return "/".join([self.key, "c", str(shard), *["0"] * (len(self.shape) - 1)])


class ShardEncoder:
    """Encodes the rows of one shard after another as they come.

    Short rows of fixed size are gathered where they will stand in the file, in a slab that stays in the processor's
    cache until it is written.

    Args:
        spec: the array.
        scratch: memory for a slab, by the array's key.
    """

    def __init__(self, spec: ArraySpec, *, scratch: Scratch | None = None) -> None:
        self._spec, self._codec = spec, spec.codec_of_chunk
        size, shape = self._codec.encoded_bytes, spec.chunk_shape[1:]
        self._slab: UInt8[np.ndarray, "row byte"] | None = None
        if size is not None and size <= SLAB_BYTES // _LEAST_SLAB_ROWS:
            self._slab = (scratch or Scratch()).take(spec.key, (SLAB_BYTES // size, size), np.uint8)
            strides = (size, *np.empty((1, *shape), dtype=spec.dtype).strides[1:])
            self._rows = np.ndarray((len(self._slab), *shape), dtype=spec.dtype, buffer=self._slab, strides=strides)

    def begin(self, write: Callable[[bytes | memoryview], object]) -> None:
        """Begin a shard.

        Args:
            write: takes the bytes of its file, one part after another; a part holds until it returns.
        """
        self._write = write
        self._lengths: list[int] = []
        self._num_rows = self._filled = 0

    def append(self, rows: Shaped[np.ndarray, "row *chunk"]) -> None:
        """Add rows, of any shape that holds the values of each one after another; they may be changed afterwards."""
        self._num_rows += len(rows)
        if self._slab is None:
            for row in rows:
                payload, crc = self._codec.encode_parts(row.astype(self._spec.dtype, copy=False))
                self._write(payload)
                self._write(crc)
                self._lengths.append(len(payload) + CRC_BYTES)
            return
        while len(rows):
            part = rows[: len(self._slab) - self._filled]
            place = self._rows[self._filled : self._filled + len(part)]
            place[...] = part.reshape(place.shape)
            self._filled += len(part)
            rows = rows[len(part) :]
            if self._filled == len(self._slab):
                self._flush(self._slab)

    def finish(self) -> None:
        """Write what is left, and the index."""
        if self._slab is not None and self._filled:
            self._flush(self._slab[: self._filled])
        size, rows = self._codec.encoded_bytes, slice(0, self._num_rows)
        index = np.empty((self._spec.rows_per_shard, 2), dtype="<u8")
        index[rows, 1] = self._lengths if size is None else size
        np.cumsum(index[rows, 1], out=index[rows, 0])
        index[rows, 0] -= index[rows, 1]  # where a row begins, not where it ends
        index[self._num_rows :] = MISSING
        content = index.reshape(-1).view(np.uint8).data
        self._write(content)
        self._write(checksum(content))

    def _flush(self, slab: UInt8[np.ndarray, "row byte"]) -> None:
        self._codec.seal(slab)
        self._write(slab.reshape(-1).data)
        self._filled = 0


def encode_shard(spec: ArraySpec, rows: Shaped[np.ndarray, "row *chunk"]) -> memoryview:
    """Encode up to `rows_per_shard` rows as the bytes of one shard."""
    content = bytearray()
    encoder = ShardEncoder(spec)
    encoder.begin(content.extend)
    encoder.append(rows)
    encoder.finish()
    return memoryview(content)


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
