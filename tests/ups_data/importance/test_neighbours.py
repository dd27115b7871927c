"""Neighbours that are found run by run are those of one search through all points."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from ups_data.importance import neighbours
from ups_data.importance.neighbours import NeighbourSearch
from ups_data.pages import cloud_order

RANDOM = np.random.default_rng(0)


def clusters(dims: int) -> np.ndarray:
    """Return points whose density differs a million times, and one far from all others."""
    near = [RANDOM.normal(size=(300, dims)) * size + place for size, place in ((1.0, 0), (1e-3, 1), (1e-6, 2))]
    return np.concatenate([*near, np.full((1, dims), 1e3)])


def surface(dims: int) -> np.ndarray:
    points = RANDOM.normal(size=(900, dims))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def lattice(dims: int) -> np.ndarray:
    nodes = np.arange(round(900 ** (1 / dims)), dtype=np.float64)
    return RANDOM.permutation(np.stack(np.meshgrid(*[nodes] * dims), axis=-1).reshape(-1, dims))


def copies(dims: int) -> np.ndarray:
    return RANDOM.permutation(np.tile(RANDOM.uniform(size=(40, dims)), (25, 1)))


def few_places(dims: int) -> np.ndarray:
    return RANDOM.permutation(np.tile(RANDOM.uniform(size=(3, dims)), (100, 1)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("shape", [clusters, surface, lattice, copies, few_places])
@pytest.mark.parametrize("is_ordered", [True, False])
def test_runs_find_what_one_search_finds(shape, dims: int, dtype: str, is_ordered: bool, monkeypatch) -> None:
    monkeypatch.setattr(neighbours, "_MOST_TREES", 3)
    points, wanted = shape(dims).astype(dtype), 4 * dims + 1
    order = cloud_order(points, curve="hilbert") if is_ordered else None
    search = NeighbourSearch(points, order, num_neighbours=wanted, run_points=64)
    # By force: all distances of all distinct places.
    places, place_of = np.unique(points.astype(np.float64), axis=0, return_inverse=True)
    distances = np.full((len(points), wanted), np.inf)
    found, _ = cKDTree(places).query(points.astype(np.float64), k=list(range(1, min(wanted, len(places)) + 1)))
    distances[:, : found.shape[1]] = found
    seen = []
    for run in range(search.num_runs):
        own, result = search.points_of(run), search.find(run)
        seen.append(own)
        np.testing.assert_array_equal(result.distances, distances[own])
        is_there = np.isfinite(result.distances)
        np.testing.assert_array_equal(result.points[~is_there], np.repeat(own[:, None], wanted, axis=1)[~is_there])
        ways = points[result.points].astype(np.float64) - points[own].astype(np.float64)[:, None]
        np.testing.assert_allclose(np.linalg.norm(ways, axis=-1)[is_there], result.distances[is_there], rtol=1e-12)
        numbers = np.where(is_there, place_of[result.points], -1 - np.arange(wanted))
        assert (np.diff(np.sort(numbers, axis=1), axis=1) > 0).all(), "a place is there twice"
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(len(points)))


def test_of_points_at_one_place_the_first_is_the_neighbour() -> None:
    points = RANDOM.uniform(size=(100, 2))
    search = NeighbourSearch(np.tile(points, (3, 1)), num_neighbours=9)
    assert search.num_runs == 1
    expected = np.tile(cKDTree(points).query(points, k=9)[1], (3, 1))
    np.testing.assert_array_equal(search.find(0).points, expected)
