"""Queries between the nodes of a grid: inputs from one store, points from another one of the same trajectories."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import ups_data
from preprocess.convert import ConvertSettings, convert
from preprocess.pack import pack
from preprocess.sources.off_grid import OffGridSource
from tests.memory_source import MemorySource, even_nodes, wave_frames
from tests.ups_data.storage.cases import GEOMETRIES, settings_for
from ups_data.errors import DatasetError, StateError
from ups_data.schema import FieldSpec, OffGridSpec
from ups_data.testing import DrawContract
from ups_data.testing.fault_server import serve_directory, serving
from ups_data.testing.store_contract import StoreContract, StoreTruth
from ups_data.training import TrainConfig, train
from ups_data.yaml_records import parse_record

SPEC = OffGridSpec(scheme="cubic", ratio=1.25, seed=1)
SETTINGS = ConvertSettings(page_points=8, num_strata=2, splits={"train": 0.75, "test": 0.25})
WINDOW = ups_data.Window(targets=2)


def grids(shape: tuple[int, int] = (16, 12), num_frames: int = 4, **others: object) -> MemorySource:
    """Analytic: a wave of period 1 in x, and another component of it."""
    x, y = np.meshgrid(even_nodes(shape[0], True), even_nodes(shape[1], False), indexing="ij")
    frames = [
        np.stack([wave(x, y, time, number) for time in range(num_frames)]).astype("float32") for number in range(4)
    ]
    fields = (FieldSpec(name="velocity", components=("x", "y")),)
    return MemorySource.grid(frames, periodic=(True, False), fields=fields, **others)


def wave(x: np.ndarray, y: np.ndarray, time: float, number: int) -> np.ndarray:
    phase = 2 * np.pi * x + 0.4 * time + number
    return np.stack([np.sin(phase) * (1 + y**2), 3 + np.cos(phase) * y])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`grid` and `points` of one source, and `tar`, the points as tar shards."""
    root = tmp_path_factory.mktemp("off_grid")
    convert(grids(), root / "grid", SETTINGS)
    convert(OffGridSource(grids(), SPEC), root / "points", SETTINGS)
    pack(str(root / "points"), root / "tar", to="webdataset")
    return root


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[ups_data.Store, ups_data.Store]:
    return ups_data.open_store(folder / "grid"), ups_data.open_store(folder / "points")


def dataset_of(pair: tuple[ups_data.Store, ups_data.Store], **choices: object) -> ups_data.QueryDataset:
    sampler = choices.pop("sampler", None) or ups_data.ImportanceSampler(ratio=0.2)
    return ups_data.QueryDataset(pair[0], queries=pair[1], sampler=sampler, window=WINDOW, **choices)


# -- the stores ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["line", "plane-tar", "volume", "ocean"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ups_data.Store, StoreTruth]:
    """Points between the nodes of grids in one, two and three dimensions, with moving masks, as Zarr and as tar."""
    name, _, packed = request.param.partition("-")
    grid = GEOMETRIES[name]("float32")
    source = OffGridSource(grid, OffGridSpec(scheme="linear" if name == "volume" else "cubic", ratio=0.75))
    root = tmp_path_factory.mktemp("contract")
    convert(source, root / "s", settings_for(grid, page_points=8, num_strata=2))
    if packed:
        pack(str(root / "s"), root / "tar", to="webdataset")
    store = ups_data.open_store(root / (packed or "s"))
    drawn = {int(number): split for split, members in store.splits.items() for number in members}
    numbers = range(len(source.trajectories))
    return store, StoreTruth(
        frames=[source.read_frames(number, 0, source.trajectories[number].num_frames) for number in numbers],
        coordinates=[source.read_coordinates(number)[0] for number in numbers],
        times=[info.times for info in source.trajectories],
        parameters=[np.array(list(info.parameters.values())) for info in source.trajectories],
        splits=[info.split or drawn[number] for number, info in enumerate(source.trajectories)],
    )


class TestOffGridStore(StoreContract):
    @pytest.fixture
    def store(self, case: tuple[ups_data.Store, StoreTruth]) -> ups_data.Store:
        return case[0]

    @pytest.fixture
    def truth(self, case: tuple[ups_data.Store, StoreTruth]) -> StoreTruth:
        return case[1]


# -- the samples -----------------------------------------------------------------------------------------------------


class TestDrawsOffGrid(DrawContract):
    @pytest.fixture(params=["mean", "integral"])
    def dataset(self, pair: tuple[ups_data.Store, ups_data.Store], request: pytest.FixtureRequest):
        return dataset_of(pair, estimand=request.param)


