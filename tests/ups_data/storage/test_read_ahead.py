"""What several samples need is read at once where round trips take the time, and the samples are the same."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import ups_data
from preprocess.pack import pack
from tests.memory_source import MemorySource, wave_frames
from tests.ups_data.storage.cases import GEOMETRIES, make_store
from ups_data.sample import SparseSample
from ups_data.storage import TarStore, ZarrStore
from ups_data.storage.byte_store import CheckedRange, LocalByteStore


class FarByteStore(LocalByteStore):
    """Files that count as far away; notes how many ranges are asked for at a time."""

    is_remote = True

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[int] = []

    def read_checked(self, ranges: Sequence[CheckedRange]) -> None:
        if ranges:
            self.asked.append(len(ranges))
        super().read_checked(ranges)


def content(sample: SparseSample) -> str:
    values = [getattr(sample, field.name) for field in dataclasses.fields(sample) if field.name != "normalisers"]
    return repr([value.tolist() if isinstance(value, torch.Tensor) else value for value in values])


@pytest.mark.parametrize("kind", ["zarr", "tar"])
@pytest.mark.parametrize("name", ["plane", "long", "ocean", "scattered_ragged"])
@pytest.mark.parametrize("sampler", [ups_data.ImportanceSampler(0.5), ups_data.DenseSampler()])
def test_a_batch_waits_twice_whatever_it_holds(
    kind: str, name: str, sampler: ups_data.ImportanceSampler, tmp_path: Path
) -> None:
    local = make_store(GEOMETRIES[name]("float32"), tmp_path / "zarr", codec="zstd", page_points=8)
    pack(str(tmp_path / "zarr"), tmp_path / "tar", to="webdataset")
    source = FarByteStore(tmp_path / kind)
    store = ZarrStore(source) if kind == "zarr" else TarStore(source)

    def dataset_on(store: ups_data.Store) -> ups_data.QueryDataset:
        return ups_data.QueryDataset(store, sampler=sampler, window=ups_data.Window(lead=0), seed=3)

    far, near = dataset_on(store), dataset_on(local)
    indices = list(range(len(near)))[::-1]
    source.asked.clear()
    found = far.samples(indices, epoch=2)
    # Once for the indices of shards, which are kept, and once for all rows of all arrays.
    assert len(source.asked) <= 2
    expected = [near.sample(index, epoch=2) for index in indices]
    assert [content(sample) for sample in found] == [content(sample) for sample in expected]
    source.asked.clear()
    far.samples(indices[:1], epoch=3)
    assert len(source.asked) == 1


def test_what_is_held_at_a_time_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = MemorySource.grid([wave_frames((32, 32), num_frames=9)])
    local = make_store(source, tmp_path / "s", splits={"train": 1.0})
    far = FarByteStore(tmp_path / "s")
    dataset = ups_data.QueryDataset(ZarrStore(far), sampler=ups_data.BalancedSampler(0.5))
    frame = 4 * 32 * 32
    monkeypatch.setattr("ups_data.dataset._AHEAD_BYTES", 4 * frame)
    far.asked.clear()
    found = dataset.samples(range(8))
    # A frame, and half of another with the ids of its points: two frames a sample, so two samples at a time.
    assert len(far.asked) == 4
    near = ups_data.QueryDataset(local, sampler=ups_data.BalancedSampler(0.5))
    assert [content(sample) for sample in found] == [content(near.sample(index)) for index in range(8)]


def test_a_stream_reads_each_row_once_in_long_stretches(tmp_path: Path) -> None:
    """What a buffer of a stream needs comes at once, shared frames once; batch by batch they come again and again."""
    source = MemorySource.grid([wave_frames((16, 16), num_frames=13, seed=seed) for seed in range(4)])
    make_store(source, tmp_path / "zarr", splits={"train": 1.0})
    pack(str(tmp_path / "zarr"), tmp_path / "tar", to="webdataset")
    shuffle = ups_data.StreamShuffle(block=10, lanes=4, run=10)
    found = {}
    for read_together in (1, None):
        far = FarByteStore(tmp_path / "tar")
        dataset = ups_data.QueryDataset(
            TarStore(far), sampler=ups_data.DenseSampler(), window=ups_data.Window(inputs=2, targets=2), seed=3
        )
        loader = ups_data.build_loader(dataset, batch_size=4, shuffle=shuffle, read_together=read_together)
        assert len(dataset) == 40
        far.asked.clear()
        batches = [batch.buffer.numpy().tobytes() for batch in loader]
        found[read_together] = (batches, far.asked, loader.stats().read_bytes)
    (single, asked, single_bytes), (together, asked_together, together_bytes) = found[1], found[None]
    assert single == together
    assert len(asked_together) < len(asked) / 4
    # 13 frames of a trajectory serve 10 samples of 4 frames each.
    assert together_bytes < single_bytes / 2.5
