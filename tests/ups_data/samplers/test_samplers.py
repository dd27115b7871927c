"""Every sampler: exact counts, unique points, weights that sum to 1, no bias, independent draws."""

from collections.abc import Callable

import numpy as np
import pytest

from ups_data.errors import SamplerError
from ups_data.pages import CellDraw, PageDraw, PageTable, build_pages, grid_order
from ups_data.samplers import (
    BalancedSampler,
    DenseSampler,
    DrawKey,
    ImportanceSampler,
    Linear,
    Sampler,
    StratifiedSampler,
    UniformSampler,
)

SHAPE = (48, 40)
NUM_POINTS = 48 * 40
NUM_DRAWS = 2000


def make_field() -> np.ndarray:
    x, y = np.meshgrid(np.arange(48) / 48, np.arange(40) / 40, indexing="ij")
    return (np.sin(7 * x) + np.tanh(30 * (y - 0.3 - 0.2 * np.sin(6 * x)))).reshape(-1)


@pytest.fixture(scope="module")
def table() -> PageTable:
    field = make_field().reshape(SHAPE)
    steepness = np.hypot(*np.gradient(field)) + 0.01
    return build_pages(
        steepness.reshape(-1),
        grid_order(SHAPE, curve="hilbert"),
        page_points=8,
        num_strata=4,
        block_points=4,
        seed=0,
        key=(0, 0),
    )


SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "uniform": UniformSampler,
    "stratified": StratifiedSampler,
    "balanced": BalancedSampler,
    "importance": ImportanceSampler,
}


def points_and_weights(sampler: Sampler, table: PageTable, key: DrawKey) -> tuple[np.ndarray, np.ndarray]:
    draw = sampler.draw(table.layout, key)
    if isinstance(draw, CellDraw):
        assert draw.places is not None
        points = grid_order(SHAPE, curve="hilbert")[np.cumsum(draw.sizes) - draw.sizes + draw.places]
        return points, sampler.finish_weights(draw.weights)
    if not isinstance(draw, PageDraw):
        return draw.points, sampler.finish_weights(draw.weights)
    points = table.index[draw.pages].reshape(-1)
    weights = np.repeat(draw.weights, table.layout.page_points)
    return points[points >= 0], sampler.finish_weights(weights[points >= 0])


def keys(count: int) -> list[DrawKey]:
    return [DrawKey(seed=11, epoch=sample % 3, sample=sample) for sample in range(count)]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("num_queries", [32, 96, 800])
def test_query_sampling_shapes(name: str, num_queries: int, table: PageTable) -> None:
    sampler = SAMPLERS[name](num_queries=num_queries)
    for key in keys(50):
        points, weights = points_and_weights(sampler, table, key)
        assert points.shape == weights.shape == (num_queries,)
        assert len(np.unique(points)) == num_queries
        assert points.min() >= 0
        assert points.max() < NUM_POINTS


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("ratio", [0.05, 1.0])
def test_no_bias_on_four_integrands(name: str, ratio: float, table: PageTable) -> None:
    field = make_field()
    noise = np.random.default_rng(0).normal(size=NUM_POINTS)
    integrands = np.stack([field, np.square(field), noise, np.eye(1, NUM_POINTS, 777)[0]])
    sampler = SAMPLERS[name](ratio=ratio)
    draws = [points_and_weights(sampler, table, key) for key in keys(NUM_DRAWS if ratio < 1 else 20)]
    estimates = np.array([integrands[:, points] @ weights for points, weights in draws])
    errors = estimates.mean(axis=0) - integrands.mean(axis=1)
    if ratio == 1.0:
        np.testing.assert_allclose(estimates, np.broadcast_to(integrands.mean(axis=1), estimates.shape), atol=1e-12)
        return
    assert np.abs(errors / (estimates.std(axis=0) / NUM_DRAWS**0.5)).max() < 4


def test_the_test_of_bias_can_fail(table: PageTable) -> None:
    sampler = ImportanceSampler(ratio=0.1, weights="none")
    field = np.square(make_field())
    draws = [points_and_weights(sampler, table, key) for key in keys(500)]
    estimates = np.array([field[points] @ weights for points, weights in draws])
    assert abs(estimates.mean() - field.mean()) / (estimates.std() / 500**0.5) > 10


@pytest.mark.parametrize("name", SAMPLERS)
def test_weights_sum_to_one(name: str, table: PageTable) -> None:
    # Every page of this layout is full, so the sum is 1 in every draw and not only in expectation.
    for key in keys(20):
        assert points_and_weights(SAMPLERS[name](ratio=0.05), table, key)[1].sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("weights", ["self_normalised", "none"])
def test_other_weights_sum_to_one_in_every_draw(name: str, weights: str, table: PageTable) -> None:
    sampler = SAMPLERS[name](ratio=0.05, weights=weights)
    for key in keys(20):
        assert abs(points_and_weights(sampler, table, key)[1].sum() - 1) < 1e-6


def test_self_normalised_weights_sum_to_one_with_padding() -> None:
    ragged = build_pages(np.ones(45), np.arange(45), page_points=8, num_strata=1, block_points=1, seed=0, key=(0, 0))
    plain, normalised = BalancedSampler(num_queries=8), BalancedSampler(num_queries=8, weights="self_normalised")
    sums = [points_and_weights(plain, ragged, key)[1].sum() for key in keys(300)]
    assert np.std(sums) > 0.01
    assert np.mean(sums) == pytest.approx(1, abs=4 * np.std(sums) / 300**0.5)
    for key in keys(20):
        assert abs(points_and_weights(normalised, ragged, key)[1].sum() - 1) < 1e-12


