"""Draws by cells: exact quotas for every shape and size, exact weights, quadrature; and weights that are not exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ups_data
from ups_data.errors import SamplerError
from ups_data.pages import PageLayout, central_places, cut_cells
from ups_data.samplers import DrawKey, FixedSampler, ImportanceSampler, Linear, StratifiedSampler, Weights


def layout_of(num_points: int) -> PageLayout:
    pages = np.array([-(-num_points // 8)])
    return PageLayout(num_points=num_points, page_points=8, stratum_pages=pages, stratum_mass=np.ones(1))


@settings(max_examples=1000, deadline=None)
@given(data=st.data(), num_points=st.integers(1, 3000))
def test_every_cell_gives_one_point_with_the_weight_of_its_size(data: st.DataObject, num_points: int) -> None:
    count = data.draw(st.integers(1, num_points))
    sizes = cut_cells(num_points, count)
    assert len(sizes) == count
    assert sizes.sum() == num_points
    assert sizes.max() - sizes.min() <= 1
    draw = StratifiedSampler(num_queries=count).draw(layout_of(num_points), DrawKey(seed=1, epoch=0, sample=num_points))
    assert draw.places is not None
    np.testing.assert_array_equal(draw.sizes, sizes)
    assert ((draw.places >= 0) & (draw.places < sizes)).all()
    # Drawn with probability 1 / N_c, so 1 / (N P) is the weight.
    np.testing.assert_array_equal(draw.weights, sizes / num_points)


def test_places_in_a_cell_are_equally_likely() -> None:
    sampler, layout = StratifiedSampler(num_queries=7), layout_of(45)
    keys = [DrawKey(seed=2, epoch=number % 3, sample=number) for number in range(6000)]
    places = np.array([sampler.draw(layout, key).places for key in keys])
    for cell, size in enumerate(cut_cells(45, 7)):
        counts = np.bincount(places[:, cell], minlength=size)
        assert counts.size == size
        assert np.square(counts - 6000 / size).sum() / (6000 / size) < 35  # chi-squared, at most 6 degrees of freedom


@pytest.mark.parametrize("geometry", ["line", "plane", "space", "cloud"])
def test_cells_are_neighbours_and_quotas_hold(geometry: str, stores: dict[str, ups_data.Store]) -> None:
    store = stores[geometry]
    total = store.num_points(0)
    for count in (1, 21, total):
        dataset = ups_data.QueryDataset(store, sampler=StratifiedSampler(num_queries=count))
        sample = dataset.sample(0)
        cell_of = _cells(store, count)
        np.testing.assert_array_equal(np.bincount(cell_of[sample.query_index.numpy()], minlength=count), 1)
        assert float(sample.query_weights.double().sum()) == pytest.approx(1, abs=1e-6)
    coordinates = store.coordinates(0)
    cells = _cells(store, 21)
    spread = np.mean([np.ptp(coordinates[cells == cell], axis=0).max() for cell in range(21)])
    assert spread < 0.7 * np.ptp(coordinates, axis=0).max()


def _cells(store: ups_data.Store, count: int) -> np.ndarray:
    cells = np.empty(store.num_points(0), dtype=int)
    cells[store.curve_points(0)] = np.repeat(np.arange(count), cut_cells(store.num_points(0), count))
    return cells


@pytest.mark.parametrize("geometry", ["line", "plane", "space", "cloud"])
def test_fixed_points_are_the_same_in_every_epoch_and_integrate_better(
    geometry: str, stores: dict[str, ups_data.Store]
) -> None:
    store = stores[geometry]
    dataset = ups_data.QueryDataset(store, sampler=FixedSampler(ratio=0.25), dtype="float64")
    first, later = dataset.sample(0), dataset.sample(0, epoch=5, step=9)
    assert first.query_index.equal(later.query_index)
    assert float(first.query_weights.sum()) == pytest.approx(1, abs=1e-12)
    coordinates = store.coordinates(0)
    smooth = np.exp(coordinates.sum(axis=1) / np.ptp(coordinates, axis=0).max())
    error = abs(float(first.query_weights.numpy() @ smooth[first.query_index.numpy()]) - smooth.mean())
    random = np.random.default_rng(0)
    noise = np.std(
        [smooth[random.choice(smooth.size, len(first.query_index), replace=False)].mean() for _ in range(200)]
    )
    assert error < 0.5 * noise, (error, noise)


def test_fixed_weights_of_an_integral_are_the_measures_of_the_cells(stores: dict[str, ups_data.Store]) -> None:
    store = stores["plane"]
    dataset = ups_data.QueryDataset(store, sampler=FixedSampler(num_queries=40), estimand="integral", dtype="float64")
    sample = dataset.sample(0)
    assert float(sample.query_weights.sum()) == pytest.approx(store.measures(0).sum(), rel=1e-12)
    np.testing.assert_allclose(
        sample.query_weights.numpy(), np.bincount(_cells(store, 40), weights=store.measures(0)), rtol=1e-12
    )


def test_the_middle_of_a_cell_is_its_most_central_point() -> None:
    random = np.random.default_rng(3)
    coordinates, sizes = random.random((50, 2)), cut_cells(50, 7)
    start = 0
    for place, size in zip(central_places(coordinates, sizes), sizes, strict=True):
        cell = coordinates[start : start + size]
        assert place == np.argmin(np.square(cell - cell.mean(axis=0)).sum(axis=1))
        start += size


def test_tempered_weights_lie_between_unbiased_and_equal_ones() -> None:
    weights = np.array([0.1, 0.2, 0.4, 0.0, 0.2])
    np.testing.assert_allclose(Weights("tempered", exponent=1.0).finish(weights), weights)
    np.testing.assert_allclose(Weights("tempered", exponent=0.0).finish(weights), [0.225, 0.225, 0.225, 0, 0.225])
    half = Weights("tempered").finish(weights)
    assert half.sum() == pytest.approx(weights.sum())
    np.testing.assert_allclose(half[2] / half[0], 2.0)
    np.testing.assert_array_equal(half > 0, weights > 0)


def test_a_cap_cuts_what_is_above_it_and_nothing_else() -> None:
    weights = np.array([0.1, 0.1, 0.1, 0.7, 0.0])
    np.testing.assert_allclose(Weights(max_weight=2.0).finish(weights), [0.1, 0.1, 0.1, 0.5, 0])
    np.testing.assert_array_equal(Weights(max_weight=3.0).finish(weights), weights)
    assert Weights().is_exact
    assert not Weights(max_weight=3.0).is_exact
    assert not Weights("none", max_weight=3.0).sums_to_one


def test_lambda_may_follow_a_schedule() -> None:
    pages = np.array([10, 30])
    layout = PageLayout(num_points=320, page_points=8, stratum_pages=pages, stratum_mass=np.array([0.9, 0.1]))
    sampler = ImportanceSampler(ratio=0.5, uniform_share=Linear(start=1.0, end=0.0, steps=10))
    counts = []
    for step in (0, 5, 10):
        draw = sampler.draw(layout, DrawKey(seed=0, epoch=0, sample=0, step=step))
        counts.append(int((draw.pages < 10).sum()))
        np.testing.assert_allclose(draw.weights[draw.pages < 10], 10 / counts[-1] / 320)
    assert counts[0] == 5
    assert counts[0] < counts[1] <= counts[2] == 10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Weights("tempred"), "Did you mean 'tempered'"),
        (lambda: Weights("tempered", exponent=1.5), r"exponent must lie in \[0, 1\] .* got 1.5"),
        (lambda: Weights("none", exponent=0.5), "belongs to weights 'tempered'; got 0.5 for 'none'"),
        (lambda: Weights(max_weight=0.5), "max_weight is a multiple of the mean weight, at least 1, got 0.5"),
        (
            lambda: ImportanceSampler(ratio=0.5, uniform_share=Linear(start=1.0, end=-1.0, steps=5)),
            r"uniform_share must lie in \[0, 1\], got Linear",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make: object, message: str) -> None:
    with pytest.raises(SamplerError, match=message):
        make()
