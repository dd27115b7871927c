from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

import ups_data
from tests.memory_source import MemorySource, wave_frames
from tests.ups_data.models.cases import SMALL, batch_of, dataset_of, model_of
from ups_data.errors import ConfigError
from ups_data.inference import PointSet, RolloutPlan, iterate_rollout, rollout

LATENT = RolloutPlan(reencode_every=None)
RESIDUAL = SMALL.model_copy(update={"residual": True})


def dense_answer(model, batch: ups_data.SparseBatch) -> torch.Tensor:
    """Return the answer (T, C, N) of a batch of one, in the order of point ids."""
    answer = model.predict(batch)[0]
    placed = torch.empty_like(answer)
    placed[:, batch.query_index[0].long()] = answer
    return placed.transpose(1, 2)


@pytest.mark.parametrize(("geometry", "config"), [("plane", RESIDUAL), ("cloud", SMALL)])
def test_a_rollout_in_latent_space_is_the_models_own(stores, geometry: str, config) -> None:
    dataset = dataset_of(stores[geometry], ups_data.DenseSampler(), window=ups_data.Window(targets=3))
    model, sample = model_of(dataset, config), dataset[0]
    batch = batch_of(dataset, 1)
    found = rollout(model, sample, sample.target_times.tolist(), plan=LATENT)
    expected = batch.denormalize(dense_answer(model, batch), channel_dim=1)
    np.testing.assert_allclose(found.values, expected.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.times, sample.target_times.numpy())


@pytest.mark.parametrize(("geometry", "config"), [("plane", RESIDUAL), ("space", SMALL), ("cloud", SMALL)])
def test_a_rollout_in_physical_space_shifts_the_window(stores, geometry: str, config) -> None:
    """Against a plain loop: predict one frame everywhere, drop the oldest input, append the answer, with its time."""
    window = ups_data.Window(inputs=2, targets=1)
    dataset = dataset_of(stores[geometry], ups_data.DenseSampler(), window=window)
    model, sample, batch = model_of(dataset, config), dataset[0], batch_of(dataset, 1)
    times, expected = [0.2, 0.35, 0.4], []
    for time in times:
        batch.target_times.fill_(time)
        frame = dense_answer(model, batch)[0]
        expected.append(batch.denormalize(frame, channel_dim=0).numpy())
        batch.inputs.copy_(torch.cat([batch.inputs[0, 1:], frame.reshape(batch.inputs.shape[2:])[None]])[None])
        batch.input_times.copy_(torch.tensor([[float(batch.input_times[0, 1]), time]]))
    found = rollout(model, sample, times)
    np.testing.assert_allclose(found.values, np.stack(expected), rtol=1e-3, atol=1e-4)


def test_encoding_anew_now_and_then_is_both(stores) -> None:
    dataset = dataset_of(stores["plane"], ups_data.DenseSampler())
    model, sample, times = model_of(dataset, RESIDUAL), dataset[0], [0.1, 0.2, 0.3, 0.4]
    latent, physical = rollout(model, sample, times, plan=LATENT), rollout(model, sample, times)
    mixed = list(iterate_rollout(model, sample, times, plan=RolloutPlan(reencode_every=2)))
    np.testing.assert_array_equal(np.stack([state.answer() for state in mixed[:2]]), latent.values[:2])
    again = rollout(model, mixed[1].reencode().seen, times[2:], plan=LATENT)
    np.testing.assert_array_equal(np.stack([state.answer() for state in mixed[2:]]), again.values)
    assert np.abs(physical.values[1] - latent.values[1]).max() > 1e-3


def test_a_rollout_answers_at_other_points(stores) -> None:
    store = stores["plane"]
    dataset = dataset_of(store, ups_data.DenseSampler())
    model, sample = model_of(dataset, RESIDUAL), dataset[0]
    fine = PointSet.grid(*store.axes(0)).refine(2, lower=(0.0, 0.0), upper=(1.0, 1.0), periodic=(True, False))
    coarse = rollout(model, sample, [0.1, 0.2])
    found = rollout(model, sample, [0.1, 0.2], points=fine)
    nodes = found.values.reshape(2, 2, *fine.shape)[:, :, ::2, ::2]
    np.testing.assert_allclose(nodes.reshape(coarse.values.shape), coarse.values, rtol=1e-3, atol=1e-4)


def test_parameters_and_steps_are_told(stores) -> None:
    dataset = dataset_of(stores["plane"], ups_data.DenseSampler())
    model, sample = model_of(dataset), dataset[0]
    with torch.no_grad():
        for parameter in model.latent_operator.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    plain = rollout(model, sample, [0.1, 0.2]).values
    other = rollout(model, replace(sample, parameters=sample.parameters + 1), [0.1, 0.2]).values
    later = rollout(model, sample, [0.1, 0.3]).values
    assert np.abs(plain - other).max() > 1e-5
    np.testing.assert_array_equal(plain[0], later[0])
    assert np.abs(plain[1] - later[1]).max() > 1e-5


def test_fields_that_are_not_predicted_are_held_only_if_told(stores) -> None:
    dataset = dataset_of(stores["plane"], ups_data.DenseSampler(), target_fields=["u1"])
    model, sample = model_of(dataset), dataset[0]
    with pytest.raises(ConfigError, match="reads the field 'u0' and does not predict it"):
        rollout(model, sample, [0.1])
    assert rollout(model, sample, [0.1], plan=LATENT).values.shape == (1, 1, 128)
    states = list(iterate_rollout(model, sample, [0.1, 0.2], plan=RolloutPlan(held_fields=("u0",))))
    before, after = sample.inputs, states[1].seen.inputs
    torch.testing.assert_close(after[0, 0], before[0, 0], rtol=0, atol=0)
    answer = torch.from_numpy(states[0].answer()).reshape(16, 8)
    normaliser = sample.normalisers.target
    torch.testing.assert_close(
        after[0, 1] * normaliser.scale[0] + normaliser.mean[0], answer.double(), check_dtype=False
    )


def test_values_stay_missing_where_they_were(convert_source) -> None:
    frames = wave_frames((16, 8), num_frames=3)
    frames[:, 0, 3:6, 2] = np.nan
    store = convert_source(MemorySource.grid([frames], splits=["train"], missing=["u0"]), page_points=4, num_strata=1)
    dataset = dataset_of(store, ups_data.DenseSampler(), window=ups_data.Window(inputs=2))
    *_, last = iterate_rollout(model_of(dataset), dataset[0], [0.2, 0.3, 0.4])
    assert last.seen.input_valid is not None
    assert torch.equal(last.seen.input_valid[-1], dataset[0].input_valid[-1])
    assert (last.seen.inputs[-1][~last.seen.input_valid[-1]] == 0).all()
    assert np.isfinite(last.answer()).all()


def test_times_that_do_not_rise_and_plans_that_are_none_are_refused(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = dataset_of(stores["plane"])
    model, sample = model_of(dataset), dataset[0]
    for times in ([], [0.0], [0.2, 0.1]):
        with pytest.raises(ConfigError, match="must rise from that of the last input, 0"):
            rollout(model, sample, times)
    with pytest.raises(ConfigError, match="reencode_every must be at least 1, or None"):
        RolloutPlan(reencode_every=0)
