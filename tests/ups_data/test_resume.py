"""Grain's harness: the state saved before every batch of two epochs, restored from each, tails compared by bytes."""

import json
from collections.abc import Callable, Iterator
from itertools import islice

import pytest

import ups_data

BATCHES = {"dataset": 6, "blocks": 6, "mixture": 8}

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more workers than cores


@pytest.fixture(scope="module")
def make(grid_store: ups_data.Store, cloud_store: ups_data.Store) -> Callable[[str, int], ups_data.QueryLoader]:
    sampler = ups_data.ImportanceSampler(ratio=ups_data.Linear(start=0.5, end=0.1, steps=8))

    def dataset_of(store: ups_data.Store, seed: int) -> ups_data.QueryDataset:
        return ups_data.QueryDataset(store, split="test", sampler=sampler, seed=seed)

    def build(name: str, num_workers: int) -> ups_data.QueryLoader:
        grids, clouds = dataset_of(grid_store, 3), dataset_of(cloud_store, 4)
        if name == "mixture":
            dataset: ups_data.QueryDataset | ups_data.MixtureDataset = ups_data.MixtureDataset(
                {"grids": grids, "clouds": clouds}, weights={"grids": 2, "clouds": 1}, epoch_batches=4
            )
        else:
            dataset = grids
        shuffle = ups_data.BlockShuffle(block=3, mixed=2) if name == "blocks" else True
        return ups_data.build_loader(
            dataset, batch_size=2, shuffle=shuffle, num_workers=num_workers, persistent_workers=num_workers == 2
        )

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
