"""Samples that are decoded from tar shards as they go by are those of the dataset; what does not belong is refused."""

import dataclasses
import gc
import json
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import torch
import webdataset as wds

import ups_data
from preprocess.pack import pack
from tests.memory_source import MemorySource, wave_frames
from tests.ups_data.storage.cases import GEOMETRIES, make_store
from ups_data.errors import CorruptionError, DatasetError
from ups_data.sample import SparseSample
from ups_data.storage.tar_writer import write_tar_store
from ups_data.streaming import SampleStream

# webdataset leaves it to the collector to close the tar files that it reads.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
Raw = dict[str, Any]
WINDOW = ups_data.Window(inputs=2, targets=2)


def tars(root: Path) -> list[str]:
    return [str(path) for path in sorted((root / "shards").glob("*.tar"))]


def raw_groups(root: Path) -> list[Raw]:
    """Return what a plain pipeline of somebody else gets from our shards, undecoded."""
    return [dict(group) for group in wds.WebDataset(tars(root), shardshuffle=False, empty_check=False)]


def content(sample: SparseSample) -> list[tuple[str, object]]:
    found = []
    for field in dataclasses.fields(sample):
        value = getattr(sample, field.name)
        if isinstance(value, torch.Tensor):
            value = (value.dtype, tuple(value.shape), value.numpy().tobytes())
        if field.name not in {"normalisers", "input_axes"}:
            found.append((field.name, value))
    return found


