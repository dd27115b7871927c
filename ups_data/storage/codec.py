"""The codecs of inner chunks: a short whitelist, CRC32C around each, decoded into memory of known size.

An encoded chunk is `compress(little-endian values) + crc32c(compressed bytes)` where the checksum is four
little-endian bytes. The checksum is compared before a decoder sees the bytes, since decoders of corrupt input can
crash a process or return something that looks right.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import google_crc32c
import numcodecs
import numcodecs.blosc
import numpy as np
from jaxtyping import Shaped, UInt8

from ups_data.errors import CorruptionError
from ups_data.schema import CodecName

CRC_BYTES = 4
_CHECKED_BYTES = 2**18
_LEVEL = 5
_BLOSC_HEADER_BYTES = 16
_ZSTD_MAX_HEADER_BYTES = 18
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_MEND = "the store is damaged: run `ups-preprocess validate` on it, restore the file or convert again"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a shard, for messages."""

    key: str
    number: int

    def __add__(self, count: int) -> Row:
        return Row(key=self.key, number=self.number + count)

    def __str__(self) -> str:
        return f"{self.key} row {self.number}"


@dataclass(frozen=True, kw_only=True)
class ChunkCodec:
    """Encodes and decodes one inner chunk of fixed size.

    Attributes:
        name: which compressor.
        item_bytes: bytes of one value, which the shuffle filters of Blosc need.
        chunk_bytes: bytes of a decoded chunk.
    """

    name: CodecName
    item_bytes: int
    chunk_bytes: int

    @property
    def encoded_bytes(self) -> int | None:
        """Bytes of every encoded chunk, None where they differ from chunk to chunk."""
        return self.chunk_bytes + CRC_BYTES if self.name == "none" else None

    def uncompressed(self) -> ChunkCodec:
        """Return the codec of the same chunks as they are, with their checksum."""
        return replace(self, name="none")

    def encode(self, values: Shaped[np.ndarray, "..."]) -> bytes:
        """Encode the values of one chunk, C order."""
        return b"".join(self.encode_parts(values))

    def encode_parts(self, values: Shaped[np.ndarray, "..."]) -> tuple[bytes | memoryview, bytes]:
        """Encode the values of one chunk, and return its payload, which may be their own memory, and its checksum."""
        flat = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).reshape(-1)
        raw = flat.view(np.uint8).data
        if len(raw) != self.chunk_bytes:
            raise ValueError(f"a chunk of {len(raw)} bytes was given to a codec for {self.chunk_bytes} bytes")
        compressor = self._compressor()
        payload = raw if compressor is None else _compress(compressor, raw)
        return payload, checksum(payload)

    def seal(self, chunks: UInt8[np.ndarray, "row byte"]) -> None:
        """Put behind each chunk its checksum, for chunks of fixed size whose values stand in place already.

        Args:
            chunks: `encoded_bytes` of each chunk, the last four to be written.
        """
        # No line of Python a chunk: there are hundreds of thousands of short ones in a shard.
        values = struct.iter_unpack(f"{self.chunk_bytes}s{CRC_BYTES}x", chunks.data)
        checksums = struct.pack(f"<{len(chunks)}I", *itertools.starmap(google_crc32c.value, values))
        chunks[:, self.chunk_bytes :] = np.frombuffer(checksums, np.uint8).reshape(-1, CRC_BYTES)

    def decode_run(
        self,
        encoded: UInt8[np.ndarray, " byte"],
        lengths: Sequence[int],
        out: UInt8[np.ndarray, "row chunk"],
        *,
        where: Row,
    ) -> None:
        """Check and decode neighbouring chunks, each into a row of `out`, which has exactly `chunk_bytes` bytes.

        Args:
            encoded: the chunks, one after another.
            lengths: encoded bytes of each chunk.
            out: decoded bytes of each chunk.
            where: the first of them, for messages.

        Raises:
            CorruptionError: naming the row.
        """
        # Slices of bytes cost a third of slices of arrays, and there are hundreds of short chunks in a draw.
        content, start = encoded.tobytes(), 0
        for number, length in enumerate(lengths):
            stop = start + length
            end = stop - CRC_BYTES
            stated = content[end:stop]
            if length < CRC_BYTES or google_crc32c.value(content[start:end]).to_bytes(CRC_BYTES, "little") != stated:
                raise CorruptionError(f"{where + number}: checksum mismatch; {_MEND}")
            if self.name != "none":
                self._decompress(encoded[start:end], out[number], where=where + number)
            start = stop
        if self.name == "none":
            # Chunks of fixed size that passed their checksums: one copy for all.
            out[:] = encoded.reshape(len(lengths), -1)[:, :-CRC_BYTES]

    def _decompress(self, payload: UInt8[np.ndarray, " byte"], out: UInt8[np.ndarray, " chunk"], *, where: Row) -> None:
        size = self._decoded_bytes(payload)
        if size != self.chunk_bytes:
            raise CorruptionError(f"{where}: holds {size} bytes where {self.chunk_bytes} belong; {_MEND}")
        try:
            self._compressor().decode(payload, out)
        except (RuntimeError, ValueError) as error:
            raise CorruptionError(f"{where}: cannot be decompressed ({error}); {_MEND}") from error

    def _decoded_bytes(self, payload: UInt8[np.ndarray, " encoded"]) -> int | None:
        """Return the size that a payload declares; None where it declares none.

        Decoders fill a larger buffer in part without a word, so the size is read before they see it.
        """
        if self.name == "zstd":
            return _zstd_content_bytes(payload[:_ZSTD_MAX_HEADER_BYTES].tobytes())
        return int.from_bytes(payload[4:8].tobytes(), "little") if payload.size >= _BLOSC_HEADER_BYTES else None

    def _compressor(self) -> Any:
        if self.name == "zstd":
            return numcodecs.Zstd(level=_LEVEL)
        if self.name.startswith("blosc-"):
            shuffle = numcodecs.Blosc.BITSHUFFLE
            cname = self.name.removeprefix("blosc-")
            return numcodecs.Blosc(cname=cname, clevel=_LEVEL, shuffle=shuffle, typesize=self.item_bytes)
        return None

    def zarr_compressors(self) -> list[Any]:
        """Return the same codec in zarr-python's terms, for the metadata of an array."""
        from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

        if self.name == "zstd":
            return [ZstdCodec(level=_LEVEL), Crc32cCodec()]
        if self.name.startswith("blosc-"):
            cname: Any = self.name.removeprefix("blosc-")
            blosc = BloscCodec(cname=cname, clevel=_LEVEL, shuffle="bitshuffle", typesize=self.item_bytes)
            return [blosc, Crc32cCodec()]
        return [Crc32cCodec()]


