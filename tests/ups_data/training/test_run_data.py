"""Runs on a mixture of stores: what they must share, what they are normalised by, and how they are evaluated."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ups_data
from tests.memory_source import MemorySource, cloud, wave_frames
from ups_data.errors import ConfigError, DatasetError, TrainingError
from ups_data.schema import AxisSpec, FieldSpec
from ups_data.training import Checkpoint, StepRecord, TrainConfig, TrainResult, evaluate, train
from ups_data.training.data_config import DataConfig
from ups_data.training.journal import CHECKPOINT_NAME, LOG_NAME
from ups_data.training.run_data import RunData, open_tests
from ups_data.yaml_records import parse_record

Convert = Callable[..., ups_data.Store]
SPLITS = ["train", "train", "train", "test"]


class StopHere(Exception):
    """Stands for a run that is killed between two steps."""


def waves(shape: tuple[int, ...], *, seed: int, scale: float = 1.0, shift: float = 0.0) -> list[np.ndarray]:
    return [
        (scale * wave_frames(shape, num_frames=4, seed=seed + number) + shift).astype("float32") for number in range(4)
    ]


def periodic(frames: list[np.ndarray], nus: list[float], **others: Any) -> MemorySource:
    parameters = [{"nu": nu} for nu in nus]
    return MemorySource.grid(frames, periodic=True, splits=SPLITS, parameters=parameters, **others)


@pytest.fixture(scope="module")
def sources() -> Mapping[str, MemorySource]:
    """Two grids of the same fields, twenty times as large in one of them, and not of one shape."""
    return {
        "calm": periodic(waves((16, 16), seed=0), [0.1, 0.2, 0.3, 0.4]),
        "wild": periodic(waves((8, 8), seed=10, scale=20.0, shift=5.0), [1.0, 2.0, 3.0, 9.0]),
    }


@pytest.fixture(scope="module")
def pair(sources: Mapping[str, MemorySource], convert_source: Convert) -> Mapping[str, ups_data.Store]:
    return {name: convert_source(source, page_points=4, num_strata=2) for name, source in sources.items()}


def named(stores: Mapping[str, ups_data.Store], **weights: float) -> dict[str, Any]:
    return {
        name: {"store": store.location, **({"weight": weights[name]} if weights else {})}
        for name, store in stores.items()
    }


@pytest.fixture(scope="module")
def make(pair: Mapping[str, ups_data.Store], make_config: Callable[..., TrainConfig]) -> Callable[..., TrainConfig]:
    def run(*, mixture: dict[str, Any] | None = None, **changes: Any) -> TrainConfig:
        data = {"mixture": mixture or {"stores": named(pair, calm=2, wild=1)}, "batch_size": 4}
        return make_config(**{"data": data, **changes})

    return run


def open_data(stores: Mapping[str, ups_data.Store], **changes: Any) -> RunData:
    batches = {"batches": changes.pop("batches")} if "batches" in changes else {}
    content = {"mixture": {"stores": named(stores), **batches}, **changes}
    data = parse_record(DataConfig, content, where="test")
    return RunData.open(data, ups_data.ImportanceSampler(ratio=0.25), seed=0)


def same_weights(one: TrainResult, other: TrainResult) -> bool:
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_common_statistics_are_those_of_one_store_of_all_trajectories(
    sources: Mapping[str, MemorySource], pair: Mapping[str, ups_data.Store], convert_source: Convert
) -> None:
    """Of values and of parameters; training and test samples of both stores are normalised by them."""
    calm, wild = sources["calm"], sources["wild"]
    union = MemorySource.grid(
        calm.frames + wild.frames,
        periodic=True,
        splits=SPLITS * 2,
        parameters=[info.parameters for info in (*calm.trajectories, *wild.trajectories)],
    )
    whole = convert_source(union, page_points=4).manifest
    data = open_data(pair)
    (record,), (expected,) = data.statistics, whole.statistics
    assert (record.count, record.min, record.max) == (expected.count, expected.min, expected.max)
    assert (record.mean, record.std, record.rms) == pytest.approx((expected.mean, expected.std, expected.rms), rel=1e-9)
    assert data.problem.parameter_mean == pytest.approx((whole.parameters[0].mean,), rel=1e-9)
    assert data.problem.parameter_scale == pytest.approx((whole.parameters[0].std,), rel=1e-9)
    assert isinstance(data.train, ups_data.MixtureDataset)
    for name, store in pair.items():
        for dataset in (data.train.datasets[name], data.tests[name]):
            sample = dataset[0]
            truth = store.read_dense(sample.trajectory, list(sample.input_frames))
            found = sample.inputs.flatten(2) * expected.std + expected.mean
            np.testing.assert_allclose(found, truth, rtol=1e-4, atol=1e-4)


def test_the_model_is_made_for_the_finest_grid_and_the_box_of_all(pair: Mapping[str, ups_data.Store]) -> None:
    reversed_names = {"b": pair["calm"], "a": pair["wild"]}
    assert open_data(pair).problem.grid_shape == open_data(reversed_names).problem.grid_shape == (16, 16)


def test_boxes_of_clouds_are_joined(convert_source: Convert) -> None:
    def store(lower: float, seed: int) -> ups_data.Store:
        points = [cloud(40, 2, seed=seed + number) for number in range(3)]
        frames = [np.random.default_rng(seed).normal(size=(3, 1, 40)).astype("float32") for _ in points]
        axes = tuple(AxisSpec(name=name, lower=lower, upper=1.0) for name in "xy")
        source = MemorySource(
            frames,
            axes=axes,
            coordinates=[(part,) for part in points],
            kind="points",
            splits=["train", "train", "test"],
        )
        return convert_source(source, page_points=4, num_strata=2)

    data = open_data({"one": store(0.0, 0), "other": store(-0.05, 7)}, batches="padded")
    assert (data.problem.lower, data.problem.upper) == ((-0.05, -0.05), (1.0, 1.0))
    assert {name: len(dataset) for name, dataset in data.tests.items()} == {"one": 2, "other": 2}


@pytest.fixture(scope="module")
def others(convert_source: Convert) -> Mapping[str, ups_data.Store]:
    """Stores that differ from `calm` in one thing each."""
    plane = waves((16, 16), seed=3)
    nus = [0.1] * 4
    two = [np.concatenate([frames, frames], axis=1) for frames in plane]
    holes = [np.where(frames > frames.max() - 0.1, np.nan, frames).astype("float32") for frames in plane]
    wide = tuple(AxisSpec(name=name, lower=0.0, upper=2.0, periodic=True) for name in "xy")
    nodes = [(np.arange(16) / 8, np.arange(16) / 8)] * 4
    points = [cloud(50, 2, seed=number) for number in range(4)]
    scattered = [np.zeros((4, 1, 50), dtype="float32") + number for number in range(4)]
    parameters = [{"nu": 0.1}] * 4
    made = {
        "line": periodic(waves((16,), seed=3), nus),
        "walls": MemorySource.grid(plane, splits=SPLITS, parameters=parameters),
        "points": MemorySource.points(scattered, points, splits=SPLITS, parameters=parameters),
        "fields": periodic(two, nus),
        "unit": periodic(plane, nus, fields=(FieldSpec(name="u0", unit="m/s"),)),
        "parts": periodic(plane, nus, fields=(FieldSpec(name="u0", components=("x",)),)),
        "holes": periodic(holes, nus, missing=["u0"]),
        "wide": periodic(plane, nus, axes=wide, nodes=nodes),
        "mach": MemorySource.grid(plane, periodic=True, splits=SPLITS, parameters=[{"mach": 0.1}] * 4),
    }
    return {name: convert_source(source, page_points=4, num_strata=2) for name, source in made.items()}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("line", "they are of 2 dimensions and of 1 dimensions"),
        ("walls", "they are with periodic axes x, y and with periodic axes none"),
        ("points", "they are on a grid and on points"),
        ("fields", r"with the input fields u0 \(1\) and with the input fields u0 \(1\), u1 \(1\); .*data.input_fields"),
        ("unit", r"with the channels u0 \[no unit\] and with the channels u0 \[m/s\]"),
        ("parts", r"with the channels u0 \[no unit\] and with the channels u0.x \[no unit\]"),
        ("holes", "with values that may be missing in no input and with values that may be missing in u0"),
        ("wide", "they are on x from 0 to 1 and on x from 0 to 2"),
        ("mach", "they are with the parameters nu and with the parameters mach"),
    ],
)
def test_stores_that_no_one_model_learns_are_told_by_name(
    pair: Mapping[str, ups_data.Store], others: Mapping[str, ups_data.Store], name: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        open_data({"calm": pair["calm"], name: others[name]})
    told = str(error.value)
    assert "\n" not in told
    for part in ("calm", name):
        assert repr(part) in told
    for store in (pair["calm"], others[name]):
        assert store.location in told


def test_stores_are_learnt_by_the_fields_that_they_share(
    pair: Mapping[str, ups_data.Store], others: Mapping[str, ups_data.Store]
) -> None:
    stores = {"calm": pair["calm"], "fields": others["fields"]}
    data = open_data(stores, input_fields=["u0"], target_fields=["u0"])
    assert [record.channel for record in data.statistics] == ["u0"]
    assert [dataset[0].inputs.shape[1] for dataset in data.tests.values()] == [1, 1]


def test_padded_batches_of_grids_of_two_shapes_are_refused(pair: Mapping[str, ups_data.Store]) -> None:
    with pytest.raises(ConfigError, match=r"those of 'calm' .* and 'wild' .* are \(16, 16\) and \(8, 8\); set"):
        open_data(pair, batches="padded")


def test_the_same_store_twice_is_refused(pair: Mapping[str, ups_data.Store]) -> None:
    with pytest.raises(DatasetError, match="'a' and 'b' are the same"):
        open_data({"a": pair["calm"], "b": pair["calm"]})


def test_a_mixture_learns_both_stores(make: Callable[..., TrainConfig], tmp_path: Path) -> None:
    """On a quarter of the points, evaluated on all: a sixth of the error of the last frame is gone, in each."""
    config = make(
        steps=60,
        evaluations=1,
        data={**make().data.model_dump(mode="json", exclude_unset=True), "test_split": "train"},
        model={"width": 32, "grid_encoder": {"patch": 2}, "residual": True},
        optimizer={"learning_rate": 5e-3, "ema_decay": 0.9},
        loss={"kind": "relative_squared"},
    )
    start = train(config.with_changes(steps=1, evaluations=1)).errors
    result = train(config)
    assert set(result.errors.stores) == {"calm", "wild"}
    for name, errors in result.errors.stores.items():
        assert errors.relative_l2 < 5 / 6 * start.stores[name].relative_l2


def test_errors_are_those_of_each_store_and_of_all_samples(make: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = make().with_changes(data={"test_samples": 2})
    result = train(config, output=tmp_path)
    checkpoint = Checkpoint.load(tmp_path / CHECKPOINT_NAME)
    tests = open_tests(checkpoint.header.config.data, checkpoint.header.statistics)
    assert list(tests) == ["calm", "wild"]
    model = checkpoint.build_model().to(result.model.device)
    for name, dataset in tests.items():
        assert evaluate(model, dataset, samples=[0, 2]) == result.errors.stores[str(name)]
    assert result.errors.num_samples == 4
    parts = result.errors.stores.values()
    assert result.errors.relative_l2 == pytest.approx(np.mean([part.relative_l2 for part in parts]))
    assert result.errors.nrmse["u0"] == pytest.approx(np.mean([part.nrmse["u0"] for part in parts]))
    last = json.loads((tmp_path / LOG_NAME).read_text().splitlines()[-1])
    assert last["store_errors"] == {name: part.relative_l2 for name, part in result.errors.stores.items()}


def test_weights_are_shares_of_the_batches(
    make: Callable[..., TrainConfig], pair: Mapping[str, ups_data.Store]
) -> None:
    """Runs of other weights go another way; the written order of the stores is none of it."""
    stores = named(pair, calm=2, wild=1)
    results = [
        train(make(mixture={"stores": chosen}, evaluations=1))
        for chosen in (stores, dict(reversed(stores.items())), named(pair, calm=1, wild=2))
    ]
    assert same_weights(results[0], results[1])
    assert not same_weights(results[0], results[2])


ADAPTIVE = {"kind": "adaptive", "ratio": 0.25, "feedback": {"every": 2, "lag": 2, "warmup": 2, "least_effective": 1.0}}


@pytest.mark.parametrize("stop", [2, 3, 5])
@pytest.mark.parametrize("kind", ["homogeneous", "padded", "adaptive"])
def test_a_mixture_that_was_stopped_goes_on_to_the_same_bits(
    make: Callable[..., TrainConfig], pair: Mapping[str, ups_data.Store], equal: ups_data.Store, tmp_path, kind, stop
) -> None:
    stores = {"calm": pair["calm"], "equal": equal} if kind == "padded" else pair
    mixture = {"stores": named(stores), "batches": "padded" if kind == "padded" else "homogeneous"}
    config = make(mixture=mixture, **({"sampler": ADAPTIVE} if kind == "adaptive" else {}))

    def report(record: StepRecord) -> None:
        if record.step == stop:
            raise StopHere

    whole = train(config, output=tmp_path / "whole")
    with pytest.raises(StopHere):
        train(config, output=tmp_path / "parts", report=report)
    resumed = train(config, output=tmp_path / "parts", resume=True)
    assert same_weights(whole, resumed)
    assert whole.errors == resumed.errors
    logs = [
        [dataclasses.replace(record, seconds=0.0, waited=0.0) for record in result.records]
        for result in (whole, resumed)
    ]
    assert logs[0] == logs[1]


@pytest.fixture(scope="module")
def equal(convert_source: Convert) -> ups_data.Store:
    """Return a store of the shape of `calm`."""
    return convert_source(periodic(waves((16, 16), seed=20, scale=3.0), [0.5] * 4), page_points=4, num_strata=2)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ("homogeneous", r"on samples \[\d+(, \d+)*\] of '(calm|equal)'"),
        ("padded", r"on samples \d+ of '(calm|equal)', "),
    ],
)
def test_a_loss_that_is_not_finite_names_the_store(
    make: Callable[..., TrainConfig], pair: Mapping[str, ups_data.Store], equal: ups_data.Store, batches, message
) -> None:
    mixture = {"stores": named({"calm": pair["calm"], "equal": equal}), "batches": batches}
    optimizer = {"learning_rate": 1e30, "clip_norm": 1e30, "warmup": 0.0}
    with pytest.raises(TrainingError, match=message):
        train(make(mixture=mixture, optimizer=optimizer))
