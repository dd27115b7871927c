"""Grain's harness: the state saved before every batch of two epochs, restored from each, tails compared by bytes."""

import json
from collections.abc import Callable, Iterator
from itertools import islice

import pytest

import ups_data
from ups_data.storage import ZarrStore
from ups_data.storage.tar_writer import write_tar_store

BATCHES = {"dataset": 6, "blocks": 6, "mixture": 8, "stream": 8}
SAMPLER = ups_data.ImportanceSampler(ratio=ups_data.Linear(start=0.5, end=0.1, steps=8))
STREAM = ups_data.StreamShuffle(block=6, lanes=4, run=2)  # 16 samples in batches of 4, two of them read together

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more workers than cores


@pytest.fixture(scope="module")
def tar_store(grid_store: ups_data.Store, tmp_path_factory: pytest.TempPathFactory) -> ups_data.Store:
    assert isinstance(grid_store, ZarrStore)
    path = tmp_path_factory.mktemp("resume") / "tar"
    write_tar_store(grid_store, path, writer="tests", shard_bytes=30_000, overwrite=False, progress=lambda *_: None)
    return ups_data.open_store(path)


@pytest.fixture(scope="module")
def make(
    grid_store: ups_data.Store, cloud_store: ups_data.Store, tar_store: ups_data.Store
) -> Callable[[str, int], ups_data.QueryLoader]:
    def dataset_of(store: ups_data.Store, seed: int, split: str = "test") -> ups_data.QueryDataset:
        return ups_data.QueryDataset(store, split=split, sampler=SAMPLER, seed=seed)

    def build(name: str, num_workers: int) -> ups_data.QueryLoader:
        options = {"num_workers": num_workers, "persistent_workers": num_workers == 2}
        if name == "stream":
            return ups_data.build_loader(dataset_of(tar_store, 5, "train"), batch_size=4, shuffle=STREAM, **options)
        grids, clouds = dataset_of(grid_store, 3), dataset_of(cloud_store, 4)
        if name == "mixture":
            dataset: ups_data.QueryDataset | ups_data.MixtureDataset = ups_data.MixtureDataset(
                {"grids": grids, "clouds": clouds}, weights={"grids": 2, "clouds": 1}, epoch_batches=4
            )
        else:
            dataset = grids
        shuffle = ups_data.BlockShuffle(block=3, mixed=2) if name == "blocks" else True
        return ups_data.build_loader(dataset, batch_size=2, shuffle=shuffle, **options)

    return build


def forever(loader: ups_data.QueryLoader) -> Iterator[bytes]:
    while True:
        for batch in loader:
            yield batch.buffer.numpy().tobytes()


def run(loader: ups_data.QueryLoader, count: int) -> tuple[list[bytes], list[str]]:
    """Return so many batches, and the state before each of them, while workers fetch ahead."""
    contents, states = [], [json.dumps(loader.state_dict())]
    for batch in islice(forever(loader), count):
        contents.append(batch)
        states.append(json.dumps(loader.state_dict()))
    return contents, states[:-1]


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
def test_resume_from_every_position(
    name: str, num_workers: int, make: Callable[[str, int], ups_data.QueryLoader]
) -> None:
    contents, states = run(make(name, 0), BATCHES[name])
    assert len(set(contents)) == len(contents)
    assert run(make(name, num_workers), BATCHES[name]) == (contents, states)
    for position in range(len(states)):
        assert len(states[position]) < 4096
        loader = make(name, num_workers)
        loader.load_state_dict(json.loads(states[position]))
        assert loader.global_step == position
        assert run(loader, len(states) - position) == (contents[position:], states[position:])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_is_the_same_however_it_is_read(
    num_workers: int, grid_store: ups_data.Store, tar_store: ups_data.Store
) -> None:
    """Batch by batch or a buffer at a time, from Zarr or from tar; and a state of one goes on in the other."""

    def build(store: ups_data.Store, read_together: int | None) -> ups_data.QueryLoader:
        dataset = ups_data.QueryDataset(store, sampler=SAMPLER, seed=5)
        return ups_data.build_loader(
            dataset, batch_size=4, shuffle=STREAM, read_together=read_together, num_workers=num_workers
        )

    contents, states = run(build(grid_store, 1), 8)
    for store in (grid_store, tar_store):
        for read_together in (None, 1, 3, 100):
            loader = build(store, read_together)
            loader.load_state_dict(json.loads(states[3]))
            assert run(loader, 5) == (contents[3:], states[3:])
            # All of a run is read before its first batch is handed out, each range once, and is counted once.
            assert loader.stats().num_batches == 5


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_at_work_can_be_put_back_and_forth(
    num_workers: int, make: Callable[[str, int], ups_data.QueryLoader]
) -> None:
    """The same loader, its workers alive and its next batches under way."""
    loader = make("dataset", num_workers)
    contents, states = run(loader, 6)
    for position in (4, 0, 3, 1):
        loader.load_state_dict(json.loads(states[position]))
        assert run(loader, 2)[0] == contents[position : position + 2]


def test_the_state_of_a_large_mixture_is_small(grid_store: ups_data.Store) -> None:
    sampler = ups_data.ImportanceSampler(ratio=0.3)
    members = {f"physics_{n}": ups_data.QueryDataset(grid_store, sampler=sampler, seed=n) for n in range(20)}
    loader = ups_data.build_loader(ups_data.MixtureDataset(members), batch_size=4)
    assert len(json.dumps(loader.state_dict())) < 4096
