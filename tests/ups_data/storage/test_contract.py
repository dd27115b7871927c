"""The Zarr store under the contract of all stores, over geometries, codecs, dense layouts and dtypes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.ups_data.storage.cases import CODECS, GEOMETRIES, make_store, plane, truth_of
from ups_data.storage import ZarrStore
from ups_data.testing.store_contract import StoreContract, StoreTruth, check_processes


def _combinations() -> list[tuple[str, str, str, str]]:
    """All codecs on one grid, dense frames stored and rebuilt, in both dtypes; on the others two of them in turn."""
    full = [("plane", codec, *rest) for codec, rest in itertools.product(CODECS, _PAIRS)]
    full += [("plane", "none", "stored", "float64"), ("plane", "blosc-zstd", "rebuilt", "float32")]
    turns = itertools.cycle(CODECS)
    others = [name for name in GEOMETRIES if name != "plane"]
    return full + [(name, next(turns), dense, dtype) for name in others for dense, dtype in _PAIRS]


_PAIRS = (("auto", "float32"), ("rebuilt", "float64"))


@pytest.fixture(scope="module", params=_combinations(), ids="-".join)
def pair(request, tmp_path_factory) -> tuple[ZarrStore, StoreTruth]:
    name, codec, dense, dtype = request.param
    source = GEOMETRIES[name](dtype)
    store = make_store(source, tmp_path_factory.mktemp("stores") / name, codec=codec, dense=dense)
    assert store.manifest.codec == codec
    assert store.manifest.dtype == dtype
    return store, truth_of(source, store)


class TestZarrStore(StoreContract):
    @pytest.fixture
    def store(self, pair):
        return pair[0]

    @pytest.fixture
    def truth(self, pair):
        return pair[1]


@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
def test_forked_and_spawned_processes_read_the_same(tmp_path, codec):
    check_processes(make_store(plane(), tmp_path / "store", codec=codec))


@pytest.fixture(
    scope="module",
    params=[
        {"page_points": 1, "num_strata": 64},
        {"page_points": 7, "num_strata": 5, "block_points": 3},
        {"page_points": 512, "num_strata": 8},
        {"page_points": 408, "num_strata": 2},
        {"page_points": 4096, "num_strata": 64, "block_points": 2**20},
    ],
    ids=lambda layout: "-".join(map(str, layout.values())),
)
def layout_and_store(request, tmp_path_factory):
    source = GEOMETRIES["steady" if request.param["page_points"] == 1 else "plane"]("float32")
    return request.param, make_store(source, tmp_path_factory.mktemp("layouts") / "s", **request.param)


class TestUnusualLayouts(StoreContract):
    @pytest.fixture
    def store(self, layout_and_store):
        return layout_and_store[1]

    @pytest.fixture
    def truth(self):
        return None

    def test_the_layout_is_the_one_asked_for(self, layout_and_store):
        layout, store = layout_and_store
        assert {key: getattr(store.manifest.layout, key) for key in layout} == layout
        assert store.layout(0).stratum_pages.shape == (layout["num_strata"],)


def test_small_shards_split_every_array(tmp_path):
    source = GEOMETRIES["plane"]("float32")
    source.frames = [np.tile(array, (100, 1, 1, 1)) for array in source.frames]
    many = type(source).grid(source.frames, fields=source.fields, periodic=(True, False))
    store = make_store(many, tmp_path / "s", shard_mib=1, page_points=64)
    assert store.arrays["pages/values"].spec.num_shards > 2
    assert store.arrays["fields"].spec.num_shards > 2
    for number, array in enumerate(many.frames):
        np.testing.assert_array_equal(store.read_dense(number, range(300)), array.reshape(300, 3, -1))
        layout = store.layout(number)
        pages = np.arange(layout.num_pages)
        index = store.read_page_points(number, pages).index
        values = store.read_page_values(number, range(300), pages, (0, 1, 2))[:, index >= 0]
        np.testing.assert_array_equal(values, array.reshape(300, 3, -1).transpose(0, 2, 1)[:, index[index >= 0]])
