"""Mixtures: exact shares, whole passes, homogeneous batches, nothing dropped, and what an epoch is."""

import pickle
from collections import Counter
from collections.abc import Callable

import pytest

import ups_data
from tests.memory_source import MemorySource, wave_frames
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
        "datasets": ups_data.MixtureDataset(dict(reversed(members.items())), weights=weights, epoch_batches=8),
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


# -- padded batches ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sizes(convert_source: Callable[..., ups_data.Store]) -> dict[str, ups_data.QueryDataset]:
    """Grids of three shapes, two of them in one store, all normalised alike."""
    shapes = {"fine": [(20, 12)], "coarse": [(9, 14), (7, 5)]}
    found = {}
    for seed, (name, members) in enumerate(shapes.items()):
        frames = [wave_frames(shape, num_frames=6, num_channels=2, seed=seed) for shape in members]
        store = convert_source(MemorySource.grid(frames), page_points=8, splits={"train": 1.0})
        found[name] = dataset_of(
            store, seed=seed, window=ups_data.Window(inputs=2, targets=2), normalize=False, dtype="float64"
        )
    return found


def rows_of(loader: ups_data.QueryLoader) -> list[list[tuple[str, int, int]]]:
    """Return dataset, pass and sample of each row of every batch of an epoch."""
    found = []
    for batch in loader:
        assert batch.origin is not None
        assert batch.origin.dataset is None
        assert batch.origin.sources is not None
        ids = batch.sample_ids.tolist()
        assert ids[len(batch.origin.sources) :] == [-1] * (len(batch) - len(batch.origin.sources))
        found.append([(*source, i) for source, i in zip(batch.origin.sources, ids, strict=False)])
    return found


def test_padded_batches_hold_each_sample_whole(sizes: dict[str, ups_data.QueryDataset]) -> None:
    """All that a sample has stands in its row, the rest is padding that the masks tell and that weighs nothing."""
    mixture = ups_data.MixtureDataset(sizes, batches="padded")
    mixed = 0
    for batch in ups_data.build_loader(mixture, batch_size=4):
        assert batch.origin is not None
        assert batch.origin.sources is not None
        assert batch.input_mask is not None
        assert batch.input_axes is not None
        mixed += len({name for name, _ in batch.origin.sources}) > 1
        assert bool(batch.inputs.isfinite().all())
        for row, (name, own_pass) in enumerate(batch.origin.sources):
            sample = sizes[name].sample(int(batch.sample_ids[row]), epoch=own_pass, step=batch.origin.step)
            nodes = batch.input_mask[row]
            assert batch.inputs[row][..., nodes].reshape(sample.inputs.shape).equal(sample.inputs)
            assert not batch.inputs[row][..., ~nodes].any()
            assert int(nodes.sum()) == sample.inputs[0, 0].numel()
            for axis, own in zip(batch.input_axes, sample.input_axes, strict=True):
                assert axis[row].unique(sorted=True).equal(own)
            queries = len(sample.query_index)
            assert batch.query_targets[row, :, :queries].equal(sample.query_targets)
            assert batch.query_coords[row, :queries].equal(sample.query_coords)
            assert batch.query_weights[row, :queries].equal(sample.query_weights)
            assert not batch.query_weights[row, queries:].any()
            assert not batch.query_mask[row, queries:].any()
    assert mixed > 1


@pytest.mark.parametrize("weights", [None, {"fine": 3, "coarse": 1}])
def test_padded_batches_have_exact_shares_and_leave_nothing_out(
    weights: dict[str, float] | None, sizes: dict[str, ups_data.QueryDataset]
) -> None:
    assert {name: len(dataset) for name, dataset in sizes.items()} == {"fine": 3, "coarse": 6}
    mixture = ups_data.MixtureDataset(sizes, weights=weights, batches="padded")
    loader = ups_data.build_loader(mixture, batch_size=4)
    rows = [row for _ in range(3) for batch in rows_of(loader) for row in batch]
    # Coarse's sixth sample, which ends an epoch, is due at 11/2; so is fine's 17th: (2 * 16 + 1) / 6.
    shares = {"fine": 3, "coarse": 6} if weights is None else {"fine": 17, "coarse": 6}
    assert len(rows) == 3 * sum(shares.values())
    for name, dataset in sizes.items():
        own = [(own_pass, index) for member, own_pass, index in rows if member == name]
        assert abs(len(own) - 3 * shares[name]) <= 1
        for own_pass in range(own[-1][0]):  # every pass but the one under way
            assert sorted(index for number, index in own if number == own_pass) == list(range(len(dataset)))


