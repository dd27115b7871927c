from collections.abc import Mapping

import numpy as np
import pytest
import torch

import ups_data
from tests.ups_data.models.cases import batch_of, dataset_of, model_of
from ups_data.errors import ConfigError
from ups_data.models import NeuralOperator
from ups_data.samplers import Sampler
from ups_data.training import LossConfig, compute_operator_loss_bundle, weighted_loss

BOTH_TERMS = LossConfig(lambda_forward=1.0, lambda_inv_enc=0.5)
DRAWS = 200


def gradient_of(model: NeuralOperator, batch: ups_data.SparseBatch, config: LossConfig) -> torch.Tensor:
    total = compute_operator_loss_bundle(model, batch, config).total
    parts = torch.autograd.grad(total, list(model.parameters()))
    return torch.cat([total.detach()[None], *(part.flatten() for part in parts)])


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
    config = BOTH_TERMS.model_copy(update={"kind": kind})
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
    """Sparse losses and their gradients are the dense ones in the mean over draws, both terms together."""
    dense = dataset_of(stores["plane"], ups_data.DenseSampler(), dtype="float64")
    sparse = dataset_of(stores["plane"], getattr(ups_data, name)(0.25), dtype="float64")
    model = shaken(dense).double()
    expected = gradient_of(model, batch_of(dense, 1), BOTH_TERMS).numpy()
    # Directions of the gradient on which every weight has its say, and the loss itself.
    directions = np.random.default_rng(0).normal(size=(4, len(expected)))
    directions[0] = np.eye(len(expected))[0]
    found = np.array(
        [
            directions
            @ gradient_of(model, ups_data.collate_samples([sparse.sample(0, epoch=epoch)]), BOTH_TERMS).numpy()
            for epoch in range(DRAWS)
        ]
    )
    errors = found.mean(axis=0) - directions @ expected
    spread = found.std(axis=0, ddof=1)
    assert (spread > 1e-9).all()
    # Draws that walk through the pages are dependent and err less than independent ones would.
    assert (np.abs(errors) < 4 * spread / np.sqrt(DRAWS)).all()


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
    assert list(bundle.components) == ["L_forward", "L_inv_enc"]
    expected = bundle.components["L_forward"] + 0.5 * bundle.components["L_inv_enc"]
    torch.testing.assert_close(bundle.total, expected)
    assert list(compute_operator_loss_bundle(model, batch, LossConfig()).components) == ["L_forward"]


def test_the_inverse_loss_needs_targets_among_the_inputs(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = dataset_of(stores["plane"], input_fields=["u0"], target_fields=["u1"])
    with pytest.raises(ConfigError, match="'u1' is no input field"):
        compute_operator_loss_bundle(model_of(dataset), batch_of(dataset), BOTH_TERMS)