@pytest.mark.parametrize("name", SAMPLERS)
def test_query_sampling_coverage(name: str, table: PageTable) -> None:
    sampler = SAMPLERS[name](ratio=0.1)
    seen = np.zeros(NUM_POINTS)
    for key in keys(300):
        seen[points_and_weights(sampler, table, key)[0]] += 1
    assert seen.min() > 0


@pytest.mark.parametrize("name", ["balanced", "importance"])
def test_walking_sees_every_point_within_the_stated_epochs(name: str, table: PageTable) -> None:
    sampler = SAMPLERS[name](ratio=0.1)
    draw = sampler.draw(table.layout, DrawKey(seed=0, epoch=0, sample=5))
    assert isinstance(draw, PageDraw)
    strata = np.repeat(np.arange(4), table.layout.stratum_pages)
    budgets = np.bincount(strata[draw.pages], minlength=4)
    epochs = int(np.ceil(table.layout.stratum_pages / budgets).max())
    seen = np.zeros(NUM_POINTS, dtype=int)
    for epoch in range(epochs):
        seen[points_and_weights(sampler, table, DrawKey(seed=0, epoch=epoch, sample=5))[0]] += 1
    assert seen.min() >= 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_differ_between_seeds_epochs_and_samples_and_repeat_for_equal_keys(name: str, table: PageTable) -> None:
    sampler = SAMPLERS[name](ratio=0.1, **({"walk": False} if name in ("balanced", "importance") else {}))
    drawn = {
        (seed, epoch, sample): points_and_weights(sampler, table, DrawKey(seed=seed, epoch=epoch, sample=sample))[0]
        for seed in range(3)
        for epoch in range(4)
        for sample in range(4)
    }
    assert len({points.tobytes() for points in drawn.values()}) == len(drawn)
    again = points_and_weights(sampler, table, DrawKey(seed=1, epoch=2, sample=3))[0]
    assert np.array_equal(again, drawn[1, 2, 3])


def test_importance_prefers_sharp_strata_and_balanced_does_not(table: PageTable) -> None:
    strata = np.repeat(np.arange(4), table.layout.stratum_pages)
    share = {}
    for name in ("balanced", "importance"):
        draw = SAMPLERS[name](ratio=0.2).draw(table.layout, DrawKey(seed=0, epoch=0, sample=0))
        assert isinstance(draw, PageDraw)
        share[name] = np.bincount(strata[draw.pages], minlength=4) / len(draw.pages)
    sizes = table.layout.stratum_pages / table.layout.num_pages
    assert np.abs(share["balanced"] - sizes).max() < 1.5 / len(draw.pages)
    assert share["importance"][0] > 1.5 * sizes[0]


def test_no_weight_is_far_above_one_over_lambda(table: PageTable) -> None:
    draw = ImportanceSampler(ratio=0.3, uniform_share=0.25).draw(table.layout, DrawKey(seed=0, epoch=0, sample=0))
    assert isinstance(draw, PageDraw)
    mean_weight = 1 / (len(draw.pages) * table.layout.page_points)
    assert draw.weights.max() < 1.1 / 0.25 * mean_weight


def test_dense_takes_every_point_in_order(table: PageTable) -> None:
    points, weights = points_and_weights(DenseSampler(), table, DrawKey(seed=0, epoch=0, sample=0))
    assert np.array_equal(points, np.arange(NUM_POINTS))
    assert np.array_equal(weights, np.full(NUM_POINTS, 1 / NUM_POINTS))


def test_schedules_change_the_number_of_points_with_the_step(table: PageTable) -> None:
    sampler = BalancedSampler(num_queries=Linear(start=64, end=640, steps=10))
    sizes = [len(points_and_weights(sampler, table, DrawKey(seed=0, epoch=0, sample=0, step=s))[0]) for s in (0, 5, 10)]
    assert sizes == [64, 352, 640]
    uniform = UniformSampler(ratio=Linear(start=1.0, end=0.5, steps=2))
    assert len(points_and_weights(uniform, table, DrawKey(seed=0, epoch=0, sample=0, step=1))[0]) == 1440


@pytest.mark.parametrize("make", SAMPLERS.values())
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give ratio= or num_queries="),
        ({"ratio": 0.1, "num_queries": 5}, "one of them"),
        ({"ratio": 0.0}, r"ratio must lie in \(0, 1\], got 0.0"),
        ({"ratio": 1.5}, r"ratio must lie in \(0, 1\], got 1.5"),
        ({"num_queries": 0}, "num_queries must be at least 1, got 0"),
        ({"ratio": 0.1, "weights": "unbaised"}, "Did you mean 'unbiased'"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[..., Sampler], arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SamplerError, match=message):
        make(**arguments)


def test_what_cannot_be_drawn_is_refused(table: PageTable) -> None:
    key = DrawKey(seed=0, epoch=0, sample=0)
    with pytest.raises(SamplerError, match="2000 queries were asked of a trajectory with 1920 points"):
        UniformSampler(num_queries=2000).draw(table.layout, key)
    with pytest.raises(SamplerError, match=r"16 queries are 2 pages of 8 points, fewer than the 4 strata.*at least 32"):
        ImportanceSampler(num_queries=16).draw(table.layout, key)
    with pytest.raises(SamplerError, match=r"uniform_share must lie in \[0, 1\], got 2"):
        ImportanceSampler(ratio=0.1, uniform_share=2.0)
