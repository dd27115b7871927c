"""Mixtures: exact shares, whole passes, homogeneous batches, nothing dropped, and what an epoch is."""

import pickle
from collections import Counter

import pytest

import ups_data
from ups_data.errors import DatasetError, StateError


def dataset_of(store: ups_data.Store, **changes: object) -> ups_data.QueryDataset:
    return ups_data.QueryDataset(store, **{"sampler": ups_data.ImportanceSampler(ratio=0.3), **changes})


@pytest.fixture(scope="module")
def members(grid_store: ups_data.Store, cloud_store: ups_data.Store) -> dict[str, ups_data.QueryDataset]:
    """16 samples with three channels, 6 samples of clouds, 6 samples of one field."""
    return {
        "flow": dataset_of(grid_store),
        "cloud": dataset_of(cloud_store, seed=5),
        "pressure": dataset_of(grid_store, split="test", fields=["pressure"], seed=9),
    }


def served(loader: ups_data.QueryLoader) -> list[tuple[str, int, list[int]]]:
    """Return dataset, pass and samples of every batch of an epoch."""
    found = []
    for batch in loader:
        assert batch.origin is not None
        assert batch.origin.dataset is not None
        found.append((batch.origin.dataset, batch.origin.epoch, batch.sample_ids.tolist()))
    return found


def test_without_weights_an_epoch_is_every_sample_once(members: dict[str, ups_data.QueryDataset]) -> None:
    loader = ups_data.build_loader(ups_data.MixtureDataset(members), batch_size=4)
    for epoch in range(2):
        batches = served(loader)
        assert len(batches) == len(loader) == 4 + 2 + 2
        for name, dataset in members.items():
            ids = [i for member, own_pass, ids in batches for i in ids if member == name and own_pass == epoch]
            assert sorted(ids) == list(range(len(dataset)))
        # Spread over the epoch, not one after another.
        assert {name for name, _, _ in batches[:4]} == set(members)


def test_with_weights_an_epoch_goes_through_every_dataset_and_nothing_is_left_out(
    members: dict[str, ups_data.QueryDataset],
) -> None:
    mixture = ups_data.MixtureDataset(members, weights={"flow": 1, "cloud": 2, "pressure": 1})
    loader = ups_data.build_loader(mixture, batch_size=4)
    # Flow's fourth batch is due at 7/2: before it come three of its own, seven of cloud (1/4, 3/4, ..., 13/4) and three
    # of pressure.
    assert len(loader) == 1 + 3 + 7 + 3
    first = served(loader)
    assert Counter(name for name, _, _ in first) == {"flow": 4, "cloud": 7, "pressure": 3}
    batches = first + served(loader)
    assert Counter(name for name, _, _ in batches) == {"flow": 7, "cloud": 14, "pressure": 7}
    for name, dataset in members.items():
        passes = [own_pass for member, own_pass, _ in batches if member == name]
        assert passes == sorted(passes)
        for own_pass in range(max(passes)):  # every pass but the one under way
            ids = [i for member, number, ids in batches for i in ids if (member, number) == (name, own_pass)]
            assert sorted(ids) == list(range(len(dataset)))


def test_samples_are_those_of_the_dataset_in_its_own_pass(members: dict[str, ups_data.QueryDataset]) -> None:
    """With its own fields; the draws of a repeated sample differ from pass to pass."""
    mixture = ups_data.MixtureDataset(members, weights={"flow": 1, "cloud": 1, "pressure": 3}, epoch_batches=12)
    for batch in ups_data.build_loader(mixture, batch_size=3):
        assert batch.origin is not None
        dataset = members[batch.origin.dataset or ""]
        samples = [
            dataset.sample(i, epoch=batch.origin.epoch, step=batch.origin.step) for i in batch.sample_ids.tolist()
        ]
        assert ups_data.collate_samples(samples).buffer.equal(batch.buffer)
        assert batch.inputs.shape[2] == {"flow": 3, "cloud": 2, "pressure": 1}[batch.origin.dataset or ""]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_a_mixture(world_size: int, members: dict[str, ups_data.QueryDataset]) -> None:
    mixture = ups_data.MixtureDataset(members, weights={"flow": 3, "cloud": 1, "pressure": 1})
    whole = served(ups_data.build_loader(mixture, batch_size=5))
    ranks = [
        served(ups_data.build_loader(mixture, batch_size=5, rank=r, world_size=world_size)) for r in range(world_size)
    ]
    for number, (name, own_pass, ids) in enumerate(whole):
        assert {rank[number][:2] for rank in ranks} == {(name, own_pass)}
        assert [i for rank in ranks for i in rank[number][2] if i >= 0] == ids


def test_workers_and_pickles_do_not_change_a_mixture(members: dict[str, ups_data.QueryDataset]) -> None:
    mixture = ups_data.MixtureDataset(members, weights={"flow": 0.5, "cloud": 0.3, "pressure": 0.2})
    expected = served(ups_data.build_loader(mixture, batch_size=5))
    copied = pickle.loads(pickle.dumps(mixture))
    assert served(ups_data.build_loader(copied, batch_size=5, num_workers=2)) == expected
    assert len(copied) == 16 + 6 + 6


def test_a_state_of_another_mixture_is_refused(members: dict[str, ups_data.QueryDataset]) -> None:
    weights = {"flow": 2, "cloud": 1, "pressure": 1}
    mixture = ups_data.MixtureDataset(members, weights=weights, epoch_batches=8)
    state = ups_data.build_loader(mixture, batch_size=4).state_dict()
    all_fields = dataset_of(members["pressure"].store, split="test", seed=9)
    others: dict[str, ups_data.MixtureDataset] = {
        "weights": ups_data.MixtureDataset(members, weights={**weights, "cloud": 2}, epoch_batches=8),
        "epoch_batches": ups_data.MixtureDataset(members, weights=weights, epoch_batches=3),
        "pressure": ups_data.MixtureDataset({**members, "pressure": all_fields}, weights=weights, epoch_batches=8),
    }
    for key, other in others.items():
        with pytest.raises(StateError, match=f"the state was saved with {key}="):
            ups_data.build_loader(other, batch_size=4).load_state_dict(state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {"flow": 1, "cloud": 1, "presure": 1}}, "'presure', which is no dataset. Did you mean 'pressure'"),
        ({"weights": {"flow": 1, "cloud": 1}}, "weight of dataset 'pressure' is None; give a positive number"),
        ({"weights": {"flow": 1, "cloud": 0, "pressure": 1}}, "'cloud' is 0; .* or leave the dataset out"),
        ({"weights": {"flow": 1, "cloud": float("nan"), "pressure": 1}}, "'cloud' is nan"),
        ({"epoch_batches": 0}, "at least one batch, got epoch_batches=0"),
    ],
)
def test_wrong_mixtures_are_refused(
    changes: dict[str, object], message: str, members: dict[str, ups_data.QueryDataset]
) -> None:
    with pytest.raises(DatasetError, match=message):
        ups_data.MixtureDataset(members, **changes)


def test_no_dataset_and_the_same_one_twice_are_refused(grid_store: ups_data.Store) -> None:
    with pytest.raises(DatasetError, match="at least one dataset"):
        ups_data.MixtureDataset({})
    with pytest.raises(DatasetError, match="'a' and 'b' are the same: their draws would be equal"):
        ups_data.MixtureDataset({"a": dataset_of(grid_store), "b": dataset_of(grid_store)})