def test_inputs_are_the_grids_and_targets_the_field_between_its_nodes(pair) -> None:
    """Against the analytic field; normalised by the statistics of the grid on both sides."""
    own = ups_data.QueryDataset(pair[0], sampler=ups_data.DenseSampler(), window=WINDOW)
    dataset = dataset_of(pair)
    assert len(dataset) == len(own)
    for number in range(len(dataset)):
        sample, whole = dataset[number], own[number]
        torch.testing.assert_close(sample.inputs, whole.inputs, rtol=0, atol=0)
        assert (sample.trajectory, sample.target_frames) == (whole.trajectory, whole.target_frames)
        x, y = sample.query_coords.double().numpy().T
        normaliser = dataset.normalisers.target
        np.testing.assert_array_equal(normaliser.mean, own.normalisers.target.mean)
        values = sample.query_targets.double().numpy() * normaliser.scale + normaliser.mean
        for frame, found in zip(sample.target_frames, values, strict=True):
            np.testing.assert_allclose(found, wave(x, y, frame, sample.trajectory).T, atol=2e-3)
        # Between nodes, and near the seam too.
        assert (np.abs(x * 16 - np.round(x * 16)) > 0.01).mean() > 0.9
        places = pair[1].coordinates(sample.trajectory)[sample.query_index.numpy()]
        np.testing.assert_array_equal(sample.query_coords.numpy(), places.astype("float32"))


def test_each_point_is_drawn_as_often_as_its_weight_says(pair) -> None:
    """Enumerated over all starts of a stratum: k_s / R_s of them meet each point, and its weight is R_s / (k_s N)."""
    store = pair[1]
    dataset = dataset_of(pair, sampler=ups_data.ImportanceSampler(ratio=0.2, walk=True), dtype="float64")
    layout = store.layout(dataset.locate(0)[0])
    # Walking starts move by k_s pages an epoch: over R_s epochs they stand on each page equally often or in a cycle.
    epochs = int(np.lcm.reduce(layout.stratum_pages[layout.stratum_pages > 0]))
    seen: Counter[int] = Counter()
    weights: dict[int, float] = {}
    for epoch in range(epochs):
        sample = dataset.sample(0, epoch=epoch)
        for point, weight in zip(sample.query_index.tolist(), sample.query_weights.tolist(), strict=True):
            seen[point] += 1
            assert weights.setdefault(point, weight) == weight
    assert len(seen) == layout.num_points
    for point, count in seen.items():
        assert count / epochs * weights[point] * layout.num_points == pytest.approx(1.0, rel=1e-12)


def test_the_mean_is_that_of_the_continuous_domain(pair) -> None:
    """Of x and y components: 0 and 3 exactly; the dense sampler takes every point between the nodes."""
    dataset = dataset_of(pair, sampler=ups_data.DenseSampler(), normalize=False, dtype="float64")
    sample = dataset[0]
    assert len(sample.query_index) == round(1.25 * 16 * 12)
    means = sample.query_weights.numpy() @ sample.query_targets[0].numpy()
    np.testing.assert_allclose(means, [0.0, 3.0], atol=0.02)
    integral = dataset_of(pair, sampler=ups_data.DenseSampler(), estimand="integral", dtype="float64")[0]
    assert integral.query_weights.sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "sampler",
    [ups_data.UniformSampler(ratio=0.3), ups_data.StratifiedSampler(ratio=0.3), ups_data.BalancedSampler(ratio=0.3)],
)
def test_every_sampler_draws_them(pair, sampler: ups_data.Sampler) -> None:
    sample = dataset_of(pair, sampler=sampler, normalize=False)[2]
    dense = pair[1].read_dense(sample.trajectory, sample.target_frames)[..., sample.query_index.numpy()]
    np.testing.assert_array_equal(sample.query_targets.numpy(), dense.transpose(0, 2, 1))


def test_values_beside_a_mask_that_moves_are_told(tmp_path: Path) -> None:
    frames = [wave_frames((16, 14), num_frames=3, num_channels=2, seed=seed) for seed in range(2)]
    for values in frames:
        values[:, :, 4:8, 4:8] = np.nan
        values[2, 1, 12, 3] = np.nan
    source = MemorySource.grid(frames, missing=("u0", "u1"), splits=["train", "train"])
    convert(source, tmp_path / "grid", ConvertSettings())
    convert(OffGridSource(source, OffGridSpec(scheme="linear", points=500)), tmp_path / "points", ConvertSettings())
    pair = ups_data.open_store(tmp_path / "grid"), ups_data.open_store(tmp_path / "points")
    dataset = dataset_of(pair, sampler=ups_data.DenseSampler())
    sample = dataset[0]
    assert sample.target_valid is not None
    cell = np.floor(sample.query_coords.numpy() * [15, 13])
    # No point of a cell with a missing corner is there at all, but beside the node that lacks one value once.
    assert not ((cell[:, 0] >= 3) & (cell[:, 0] <= 7) & (cell[:, 1] >= 3) & (cell[:, 1] <= 7)).any()
    beside = np.isin(cell[:, 0], (11, 12)) & np.isin(cell[:, 1], (2, 3))
    assert beside.any()
    valid = sample.target_valid.numpy()
    np.testing.assert_array_equal(valid[1, :, 1], ~beside)
    assert valid[0].all()
    assert valid[1, :, 0].all()


# -- read from anywhere ----------------------------------------------------------------------------------------------


