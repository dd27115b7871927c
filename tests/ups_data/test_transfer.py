"""A device loader hands out the same batches, and its account is of those handed out, not of those fetched ahead.

Without a GPU the pass-through and the fetching ahead are tested, and not streams and events.
"""

import gc
import json

import pytest
import torch

import ups_data
from ups_data.errors import DatasetError
from ups_data.loader_stats import LoaderStats

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU and a torch with CUDA")


def build(store: ups_data.Store, **options: object) -> ups_data.QueryLoader:
    dataset = ups_data.QueryDataset(store, sampler=ups_data.ImportanceSampler(ratio=0.25), split="test", seed=3)
    return ups_data.build_loader(dataset, batch_size=2, **options)


def content(batch: ups_data.SparseBatch) -> bytes:
    return batch.buffer.numpy().tobytes()


@pytest.fixture(scope="module")
def expected(grid_store: ups_data.Store) -> list[bytes]:
    loader = build(grid_store)
    return [content(batch) for _ in range(3) for batch in loader]


def test_on_the_cpu_batches_are_passed_on(grid_store: ups_data.Store, expected: list[bytes]) -> None:
    loader = ups_data.DeviceLoader(build(grid_store), "cpu")
    assert (len(loader), loader.ahead) == (3, 0)
    assert [content(batch) for batch in loader] == expected[:3]
    assert loader.epoch == 1
    batch = next(iter(loader.loader))
    assert batch.to("cpu").buffer.data_ptr() == batch.buffer.data_ptr()


@pytest.mark.parametrize("ahead", [0, 1, 2, 5])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_state_and_stats_are_those_of_what_was_handed_out(
    ahead: int, num_workers: int, grid_store: ups_data.Store, expected: list[bytes]
) -> None:
    loader = ups_data.DeviceLoader(build(grid_store, num_workers=num_workers), "cpu", ahead=ahead)
    plain = build(grid_store)
    assert loader.state_dict() == plain.state_dict()
    states = [json.dumps(loader.state_dict())]
    for epoch in range(2):
        for batch, other in zip(loader, plain, strict=True):
            assert content(batch) == content(other)
            assert loader.state_dict() == plain.state_dict()
            assert (loader.stats().num_batches, loader.stats().shipped_bytes) == (
                plain.stats().num_batches,
                plain.stats().shipped_bytes,
            )
            assert loader.epoch == plain.epoch
            states.append(json.dumps(loader.state_dict()))
        assert loader.epoch == epoch + 1
    for position, state in enumerate(states):
        loader.load_state_dict(json.loads(state))
        assert loader.state_dict() == json.loads(state)
        assert [content(batch) for batch in loader] == expected[position : position + 3 - position % 3]


@pytest.mark.parametrize("ahead", [0, 2, 5])
def test_an_epoch_left_early_begins_again(ahead: int, grid_store: ups_data.Store, expected: list[bytes]) -> None:
    """Also where its last batch was fetched ahead."""
    loader = ups_data.DeviceLoader(build(grid_store), "cpu", ahead=ahead)
    assert content(next(iter(loader))) == expected[0]
    assert [content(batch) for batch in loader] == expected[:3]
    assert [content(batch) for batch in loader] == expected[3:6]


def test_transfer_is_accounted_for(grid_store: ups_data.Store) -> None:
    loader = ups_data.DeviceLoader(build(grid_store), "cpu")
    assert loader.stats() == LoaderStats()
    list(loader)
    assert 0 < loader.stats().transfer_seconds < loader.stats().wait_seconds


@needs_gpu
@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("own_stream", [False, True])
def test_on_a_gpu_the_same_bytes_arrive_however_late_they_are_read(
    ahead: int, own_stream: bool, grid_store: ups_data.Store, expected: list[bytes]
) -> None:
    """Kernels that read a batch wait behind others, while its memory is given back and later batches are copied."""
    loader = ups_data.DeviceLoader(build(grid_store, num_workers=2), "cuda", ahead=ahead)
    read = []
    with torch.cuda.stream(torch.cuda.Stream() if own_stream else torch.cuda.current_stream()):
        for _ in range(3):
            for batch in loader:
                assert batch.query_coords.device.type == "cuda"
                torch.cuda._sleep(50_000_000)
                read.append(batch.buffer.clone())
                del batch
    torch.cuda.synchronize()
    assert [buffer.cpu().numpy().tobytes() for buffer in read] == expected


@needs_gpu
def test_a_batch_is_pinned_whole_and_copied_as_one(grid_store: ups_data.Store, expected: list[bytes]) -> None:
    batch = next(iter(build(grid_store)))
    pinned = batch.pin_memory()
    assert pinned.buffer.is_pinned()
    assert pinned.inputs.is_pinned()
    moved = pinned.to("cuda", non_blocking=True)
    torch.cuda.synchronize()
    assert moved.inputs.untyped_storage().data_ptr() == moved.buffer.untyped_storage().data_ptr()
    assert content(moved.to("cpu")) == expected[0]


@needs_gpu
def test_batches_left_behind_do_not_end_forked_workers(grid_store: ups_data.Store, expected: list[bytes]) -> None:
    """What a cell of a notebook leaves in a cycle must not be freed by workers that begin later."""
    gc.disable()
    try:
        left: list[object] = list(ups_data.DeviceLoader(build(grid_store), "cuda"))
        left.append(left)
        del left
        workers = {"num_workers": 2, "multiprocessing_context": "fork", "worker_init_fn": lambda _: gc.collect()}
        assert [content(batch) for batch in build(grid_store, **workers)] == expected[:3]
    finally:
        gc.enable()


def test_wrong_devices_are_refused(grid_store: ups_data.Store) -> None:
    with pytest.raises(DatasetError, match="brought to cpu or cuda, not to meta"):
        ups_data.DeviceLoader(build(grid_store), "meta")
    with pytest.raises(DatasetError, match="ahead counts batches, at least 0, got -1"):
        ups_data.DeviceLoader(build(grid_store), torch.device("cpu"), ahead=-1)
