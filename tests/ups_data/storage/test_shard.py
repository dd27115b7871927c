"""Shards are the same bytes however their rows come."""

from __future__ import annotations

import google_crc32c
import numpy as np
import pytest

from ups_data.schema import CodecName
from ups_data.storage.shard import SLAB_BYTES, ArraySpec, ShardEncoder, encode_shard


def spec_of(codec: CodecName, values: int, rows: int) -> ArraySpec:
    return ArraySpec(
        key="values",
        shape=(rows, 2, values),
        chunk_shape=(1, 2, values),
        rows_per_shard=rows,
        dtype="float32",
        codec=codec,
        dimension_names=("page", "channel", "entry"),
    )


# Rows of a few bytes, of which a slab has many; rows that are written one by one; several slabs.
@pytest.mark.parametrize("codec", ["none", "zstd", "blosc-lz4"])
@pytest.mark.parametrize(("values", "rows"), [(3, 1000), (SLAB_BYTES // 64, 7), (32, 2 * SLAB_BYTES // 260 + 9)])
def test_rows_in_any_parts_are_what_the_specification_says(codec: CodecName, values: int, rows: int) -> None:
    if codec != "none":
        rows = min(rows, 500)
    spec, random = spec_of(codec, values, rows + 5), np.random.default_rng(rows)
    content = random.normal(size=(rows, 2, values))
    chunks = [spec.codec_of_chunk.encode(row.astype(np.float32)) for row in content]
    index = np.full((rows + 5, 2), 2**64 - 1, dtype="<u8")
    index[:rows, 1] = [len(chunk) for chunk in chunks]
    index[:rows, 0] = np.cumsum(index[:rows, 1]) - index[:rows, 1]
    expected = b"".join([*chunks, index.tobytes(), google_crc32c.value(index.tobytes()).to_bytes(4, "little")])
    assert bytes(encode_shard(spec, content)) == expected
    written = bytearray()
    encoder, start = ShardEncoder(spec), 0
    encoder.begin(written.extend)
    while start < rows:
        part = content[start : start + int(random.integers(1, rows))].copy()
        encoder.append(part)
        part[...] = np.nan  # its memory may be used again
        start += len(part)
    encoder.finish()
    assert bytes(written) == expected


def test_rows_that_do_not_lie_in_order_of_memory() -> None:
    spec = spec_of("none", SLAB_BYTES // 64, 4)
    content = np.random.default_rng(0).normal(size=(2, 4, SLAB_BYTES // 64)).astype(np.float32)
    turned = content.transpose(1, 0, 2)
    assert bytes(encode_shard(spec, turned)) == bytes(encode_shard(spec, turned.copy()))
