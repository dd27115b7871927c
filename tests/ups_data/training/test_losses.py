from collections import Counter
from collections.abc import Mapping

import numpy as np
import pydantic
import pytest
import torch

import ups_data
from tests.memory_source import MemorySource, wave_frames
from tests.ups_data.models.cases import SMALL, batch_of, dataset_of, model_of
from ups_data.errors import ConfigError
from ups_data.models import GridEncoderConfig, NeuralOperator, ProblemSpec
from ups_data.samplers import Sampler
from ups_data.training import (
    LossConfig,
    compute_operator_loss_bundle,
    inverse_decoding_loss,
    spectral_loss,
    weighted_loss,
)

BOTH_TERMS = LossConfig(lambda_forward=1.0, lambda_inv_enc=0.5)
EVERY_TERM = LossConfig(
    lambda_inv_enc=0.5, lambda_inv_dec=0.5, inv_dec_ratio=1.0, lambda_spectral=0.5, spectral_modes=2
)
DRAWS = 200
DRAWS_OF_TERMS = 64  # each of them with a gradient for every term


def gradient_of(model: NeuralOperator, batch: ups_data.SparseBatch, config: LossConfig) -> torch.Tensor:
    total = compute_operator_loss_bundle(model, batch, config).total
    parts = torch.autograd.grad(total, list(model.parameters()))
    return torch.cat([total.detach()[None], *(part.flatten() for part in parts)])


def gradients_by_term(model: NeuralOperator, batch: ups_data.SparseBatch) -> dict[str, torch.Tensor]:
    """Return the value and the gradient of each term."""
    found = {}
    for name, term in compute_operator_loss_bundle(model, batch, BOTH_TERMS).components.items():
        parts = torch.autograd.grad(term, list(model.parameters()), retain_graph=True, materialize_grads=True)
        found[name] = torch.cat([term.detach()[None], *(part.flatten() for part in parts)])
    return found


def shaken(dataset: ups_data.QueryDataset) -> NeuralOperator:
    """Return a model whose adaptive norms are not at their start, so that all its weights matter."""
    model = model_of(dataset)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


@pytest.mark.parametrize("geometry", ["line", "plane", "cloud"])
@pytest.mark.parametrize("kind", ["mean_squared", "relative_squared"])
def test_at_ratio_one_every_sampler_gives_the_dense_loss(
    stores: Mapping[str, ups_data.Store],
    geometry: str,
    kind: str,
) -> None:
    config = EVERY_TERM.model_copy(update={"kind": kind})
    samplers: list[Sampler] = [
        ups_data.UniformSampler(1.0),
        ups_data.BalancedSampler(1.0),
        ups_data.ImportanceSampler(1.0),
    ]
    dense = dataset_of(stores[geometry], ups_data.DenseSampler())
    model = shaken(dense)
    expected = gradient_of(model, batch_of(dense, 2), config)
    for sampler in samplers:
        found = gradient_of(model, batch_of(dataset_of(stores[geometry], sampler), 2), config)
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["UniformSampler", "BalancedSampler", "ImportanceSampler"])
def test_inverse_loss_with_sampling(stores: Mapping[str, ups_data.Store], name: str) -> None:
    """Sparse losses and their gradients are the dense ones in the mean over draws, each term by itself."""
    dense = dataset_of(stores["plane"], ups_data.DenseSampler(), dtype="float64")
    sparse = dataset_of(stores["plane"], getattr(ups_data, name)(0.25), dtype="float64")
    model = shaken(dense).double()
    expected = gradients_by_term(model, batch_of(dense, 1))
    assert list(expected) == ["L_forward", "L_rollout", "L_inv_enc"]
    # Directions of the gradient on which every weight has its say, and the loss itself.
    directions = np.random.default_rng(0).normal(size=(4, len(expected["L_forward"])))
    directions[0], directions[0, 0] = 0.0, 1.0
    found: dict[str, list[np.ndarray]] = {term: [] for term in expected}
    for epoch in range(DRAWS_OF_TERMS):
        batch = ups_data.collate_samples([sparse.sample(0, epoch=epoch)])
        for term, gradient in gradients_by_term(model, batch).items():
            found[term].append(directions @ gradient.numpy())
    for term, draws in found.items():
        errors = np.mean(draws, axis=0) - directions @ expected[term].numpy()
        spread = np.std(draws, axis=0, ddof=1)
        assert (spread > 1e-9).all(), term
        # Draws that walk through the pages are dependent and err less than independent ones would.
        assert (np.abs(errors) < 4 * spread / np.sqrt(DRAWS_OF_TERMS)).all(), term