def same(one: ups_data.SparseSample, other: ups_data.SparseSample) -> bool:
    names = ("inputs", "query_coords", "query_targets", "query_weights", "query_index")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_tar_and_copies_give_the_same_samples(folder: Path, pair) -> None:
    wanted = dataset_of(pair)
    tar = dataset_of((pair[0], ups_data.open_store(folder / "tar")))
    copied = pickle.loads(pickle.dumps(wanted))
    for number in range(0, len(wanted), 2):
        assert same(tar.sample(number, epoch=1), wanted.sample(number, epoch=1))
        assert same(copied.sample(number, epoch=1), wanted.sample(number, epoch=1))


@pytest.fixture
def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(serve_directory(folder)) as server:
        yield server.url


def test_far_away_the_same_samples_are_read(served: str, pair) -> None:
    """Both stores far away, or one of them; samples of a batch read together."""
    remote = ups_data.RemoteOptions(allow_http=True)
    far = [ups_data.open_store(f"{served}/{name}", remote=remote) for name in ("grid", "points")]
    wanted = dataset_of(pair)
    for stores in (far, (pair[0], far[1]), (far[0], pair[1])):
        found = dataset_of(tuple(stores)).samples(range(3))
        assert all(same(one, wanted[number]) for number, one in enumerate(found))


def test_a_loader_serves_them_in_any_number_of_workers_and_goes_on(pair) -> None:
    dataset = dataset_of(pair)
    contents = []
    for num_workers in (0, 1):
        loader = ups_data.build_loader(dataset, batch_size=2, num_workers=num_workers)
        contents.append([batch.buffer.numpy().tobytes() for batch in loader])
    assert contents[0] == contents[1]
    loader = ups_data.build_loader(dataset, batch_size=2)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    again = ups_data.build_loader(dataset, batch_size=2)
    again.load_state_dict(state)
    assert next(iter(again)).buffer.numpy().tobytes() == contents[0][1]
    own = ups_data.build_loader(ups_data.QueryDataset(pair[0], sampler=dataset.sampler, window=WINDOW), batch_size=2)
    with pytest.raises(StateError):
        own.load_state_dict(state)


# -- training --------------------------------------------------------------------------------------------------------


def test_a_model_trains_on_them(folder: Path) -> None:
    """Drawn between the nodes, evaluated on all nodes: the error falls."""
    content = {
        "data": {
            "store": str(folder / "grid"),
            "queries": str(folder / "points"),
            "batch_size": 4,
            "test_split": "train",
        },
        "sampler": {"kind": "importance", "ratio": 0.25},
        "model": {"width": 16, "grid_encoder": {"patch": 4}, "residual": True},
        "optimizer": {"learning_rate": 5e-3},
        "steps": 60,
        "evaluations": 1,
        "threads": 1,
    }
    config = parse_record(TrainConfig, content, where="test")
    errors = train(config).errors.relative_l2
    assert errors < 0.8 * train(config.with_changes(steps=1)).errors.relative_l2


# -- what does not belong together -----------------------------------------------------------------------------------


def test_other_trajectories_are_refused(pair, tmp_path: Path) -> None:
    others = {
        "fields": (grids(), {"fields": (FieldSpec(name="u", components=("x", "y")),)}, "its fields are"),
        "frames": (grids(num_frames=5), {}, "num_frames of trajectory 0 is 5, against 4"),
        "times": (grids(times=[np.arange(4.0)] * 4), {}, "a time of trajectory 0 is 1.0, against 0.1"),
        "parameters": (grids(parameters=[{"nu": 1.0}] * 4), {}, "its parameters are"),
        "axes": (
            grids(),
            {"axes": tuple(axis.model_copy(update={"periodic": False}) for axis in grids().axes)},
            "axes",
        ),
    }
    for name, (source, changes, message) in others.items():
        for key, value in changes.items():
            setattr(source, key, value)
        convert(OffGridSource(source, SPEC), tmp_path / name, SETTINGS)
        with pytest.raises(DatasetError, match=message):
            dataset_of((pair[0], ups_data.open_store(tmp_path / name)))
    convert(OffGridSource(grids(), SPEC), tmp_path / "seed", SETTINGS.model_copy(update={"seed": 1}))
    with pytest.raises(DatasetError, match=r"split of trajectory \d is"):
        dataset_of((pair[0], ups_data.open_store(tmp_path / "seed")))


def test_a_finer_grid_may_be_queried_too(pair, tmp_path: Path) -> None:
    """Inputs on one grid, targets on another one of the same simulations."""
    convert(grids((32, 24)), tmp_path / "fine", SETTINGS)
    sample = dataset_of((pair[0], ups_data.open_store(tmp_path / "fine")), normalize=False)[0]
    assert tuple(sample.inputs.shape) == (1, 2, 16, 12)
    x, y = sample.query_coords.double().numpy().T
    np.testing.assert_allclose(
        sample.query_targets[0].numpy(), wave(x, y, sample.target_frames[0], sample.trajectory).T, atol=1e-5
    )


def test_tar_streams_are_of_one_store(pair) -> None:
    with pytest.raises(DatasetError, match=r"queries from .*points, and this takes datasets of one store"):
        ups_data.decode_queries(dataset_of(pair))