@pytest.fixture(autouse=True)
def files_closed() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five trajectories of 5 to 8 frames in three tar files, the last one of another split."""
    frames = [wave_frames((16, 12), num_frames=5 + seed % 4, num_channels=2, seed=seed) for seed in range(5)]
    source = MemorySource.grid(frames, splits=["train", "test", "train", "train", "test"])
    folder = tmp_path_factory.mktemp("streaming")
    store = make_store(source, folder / "zarr", page_points=8)
    write_tar_store(
        store, folder / "tar", writer="tests", shard_bytes=30_000, overwrite=False, progress=lambda *_: None
    )
    assert len(tars(folder / "tar")) == 3
    return folder


@pytest.fixture(scope="module")
def dataset(root: Path) -> ups_data.QueryDataset:
    return ups_data.QueryDataset(
        ups_data.open_store(root / "tar"), sampler=ups_data.ImportanceSampler(0.3), window=WINDOW, seed=7
    )


@pytest.fixture(scope="module")
def groups(root: Path) -> list[Raw]:
    return raw_groups(root / "tar")


def test_a_pipeline_of_somebody_else_gives_the_samples_of_the_dataset(
    root: Path, dataset: ups_data.QueryDataset
) -> None:
    for epoch in (0, 3):
        pipeline = wds.WebDataset(tars(root / "tar"), shardshuffle=False).compose(
            ups_data.decode_queries(dataset, epoch=epoch)
        )
        found = list(pipeline)
        assert [sample.sample_id for sample in found] == list(range(len(dataset)))
        for sample in found:
            assert content(sample) == content(dataset.sample(sample.sample_id, epoch=epoch))


def test_fresh_points_stream_too(root: Path, groups: list[Raw]) -> None:
    dataset = ups_data.QueryDataset(
        ups_data.open_store(root / "tar"),
        sampler=ups_data.ImportanceSampler(0.3),
        window=ups_data.Window(inputs=2, targets=2, points="fresh"),
    )
    found = list(ups_data.decode_queries(dataset, epoch=3)(groups))
    assert found[0].has_fresh_points
    assert [content(sample) for sample in found] == [content(dataset.sample(i, epoch=3)) for i in range(len(dataset))]


def test_it_works_on_the_dataset_of_the_zarr_store_too(root: Path, groups: list[Raw]) -> None:
    dataset = ups_data.QueryDataset(
        ups_data.open_store(root / "zarr"), sampler=ups_data.UniformSampler(0.3), window=WINDOW, split="test"
    )
    found = list(ups_data.decode_queries(dataset)(groups))
    assert [content(sample) for sample in found] == [content(dataset.sample(i)) for i in range(len(dataset))]


@pytest.mark.parametrize("name", ["long", "ocean", "scattered_ragged"])
@pytest.mark.parametrize("sampler", [ups_data.ImportanceSampler(0.5), ups_data.DenseSampler()])
def test_every_kind_of_store_streams(name: str, sampler: Any, tmp_path: Path) -> None:
    store = make_store(GEOMETRIES[name]("float32"), tmp_path / "zarr", page_points=8)
    pack(str(tmp_path / "zarr"), tmp_path / "tar", to="webdataset")
    window = ups_data.Window(lead=0)
    found = raw_groups(tmp_path / "tar")
    for split in store.splits:
        if not len(store.splits[split]):
            continue
        normal = split == "train" or store.manifest.statistics_split is not None
        dataset = ups_data.QueryDataset(store, sampler=sampler, window=window, split=split, normalize=normal)
        samples = list(ups_data.decode_queries(dataset)(found))
        assert [content(sample) for sample in samples] == [content(dataset.sample(i)) for i in range(len(dataset))]


def test_shards_may_be_shuffled_and_samples_shuffled_after_it(root: Path, dataset: ups_data.QueryDataset) -> None:
    pipeline = (
        wds.WebDataset(tars(root / "tar"), shardshuffle=3, seed=1).compose(ups_data.decode_queries(dataset)).shuffle(5)
    )
    found = [sample.sample_id for sample in pipeline]
    assert sorted(found) == list(range(len(dataset)))
    assert found != sorted(found)


def test_samples_make_batches(root: Path, dataset: ups_data.QueryDataset) -> None:
    pipeline = wds.WebDataset(tars(root / "tar"), shardshuffle=False).compose(ups_data.decode_queries(dataset))
    batches = list(pipeline.batched(3, collation_fn=ups_data.collate_samples))
    assert sum(len(batch.sample_ids) for batch in batches) == len(dataset)


def test_only_the_frames_of_a_window_are_held(dataset: ups_data.QueryDataset, groups: list[Raw]) -> None:
    stream, held = SampleStream(dataset, epoch=0, step=0), []
    for group in groups:
        list(stream.take(group))
        held.append(len(stream._held))
    assert max(held) == WINDOW.span  # what the frames share, and all but the first of a window
    assert held[-1] == 0


def test_users_who_decode_themselves_get_plain_arrays(root: Path, dataset: ups_data.QueryDataset) -> None:
    decoded = list(wds.WebDataset(tars(root / "tar"), shardshuffle=False).decode())
    first = next(group for group in decoded if group["json"]["frame"] == 0)
    store = dataset.store
    pages = np.arange(store.layout(0).num_pages)
    expected = store.read_page_values(0, [0], pages, (0, 1))[0]
    found = first["pages_values.npy"]["values"].transpose(0, 2, 1).reshape(-1, 2)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(DatasetError, match=r"was decoded before it came here: put decode_queries before \.decode\(\)"):
        list(ups_data.decode_queries(dataset)(decoded))


# -- what does not belong ------------------------------------------------------------------------------------------


def without(position: int) -> Callable[[list[Raw]], list[Raw]]:
    return lambda groups: groups[:position] + groups[position + 1 :]


def changed(position: int, **members: object) -> Callable[[list[Raw]], list[Raw]]:
    return lambda groups: [{**group, **(members if number == position else {})} for number, group in enumerate(groups)]


def described(group: Raw, **entries: object) -> bytes:
    """Return the description of a group with other entries, and its own checksum made anew."""
    told = json.loads(group["json"])
    told.pop("own_crc32c")
    told.update(entries)
    own = google_crc32c.value(json.dumps(told, separators=(",", ":")).encode())
    return json.dumps({**told, "own_crc32c": own}).encode()


def flipped(groups: list[Raw]) -> list[Raw]:
    spoiled = bytearray(groups[1]["pages_values.npy"])
    spoiled[-20] ^= 1  # a value; the last four bytes are a row's own checksum
    return changed(1, **{"pages_values.npy": bytes(spoiled)})(groups)


def swapped(groups: list[Raw]) -> list[Raw]:
    """Members of one frame under the name of another: every row's own checksum holds."""
    return changed(1, **{"pages_values.npy": groups[2]["pages_values.npy"]})(groups)