def test_a_loss_without_weights_would_be_biased(stores: Mapping[str, ups_data.Store]) -> None:
    """The test above can fail: with weights left out the importance draw errs by many standard errors."""
    sampler = ups_data.ImportanceSampler(0.1, uniform_share=0.0)
    dense, sparse = (dataset_of(stores["space"], part) for part in (ups_data.DenseSampler(), sampler))
    model = shaken(dense)
    with torch.no_grad():
        expected = float(compute_operator_loss_bundle(model, batch_of(dense, 1), LossConfig()).total)
        plain = []
        for epoch in range(DRAWS):
            batch = ups_data.collate_samples([sparse.sample(0, epoch=epoch)])
            plain.append(float((model(batch) - batch.query_targets).square().mean()))
    standard_error = np.std(plain, ddof=1) / np.sqrt(DRAWS)
    assert abs(np.mean(plain) - expected) > 4 * standard_error


def test_padding_and_filling_samples_do_not_count() -> None:
    predicted, target = torch.zeros(2, 1, 3, 1), torch.tensor([[[[1.0], [2.0], [9.0]]], [[[5.0], [5.0], [5.0]]]])
    weights = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    assert float(weighted_loss(predicted, target, weights)) == pytest.approx(2.5)
    assert float(weighted_loss(predicted, target, weights, kind="relative_squared")) == pytest.approx(1.0)
    assert float(weighted_loss(predicted, target, torch.zeros(2, 3))) == 0.0


@pytest.mark.parametrize("geometry", ["line", "plane", "cloud"])
def test_samples_that_fill_a_batch_change_neither_loss_nor_gradient(
    stores: Mapping[str, ups_data.Store], geometry: str
) -> None:
    dataset = dataset_of(stores[geometry])
    config = SMALL if geometry == "cloud" else SMALL.model_copy(update={"residual": True})
    model, samples = model_of(dataset, config), [dataset[0], dataset[1]]
    alone, filled = (ups_data.collate_samples(samples, num_padding=count) for count in (0, 2))
    expected, found = (gradient_of(model, batch, EVERY_TERM) for batch in (alone, filled))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_relative_losses_of_a_zero_field_stay_finite() -> None:
    predicted, weights = torch.full((1, 1, 2, 1), 3.0, requires_grad=True), torch.full((1, 2), 0.5)
    loss = weighted_loss(predicted, torch.zeros(1, 1, 2, 1), weights, kind="relative_squared")
    loss.backward()
    assert float(loss.detach()) == pytest.approx(9.0)
    assert predicted.grad is not None
    assert torch.isfinite(predicted.grad).all()


