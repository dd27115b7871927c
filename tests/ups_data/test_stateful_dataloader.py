"""Our parts in DataLoaders of torch and torchdata, which save and restore the place by their own protocol."""

import json
from itertools import islice

import pytest
import torch
from torchdata.stateful_dataloader import StatefulDataLoader
from torchdata.stateful_dataloader.stateful import Stateful

import ups_data
from ups_data.errors import StateError

# Of torchdata, which torch has moved on from.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")


def dataset_of(store: ups_data.Store) -> ups_data.QueryDataset:
    schedule = ups_data.Linear(start=0.5, end=0.1, steps=8)
    return ups_data.QueryDataset(store, sampler=ups_data.ImportanceSampler(ratio=schedule), split="test", seed=3)


def build(store: ups_data.Store, num_workers: int, **options: object) -> StatefulDataLoader:
    arguments = ups_data.dataloader_arguments(dataset_of(store), batch_size=2)
    return StatefulDataLoader(**arguments, num_workers=num_workers, **options)


def run(loader: StatefulDataLoader, count: int) -> tuple[list[bytes], list[str]]:
    """Return so many batches over as many epochs as they take, and the state before each of them."""
    contents, states = [], [json.dumps(loader.state_dict())]
    while len(contents) < count:
        for batch in islice(loader, count - len(contents)):
            contents.append(batch.buffer.numpy().tobytes())
            states.append(json.dumps(loader.state_dict()))
    return contents, states[:-1]


@pytest.fixture(scope="module")
def expected(grid_store: ups_data.Store) -> list[bytes]:
    loader = ups_data.build_loader(dataset_of(grid_store), batch_size=2)
    return [batch.buffer.numpy().tobytes() for _ in range(2) for batch in loader]


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_resume_from_every_position(num_workers: int, grid_store: ups_data.Store, expected: list[bytes]) -> None:
    contents, states = run(build(grid_store, num_workers), 6)
    assert contents == expected
    for position, state in enumerate(states):
        loader = build(grid_store, num_workers)
        loader.load_state_dict(json.loads(state))
        assert run(loader, 6 - position)[0] == expected[position:]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_pass_that_is_begun_is_an_epoch(
    num_workers: int, grid_store: ups_data.Store, expected: list[bytes]
) -> None:
    """Left early or not, and however far workers have asked ahead."""
    loader = build(grid_store, num_workers)
    assert next(iter(loader)).buffer.numpy().tobytes() == expected[0]
    assert [batch.buffer.numpy().tobytes() for batch in loader] == expected[3:]


def test_a_plain_dataloader_takes_the_same_parts(grid_store: ups_data.Store, expected: list[bytes]) -> None:
    loader = torch.utils.data.DataLoader(**ups_data.dataloader_arguments(dataset_of(grid_store), batch_size=2))
    assert len(loader) == 3
    assert [batch.buffer.numpy().tobytes() for _ in range(2) for batch in loader] == expected


def test_our_loader_speaks_the_protocol(grid_store: ups_data.Store) -> None:
    loader = ups_data.build_loader(dataset_of(grid_store), batch_size=2)
    assert isinstance(loader, Stateful)
    assert isinstance(ups_data.DeviceLoader(loader, "cpu"), Stateful)


def test_a_state_of_another_dataset_is_refused(grid_store: ups_data.Store) -> None:
    loader = build(grid_store, 0)
    next(iter(loader))
    state = loader.state_dict()
    other = StatefulDataLoader(**ups_data.dataloader_arguments(dataset_of(grid_store), batch_size=3), num_workers=0)
    other.load_state_dict(state)
    with pytest.raises(StateError, match="saved with batch_size=2, this loader has 3"):
        next(iter(other))
