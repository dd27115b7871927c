"""The codecs of inner chunks: a short whitelist, CRC32C around each, decoded into memory of known size.

An encoded chunk is `compress(little-endian values) + crc32c(compressed bytes)` where the checksum is four
little-endian bytes. The checksum is compared before a decoder sees the bytes, since decoders of corrupt input can
crash a process or return something that looks right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import google_crc32c
import numcodecs
import numpy as np
from jaxtyping import UInt8

from ups_data.errors import CorruptionError
from ups_data.schema import CodecName

CRC_BYTES = 4
_LEVEL = 5
_MEND = "the store is damaged: run `ups-preprocess validate` on it, restore the file or convert again"


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

    def encode(self, values: np.ndarray[Any, Any]) -> bytes:
        """Encode the values of one chunk, C order."""
        raw = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()
        if len(raw) != self.chunk_bytes:
            raise ValueError(f"a chunk of {len(raw)} bytes was given to a codec for {self.chunk_bytes} bytes")
        compressor = self._compressor()
        payload = raw if compressor is None else bytes(compressor.encode(raw))
        return payload + google_crc32c.value(payload).to_bytes(CRC_BYTES, "little")

    def decode(self, encoded: UInt8[np.ndarray, " encoded"], out: UInt8[np.ndarray, " chunk"], *, where: str) -> None:
        """Check and decode one chunk into `out`, which has exactly `chunk_bytes` bytes.

        Raises:
            CorruptionError: naming `where`.
        """
        payload, stated = encoded[:-CRC_BYTES], int.from_bytes(encoded[-CRC_BYTES:].tobytes(), "little")
        if encoded.size < CRC_BYTES or google_crc32c.value(payload) != stated:
            raise CorruptionError(f"{where}: checksum mismatch; {_MEND}")
        compressor = self._compressor()
        if compressor is None:
            if payload.size != self.chunk_bytes:
                raise CorruptionError(f"{where}: {payload.size} bytes where {self.chunk_bytes} belong; {_MEND}")
            out[:] = payload
            return
        try:
            decoded = compressor.decode(payload, out)
        except (RuntimeError, ValueError) as error:
            raise CorruptionError(f"{where}: cannot be decompressed ({error}); {_MEND}") from error
        if np.asarray(decoded).nbytes != self.chunk_bytes:
            raise CorruptionError(f"{where}: decompresses to another size than {self.chunk_bytes} bytes; {_MEND}")

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
