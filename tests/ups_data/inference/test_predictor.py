from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.memory_source import MemorySource, wave_frames
from ups_data.errors import ConfigError, DatasetError
from ups_data.inference import Predictor
from ups_data.samplers import DenseSampler
from ups_data.training import Checkpoint, TrainConfig, evaluate, train


@pytest.fixture(scope="module")
def checkpoint(make_config: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder: Path = tmp_path_factory.mktemp("run")
    train(make_config(), output=folder)
    return Checkpoint.load(folder / "last.safetensors")


def test_predictions_have_the_errors_of_the_evaluation(checkpoint: Checkpoint) -> None:
    predictor = Predictor.of(checkpoint)
    dense = checkpoint.header.config.data.build(predictor.dataset.store, DenseSampler(), split="test")
    expected = evaluate(predictor.model, dense).relative_l2
    errors = []
    for frame in range(len(dense)):
        sample = predictor.start(5, frame)
        truth = predictor.truth(sample, 1)[0].astype("float64")
        errors.append(np.linalg.norm(predictor.predict(sample) - truth) / np.linalg.norm(truth))
    assert np.mean(errors) == pytest.approx(expected, rel=1e-4)
    first = predictor.rollout(predictor.start(5), 1)
    np.testing.assert_array_equal(first.values[0], predictor.predict(predictor.start(5)))


def test_a_rollout_goes_on_where_the_data_end(checkpoint: Checkpoint) -> None:
    predictor = Predictor.of(checkpoint)
    sample = predictor.start(5, 2)
    assert predictor.truth_frames(sample, 7) == (3, 4)
    np.testing.assert_allclose(predictor.times_after(sample, 4), [0.3, 0.4, 0.5, 0.6], rtol=1e-6)
    assert predictor.rollout(sample, 4).values.shape == (4, 1, 256)
    assert predictor.truth(sample, 4).shape == (2, 1, 256)


def test_a_predictor_takes_the_statistics_of_the_run_to_another_store(checkpoint: Checkpoint, convert_source) -> None:
    other = convert_source(MemorySource.grid([10 * wave_frames((16, 16), seed=4)], periodic=True, splits=["train"]))
    predictor = Predictor.of(checkpoint, other, split="train")
    np.testing.assert_array_equal(
        predictor.start(0).normalisers.input.mean, Predictor.of(checkpoint).start(5).normalisers.input.mean
    )


def test_starts_that_are_not_there_are_refused(checkpoint: Checkpoint) -> None:
    predictor = Predictor.of(checkpoint)
    with pytest.raises(DatasetError, match="begin at frames 0 to 3, got 4"):
        predictor.start(5, 4)
    with pytest.raises(DatasetError, match=r"not of the split 'test', whose trajectories are \(5,\)"):
        predictor.start(0)


def test_a_steady_problem_is_predicted_and_has_no_rollout(make_config, checkpoint: Checkpoint) -> None:
    steady = make_config(data={**make_config().data.model_dump(mode="json"), "window": {"lead": 0}})
    header = checkpoint.header.model_copy(update={"config": steady})
    predictor = Predictor.of(Checkpoint(header=header, model=checkpoint.model, average={}, optimizer={}))
    sample = predictor.start(5)
    assert predictor.predict(sample).shape == (1, 256)
    with pytest.raises(ConfigError, match="a steady problem has no rollout"):
        predictor.rollout(sample, 2)


def test_super_resolution_refines_the_grid_of_the_input(checkpoint: Checkpoint) -> None:
    predictor = Predictor.of(checkpoint)
    sample = predictor.start(5)
    fine = predictor.refine(sample, 2)
    assert fine.shape == (32, 32)
    coarse = predictor.predict(sample).reshape(1, 16, 16)
    found = predictor.predict(sample, points=fine).reshape(1, 32, 32)
    np.testing.assert_allclose(found[:, ::2, ::2], coarse, rtol=1e-3, atol=1e-4)
