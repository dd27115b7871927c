"""Curves visit every point once, and near keys are near points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ups_data.pages import cloud_order, grid_order


@given(
    shape=st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple), curve=st.sampled_from(["hilbert", "morton"])
)
def test_grid_order_is_a_permutation_for_any_shape(shape: tuple[int, ...], curve: str) -> None:
    order = grid_order(shape, curve=curve)
    assert np.array_equal(np.sort(order), np.arange(np.prod(shape)))


@pytest.mark.parametrize("shape", [(16, 16), (8, 8, 8), (32, 32)])
def test_hilbert_steps_go_to_neighbours(shape: tuple[int, ...]) -> None:
    places = np.stack(np.unravel_index(grid_order(shape, curve="hilbert"), shape))
    assert np.array_equal(np.abs(np.diff(places)).sum(axis=0), np.ones(np.prod(shape) - 1))


def test_morton_interleaves_bits_first_axis_slowest() -> None:
    assert grid_order((2, 4), curve="morton").tolist() == [0, 1, 4, 5, 2, 3, 6, 7]


@pytest.mark.parametrize("shape", [(64,), (1, 64), (64, 1)])
def test_lines_stay_in_order(shape: tuple[int, ...]) -> None:
    order = grid_order(shape, curve="hilbert")
    assert (np.abs(np.diff(order)) == 1).all() or np.array_equal(order, np.arange(64))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("curve", ["hilbert", "morton"])
def test_cloud_order_shortens_the_path(dims: int, curve: str) -> None:
    points = np.random.default_rng(dims).normal(size=(2000, dims))
    order = cloud_order(points, curve=curve)
    assert np.array_equal(np.sort(order), np.arange(2000))
    path = np.linalg.norm(np.diff(points[order], axis=0), axis=1).mean()
    assert path < 0.25 * np.linalg.norm(np.diff(points, axis=0), axis=1).mean()


def test_cloud_of_equal_points_keeps_their_order() -> None:
    assert cloud_order(np.zeros((5, 3)), curve="hilbert").tolist() == [0, 1, 2, 3, 4]
