"""Second derivatives on scattered points: exact for quadratics, second-order fields, what does not span is refused."""

import numpy as np
import pytest

import ups_data.importance.cloud_fit
from tests.ups_data.importance.cases import cloud_of
from ups_data.errors import SchemaError
from ups_data.importance.kept_runs import KeptRuns
from ups_data.importance.neighbours import NeighbourSearch
from ups_data.importance.quadratic_fit import CloudHessian
from ups_data.pages import cloud_order


def norms_of(hessian: CloudHessian, frame: np.ndarray) -> np.ndarray:
    norms = np.full(frame.shape, -1.0)
    for points, squares in hessian.squared_norms(frame):
        assert (norms[:, points] == -1).all()
        norms[:, points] = np.sqrt(squares)
    return norms


def norm_of(coordinates: np.ndarray, values: np.ndarray) -> np.ndarray:
    return norms_of(CloudHessian(coordinates), np.atleast_2d(values))[0]


def quadratic(points: np.ndarray, seed: int = 0) -> tuple[np.ndarray, float]:
    """Return a random quadratic at some points, and the norm of its Hessian."""
    random = np.random.default_rng(seed)
    dims = points.shape[1]
    hessian = random.normal(size=(dims, dims))
    hessian = hessian + hessian.T
    slope = random.normal(size=dims)
    values = 3.0 + points @ slope + np.einsum("pi,ij,pj->p", points, hessian, points) / 2
    return values, float(np.linalg.norm(hessian))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("count", [30, 400])
def test_a_quadratic_is_exact(dims: int, count: int) -> None:
    points = cloud_of(count, dims, seed=count).coordinates
    values, expected = quadratic(points)
    np.testing.assert_allclose(norm_of(points, values), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(40,), (9, 11), (6, 5, 7)])
def test_the_nodes_of_a_grid_are_a_cloud_too(shape: tuple[int, ...]) -> None:
    axes = [np.arange(size) / 4 for size in shape]
    points = np.stack([part.reshape(-1) for part in np.meshgrid(*axes, indexing="ij")], axis=-1)
    values, expected = quadratic(points)
    np.testing.assert_allclose(norm_of(points, values), expected, rtol=1e-8)


@pytest.mark.parametrize("stretch", [1e-2, 1.0, 1e3])
def test_a_layer_that_is_stretched_as_a_whole_stays_exact(stretch: float) -> None:
    points = cloud_of(600, 2).coordinates * (1.0, stretch)
    values, expected = quadratic(points)
    found = norm_of(points, values)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_units_do_not_matter() -> None:
    points = cloud_of(200, 3).coordinates
    field = np.sin(5 * points[:, 0]) + points[:, 1] ** 2
    for unit in (1e-40, 1e40):
        np.testing.assert_allclose(norm_of(points * unit, field) * unit**2, norm_of(points, field), rtol=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_error_falls_with_the_spacing(dims: int) -> None:
    errors = []
    for count in (20**dims // 4, 20**dims * 2**dims // 4):
        points = cloud_of(count, dims).coordinates
        found = norm_of(points, np.sin(3 * points).sum(axis=1))
        errors.append(np.abs(found - np.linalg.norm(9 * np.sin(3 * points), axis=1)).mean())
    # First order, as one-sided neighbourhoods have it: half the spacing, half the error, and room for chance.
    assert errors[1] < 0.65 * errors[0]


def test_a_constant_has_a_curvature_of_exactly_zero() -> None:
    assert not norm_of(cloud_of(300, 3).coordinates, np.full(300, 0.1)).any()


def test_copies_of_points_change_nothing() -> None:
    points = cloud_of(200, 2).coordinates
    field = np.sin(5 * points[:, 0]) + points[:, 1]
    found = norm_of(np.tile(points, (3, 1)), np.tile(field, 3))
    np.testing.assert_array_equal(found, np.tile(norm_of(points, field), 3))


def test_missing_values_are_missing_and_reach_their_neighbours_as_zero() -> None:
    points = cloud_of(200, 2).coordinates
    values, expected = quadratic(points)
    values[17] = np.nan
    found = norm_of(points, values)
    assert np.flatnonzero(np.isnan(found)).tolist() == [17]
    near = np.argsort(np.linalg.norm(points - points[17], axis=1))[1:4]
    assert not found[near].any()
    far = np.argsort(np.linalg.norm(points - points[17], axis=1))[-50:]
    np.testing.assert_allclose(found[far], expected, rtol=1e-6)


@pytest.mark.parametrize(("dims", "count", "needed"), [(1, 6, 6), (2, 12, 12), (3, 24, 24), (3, 1, 24)])
def test_too_few_points_are_refused(dims: int, count: int, needed: int) -> None:
    with pytest.raises(SchemaError, match=f"takes {needed} neighbours of each, and there are {count} places only"):
        norm_of(cloud_of(count, dims).coordinates, np.zeros(count))


def surfaces() -> dict[str, np.ndarray]:
    flat = cloud_of(300, 2).coordinates
    angle = 2 * np.pi * np.random.default_rng(0).random(300)
    return {
        "plane": np.stack([flat[:, 0], flat[:, 1], flat.sum(axis=1)], axis=1),
        "line": np.outer(flat[:, 0], [1.0, 2.0]),
        "circle": np.stack([np.cos(angle), np.sin(angle)], axis=1),
        "two lines": np.stack([np.arange(300) / 300, np.arange(300) % 2 * 0.01], axis=1),
    }


@pytest.mark.parametrize("name", surfaces())
def test_neighbours_that_determine_no_quadratic_are_refused(name: str) -> None:
    with pytest.raises(SchemaError, match=r"nearest neighbours of point \d+ at \(.*determine no quadratic.*'gradient'"):
        norm_of(surfaces()[name], np.zeros(300))


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    points = cloud_of(100, 2).coordinates
    values = np.random.default_rng(0).normal(size=(2, 100))
    whole = norms_of(CloudHessian(points), values)
    monkeypatch.setattr(ups_data.importance.cloud_fit, "_BLOCK_POINTS", 7)
    np.testing.assert_allclose(norms_of(CloudHessian(points), values), whole, rtol=1e-9)


def test_runs_do_not_show_and_what_lies_in_a_file_is_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = cloud_of(300, 2)
    frames = np.random.default_rng(0).normal(size=(2, 2, 300))
    frames[1, 0, ::7] = np.nan
    order = cloud_order(cloud.coordinates, curve="hilbert")
    whole = CloudHessian(cloud.coordinates, order)
    monkeypatch.setattr(NeighbourSearch.__init__, "__kwdefaults__", {"run_points": 40})
    kept = CloudHessian(cloud.coordinates, order)
    monkeypatch.setattr(KeptRuns.__init__, "__kwdefaults__", {"folder": None, "most_in_memory": 0})
    filed = CloudHessian(cloud.coordinates, order)
    for frame in frames:
        np.testing.assert_array_equal(norms_of(filed, frame), norms_of(kept, frame))
        np.testing.assert_allclose(norms_of(kept, frame), norms_of(whole, frame), rtol=1e-8)