def test_terms_have_their_names_and_weights(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = dataset_of(stores["plane"])
    model, batch = shaken(dataset), batch_of(dataset)
    bundle = compute_operator_loss_bundle(model, batch, BOTH_TERMS)
    assert list(bundle.components) == ["L_forward", "L_rollout", "L_inv_enc"]
    parts = bundle.components
    torch.testing.assert_close(bundle.total, parts["L_forward"] + parts["L_rollout"] + 0.5 * parts["L_inv_enc"])
    single = batch_of(dataset_of(stores["plane"], window=ups_data.Window()))
    assert list(compute_operator_loss_bundle(model, single, LossConfig()).components) == ["L_forward"]


def test_the_inverse_loss_needs_targets_among_the_inputs(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = dataset_of(stores["plane"], input_fields=["u0"], target_fields=["u1"])
    with pytest.raises(ConfigError, match="'u1' is no input field"):
        compute_operator_loss_bundle(model_of(dataset), batch_of(dataset), BOTH_TERMS)


def test_errors_of_single_points_are_handed_out(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = dataset_of(stores["cloud"], dtype="float64")
    model, batch = shaken(dataset).double(), batch_of(dataset)
    found = compute_operator_loss_bundle(model, batch, LossConfig())
    assert found.per_query is not None
    assert not found.per_query.requires_grad
    expected = (model(batch) - batch.query_targets).square().mean(dim=(1, 3)) * batch.query_mask
    torch.testing.assert_close(found.per_query, expected.detach())
    mean = (found.components["L_forward"] + found.components["L_rollout"]) / 2
    torch.testing.assert_close((found.per_query * batch.query_weights).sum(dim=1).mean(), mean.detach())
    only_inverse = LossConfig(lambda_forward=0.0, lambda_rollout=0.0, lambda_inv_enc=1.0)
    assert compute_operator_loss_bundle(model, batch, only_inverse).per_query is None


# -- the inverse decoding loss ---------------------------------------------------------------------------------------


def lattice_stores(convert_source, shape: tuple[int, ...]) -> ups_data.Store:
    frames = [wave_frames(shape, num_frames=3, num_channels=2, seed=seed) for seed in range(2)]
    return convert_source(MemorySource.grid(frames, periodic=(True, False)[: len(shape)]), page_points=8)


@pytest.mark.parametrize("shape", [(48,), (36, 40)])
def test_boxes_of_tokens_are_those_of_the_whole_grid_and_average_to_the_dense_loss(convert_source, shape) -> None:
    """All boxes, each once: their mean is the dense loss, and so is that of the gradients."""
    dataset = dataset_of(lattice_stores(convert_source, shape), split="train", dtype="float64")
    config = SMALL.model_copy(update={"grid_encoder": GridEncoderConfig(patch=4, stem_blocks=0)})
    model, batch = model_of(dataset, config).double(), batch_of(dataset, 2)
    latent = model.encode(batch)

    def of(**options: object) -> torch.Tensor:
        loss = inverse_decoding_loss(model, latent, batch, **options)
        parts = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
        return torch.cat([loss.detach()[None], *(part.flatten() for part in parts if part is not None)])

    dense = of(ratio=1.0)
    found: dict[float, torch.Tensor] = {}
    counts: Counter[float] = Counter()
    num_steps = 400
    for step in range(num_steps):
        part = of(ratio=0.5, step=step)
        found[float(part[0])] = part
        counts[float(part[0])] += 1
    assert len(found) > 2
    torch.testing.assert_close(torch.stack(list(found.values())).mean(dim=0), dense, rtol=1e-9, atol=1e-12)
    # Every box comes as often as the others: chi-square with len - 1 degrees of freedom.
    wanted = num_steps / len(found)
    assert sum((count - wanted) ** 2 / wanted for count in counts.values()) < 3 * len(found) + 10


def test_a_tenth_of_a_grid_is_all_that_is_decoded(convert_source, monkeypatch) -> None:
    dataset = dataset_of(lattice_stores(convert_source, (128, 120)))
    model, batch = model_of(dataset), batch_of(dataset, 1)
    decoded = []
    decode = model.decode
    monkeypatch.setattr(
        model, "decode", lambda latent, points: decoded.append(points.shape[1]) or decode(latent, points)
    )
    latent = model.encode(batch)
    for step in range(5):
        inverse_decoding_loss(model, latent, batch, ratio=0.1, step=step)
    assert len(set(decoded)) == 1  # of constant shape, for compilers
    assert 0.03 < decoded[0] / (128 * 120) <= 0.1


def test_drawn_points_of_a_cloud_stand_for_all_of_it(stores: Mapping[str, ups_data.Store]) -> None:
    dense = dataset_of(stores["cloud"], ups_data.DenseSampler(), dtype="float64")
    model = shaken(dense).double()
    whole = batch_of(dense, 1)
    expected = inverse_decoding_loss(model, model.encode(whole), whole)
    latent = model.encode(whole)
    # Dense, by hand: decode at every node, encode again.
    channels = list(model.problem.target_channels_in_input())
    inputs = whole.inputs.clone()
    inputs[:, -1, channels] = model.decode(latent, whole.input_coords).transpose(1, 2)
    again = model.encoder(inputs, whole.input_coords)
    assert latent.occupied is not None
    by_hand = (again.values - latent.values).square().mean(dim=-1)[latent.occupied].mean()
    torch.testing.assert_close(expected, by_hand)
    errors = []
    for ratio in (0.2, 0.6):
        sparse = dataset_of(stores["cloud"], ups_data.BalancedSampler(ratio), dtype="float64")
        batches = [ups_data.collate_samples([sparse.sample(0, epoch=epoch)]) for epoch in range(20)]
        found = [float(inverse_decoding_loss(model, model.encode(part), part).detach()) for part in batches]
        errors.append(np.mean(found) - float(expected.detach()))
    assert errors[0] > errors[1] > 0  # larger by the variance of the tokens, as the docstring says


# -- the spectral loss -----------------------------------------------------------------------------------------------


def test_all_modes_of_a_periodic_grid_are_the_mean_squared_error(convert_source) -> None:
    source = MemorySource.grid([wave_frames((9, 7), num_frames=2, seed=1)], periodic=True)
    dataset = dataset_of(
        convert_source(source, page_points=4), ups_data.DenseSampler(), window=ups_data.Window(), dtype="float64"
    )
    batch = batch_of(dataset, 1)
    points = ProblemSpec.of(dataset).unit_coordinates(batch.query_coords)
    target = batch.query_targets
    predicted = target + torch.randn(target.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = np.empty((9, 7))
    errors.reshape(-1)[batch.query_index[0].numpy()] = (predicted - target)[0, 0, :, 0].numpy()
    coefficients = np.fft.fftn(errors) / errors.size
    low = np.ix_([0, 1, 2, -1, -2], [0, 1, 2, -1, -2])
    found = spectral_loss(predicted, target, batch.query_weights, points, modes=2)
    assert float(found) == pytest.approx((np.abs(coefficients[low]) ** 2).sum(), rel=1e-9)
    relative = spectral_loss(predicted, target, batch.query_weights, points, modes=2, kind="relative_squared")
    size = spectral_loss(torch.zeros_like(target), target, batch.query_weights, points, modes=2)
    assert float(relative) == pytest.approx(float(found / size))


# -- over the run ----------------------------------------------------------------------------------------------------


def test_inverse_terms_warm_up_and_are_capped() -> None:
    config = LossConfig(lambda_inv_enc=0.4, lambda_inv_dec=0.02, inverse_loss_warmup_steps=100)
    assert config.weights(99) == {"L_forward": 1.0, "L_rollout": 1.0}
    assert config.weights(150)["L_inv_enc"] == pytest.approx(0.2)
    assert config.weights(200)["L_inv_enc"] == config.weights(10**6)["L_inv_enc"] == pytest.approx(0.4)
    capped = config.model_copy(update={"inverse_loss_max_weight": 0.05})
    assert capped.weights(10**6)["L_inv_enc"] == pytest.approx(0.05)
    assert capped.weights(10**6)["L_inv_dec"] == pytest.approx(0.02)


def test_weights_and_the_length_of_rollouts_follow_ramps(stores: Mapping[str, ups_data.Store]) -> None:
    ramp = {"schedule": "linear", "start": 1.0, "end": 3.0, "steps": 100}
    config = LossConfig.model_validate({"rollout_length": ramp, "lambda_spectral": {**ramp, "start": 0.0, "end": 1.0}})
    assert [config.num_frames(3, step) for step in (0, 49, 50, 99, 100, 10**9)] == [1, 1, 2, 2, 3, 3]
    assert config.num_frames(2, 100) == 2
    assert "L_spec" not in config.weights(0)
    assert config.weights(25)["L_spec"] == pytest.approx(0.25)
    dataset = dataset_of(stores["line"])
    model, batch = model_of(dataset), batch_of(dataset)
    assert "L_rollout" not in compute_operator_loss_bundle(model, batch, config, step=0).components
    assert "L_rollout" in compute_operator_loss_bundle(model, batch, config, step=50).components


@pytest.mark.parametrize(
    ("ramp", "fault"),
    [
        ({"schedule": "linear", "start": -1.0, "end": 1.0, "steps": 5}, "no negative end"),
        ({"schedule": "exponential", "start": 0.0, "end": 1.0, "steps": 5}, "positive ends"),
        ({"schedule": "linear", "start": 1.0, "end": 1.0, "steps": 0}, "greater than or equal to 1"),
    ],
)
def test_ramps_that_make_no_sense_are_refused(ramp, fault) -> None:
    with pytest.raises(pydantic.ValidationError, match=fault):
        LossConfig.model_validate({"lambda_forward": ramp})


@pytest.mark.parametrize("geometry", ["line", "plane", "space", "cloud"])
def test_every_geometry_trains_on_every_term(stores: Mapping[str, ups_data.Store], geometry: str) -> None:
    dataset = dataset_of(stores[geometry])
    model, batch = model_of(dataset), batch_of(dataset)
    bundle = compute_operator_loss_bundle(model, batch, EVERY_TERM)
    assert set(bundle.components) == {"L_forward", "L_rollout", "L_inv_enc", "L_inv_dec", "L_spec"}
    bundle.total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