@pytest.mark.parametrize("changes", [{}, {"tail": "drop"}, {"constant_shape": True}, {"num_workers": 2}])
def test_ranks_and_workers_and_resumes_share_padded_batches(
    changes: dict[str, object], sizes: dict[str, ups_data.QueryDataset]
) -> None:
    mixture = ups_data.MixtureDataset(sizes, weights={"fine": 1, "coarse": 1}, batches="padded")
    whole = rows_of(ups_data.build_loader(mixture, batch_size=5))
    if changes == {"tail": "drop"}:
        whole = [rows for rows in whole if len(rows) == 5]
    ranks = [
        rows_of(ups_data.build_loader(mixture, batch_size=5, rank=rank, world_size=2, **changes)) for rank in range(2)
    ]
    assert [first + second for first, second in zip(*ranks, strict=True)] == whole
    loader = ups_data.build_loader(mixture, batch_size=5, **changes)
    shapes = {tuple(batch.inputs.shape) + tuple(batch.query_index.shape) for batch in loader}
    queries = max(dataset.largest_sample[0] for dataset in sizes.values())
    assert "constant_shape" not in changes or shapes == {(5, 2, 2, 20, 14, 5, queries)}
    state = ups_data.build_loader(mixture, batch_size=5, **changes).state_dict()
    loader.load_state_dict({**state, "batch": 1})
    assert rows_of(loader) == whole[1:]
    with pytest.raises(StateError, match="the state was saved with epoch_batches=None"):
        ups_data.build_loader(ups_data.MixtureDataset(sizes), batch_size=5).load_state_dict(state)


def test_clouds_of_several_stores_are_mixed(cloud_store: ups_data.Store) -> None:
    members = {"a": dataset_of(cloud_store, seed=1), "b": dataset_of(cloud_store, seed=2, split="test")}
    loader = ups_data.build_loader(ups_data.MixtureDataset(members, batches="padded"), batch_size=3)
    for batch in loader:
        assert batch.origin is not None
        assert batch.input_mask is not None
        for row, (name, own_pass) in enumerate(batch.origin.sources or ()):
            sample = members[name].sample(int(batch.sample_ids[row]), epoch=own_pass, step=batch.origin.step)
            assert batch.inputs[row][..., batch.input_mask[row]].equal(sample.inputs)


def test_what_makes_no_padded_batch_is_refused(
    members: dict[str, ups_data.QueryDataset], sizes: dict[str, ups_data.QueryDataset]
) -> None:
    def refused(message: str, batches: str = "padded", **changed: ups_data.QueryDataset) -> None:
        with pytest.raises(DatasetError, match=message):
            ups_data.MixtureDataset({"fine": sizes["fine"], **changed}, batches=batches)

    fine, coarse = sizes["fine"].store, sizes["coarse"].store
    window = ups_data.Window(inputs=2, targets=2)
    refused("'fine' and 'cloud' differ in geometry", cloud=members["cloud"])
    refused("differ in input fields", flow=members["flow"])
    refused(r"differ in frames \(window\): \(2, 2\) and \(1, 1\)", other=dataset_of(coarse, normalize=False))
    refused("differ in dtype: float64 and float32", other=dataset_of(coarse, normalize=False, window=window))
    refused(r"differ in normalisation \(statistics=\)", other=dataset_of(coarse, dtype="float64", window=window))
    refused("no way to make batches 'paded'. Did you mean 'padded'", batches="paded")
    # Grids of several shapes in one store need it, too; a mixture of one is how to ask for it.
    loader = ups_data.build_loader(sizes["coarse"], batch_size=6)
    with pytest.raises(DatasetError, match="use batch_size=1, or MixtureDataset"):
        next(iter(loader))
    alone = ups_data.MixtureDataset({"coarse": sizes["coarse"]}, batches="padded")
    assert next(iter(ups_data.build_loader(alone, batch_size=6))).inputs.shape == (6, 2, 2, 9, 14)
    assert fine.manifest.fingerprint != coarse.manifest.fingerprint
