"""A batch is one buffer whose size is a formula; padding weighs nothing; denormalising inverts."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch

import ups_data
from tests.memory_source import MemorySource, wave_frames
from ups_data.collate import batch_bytes
from ups_data.errors import DatasetError

WINDOW = ups_data.Window(inputs=2, targets=3)


def make(store: ups_data.Store, **changes: object) -> ups_data.QueryDataset:
    arguments = {"sampler": ups_data.ImportanceSampler(num_queries=40), "window": WINDOW, **changes}
    return ups_data.QueryDataset(store, **arguments)


def test_shapes_and_bytes_of_a_grid_batch(grid_store: ups_data.Store) -> None:
    dataset = make(grid_store)
    batch = ups_data.collate_samples([dataset[0], dataset[3]])
    size, times_in, times_out, channels, queries, dims, parameters = 2, 2, 3, 3, 40, 2, 1
    assert batch.inputs.shape == (size, times_in, channels, 24, 20)
    assert batch.input_axes is not None
    assert [axis.shape for axis in batch.input_axes] == [(size, 24), (size, 20)]
    assert batch.input_coords is None
    assert batch.input_mask is None
    assert batch.query_coords.shape == (size, queries, dims)
    assert batch.query_targets.shape == (size, times_out, queries, channels)
    assert batch.query_weights.shape == batch.query_mask.shape == batch.query_index.shape == (size, queries)
    assert batch.target_valid is None
    floats = [
        times_in * channels * 24 * 20,
        24,
        20,
        queries * dims,
        times_out * queries * channels,
        queries,
        queries,  # the index, int32
        parameters,
        times_in,
        times_out,
    ]
    # 4 bytes a number and 8 a sample id, each section rounded up to 8 bytes.
    expected = sum(-(-size * 4 * count // 8) * 8 for count in floats) + 8 * size
    assert batch.num_bytes == batch.buffer.numel() == expected
    assert batch.num_bytes == batch_bytes([(s.shape, s.dtype.itemsize) for s in batch.sections])


def test_bytes_of_a_batch_grow_with_the_queries_only(grid_store: ups_data.Store) -> None:
    sizes = {}
    for queries in (40, 80):
        dataset = make(grid_store, sampler=ups_data.BalancedSampler(num_queries=queries))
        sizes[queries] = ups_data.collate_samples([dataset[0]]).num_bytes
    assert sizes[80] - sizes[40] == 40 * (4 * 2 + 4 * 3 * 3 + 4 + 4)


def test_every_tensor_is_a_view_of_the_buffer(grid_store: ups_data.Store) -> None:
    batch = ups_data.collate_samples([make(grid_store)[0]])
    start, stop = batch.buffer.data_ptr(), batch.buffer.data_ptr() + batch.num_bytes
    for section in batch.sections:
        assert start <= getattr(batch, section.name).data_ptr() < stop


def test_clouds_of_different_sizes_are_padded_and_masked(cloud_store: ups_data.Store) -> None:
    dataset = make(cloud_store, sampler=ups_data.BalancedSampler(ratio=0.3), window=ups_data.Window(targets=2))
    samples = [dataset[0], dataset[2]]
    batch = ups_data.collate_samples(samples)
    assert batch.inputs.shape == (2, 1, 2, 203)
    assert batch.input_coords is not None
    assert batch.input_mask is not None
    assert batch.input_mask.sum(dim=1).tolist() == [150, 203]
    for row, sample in enumerate(samples):
        queries, points = len(sample.query_index), sample.inputs.shape[-1]
        assert torch.equal(batch.inputs[row, ..., :points], sample.inputs)
        assert torch.equal(batch.input_coords[row, :points], sample.input_coords)
        assert batch.query_mask[row].sum() == queries
        assert torch.equal(batch.query_targets[row, :, :queries], sample.query_targets)
        assert not batch.query_weights[row, queries:].any()
        assert (batch.query_index[row, queries:] == -1).all()
    assert torch.isfinite(batch.query_targets).all()


def test_padding_samples_weigh_nothing(grid_store: ups_data.Store) -> None:
    dataset = make(grid_store)
    batch = ups_data.collate_samples([dataset[0]], num_padding=2)
    assert batch.sample_ids.tolist() == [0, -1, -1]
    assert not batch.query_weights[1:].any()
    assert not batch.query_mask[1:].any()
    assert batch.input_axes is not None
    assert all(torch.equal(axis[2], axis[0]) for axis in batch.input_axes)
    empty = ups_data.collate_samples([], num_padding=2, like=dataset[0])
    assert empty.sample_ids.tolist() == [-1, -1]
    assert empty.inputs.shape == (2, *dataset[0].inputs.shape)


def test_denormalize_undoes_the_normalisation(grid_store: ups_data.Store) -> None:
    batch = ups_data.collate_samples([make(grid_store)[4]])
    raw = ups_data.collate_samples([make(grid_store, normalize=False)[4]])
    torch.testing.assert_close(batch.denormalize(batch.query_targets), raw.query_targets)
    torch.testing.assert_close(batch.denormalize(batch.inputs, kind="input", channel_dim=2), raw.inputs)
    assert torch.equal(raw.denormalize(raw.query_targets), raw.query_targets)
    with pytest.raises(DatasetError, match=r"dimension 2 of values.* has 40 entries, the batch has 3 target channels"):
        batch.denormalize(batch.query_targets, channel_dim=2)


def test_batches_move_and_pickle_whole(grid_store: ups_data.Store) -> None:
    batch = ups_data.collate_samples([make(grid_store)[0]])
    for copy in (batch.to("cpu"), pickle.loads(pickle.dumps(batch)), batch.to("meta").to("meta")):
        assert [s.name for s in copy.sections] == [s.name for s in batch.sections]
    assert torch.equal(pickle.loads(pickle.dumps(batch)).buffer, batch.buffer)
    assert batch.to("meta").query_coords.device.type == "meta"
    assert "query_coords=(1, 40, 2)" in repr(batch)
    assert len(batch) == 1


def test_samples_that_do_not_fit_are_refused(
    grid_store: ups_data.Store, convert_source: Callable[..., ups_data.Store]
) -> None:
    source = MemorySource.grid([wave_frames((12, 10)), wave_frames((10, 12))])
    store = convert_source(source, page_points=4, splits={"train": 1.0})
    dataset = make(store, window=ups_data.Window())
    with pytest.raises(DatasetError, match=r"samples 0 and 2 have inputs of shapes \(1, 1, 12, 10\) and"):
        ups_data.collate_samples([dataset[0], dataset[2]])
    with pytest.raises(DatasetError, match="at least one sample"):
        ups_data.collate_samples([])
    long, short = make(grid_store), make(grid_store, window=ups_data.Window(inputs=2, targets=1))
    with pytest.raises(DatasetError, match="differ in target frames"):
        ups_data.collate_samples([long[0], short[0]])


def test_weights_make_the_loss_unbiased(grid_store: ups_data.Store) -> None:
    dense = ups_data.collate_samples([make(grid_store, sampler=ups_data.DenseSampler())[0]])
    truth = float((dense.query_weights[:, None, :, None] * dense.query_targets.square()).sum(dim=2).mean())
    losses = []
    for epoch in range(400):
        dataset = make(grid_store, sampler=ups_data.ImportanceSampler(num_queries=40, walk=False))
        batch = ups_data.collate_samples([dataset.sample(0, epoch=epoch)])
        losses.append(float((batch.query_weights[:, None, :, None] * batch.query_targets.square()).sum(dim=2).mean()))
    assert abs(np.mean(losses) - truth) < 4 * np.std(losses) / len(losses) ** 0.5
