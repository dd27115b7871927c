"""Windows whose target frames have draws of their own: exact, independent, resumable, and what they are worth."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import ups_data
from preprocess.pack import pack
from tests.memory_source import MemorySource
from tests.ups_data.storage.cases import GEOMETRIES, make_store
from ups_data.errors import DatasetError, StateError
from ups_data.loader import QueryLoader
from ups_data.pages import PageDraw, draw_variances
from ups_data.samplers import DrawKey
from ups_data.testing.fault_server import serve_directory, serving

FRESH = ups_data.Window(targets=4, points="fresh")
SAME = ups_data.Window(targets=4)
# Change only knowingly: with them all fresh points do.
GOLDEN = [3, 13470329771484740275, 5357578747522570089, 1013672545157158275]
WORTH = [(0, "slow", 3.9, 4.0), (1, "fast", 0.5, 0.8), (2, "noise", 0.6, 1.4)]


def make(store: ups_data.Store, window: ups_data.Window = FRESH, **changes: object) -> ups_data.QueryDataset:
    arguments = {"sampler": ups_data.ImportanceSampler(ratio=0.2), "seed": 3, **changes}
    return ups_data.QueryDataset(store, window=window, **arguments)


def content(dataset: ups_data.QueryDataset, numbers: range, epoch: int = 0) -> bytes:
    return ups_data.collate_samples(dataset.samples(numbers, epoch=epoch)).buffer.numpy().tobytes()


# -- which points ------------------------------------------------------------------------------------------------------


def test_a_frame_has_its_points_whatever_other_frames_are_drawn(grid_store: ups_data.Store) -> None:
    whole, same = make(grid_store), make(grid_store, SAME)
    some = make(grid_store, ups_data.Window(targets=4, drawn_targets=2, points="fresh"))
    for index in range(len(whole)):
        every, drawn, plain = (one.sample(index, epoch=5) for one in (whole, some, same))
        rows = {row.numpy().tobytes() for row in every.query_index}
        assert len(rows) == 4, "each frame has points of its own"
        for number, frame in enumerate(drawn.target_frames):
            place = every.target_frames.index(frame)
            one, other = drawn.points_at(number), every.points_at(place)
            count = int((one.index >= 0).sum())
            assert count == int((other.index >= 0).sum())
            assert torch.equal(one.index[:count], other.index[:count])
            assert torch.equal(one.weights[:count], other.weights[:count])
            assert torch.equal(one.coords[:count], other.coords[:count])
            assert torch.equal(drawn.query_targets[number, :count], every.query_targets[place, :count])
        # The first frame has the points that all frames would share.
        count = len(plain.query_index)
        assert torch.equal(every.query_index[0, :count], plain.query_index)
        assert torch.equal(every.query_targets[0, :count], plain.query_targets[0])


def test_keys_of_frames_change_only_knowingly() -> None:
    key = DrawKey(seed=3, epoch=1, sample=2)
    assert FRESH.point_keys(7, (8, 11), key)[0] == key
    seeds = [one.seed for one in FRESH.point_keys(7, FRESH.target_frames(7), key)]
    assert seeds == GOLDEN
    assert SAME.point_keys(7, (8, 11), key) == (key,)


@pytest.mark.parametrize("sampler", [ups_data.ImportanceSampler, ups_data.BalancedSampler])
@pytest.mark.parametrize("name", ["long", "ocean", "sensors"])
@pytest.mark.parametrize("estimand", ["mean", "integral"])
def test_every_point_comes_as_often_in_every_frame_as_its_weight_says(
    name: str, sampler: type, estimand: str, tmp_path: Path
) -> None:
    """Enumerated over the walk of each frame: the sum of the weights of a point is its share, or its measure."""
    pages = 16 if name == "ocean" else 8
    store = make_store(GEOMETRIES[name]("float64"), tmp_path / "s", page_points=pages, num_strata=2)
    window = ups_data.Window(targets=2, points="fresh")
    options = {"normalize": False, "dtype": "float64", "estimand": estimand}
    dataset = make(store, window, sampler=sampler(ratio=0.3), **options)
    number = len(dataset) - 1
    trajectory, first = dataset.locate(number)
    block = store.block_of(trajectory, window.target_frames(first))
    layout = store.layout(trajectory, block)
    epochs = int(np.lcm.reduce(np.maximum(layout.stratum_pages, 1)))
    sums = np.zeros((2, store.num_points(trajectory)))
    dense = store.read_dense(trajectory, window.target_frames(first)).reshape(2, -1, sums.shape[1])
    for epoch in range(epochs):
        sample = dataset.sample(number, epoch=epoch)
        for frame in range(2):
            drawn = sample.query_mask[frame].numpy()
            index = sample.query_index[frame].numpy()[drawn]
            np.add.at(sums[frame], index, sample.query_weights[frame].numpy()[drawn])
            values = dense[frame][:, index].T
            valid = np.ones_like(drawn) if sample.target_valid is None else sample.target_valid[frame].numpy()
            np.testing.assert_array_equal(sample.query_targets[frame].numpy()[drawn], np.nan_to_num(values, nan=0.0))
            if sample.target_valid is not None:
                np.testing.assert_array_equal(valid[drawn], ~np.isnan(values))
                assert not valid[~drawn].any()
            assert not sample.query_weights[frame].numpy()[~drawn].any()
    points = store.drawn_points(trajectory, block)
    share = np.full(points.size, 1 / points.size) if estimand == "mean" else store.measures(trajectory)[points]
    for found in sums / epochs:
        np.testing.assert_allclose(found[points], share, rtol=1e-9)
        assert not np.delete(found, points).any()
    if estimand == "mean":
        np.testing.assert_allclose(sums.sum(axis=1) / epochs, 1.0, rtol=1e-9)


def test_frames_start_independently_of_each_other(grid_store: ups_data.Store) -> None:
    """Starts of a stratum in two frames, thirds of its pages each: chi-square against the product of their chances."""
    layout = grid_store.layout(0)
    sampler, num_draws = ups_data.ImportanceSampler(num_queries=24, walk=False), 3000
    pages = int(layout.stratum_pages[0])
    third = np.arange(pages) * 3 // pages
    chances = np.bincount(third) / pages
    counts = {pair: np.zeros((3, 3)) for pair in ((0, 1), (0, 3), (2, 3))}
    for epoch in range(num_draws):
        keys = FRESH.point_keys(0, FRESH.target_frames(0), DrawKey(seed=8, epoch=epoch, sample=1))
        draws = [sampler.draw(layout, key) for key in keys]
        starts = [third[draw.pages[0]] for draw in draws]
        assert all(draw.strata is not None and (draw.strata == 0).sum() == 1 for draw in draws)
        for (one, other), table in counts.items():
            table[starts[one], starts[other]] += 1
    wanted = num_draws * np.outer(chances, chances)
    for table in counts.values():
        # 8 degrees of freedom: 26 is exceeded once in a thousand.
        assert ((table - wanted) ** 2 / wanted).sum() < 26


def test_samplers_that_read_points_draw_anew_too(grid_store: ups_data.Store, cloud_store: ups_data.Store) -> None:
    window = ups_data.Window(targets=3, points="fresh")
    for store in (grid_store, cloud_store):
        for sampler in (ups_data.UniformSampler(0.2), ups_data.StratifiedSampler(0.2)):
            sample = make(store, window, sampler=sampler, normalize=False).sample(0, epoch=1)
            assert len({row.numpy().tobytes() for row in sample.query_index}) == 3
            dense = store.read_dense(sample.trajectory, sample.target_frames)
            places = store.coordinates(sample.trajectory)
            for frame in range(3):
                points = sample.points_at(frame)
                index = points.index.numpy()
                np.testing.assert_array_equal(sample.query_targets[frame].numpy(), dense[frame][..., index].T)
                np.testing.assert_allclose(points.coords.numpy(), places[index], rtol=1e-6)
                assert float(points.weights.sum()) == pytest.approx(1.0)


# -- batches, loaders, other stores ------------------------------------------------------------------------------------


def test_batches_pad_every_frame(cloud_store: ups_data.Store) -> None:
    dataset = make(cloud_store, ups_data.Window(targets=2, points="fresh"))
    samples = [dataset.sample(number, epoch=2) for number in range(len(dataset))]
    batch = ups_data.collate_samples(samples, num_padding=1)
    size, most = len(samples), max(sample.query_index.shape[1] for sample in samples)
    assert len({sample.query_index.shape[1] for sample in samples}) > 1
    assert batch.has_fresh_points
    assert batch.query_coords.shape == (size + 1, 2, most, 3)
    assert batch.query_weights.shape == batch.query_index.shape == batch.query_mask.shape == (size + 1, 2, most)
    assert batch.query_targets.shape == (size + 1, 2, most, 2)
    for row, sample in enumerate(samples):
        count = sample.query_index.shape[1]
        assert torch.equal(batch.query_index[row, :, :count], sample.query_index)
        assert torch.equal(batch.query_coords[row, :, :count], sample.query_coords)
        assert torch.equal(batch.query_weights[row, :, :count], sample.query_weights)
        assert (batch.query_index[row, :, count:] == -1).all()
        assert not batch.query_weights[row, :, count:].any()
    assert not batch.query_weights[size].any()
    other = make(cloud_store, ups_data.Window(targets=2)).sample(1)
    with pytest.raises(DatasetError, match=r"differ in whether each target frame has points of its own"):
        ups_data.collate_samples([samples[0], other])


def test_shapes_and_bytes_of_windows_with_the_same_points_stay(grid_store: ups_data.Store) -> None:
    """A batch of one target frame holds the same bytes, fresh or not, but for the shapes."""
    same, fresh = (make(grid_store, ups_data.Window(points=points)) for points in ("same", "fresh"))
    assert content(same, range(3), epoch=4) == content(fresh, range(3), epoch=4)
    assert same.sample(0).query_index.ndim == 1
    assert fresh.sample(0).query_index.shape == (1, len(same.sample(0).query_index))


def build(store: ups_data.Store, window: ups_data.Window, **options: object) -> QueryLoader:
    ramp = ups_data.Linear(start=0.5, end=0.2, steps=6)
    dataset = make(store, window, sampler=ups_data.ImportanceSampler(ratio=ramp))
    return ups_data.build_loader(dataset, batch_size=3, **options)


@pytest.mark.parametrize("window", [FRESH, ups_data.Window(targets=4, drawn_targets=2, points="fresh")], ids=repr)
def test_loaders_serve_the_same_bytes_and_resume_from_every_batch(
    grid_store: ups_data.Store, window: ups_data.Window
) -> None:
    loader, states, seen = build(grid_store, window), [], []
    states.append(loader.state_dict())
    for _ in range(2):
        for batch in loader:
            seen.append(batch.buffer.numpy().tobytes())
            states.append(loader.state_dict())
    for number, expected in enumerate(seen):
        other = build(grid_store, window)
        other.load_state_dict(states[number])
        assert next(iter(other)).buffer.numpy().tobytes() == expected
    for num_workers in (1, 2):
        other = build(grid_store, window, num_workers=num_workers)
        found = [batch.buffer.numpy().tobytes() for _ in range(2) for batch in other]
        assert found == seen


def test_states_refuse_other_points(grid_store: ups_data.Store) -> None:
    state = build(grid_store, FRESH).state_dict()
    with pytest.raises(
        StateError, match=r"saved with window=.*points=.*fresh.*, this loader has .*drawn_targets=None\)"
    ):
        build(grid_store, SAME).load_state_dict(state)
    with pytest.raises(StateError, match=r"drawn_targets=None\)', this loader has .*points='fresh'\)"):
        build(grid_store, FRESH).load_state_dict(build(grid_store, SAME).state_dict())
    # States from before there was a choice are those of the same points.
    assert repr(SAME) == "Window(inputs=1, targets=4, stride=1, lead=1, drawn_targets=None)"


def test_stats_count_the_points_of_all_frames(grid_store: ups_data.Store) -> None:
    loaders = {window.points: build(grid_store, window) for window in (SAME, FRESH)}
    for loader in loaders.values():
        for _ in loader:
            pass
    same, fresh = (loaders[points].stats() for points in ("same", "fresh"))
    assert fresh.num_samples == same.num_samples
    assert fresh.num_points == pytest.approx(4 * same.num_points, rel=0.01)
    assert fresh.effective_points == pytest.approx(4 * same.effective_points, rel=0.01)
    assert fresh.read_ranges > 1.5 * same.read_ranges


@pytest.mark.parametrize("name", ["plane", "ocean", "sensors"])
def test_stores_of_all_kinds_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    """Zarr and tar, local and from a server, whose ranges are read ahead."""
    store = make_store(GEOMETRIES[name]("float32"), tmp_path / "zarr", page_points=8, splits={"train": 1.0})
    pack(str(tmp_path / "zarr"), tmp_path / "tar", to="webdataset")
    window = ups_data.Window(targets=2, points="fresh")
    local = make(store, window, sampler=ups_data.ImportanceSampler(0.5))
    numbers = range(min(6, len(local)))
    expected = content(local, numbers, epoch=2)
    with serving(serve_directory(tmp_path)) as server:
        for place in (tmp_path / "tar", f"{server.url}/zarr"):
            other = make(ups_data.open_store(place), window, sampler=ups_data.ImportanceSampler(0.5))
            assert content(other, numbers, epoch=2) == expected


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_what_is_no_draw_of_points_is_refused(grid_store: ups_data.Store) -> None:
    with pytest.raises(DatasetError, match=r"there are no points 'frech'.*fresh"):
        ups_data.Window(points="frech")
    with pytest.raises(DatasetError, match=r"FixedSampler.* takes the same points every time; use points='same'"):
        make(grid_store, FRESH, sampler=ups_data.FixedSampler(0.2))
    members = {"one": make(grid_store, FRESH), "other": make(grid_store, SAME, seed=4)}
    with pytest.raises(DatasetError, match=r"differ in points of target frames \(window\): fresh and same"):
        ups_data.MixtureDataset(members, batches="padded")


def test_padded_mixtures_hold_fresh_points(grid_store: ups_data.Store) -> None:
    members = {
        name: make(grid_store, FRESH, seed=seed, sampler=sampler)
        for seed, (name, sampler) in enumerate(
            {"few": ups_data.ImportanceSampler(0.1), "learns": ups_data.AdaptiveSampler(0.3)}.items()
        )
    }
    mixture = ups_data.MixtureDataset(members, batches="padded")
    for batch in ups_data.build_loader(mixture, batch_size=4, shuffle=False):
        assert batch.origin is not None
        assert batch.origin.sources is not None
        assert batch.stratum_queries is not None
        for row, (name, epoch) in enumerate(batch.origin.sources):
            sample = members[name].sample(int(batch.sample_ids[row]), epoch=epoch)
            count = sample.query_index.shape[1]
            assert torch.equal(batch.query_index[row, :, :count], sample.query_index)
            assert not batch.query_weights[row, :, count:].any()
            counts = torch.zeros(4, 3) if sample.stratum_queries is None else sample.stratum_queries
            assert torch.equal(batch.stratum_queries[row], counts.int())


# -- what they are worth -----------------------------------------------------------------------------------------------

SIDE, FRAMES = 64, 4


def windows(kind: str) -> np.ndarray:
    """Return integrands of a window (T, N): a bump that hardly moves, one that leaves its place, or unlike frames."""
    x, y = np.meshgrid(np.arange(SIDE) / SIDE, np.arange(SIDE) / SIDE, indexing="ij")
    if kind == "noise":
        return np.random.default_rng(0).gamma(0.5, size=(FRAMES, SIDE**2))
    speed = {"slow": 0.002, "fast": 0.2}[kind]
    parts = [np.exp(-40 * ((np.abs(x - 0.2 - speed * t)) ** 2 + (y - 0.5) ** 2)) for t in range(FRAMES)]
    return np.array(parts).reshape(FRAMES, -1)


@pytest.fixture(scope="module")
def flat_store(convert_source: Callable[..., ups_data.Store]) -> ups_data.Store:
    """A store whose fields are the roots of the integrands: the square of a value is what is estimated."""
    frames = [np.concatenate([windows(kind)[:1], windows(kind)]) for kind in ("slow", "fast", "noise")]
    fields = [np.sqrt(part).reshape(FRAMES + 1, 1, SIDE, SIDE).astype("float32") for part in frames]
    return convert_source(MemorySource.grid(fields, splits=["train"] * 3), page_points=16)


@pytest.mark.parametrize(("number", "kind", "least", "most"), WORTH)
def test_what_fresh_points_are_worth(
    flat_store: ups_data.Store, number: int, kind: str, least: float, most: float
) -> None:
    """Exact: the variance of the mean square over a window with the same points over that with fresh ones.

    At equal numbers of values. The variance that draws through a dataset have is that which is worked out.
    """
    values = np.square(flat_store.read_dense(number, range(1, FRAMES + 1)).astype(np.float64))[:, 0].T
    layout = flat_store.layout(number)
    index = flat_store.read_page_points(number, np.arange(layout.num_pages)).index.reshape(layout.num_pages, -1)
    draw = ups_data.BalancedSampler(0.05).draw(layout, DrawKey(seed=0, epoch=0, sample=0))
    assert isinstance(draw, PageDraw)
    same = float(draw_variances(layout, index, [draw], values.mean(axis=1, keepdims=True))[0, 0])
    fresh = float(draw_variances(layout, index, [draw], values).sum()) / FRAMES**2
    assert least < same / fresh < most
    sampler, num_draws = ups_data.BalancedSampler(0.05, walk=False), 300
    for window, expected in ((SAME, same), (FRESH, fresh)):
        dataset = make(flat_store, window, sampler=sampler, normalize=False, dtype="float64")
        found = []
        for epoch in range(num_draws):
            sample = dataset.sample(number, epoch=epoch)
            weights = sample.query_weights if sample.has_fresh_points else sample.query_weights[None]
            found.append(float((weights * sample.query_targets[..., 0].square()).sum(dim=1).mean()))
        error = np.std(found, ddof=1) / np.sqrt(num_draws)
        assert abs(np.mean(found) - values.mean()) < 4 * error
        # The spread of a variance from so many draws is 8 % of it for a bell, more for heavier tails.
        assert np.var(found, ddof=1) == pytest.approx(expected, rel=0.4)
