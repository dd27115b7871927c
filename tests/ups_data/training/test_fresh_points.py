"""Losses, models and training where each target frame has points of its own."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

import ups_data
from tests.ups_data.models.cases import SMALL, dataset_of, model_of
from ups_data.inference import RolloutPlan, rollout
from ups_data.models import NeuralOperator
from ups_data.samplers import Sampler
from ups_data.training import LossConfig, TrainConfig, compute_operator_loss_bundle, evaluate, train

FRESH = ups_data.Window(targets=3, points="fresh")
SAME = ups_data.Window(targets=3)
RESIDUAL = SMALL.model_copy(update={"residual": True})
EVERY_TERM = LossConfig(
    lambda_inv_enc=0.5, lambda_inv_dec=0.5, inv_dec_ratio=1.0, lambda_spectral=0.5, spectral_modes=2
)


def shaken(dataset: ups_data.QueryDataset, geometry: str) -> NeuralOperator:
    """Return a model all of whose weights matter; a residual one where it can be."""
    model = model_of(dataset, SMALL if geometry == "cloud" else RESIDUAL).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


def made(store: ups_data.Store, sampler: Sampler, window: ups_data.Window = FRESH) -> ups_data.QueryDataset:
    return dataset_of(store, sampler, window=window, dtype="float64")


def gradient_of(model: NeuralOperator, batch: ups_data.SparseBatch, config: LossConfig) -> torch.Tensor:
    """Return the loss and its derivatives."""
    total = compute_operator_loss_bundle(model, batch, config).total
    parts = torch.autograd.grad(total, list(model.parameters()))
    return torch.cat([total.detach()[None], *(part.flatten() for part in parts)])


@pytest.mark.parametrize("geometry", ["plane", "cloud"])
@pytest.mark.parametrize("kind", ["mean_squared", "relative_squared"])
def test_at_ratio_one_losses_and_gradients_are_the_dense_ones(
    stores: Mapping[str, ups_data.Store], geometry: str, kind: str
) -> None:
    dense = made(stores[geometry], ups_data.DenseSampler(), SAME)
    model = shaken(dense, geometry)
    config = EVERY_TERM.model_copy(update={"kind": kind})
    expected = gradient_of(model, ups_data.collate_samples(dense.samples([0, 1])), config)
    for sampler in (ups_data.DenseSampler(), ups_data.UniformSampler(1.0), ups_data.ImportanceSampler(1.0)):
        batch = ups_data.collate_samples(made(stores[geometry], sampler).samples([0, 1]), num_padding=1)
        assert batch.has_fresh_points
        torch.testing.assert_close(gradient_of(model, batch, config), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("geometry", ["plane", "cloud"])
def test_gradients_are_unbiased(stores: Mapping[str, ups_data.Store], geometry: str) -> None:
    """Enumerated: over the walk of each frame through its pages, the mean of loss and gradient is the dense one."""
    store = stores[geometry]
    dense, sparse = (made(store, part) for part in (ups_data.DenseSampler(), ups_data.ImportanceSampler(0.25)))
    model = shaken(dense, geometry)
    config = LossConfig(lambda_rollout=0.5, lambda_inv_enc=0.25)
    expected = gradient_of(model, ups_data.collate_samples([dense[0]]), config)
    epochs = int(np.lcm.reduce(store.layout(0).stratum_pages))
    found = [
        gradient_of(model, ups_data.collate_samples([sparse.sample(0, epoch=epoch)]), config) for epoch in range(epochs)
    ]
    assert torch.stack(found).std(dim=0).max() > 1e-3
    torch.testing.assert_close(torch.stack(found).mean(dim=0), expected, rtol=1e-7, atol=1e-9)


def test_frames_are_answered_at_their_own_points(stores: Mapping[str, ups_data.Store]) -> None:
    dense, sparse = (made(stores["plane"], part) for part in (ups_data.DenseSampler(), ups_data.ImportanceSampler(0.4)))
    model = shaken(dense, "plane")
    everywhere, drawn = (ups_data.collate_samples(part.samples([0, 1])) for part in (dense, sparse))
    full = torch.empty(2, 3, 128, 2, dtype=torch.float64)
    spread = everywhere.query_index.long()[..., None].expand(-1, -1, -1, 2)
    full.scatter_(2, spread, model(everywhere).detach())
    found = model.predict(drawn, query_chunk=20)
    picked = full.gather(2, drawn.query_index.long().clamp(min=0)[..., None].expand(-1, -1, -1, 2))
    mask = drawn.query_mask[..., None]
    torch.testing.assert_close(found * mask, picked * mask)
    torch.testing.assert_close(model(drawn).detach(), found)


def test_errors_of_single_points_come_frame_by_frame(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = made(stores["cloud"], ups_data.ImportanceSampler(0.5))
    model = shaken(dataset, "cloud")
    batch = ups_data.collate_samples(dataset.samples([0, 1]))
    expected = ((model(batch) - batch.query_targets).square().mean(dim=3) * batch.query_mask).detach()
    whole = compute_operator_loss_bundle(model, batch, LossConfig())
    assert whole.per_query is not None
    torch.testing.assert_close(whole.per_query, expected)
    mean = (whole.components["L_forward"] + 2 * whole.components["L_rollout"]) / 3
    torch.testing.assert_close((expected * batch.query_weights).sum(dim=2).mean(), mean.detach())
    short = compute_operator_loss_bundle(model, batch, LossConfig(rollout_length=2))
    assert short.per_query is not None
    torch.testing.assert_close(short.per_query, expected[:, :2])


def test_dense_errors_do_not_depend_on_how_points_are_told(stores: Mapping[str, ups_data.Store]) -> None:
    same, fresh = (made(stores["cloud"], ups_data.DenseSampler(), window) for window in (SAME, FRESH))
    model = shaken(same, "cloud")
    one, other = (evaluate(model, dataset, batch_size=2).to_dict() for dataset in (same, fresh))
    assert one["relative_l2"] == pytest.approx(other["relative_l2"], rel=1e-9)
    assert one["vrmse"] == pytest.approx(other["vrmse"], rel=1e-9)


def test_rollouts_start_from_samples_with_fresh_points(stores: Mapping[str, ups_data.Store]) -> None:
    sampler = ups_data.AdaptiveSampler(0.5)
    same, fresh = (dataset_of(stores["plane"], sampler, window=window) for window in (SAME, FRESH))
    model = model_of(same, RESIDUAL)
    plan = RolloutPlan(reencode_every=None)
    times = same[0].target_times.tolist()
    one, other = (rollout(model, dataset[0], times, plan=plan).values for dataset in (same, fresh))
    np.testing.assert_array_equal(one, other)


ADAPTIVE = {"kind": "adaptive", "ratio": 0.25, "feedback": {"every": 5, "lag": 5, "warmup": 10}}


@pytest.mark.parametrize("changes", [{}, {"sampler": ADAPTIVE}], ids=["maps", "adaptive"])
def test_training_with_fresh_points(make_config: Callable[..., TrainConfig], changes: dict[str, object]) -> None:
    """On a quarter of the points of each of three frames: the error of an untrained model goes down by a tenth."""
    config = make_config(
        steps=60,
        evaluations=1,
        data={
            "store": make_config().data.store,
            "batch_size": 4,
            "test_split": "train",
            "window": {"targets": 3, "points": "fresh"},
        },
        model={"width": 16, "grid_encoder": {"patch": 4}, "residual": True},
        optimizer={"learning_rate": 5e-3},
        loss={"rollout_length": {"schedule": "linear", "start": 1, "end": 3, "steps": 30}},
        **changes,
    )
    result = train(config)
    start = train(config.with_changes(steps=1)).errors.relative_l2
    assert result.errors.relative_l2 < 0.9 * start
