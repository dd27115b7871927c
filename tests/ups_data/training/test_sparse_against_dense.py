"""Training on drawn points against training on all of them, at equal steps, evaluated on every point."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ups_data
from ups_data.samplers import Schedule
from ups_data.training import StepRecord, TrainConfig, TrainResult, train
from ups_data.training.schedules import schedule_of

MakeConfig = Callable[..., TrainConfig]
RunOf = Callable[[str], TrainResult]

SAMPLERS: dict[str, dict[str, Any]] = {
    "dense": {"kind": "dense"},
    "uniform": {"kind": "uniform", "ratio": 0.5},
    "balanced": {"kind": "balanced", "ratio": 0.5},
    "importance": {"kind": "importance", "ratio": 0.5},
}
SPARSE = sorted(set(SAMPLERS) - {"dense"})


@pytest.fixture(scope="module")
def run_of(make_config: MakeConfig) -> RunOf:
    """Run with a sampler, once; all runs are alike but for the draws."""
    base = make_config(
        steps=160,
        evaluations=8,
        data={"store": make_config().data.store, "batch_size": 4, "test_split": "train", "test_samples": 10},
        model={"width": 24, "grid_encoder": {"patch": 2}, "residual": True},
        optimizer={"learning_rate": 5e-3, "ema_decay": 0.9},
    )
    return functools.cache(lambda name: train(base.with_changes(sampler=SAMPLERS[name])))


def errors_of(result: TrainResult) -> dict[int, float]:
    return {record.step: record.relative_l2 for record in result.records if record.relative_l2 is not None}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPARSE, scope="module")
def test_sampling_vs_dense_convergence(run_of: RunOf, name: str) -> None:
    """The sparse run learns as the dense one does: it is nowhere more than a third of the steps and 5 % behind."""
    dense, sparse = errors_of(run_of("dense")), errors_of(run_of(name))
    assert list(dense) == list(sparse) == [20, 40, 60, 80, 100, 120, 140, 160]
    assert sparse[160] < 0.8 * sparse[20]
    for step in (60, 120):
        assert min(error for when, error in sparse.items() if when <= 4 * step / 3) < 1.05 * dense[step]


@pytest.mark.slow
@pytest.mark.parametrize("name", SPARSE, scope="module")
def test_sampling_vs_dense_accuracy(run_of: RunOf, name: str) -> None:
    """Half of the points gives nearly the dense error, at equal steps, on fields of only 16 x 16 nodes."""
    assert run_of(name).errors.relative_l2 < 1.15 * run_of("dense").errors.relative_l2


class StopHere(Exception):
    """Stands for a run that is killed between two steps."""


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.1), (0.1, 1.0)], ids=["many to few", "few to many"])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "exponential"])
def test_curriculum_sampling_schedule(
    make_config: MakeConfig, tmp_path: Path, schedule: str, start: float, end: float
) -> None:
    """The number of points follows the schedule step by step, either way, also in a run that goes on."""
    ramp = {"schedule": schedule, "start": start, "end": end, "begin": 2, "steps": 6}
    config = make_config(sampler={"kind": "uniform", "ratio": ramp}, steps=10, evaluations=5)
    expected = config.sampler.ratio
    assert expected is not None
    curve: Schedule = schedule_of(expected)
    whole = train(config)
    points = [record.effective_points for record in whole.records]
    assert points == pytest.approx([round(256 * curve(step)) for step in range(10)], rel=1e-5)
    assert (points[0], points[2], points[9]) == pytest.approx((256 * start, 256 * start, 256 * end), abs=0.5)

    def stop(record: StepRecord) -> None:
        if record.step == 5:
            raise StopHere

    with pytest.raises(StopHere):
        train(config, output=tmp_path / "run", report=stop)
    resumed = train(config, output=tmp_path / "run", resume=True)
    assert [record.effective_points for record in resumed.records] == points
    assert resumed.errors == whole.errors


def test_a_curriculum_of_pages_goes_by_whole_pages(make_config: MakeConfig) -> None:
    ramp = {"schedule": "linear", "start": 0.5, "end": 0.125, "steps": 6}
    config = make_config(sampler={"kind": "balanced", "ratio": ramp}, steps=7, evaluations=1)
    sampler = config.sampler.build()
    assert isinstance(sampler, ups_data.BalancedSampler)
    points = [record.effective_points for record in train(config).records]
    assert points == pytest.approx([128, 112, 96, 80, 64, 48, 32], rel=0.03)