def pickled(groups: list[Raw]) -> list[Raw]:
    return changed(1, **{"pages_values.npy": pickle.dumps(print)})(groups)


WRONG: dict[str, tuple[Callable[[list[Raw]], list[Raw]], str]] = {
    "first group lost": (
        without(0),
        "came where a trajectory from its beginning must come|came where t000000000-b000000 ",
    ),
    "frame lost": (without(2), "came where t000000000-b000000-f000000001 must come"),
    "last frame lost": (lambda groups: groups[:-1], "the stream ends where group t000000004-b000000-f.* must come"),
    "frame twice": (lambda groups: [*groups[:2], groups[1], *groups[2:]], "came where .*f000000001 must come"),
    "another name": (changed(0, __key__="sample-000"), "group 'sample-000' is none of"),
    "a trajectory too many": (changed(0, __key__="t999999999-b000000"), "is none of"),
    "extra member": (changed(1, **{"model.pth": b"x"}), r"has members .*model\.pth.* where .* belong"),
    "pickle": (changed(1, **{"cls.pyd": pickle.dumps(print)}), r"has members .*cls\.pyd.* where .* belong"),
    "pickle for an array": (pickled, "is no array of"),
    "member lost": (lambda g: [{k: v for k, v in x.items() if k != "fields.npy"} for x in g], "has members"),
    "bit flipped": (flipped, r"pages_values\.npy: checksum mismatch"),
    "members swapped": (swapped, r"pages_values\.npy: checksum mismatch"),
    "no description": (changed(1, json=b"{}"), "has no description"),
    "description of nothing": (changed(1, json=b"[" * 10**6), "has no description"),
    "description changed": (lambda g: changed(1, json=g[1]["json"].replace(b'"block": 0', b'"block": 1'))(g), "has no"),
    "of another store": (lambda g: changed(1, json=described(g[1], store="0" * 64))(g), "has no description"),
    "of another frame": (lambda g: changed(1, json=described(g[1], frame=3))(g), "has no description"),
    "without checksums": (lambda g: changed(1, json=described(g[1], crc32c=[]))(g), "checksum mismatch"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_belong_is_refused(name: str, dataset: ups_data.QueryDataset, groups: list[Raw]) -> None:
    change, message = WRONG[name]
    with pytest.raises(CorruptionError, match=message):
        list(ups_data.decode_queries(dataset)(change(groups)))


def test_lost_groups_of_other_splits_are_found_too(dataset: ups_data.QueryDataset, groups: list[Raw]) -> None:
    place = next(number for number, group in enumerate(groups) if group["__key__"] == "t000000001-b000000-f000000002")
    with pytest.raises(CorruptionError, match="came where t000000001-b000000-f000000002 must come"):
        list(ups_data.decode_queries(dataset)(without(place)(groups)))


def test_a_store_without_rows_is_refused(dataset: ups_data.QueryDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "store", object())
    with pytest.raises(DatasetError, match="object has no rows that could come by"):
        ups_data.decode_queries(dataset)


def test_a_torn_tar_gives_an_error_and_no_wrong_sample(
    root: Path, dataset: ups_data.QueryDataset, tmp_path: Path
) -> None:
    """Flips anywhere in a tar, headers included, which a plain pipeline passes over or loses samples by."""
    expected = [content(dataset.sample(i)) for i in range(len(dataset))]
    draw, refused = np.random.default_rng(3), 0
    whole = Path(tars(root / "tar")[0]).read_bytes()
    rest = tars(root / "tar")[1:]
    for _ in range(30):
        place = int(draw.integers(len(whole)))
        spoiled = whole[:place] + bytes([whole[place] ^ (1 << int(draw.integers(8)))]) + whole[place + 1 :]
        (tmp_path / "000000.tar").write_bytes(spoiled)
        pipeline = wds.WebDataset([str(tmp_path / "000000.tar"), *rest], shardshuffle=False)
        try:
            assert [content(sample) for sample in pipeline.compose(ups_data.decode_queries(dataset))] == expected
        except (CorruptionError, ValueError, tarfile.TarError):
            refused += 1
    assert refused > 10
