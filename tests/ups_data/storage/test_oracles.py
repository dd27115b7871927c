"""Readers of other projects must read the same bits: zarr-python, zarrs and TensorStore."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr

from tests.ups_data.storage.cases import CODECS, GEOMETRIES, make_store
from ups_data.errors import CorruptionError
from ups_data.storage import ZarrStore
from ups_data.storage.shard import spec_from_metadata
from ups_data.storage.tables import TrajectoryTables

CASES = [("plane", codec) for codec in CODECS] + [("volume", "blosc-lz4"), ("ragged", "none"), ("scattered", "zstd")]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def store(request, tmp_path_factory) -> ZarrStore:
    name, codec = request.param
    return make_store(GEOMETRIES[name]("float32"), tmp_path_factory.mktemp("oracles") / name, codec=codec)


def expected_arrays(store: ZarrStore) -> dict[str, np.ndarray]:
    """Return every array of a store as our own reader has it."""
    arrays = {key: array.read_rows(np.arange(array.spec.num_rows)) for key, array in store.arrays.items()}
    arrays = {key: values.reshape(store.arrays[key].spec.shape) for key, values in arrays.items()}
    tables = {f"trajectories/{name}": getattr(store.tables, name) for name in TrajectoryTables.names()}
    return {**arrays, **tables}


def read_with_zarr(path: Path) -> np.ndarray:
    return zarr.open_array(path, mode="r")[...]


def read_with_zarrs(path: Path) -> np.ndarray:
    import zarrs  # noqa: F401  registers the codec pipeline that is named below

    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        array = zarr.open_array(path, mode="r")
        assert type(array.async_array.codec_pipeline).__name__ == "ZarrsCodecPipeline"
        return array[...]


def read_with_tensorstore(path: Path) -> np.ndarray:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}
    return tensorstore.open(spec, open=True, read=True).result().read().result()


@pytest.mark.parametrize("read", [read_with_zarr, read_with_zarrs, read_with_tensorstore])
def test_other_readers_read_the_same_bits(store, read):
    for key, values in expected_arrays(store).items():
        other = read(Path(store.location) / key)
        assert other.dtype == values.dtype, key
        assert other.shape == values.shape, key
        assert other.tobytes() == values.tobytes(), key


@pytest.mark.filterwarnings("ignore:Object at manifest.json")  # zarr tells of each file that is not its own
def test_the_store_is_one_zarr_hierarchy(store):
    group = zarr.open_group(store.location, mode="r")
    found = {array.path for _, array in group.members(max_depth=None) if isinstance(array, zarr.Array)}
    assert found == set(expected_arrays(store))


def test_fields_of_stock_zarr_equal_the_source(store):
    if store.manifest.layout.dense == "rebuilt":
        pytest.skip("dense frames are rebuilt from pages here")
    fields = zarr.open_array(Path(store.location) / "fields", mode="r")[...]
    start = 0
    for number in range(len(store)):
        frames = store.read_dense(number, range(store.num_frames(number)))
        part = fields[start : start + len(frames)]
        np.testing.assert_array_equal(part.reshape(frames.shape), frames)
        start += len(frames)


def test_shards_of_pages_equal_those_that_zarr_python_writes(store, tmp_path):
    for key in ("pages/values", "pages/index", "pages/importance"):
        ours = Path(store.location) / key
        theirs = tmp_path / key
        theirs.mkdir(parents=True)
        (theirs / "zarr.json").write_bytes((ours / "zarr.json").read_bytes())
        zarr.open_array(theirs, mode="r+")[...] = expected_arrays(store)[key]
        shards = sorted(path.relative_to(ours) for path in ours.rglob("*") if path.is_file() and "c" in path.parts)
        assert shards
        for shard in shards:
            assert (theirs / shard).read_bytes() == (ours / shard).read_bytes(), (key, shard)


def test_array_metadata_names_axes_and_fills_with_nan(store):
    values = zarr.open_array(Path(store.location) / "pages/values", mode="r")
    assert values.metadata.dimension_names == ("page", "channel", "entry")
    assert np.isnan(values.fill_value)
    index = zarr.open_array(Path(store.location) / "pages/index", mode="r")
    assert index.fill_value == -1


def test_stock_zarr_sees_flipped_payload_and_index_bits_too(store):
    for key in ("pages/values", "pages/index"):
        shard = Path(store.location) / store.arrays[key].spec.shard_key(0)
        content = shard.read_bytes()
        random = np.random.default_rng(3)
        try:
            for place in [*random.integers(0, len(content), size=4).tolist(), len(content) - 1]:
                flipped = bytearray(content)
                flipped[place] ^= 1 << int(random.integers(8))
                shard.write_bytes(flipped)
                with pytest.raises(Exception, match=r"(?i)checksum|crc|codec|corrupt|stored and computed"):
                    read_with_zarr(Path(store.location) / key)
        finally:
            shard.write_bytes(content)


def test_our_reader_refuses_what_it_did_not_write(store, tmp_path):
    """An array of stock zarr without inner checksums would be read without protection."""
    zarr.create_array(tmp_path / "plain", shape=(4, 3), chunks=(2, 3), dtype="float32")
    content = json.loads((tmp_path / "plain" / "zarr.json").read_text())
    with pytest.raises(CorruptionError, match=r"plain/zarr\.json does not describe an array of this format"):
        spec_from_metadata("plain", content)
