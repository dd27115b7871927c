"""Gradients on scattered points: order of the error, flat neighbourhoods, copies, few points, blocks."""

import numpy as np
import pytest

import ups_data.importance.cloud_fit
from tests.ups_data.importance.cases import cloud_of
from ups_data.importance.kept_runs import KeptRuns
from ups_data.importance.least_squares import CloudGradient
from ups_data.importance.neighbours import NeighbourSearch
from ups_data.pages import cloud_order


def norms_of(gradient: CloudGradient, frame: np.ndarray) -> np.ndarray:
    norms = np.full(frame.shape, -1.0)
    for points, squares in gradient.squared_norms(frame):
        assert (norms[:, points] == -1).all()
        norms[:, points] = np.sqrt(squares)
    return norms


def norm_of(coordinates: np.ndarray, values: np.ndarray) -> np.ndarray:
    return norms_of(CloudGradient(coordinates), np.atleast_2d(values))[0]


@pytest.mark.parametrize("dims", [2, 3])
def test_the_error_falls_with_the_spacing(dims: int) -> None:
    errors = []
    for count in (20**dims // 4, 20**dims * 2**dims // 4):
        points = cloud_of(count, dims).coordinates
        found = norm_of(points, np.sin(3 * points).sum(axis=1))
        errors.append(np.abs(found - np.linalg.norm(3 * np.cos(3 * points), axis=1)).mean())
    # First order at least: half the spacing, half the error, and some room for chance.
    assert errors[1] < 0.6 * errors[0]


def test_units_do_not_matter() -> None:
    points = cloud_of(200, 3).coordinates
    field = np.sin(5 * points[:, 0]) + points[:, 1]
    for unit in (1e-90, 1e90):
        np.testing.assert_allclose(norm_of(points * unit, field) * unit, norm_of(points, field), rtol=1e-9)


def test_stretched_clouds_stay_exact() -> None:
    points = cloud_of(2000, 2).coordinates * (1.0, 50.0)
    np.testing.assert_allclose(norm_of(points, points @ [3.0, 4.0]), 5.0, rtol=1e-6)


def test_on_a_surface_it_is_the_gradient_along_it() -> None:
    flat = cloud_of(300, 2).coordinates
    tilted = np.stack([flat[:, 0], flat[:, 1] / np.sqrt(2), flat[:, 1] / np.sqrt(2)], axis=1)
    np.testing.assert_allclose(norm_of(tilted, flat @ [3.0, 4.0]), 5.0, rtol=1e-9)
    # What points off the plane would tell is not known: the part of the slope across it counts as zero.
    np.testing.assert_allclose(norm_of(tilted, tilted[:, 2]), 1 / np.sqrt(2), rtol=1e-9)


def test_a_curved_surface_does_not_pretend_to_know_the_slope_across_it() -> None:
    random = np.random.default_rng(0).normal(size=(20000, 3))
    sphere = random / np.linalg.norm(random, axis=1, keepdims=True)
    # Of u = z the gradient along the unit sphere has the norm sqrt(1 - z^2).
    np.testing.assert_allclose(norm_of(sphere, sphere[:, 2]), np.sqrt(1 - sphere[:, 2] ** 2), atol=0.05)


def test_points_on_a_line_in_space() -> None:
    along = np.sort(np.random.default_rng(0).uniform(size=50))
    np.testing.assert_allclose(norm_of(np.outer(along, [1.0, 2.0, 2.0]), 6 * along), 2.0, rtol=1e-9)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_points_are_one_neighbourhood(dims: int, count: int) -> None:
    points = cloud_of(count, dims).coordinates
    found = norm_of(points, points[:, 0])
    if count == 1:
        assert found.tolist() == [0.0]
    elif count > dims + 1 or dims == 1:
        np.testing.assert_allclose(found, 1.0, rtol=1e-9)
    else:
        assert np.isfinite(found).all()
        assert found.max() <= 1 + 1e-9


@pytest.mark.parametrize("copies", [2, 30])
def test_copies_of_points_change_nothing(copies: int) -> None:
    points = cloud_of(200, 2).coordinates
    field = np.sin(5 * points[:, 0]) + points[:, 1]
    found = norm_of(np.tile(points, (copies, 1)), np.tile(field, copies))
    np.testing.assert_array_equal(found, np.tile(norm_of(points, field), copies))


def test_points_that_are_copies_but_for_rounding_do_no_harm() -> None:
    # As at the seam of two blocks: values differ a little, places by rounding; the slope between them means nothing.
    points = cloud_of(200, 2).coordinates
    seam = points[:20] + 1e-15
    field = np.concatenate([points @ [3.0, 4.0], seam @ [3.0, 4.0] + 1e-7])
    np.testing.assert_allclose(norm_of(np.concatenate([points, seam]), field), 5.0, rtol=1e-4)


def test_points_that_all_lie_at_one_place_have_no_gradient() -> None:
    assert not norm_of(np.ones((30, 2)), np.arange(30.0)).any()


def test_a_constant_has_a_gradient_of_exactly_zero() -> None:
    assert not norm_of(cloud_of(300, 3).coordinates, np.full(300, 0.1)).any()


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    points = cloud_of(100, 2).coordinates
    values = np.random.default_rng(0).normal(size=(2, 100))
    whole = norms_of(CloudGradient(points), values)
    monkeypatch.setattr(ups_data.importance.cloud_fit, "_BLOCK_POINTS", 7)
    np.testing.assert_array_equal(norms_of(CloudGradient(points), values), whole)


def test_what_is_searched_for_again_is_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NeighbourSearch.__init__, "__kwdefaults__", {"run_points": 40})
    cloud = cloud_of(300, 3)
    frames = np.random.default_rng(0).normal(size=(2, 2, 300))
    frames[1, 0, ::7] = np.nan
    order = cloud_order(cloud.coordinates, curve="hilbert")
    kept = CloudGradient(cloud.coordinates, order)
    monkeypatch.setattr(KeptRuns.__init__, "__kwdefaults__", {"folder": None, "most_in_memory": 0})
    filed = CloudGradient(cloud.coordinates, order)
    searched = CloudGradient(cloud.coordinates, order)
    searched._runs = KeptRuns(num_bytes=2**70)
    for frame in frames:
        expected = norms_of(kept, frame)
        for other in (filed, searched):
            np.testing.assert_array_equal(norms_of(other, frame), expected)
        np.testing.assert_allclose(norms_of(kept, frame), norms_of(CloudGradient(cloud.coordinates), frame), rtol=1e-9)