def checksum(payload: bytes | memoryview) -> bytes:
    """Return the CRC32C of some bytes as four little-endian ones."""
    value = 0
    for start in range(0, len(payload), _CHECKED_BYTES):
        # The library takes bytes alone: copied in parts that stay in the processor's cache.
        value = google_crc32c.extend(value, bytes(payload[start : start + _CHECKED_BYTES]))
    return value.to_bytes(CRC_BYTES, "little")


def _compress(compressor: Any, raw: memoryview) -> bytes:
    """Compress on this thread alone: several would order the blocks of a large chunk by which was done first."""
    previous, numcodecs.blosc.use_threads = numcodecs.blosc.use_threads, False
    try:
        return bytes(compressor.encode(raw))
    finally:
        numcodecs.blosc.use_threads = previous


def _zstd_content_bytes(header: bytes) -> int | None:
    """Read the content size from a Zstandard frame header (RFC 8878, section 3.1.1.1)."""
    if header[:4] != _ZSTD_MAGIC or len(header) < 5:
        return None
    single_segment, size_flag = header[4] >> 5 & 1, header[4] >> 6
    width = (1 if single_segment else 0) if size_flag == 0 else 1 << size_flag
    start = 5 + (0 if single_segment else 1) + (0, 1, 2, 4)[header[4] & 3]
    if not width or len(header) < start + width:
        return None
    return int.from_bytes(header[start : start + width], "little") + (256 if width == 2 else 0)
