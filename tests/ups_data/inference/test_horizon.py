"""Errors of rollouts by step, against the evaluation and plain formulas; spectra of known fields."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.memory_source import MemorySource, wave_frames
from ups_data.dataset import QueryDataset
from ups_data.errors import DatasetError
from ups_data.inference import Predictor, RolloutPlan, power_spectrum, rollout_errors
from ups_data.inference.spectra import uniform_lengths
from ups_data.samplers import DenseSampler
from ups_data.training import Checkpoint, TrainConfig, evaluate, train


@pytest.fixture(scope="module")
def predictor(make_config: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder: Path = tmp_path_factory.mktemp("run")
    train(make_config(), output=folder)
    return Predictor.of(Checkpoint.load(folder / "last.safetensors"), split="train")


STARTS = ((0, 0), (1, 0), (3, 1))


def test_the_first_step_has_the_errors_of_the_evaluation(predictor: Predictor) -> None:
    (step,) = rollout_errors(predictor, STARTS, 1)
    dataset = predictor.dataset
    dense = QueryDataset(dataset.store, sampler=DenseSampler(), split="train", window=dataset.window)
    samples = [dense.samples_of(trajectory)[frame] for trajectory, frame in STARTS]
    expected = evaluate(predictor.model, dense, samples=samples)
    assert step.relative_l2 == pytest.approx(expected.relative_l2, rel=1e-5)
    assert step.vrmse == pytest.approx(expected.vrmse, rel=1e-5)
    assert step.nrmse == pytest.approx(expected.nrmse, rel=1e-5)


@pytest.mark.parametrize("plan", [RolloutPlan(), RolloutPlan(reencode_every=None)], ids=["physical", "latent"])
def test_each_step_is_held_against_its_own_frame(predictor: Predictor, plan: RolloutPlan) -> None:
    found = rollout_errors(predictor, STARTS, 3, plan=plan)
    assert [step.step for step in found] == [1, 2, 3]
    ratios, held, powers = np.zeros((3, 3)), np.zeros((3, 3)), np.zeros((3, 3, 3))
    for row, (trajectory, frame) in enumerate(STARTS):
        sample = predictor.start(trajectory, frame)
        answer = predictor.rollout(sample, 3, plan=plan).values
        truth = predictor.truth(sample, 3).reshape(answer.shape)
        before = predictor.dataset.store.read_frames(trajectory, (frame,), (0,)).reshape(1, *answer.shape[1:])
        powers[row] = [np.square(part).mean(axis=(1, 2)) for part in (answer, truth, answer - truth)]
        size = np.linalg.norm(truth, axis=(1, 2))
        ratios[row] = np.linalg.norm(answer - truth, axis=(1, 2)) / size
        held[row] = np.linalg.norm(before - truth, axis=(1, 2)) / size
    assert [step.relative_l2 for step in found] == pytest.approx(ratios.mean(axis=0), rel=1e-4)
    # The bands of a spectrum add up to the mean square (Parseval).
    spectra = [step.spectra["u0"] for step in found]
    sums = [[sum(getattr(part, kind)) for part in spectra] for kind in ("predicted", "truth", "error")]
    np.testing.assert_allclose(sums, powers.mean(axis=0), rtol=1e-4)
    assert [step.persistence for step in found] == pytest.approx(held.mean(axis=0), rel=1e-4)


def test_what_the_store_does_not_have_is_refused(predictor: Predictor) -> None:
    with pytest.raises(DatasetError, match=r"from frame 1 of trajectory 3 the store goes on for 3 steps, and 4 were"):
        rollout_errors(predictor, STARTS, 4)
    with pytest.raises(DatasetError, match="at least one start"):
        rollout_errors(predictor, (), 1)


def test_a_wave_has_the_power_of_its_band_and_all_add_up_to_the_mean_square() -> None:
    x, y = np.meshgrid(np.arange(16) / 16 * 2.0, np.arange(12) / 12, indexing="ij")
    wave = 3 * np.sin(2 * np.pi * (3 * x / 2.0 + 2 * y)) + 0.5
    numbers, powers = power_spectrum(wave[None], (2.0, 1.0))
    # |k| = sqrt(1.5^2 + 2^2) = 2.5 cycles per unit of length, in bands of 0.5.
    np.testing.assert_allclose(numbers[:7], [0, 0.5, 1, 1.5, 2, 2.5, 3])
    expected = np.zeros_like(powers)
    expected[0], expected[5] = 0.25, 4.5
    np.testing.assert_allclose(powers, expected, atol=1e-12)
    random = np.random.default_rng(0).standard_normal((2, 9, 8, 5))
    _, powers = power_spectrum(random, (1.0, 2.0, 3.0))
    assert powers.sum() == pytest.approx(np.square(random).mean(axis=(1, 2, 3)).sum(), rel=1e-12)


def test_there_are_spectra_on_uniform_periodic_grids_alone(convert_source) -> None:
    frames = [wave_frames((8, 6))]
    periodic = convert_source(MemorySource.grid(frames, periodic=True, splits=["train"]), page_points=4, num_strata=1)
    assert uniform_lengths(periodic, 0) == tuple(axis.upper - axis.lower for axis in periodic.manifest.geometry.axes)
    wall = convert_source(MemorySource.grid(frames, splits=["train"]), page_points=4, num_strata=1)
    assert uniform_lengths(wall, 0) is None
