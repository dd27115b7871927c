"""Samples equal the source at the returned point ids, for every sampler, geometry and window."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch

import ups_data
from tests.memory_source import MemorySource, wave_frames
from ups_data.coordinates import grid_coordinates
from ups_data.errors import DatasetError, SchemaError

SAMPLERS = {
    "dense": ups_data.DenseSampler(),
    "uniform": ups_data.UniformSampler(ratio=0.2),
    "stratified": ups_data.StratifiedSampler(ratio=0.2),
    "fixed": ups_data.FixedSampler(num_queries=19),
    "balanced": ups_data.BalancedSampler(ratio=0.2),
    "importance": ups_data.ImportanceSampler(ratio=0.2),
    "scheduled": ups_data.ImportanceSampler(ratio=ups_data.Linear(start=1.0, end=0.2, steps=5)),
}
WINDOW = ups_data.Window(inputs=2, targets=2, stride=1, lead=1)


def make(store: ups_data.Store, **changes: object) -> ups_data.QueryDataset:
    arguments = {"sampler": SAMPLERS["importance"], "window": WINDOW, "normalize": False, **changes}
    return ups_data.QueryDataset(store, **arguments)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("geometry", ["grid", "cloud"])
def test_samples_equal_the_source(name: str, geometry: str, request: pytest.FixtureRequest) -> None:
    source: MemorySource = request.getfixturevalue(f"{geometry}_source")
    dataset = make(request.getfixturevalue(f"{geometry}_store"), sampler=SAMPLERS[name])
    for index in (0, len(dataset) // 2, len(dataset) - 1):
        sample = dataset.sample(index, epoch=3, step=2)
        frames = source.frames[sample.trajectory]
        flat = frames.reshape(*frames.shape[:2], -1)
        ids = sample.query_index.numpy()
        expected = flat[list(sample.target_frames)][:, :, ids].transpose(0, 2, 1)
        assert np.array_equal(sample.query_targets.numpy(), expected)
        assert np.array_equal(sample.inputs.numpy(), frames[list(sample.input_frames)])
        coordinates = source.coordinates[sample.trajectory]
        everywhere = coordinates[0] if geometry == "cloud" else grid_coordinates(coordinates)
        assert np.array_equal(sample.query_coords.numpy(), everywhere[ids].astype("float32"))
        assert len(np.unique(ids)) == len(ids)
        times = source.trajectories[sample.trajectory].times
        assert np.allclose(sample.target_times.numpy(), times[list(sample.target_frames)])


def test_every_window_of_the_split_is_one_sample(grid_store: ups_data.Store) -> None:
    dataset = make(grid_store)
    windows = [(s.trajectory, s.input_frames, s.target_frames) for s in (dataset[i] for i in range(len(dataset)))]
    expected = [
        (trajectory, (first, first + 1), (first + 2, first + 3))
        for trajectory, frames in ((0, 6), (1, 8), (2, 5))
        for first in range(frames - 3)
    ]
    assert windows == expected


@pytest.mark.parametrize(
    ("window", "inputs", "targets"),
    [
        (ups_data.Window(inputs=2, targets=3, stride=2, lead=1), (5, 7), (9, 11, 13)),
        (ups_data.Window(inputs=1, targets=1, lead=0), (5,), (5,)),
        (ups_data.Window(inputs=1, targets=2, stride=3, lead=2), (5,), (11, 14)),
    ],
)
def test_windows(window: ups_data.Window, inputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    assert window.input_frames(5) == inputs
    assert window.target_frames(5) == targets
    assert window.span == max(*inputs, *targets) - 5 + 1


def test_a_sample_is_a_function_of_seed_epoch_and_number(grid_store: ups_data.Store) -> None:
    one, two = make(grid_store, seed=4), make(grid_store, seed=4)
    assert torch.equal(one.sample(3, epoch=2).query_index, two.sample(3, epoch=2).query_index)
    assert torch.equal(one[3].query_index, one.sample(3, epoch=0).query_index)
    others = [one.sample(3, epoch=1), one.sample(4, epoch=2), make(grid_store, seed=5).sample(3, epoch=2)]
    for other in others:
        assert not torch.equal(one.sample(3, epoch=2).query_index, other.query_index)


def test_schedule_follows_the_step(grid_store: ups_data.Store) -> None:
    dataset = make(grid_store, sampler=SAMPLERS["scheduled"])
    assert len(dataset.sample(0, step=0).query_index) == 480
    assert len(dataset.sample(0, step=5).query_index) == 96


def test_values_are_normalised_by_the_train_split(grid_store: ups_data.Store, grid_source: MemorySource) -> None:
    dataset = make(grid_store, normalize=True, sampler=SAMPLERS["dense"], split="test")
    train = np.concatenate([f.reshape(*f.shape[:2], -1) for f in grid_source.frames[:3]]).astype("float64")
    mean, std = train.mean(axis=(0, 2)), train.std(axis=(0, 2))
    sample = dataset[1]
    raw = make(grid_store, sampler=SAMPLERS["dense"], split="test")[1]
    np.testing.assert_allclose(sample.query_targets, (raw.query_targets.numpy() - mean) / std, atol=1e-5)
    np.testing.assert_allclose(
        sample.inputs, (raw.inputs.numpy() - mean[:, None, None]) / std[:, None, None], atol=1e-5
    )


def test_fields_are_chosen_by_name_and_order(grid_store: ups_data.Store) -> None:
    dataset = make(grid_store, input_fields=["pressure"], target_fields=["pressure", "velocity"])
    whole = make(grid_store)[2]
    sample = dataset[2]
    assert sample.inputs.shape[1] == 1
    assert torch.equal(sample.inputs[:, 0], whole.inputs[:, 2])
    assert torch.equal(sample.query_targets, whole.query_targets[..., [2, 0, 1]])
    assert [field.name for field in dataset.target_fields] == ["pressure", "velocity"]


def test_statistics_of_another_store_can_be_used(
    grid_source: MemorySource, grid_store: ups_data.Store, convert_source: Callable[..., ups_data.Store]
) -> None:
    frames = [wave_frames((24, 20), num_frames=5, num_channels=3, seed=9)]
    alone = convert_source(MemorySource.grid(frames, fields=grid_source.fields, splits=["test"]), page_points=8)
    assert alone.manifest.statistics_split is None
    with pytest.raises(DatasetError, match=r"no train split.*pass statistics="):
        make(alone, split="test", normalize=True)
    dataset = make(alone, split="test", normalize=True, statistics=grid_store.manifest.statistics)
    assert dataset.normalisers.target.mean.tolist() == [r.mean for r in grid_store.manifest.statistics]


def test_float64_sources_can_be_had_exactly(convert_source: Callable[..., ups_data.Store]) -> None:
    frames = [wave_frames((40,), num_frames=3, dtype="float64", seed=s) for s in range(3)]
    store = convert_source(MemorySource.grid(frames), page_points=4, splits={"train": 1.0})
    sample = make(store, window=ups_data.Window(), dtype="float64")[0]
    expected = frames[sample.trajectory][1, 0, sample.query_index.numpy()]
    assert np.array_equal(sample.query_targets[0, :, 0].numpy(), expected)
    assert make(store, window=ups_data.Window())[0].inputs.dtype == torch.float32


def test_datasets_pickle_and_read_the_same(grid_store: ups_data.Store) -> None:
    dataset = make(grid_store)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[5].query_targets, dataset[5].query_targets)
    assert copy.fingerprint == dataset.fingerprint


@pytest.mark.parametrize("index", [-1, 10])
def test_samples_outside_are_refused(index: int, grid_store: ups_data.Store) -> None:
    with pytest.raises(IndexError, match=rf"sample {index} outside of \[0, 10\)"):
        make(grid_store)[index]


def test_what_cannot_be_served_is_refused(grid_store: ups_data.Store) -> None:
    with pytest.raises(DatasetError, match=r"no split 'tets'. Did you mean 'test'"):
        make(grid_store, split="tets")
    with pytest.raises(SchemaError, match=r"no field 'presure'. Did you mean 'pressure'"):
        make(grid_store, fields=["presure"])
    with pytest.raises(SchemaError, match="named once each"):
        make(grid_store, fields=["pressure", "pressure"])
    with pytest.raises(DatasetError, match="spans 6 frames, but trajectory 2 has 5; use fewer"):
        make(grid_store, window=ups_data.Window(inputs=2, targets=4))
    with pytest.raises(DatasetError, match="stride of at least 1 and lead of at least 0"):
        ups_data.Window(stride=0)
    with pytest.raises(DatasetError, match="dtype must be one of"):
        make(grid_store, dtype="float16")
    with pytest.raises(DatasetError, match="statistics are of channels"):
        make(grid_store, normalize=True, statistics=grid_store.manifest.statistics[:1])
