"""Batches are the same bytes for any number of workers and start method, and after a resume from every position."""

import dataclasses
import gc
import multiprocessing
import pickle
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

import ups_data
from ups_data.errors import CorruptionError, DatasetError, StateError
from ups_data.loader_stats import LoaderStats

WINDOW = ups_data.Window(inputs=1, targets=1)


def make_dataset(store: ups_data.Store, **changes: object) -> ups_data.QueryDataset:
    sampler = ups_data.ImportanceSampler(ratio=ups_data.Linear(start=0.5, end=0.1, steps=12))
    return ups_data.QueryDataset(store, **{"sampler": sampler, "window": WINDOW, "seed": 3, **changes})


def content(batches: Iterable[ups_data.SparseBatch]) -> list[bytes]:
    return [batch.buffer.numpy().tobytes() for batch in batches]


@pytest.fixture(scope="module")
def expected(grid_store: ups_data.Store) -> list[list[bytes]]:
    loader = ups_data.build_loader(make_dataset(grid_store), batch_size=4)
    return [content(loader) for _ in range(4)]


def test_epochs_differ_and_cover_every_sample_once(grid_store: ups_data.Store) -> None:
    loader = ups_data.build_loader(make_dataset(grid_store), batch_size=4)
    orders = [[i for batch in loader for i in batch.sample_ids.tolist()] for _ in range(3)]
    assert all(sorted(order) == list(range(16)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    unshuffled = ups_data.build_loader(make_dataset(grid_store), batch_size=4, shuffle=False)
    assert [i for batch in unshuffled for i in batch.sample_ids.tolist()] == list(range(16))


def test_samples_after_a_resume_equal_the_source(grid_store: ups_data.Store) -> None:
    before = ups_data.build_loader(make_dataset(grid_store, normalize=False), batch_size=4)
    next(iter(before))
    after = ups_data.build_loader(make_dataset(grid_store, normalize=False), batch_size=4, num_workers=1)
    after.load_state_dict(before.state_dict())
    batch = next(iter(after))
    for row, index in enumerate(batch.sample_ids.tolist()):
        trajectory, first = after.dataset.locate(index)
        dense = grid_store.read_dense(trajectory, [first + 1])[0]
        ids = batch.query_index[row][batch.query_mask[row]].numpy()
        assert np.array_equal(batch.query_targets[row, 0, : len(ids)].numpy(), dense[:, ids].T)


def test_an_epoch_left_early_begins_again(grid_store: ups_data.Store, expected: list[list[bytes]]) -> None:
    loader = ups_data.build_loader(make_dataset(grid_store), batch_size=4)
    assert content([next(iter(loader))]) == expected[0][:1]
    assert content(loader) == expected[0]
    assert loader.epoch == 1


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("batch_size", [5, 12])
def test_ranks_share_the_same_global_batches(world_size: int, batch_size: int, grid_store: ups_data.Store) -> None:
    dataset = make_dataset(grid_store, sampler=ups_data.BalancedSampler(ratio=0.2))
    whole = list(ups_data.build_loader(dataset, batch_size=batch_size))
    parts = [
        list(ups_data.build_loader(dataset, batch_size=batch_size, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert len({len(part) for part in parts}) == 1
    for number, batch in enumerate(whole):
        ids = torch.cat([part[number].sample_ids for part in parts])
        indices = torch.cat([part[number].query_index for part in parts])
        real = ids >= 0
        assert torch.equal(ids[real], batch.sample_ids)
        assert torch.equal(indices[real], batch.query_index)


def test_states_of_others_are_refused(grid_store: ups_data.Store, cloud_store: ups_data.Store) -> None:
    loader = ups_data.build_loader(make_dataset(grid_store), batch_size=4)
    state = loader.state_dict()
    with pytest.raises(StateError, match="saved with batch_size=4, this loader has 8"):
        ups_data.build_loader(make_dataset(grid_store), batch_size=8).load_state_dict(state)
    with pytest.raises(StateError, match="saved with split='train', this loader has 'test'"):
        ups_data.build_loader(make_dataset(grid_store, split="test"), batch_size=4, tail="pad_mask").load_state_dict(
            {**state, "order": {**state["order"], "num_samples": 6}}
        )
    with pytest.raises(StateError, match="epoch=0, batch=4 is no place in epochs of 4 batches"):
        loader.load_state_dict({**state, "batch": 4})
    with pytest.raises(StateError, match="a loader state has the keys"):
        loader.load_state_dict({"epoch": 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is the number of samples of a global batch"),
        ({"batch_size": 4, "world_size": 2, "rank": 2}, r"rank must lie in \[0, world_size=2\), got 2"),
        ({"batch_size": 4, "tail": "pad"}, "no tail policy 'pad'. Did you mean 'pad_mask'"),
        ({"batch_size": 4, "pin_memmory": True}, "no option 'pin_memmory'. Did you mean 'pin_memory'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str, grid_store: ups_data.Store) -> None:
    with pytest.raises(DatasetError, match=message):
        ups_data.build_loader(make_dataset(grid_store), **arguments)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_store_gives_an_error_and_no_batch(
    num_workers: int, tmp_path: Path, grid_store: ups_data.Store
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(grid_store.location, copy)
    shard = copy / "pages/values/c/0/0/0"
    damaged = bytearray(shard.read_bytes())
    damaged[:: 8 * 3 * 4] = bytes(255 - value for value in damaged[:: 8 * 3 * 4])
    shard.write_bytes(damaged)
    loader = ups_data.build_loader(make_dataset(ups_data.open_store(copy)), batch_size=4, num_workers=num_workers)
    with pytest.raises(CorruptionError, match=r"pages/values/c/0/0/0 row \d+: checksum mismatch"):
        next(iter(loader))


def test_a_plain_dataloader_works_with_collate(grid_store: ups_data.Store) -> None:
    loader = torch.utils.data.DataLoader(make_dataset(grid_store), batch_size=4, collate_fn=ups_data.collate_samples)
    ids = [i for batch in loader for i in batch.sample_ids.tolist()]
    assert ids == list(range(16))


def test_no_worker_is_left_behind(grid_store: ups_data.Store) -> None:
    others = set(multiprocessing.active_children())
    loader = ups_data.build_loader(make_dataset(grid_store), batch_size=4, num_workers=2)
    next(iter(loader))
    workers = set(multiprocessing.active_children()) - others
    assert len(workers) == 2
    del loader
    gc.collect()
    for worker in workers:
        worker.join(timeout=10)
    assert not workers & set(multiprocessing.active_children())


# -- what was handed out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 2])
def test_stats_count_what_was_handed_out(num_workers: int, grid_store: ups_data.Store) -> None:
    dataset = make_dataset(grid_store, sampler=ups_data.ImportanceSampler(0.25))
    loader = ups_data.build_loader(dataset, batch_size=3, num_workers=num_workers)
    assert loader.stats() == LoaderStats()
    batches = list(loader)
    stats = loader.stats()
    assert (stats.num_batches, stats.num_samples) == (len(batches), 16)
    assert stats.num_points == sum(int(batch.query_mask.sum()) for batch in batches)
    assert stats.shipped_bytes == sum(batch.num_bytes for batch in batches)
    assert stats.effective_points == pytest.approx(
        sum(float((w.sum() ** 2 / w.square().sum()).item()) for batch in batches for w in batch.query_weights)
    )
    assert stats.effective_points < stats.num_points
    assert stats.effective_points_per_batch == stats.effective_points / len(batches)
    assert 0 < stats.read_seconds < stats.build_seconds
    assert stats.wait_seconds > 0
    if num_workers == 0:
        assert stats.wait_seconds >= stats.build_seconds


def test_stats_count_the_bytes_of_the_rows_that_were_decoded(grid_store: ups_data.Store) -> None:
    """Of each sample its input frame whole, and of its pages ids once and values in every target frame."""
    dataset = make_dataset(grid_store, sampler=ups_data.ImportanceSampler(0.25))
    loader = ups_data.build_loader(dataset, batch_size=3, shuffle=False)
    (first, *_) = list(loader)
    manifest, window = grid_store.manifest, dataset.window
    channels, entries = len(manifest.channel_names), first.query_index.shape[1]
    assert entries % manifest.layout.page_points == 0
    dense = window.inputs * channels * grid_store.num_points(0)
    drawn = entries * (1 + window.targets * channels)  # ids are int32, values float32
    loader = ups_data.build_loader(dataset, batch_size=3, shuffle=False)
    next(iter(loader))
    assert loader.stats().decoded_bytes == 3 * 4 * (dense + drawn)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_stats_count_the_bytes_that_the_store_read(num_workers: int, grid_store: ups_data.Store) -> None:
    dataset = make_dataset(grid_store)
    loader = ups_data.build_loader(dataset, batch_size=4, num_workers=num_workers)
    for _ in range(2):  # shard indices are read once in every process
        before = loader.stats()
        batches = list(loader)
        read = loader.stats() - before
    direct = ups_data.open_store(grid_store.location)
    alone = make_dataset(direct)
    for sample in range(len(alone)):
        alone.sample(sample)
    count = dataclasses.replace(direct.read_count)
    for number, batch in enumerate(batches):
        for sample in batch.sample_ids.tolist():
            alone.sample(sample, epoch=1, step=len(batches) + number)
    if num_workers == 0:
        assert read.read_bytes == direct.read_count.num_bytes - count.num_bytes
        assert read.read_ranges == direct.read_count.num_ranges - count.num_ranges
    else:
        # A worker may meet a shard for the first time in its second epoch, and then reads its index too.
        assert 0 <= read.read_bytes - (direct.read_count.num_bytes - count.num_bytes) < 2**16
    assert all(batch.cost is not None for batch in batches)


@pytest.mark.parametrize("ratio", [0.3, ups_data.Linear(start=0.5, end=0.1, steps=6)])
@pytest.mark.parametrize("kind", [ups_data.BalancedSampler, ups_data.UniformSampler, ups_data.DenseSampler])
def test_batches_of_constant_shape(kind: type, ratio: object, cloud_store: ups_data.Store) -> None:
    """Clouds of two sizes, a schedule, a smaller last batch, three ranks: one shape, and nothing else changes."""
    sampler = kind() if kind is ups_data.DenseSampler else kind(ratio=ratio)
    dataset = make_dataset(cloud_store, sampler=sampler)
    for rank in range(3):
        settings = {"batch_size": 4, "rank": rank, "world_size": 3}
        plain = list(ups_data.build_loader(dataset, **settings))
        constant = list(ups_data.build_loader(dataset, constant_shape=True, **settings))
        assert len({batch.sections for batch in constant}) == 1
        for one, other in zip(plain, constant, strict=True):
            rows = one.sample_ids >= 0
            assert one.sample_ids[rows].tolist() == other.sample_ids[: int(rows.sum())].tolist()
            assert (other.sample_ids[int(rows.sum()) :] == -1).all()
            assert torch.equal(one.query_index[one.query_mask], other.query_index[other.query_mask])
            assert torch.equal(one.query_weights[one.query_mask], other.query_weights[other.query_mask])
            assert other.query_weights[~other.query_mask].sum() == 0
            assert one.input_mask is not None
            assert other.input_mask is not None
            assert other.input_mask.sum() == one.input_mask.sum()


def test_no_two_draws_are_equal(grid_store: ups_data.Store) -> None:
    """Over all ranks, workers, samples and epochs; the chance of an accident is one in C(480, 48)."""
    dataset = make_dataset(grid_store, sampler=ups_data.UniformSampler(ratio=0.1))
    drawn = set()
    for rank in range(2):
        loader = ups_data.build_loader(dataset, batch_size=4, rank=rank, world_size=2, num_workers=2)
        drawn |= {row.numpy().tobytes() for _ in range(3) for batch in loader for row in batch.query_index}
    assert len(drawn) == 3 * 16


def test_an_iterator_that_was_left_behind_is_refused(grid_store: ups_data.Store) -> None:
    loader = ups_data.build_loader(make_dataset(grid_store), batch_size=4)
    old = iter(loader)
    next(old)
    state = loader.state_dict()
    new = iter(loader)
    with pytest.raises(StateError, match="this iterator is no longer the loader's"):
        next(old)
    next(new)
    loader.load_state_dict(state)
    with pytest.raises(StateError, match=r"load_state_dict\(\) was called since"):
        next(new)


def test_a_batch_says_where_it_stands(grid_store: ups_data.Store) -> None:
    loader = ups_data.build_loader(make_dataset(grid_store), batch_size=6, rank=1, world_size=4)
    origins = [batch.to("cpu").origin for _ in range(2) for batch in loader]
    assert [(origin.epoch, origin.step, origin.global_samples) for origin in origins if origin] == [
        (0, 0, 6), (0, 1, 6), (0, 2, 4), (1, 3, 6), (1, 4, 6), (1, 5, 4),
    ]  # fmt: skip


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_the_mean_over_a_global_batch_from_uneven_ranks(world_size: int, grid_store: ups_data.Store) -> None:
    """The sum over a rank's samples times world_size / global_samples, averaged over ranks, is the mean over all."""
    dataset = make_dataset(grid_store)
    whole = list(ups_data.build_loader(dataset, batch_size=7))
    parts = [
        list(ups_data.build_loader(dataset, batch_size=7, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]

    def sums(batch: ups_data.SparseBatch) -> torch.Tensor:
        return torch.einsum("btqc,bq->b", batch.query_targets.double() ** 2, batch.query_weights.double())

    for number, batch in enumerate(whole):
        means = []
        for part in parts:
            mine = part[number]
            assert mine.origin is not None
            means.append(sums(mine).sum() * world_size / mine.origin.global_samples)
        torch.testing.assert_close(torch.stack(means).mean(), sums(batch).mean())


def test_padding_samples_do_not_count(grid_store: ups_data.Store) -> None:
    loader = ups_data.build_loader(make_dataset(grid_store), batch_size=5, rank=0, world_size=5)
    ids = [batch.sample_ids.tolist() for batch in loader]
    assert [len(row) for row in ids] == [1, 1, 1, 1]
    assert ids[-1] == [-1]
    assert (loader.stats().num_samples, loader.stats().num_padding) == (3, 1)


def test_the_cost_of_a_batch_stays_with_it(grid_store: ups_data.Store) -> None:
    batch = next(iter(ups_data.build_loader(make_dataset(grid_store), batch_size=2)))
    assert batch.cost is not None
    assert batch.to("cpu").cost == batch.cost
    assert pickle.loads(pickle.dumps(batch)).cost == batch.cost
