"""The codecs of inner chunks: the same values are the same bytes, however many threads there are."""

from __future__ import annotations

import numcodecs.blosc
import numpy as np
import pytest

from tests.ups_data.storage.cases import CODECS
from ups_data.storage.codec import ChunkCodec


@pytest.fixture
def many_threads(monkeypatch):
    """Blosc with eight threads, as on a machine with as many cores; zarr-python forbids threads once it is imported."""
    monkeypatch.setattr(numcodecs.blosc, "use_threads", None)
    previous = numcodecs.blosc.set_nthreads(8)
    yield
    numcodecs.blosc.set_nthreads(previous)


@pytest.mark.parametrize("name", CODECS)
def test_a_large_chunk_is_encoded_to_the_same_bytes_every_time(name, many_threads):
    """A chunk of many blocks, which threads of Blosc would order by which of them was done first."""
    values = np.random.default_rng(0).standard_normal(2**20, dtype="float32").cumsum(dtype="float32")
    codec = ChunkCodec(name=name, item_bytes=4, chunk_bytes=values.nbytes)
    assert len({codec.encode(values) for _ in range(12)}) == 1
    assert numcodecs.blosc.use_threads is None


@pytest.mark.parametrize("name", ["none", "zstd", "blosc-lz4", "blosc-zstd"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_a_run_of_chunks_is_encoded_as_one_after_another(name, dtype):
    rows = np.random.default_rng(3).integers(-9, 9, size=(17, 3, 8)).astype(dtype)
    codec = ChunkCodec(name=name, item_bytes=rows.itemsize, chunk_bytes=rows[0].nbytes)
    chunks = [codec.encode(row) for row in rows]
    with pytest.raises(ValueError, match="to a codec for"):
        codec.encode(rows[0, :2])
    if codec.encoded_bytes is not None:
        sealed = np.zeros((len(rows), codec.encoded_bytes), dtype=np.uint8)
        sealed[:, : codec.chunk_bytes] = rows.reshape(len(rows), -1).view(np.uint8)
        codec.seal(sealed)
        assert sealed.tobytes() == b"".join(chunks)
