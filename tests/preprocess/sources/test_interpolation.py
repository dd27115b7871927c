"""Values between nodes: exact on polynomials, exact at nodes, across seams, and never across what is missing."""

import itertools

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from preprocess.sources.interpolation import NUM_NODES, Interpolation
from ups_data.coordinates import grid_coordinates
from ups_data.errors import SourceError
from ups_data.importance import GridGeometry

EXACT = np.dtype(np.float64)


def uneven(count: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(count).uniform(0.2, 1.0, size=count))


def geometry(*axes: np.ndarray, periods: tuple[float | None, ...] | None = None) -> GridGeometry:
    return GridGeometry(axes=axes, periods=periods or (None,) * len(axes))


def points_in(grid: GridGeometry, count: int) -> np.ndarray:
    random = np.random.default_rng(count)
    return np.stack([random.uniform(axis[0], axis[-1], size=count) for axis in grid.axes], axis=-1)


@pytest.mark.parametrize("scheme", NUM_NODES)
@pytest.mark.parametrize("sizes", [(9,), (7, 5), (5, 6, 4)])
def test_polynomials_of_its_degree_come_out_exactly(scheme: str, sizes: tuple[int, ...]) -> None:
    """Every monomial, on uneven nodes; to a few units in the last place."""
    grid, degree = geometry(*map(uneven, sizes)), NUM_NODES[scheme] - 1
    nodes, points = grid_coordinates(grid.axes), points_in(grid, 200)
    for powers in itertools.product(range(degree + 1), repeat=len(sizes)):
        frames = np.prod(nodes**powers, axis=1).reshape(1, 1, *sizes)
        found = Interpolation(grid, scheme).apply(frames, points, EXACT)[0, 0]
        np.testing.assert_allclose(found, np.prod(points**powers, axis=1), rtol=1e-11)


@pytest.mark.parametrize("scheme", NUM_NODES)
def test_a_polynomial_of_one_degree_more_does_not(scheme: str) -> None:
    grid = geometry(uneven(8))
    frames = (grid.axes[0] ** NUM_NODES[scheme]).reshape(1, 1, -1)
    points = points_in(grid, 50)
    assert (
        np.abs(Interpolation(grid, scheme).apply(frames, points, EXACT)[0, 0] - points[:, 0] ** NUM_NODES[scheme]).max()
        > 1e-3
    )


@pytest.mark.parametrize("scheme", NUM_NODES)
def test_at_nodes_values_are_the_nodes_own_to_the_bit(scheme: str) -> None:
    axes = (uneven(6), uneven(5))
    grid = geometry(*axes, periods=(float(axes[0][-1] - axes[0][0]) + 0.5, None))
    frames = np.random.default_rng(0).normal(size=(2, 3, 6, 5))
    found = Interpolation(grid, scheme).apply(frames, grid_coordinates(grid.axes), EXACT)
    np.testing.assert_array_equal(found, frames.reshape(2, 3, -1))


@pytest.mark.parametrize("sizes", [(12,), (9, 7), (5, 6, 4)])
def test_linear_values_are_those_of_scipy(sizes: tuple[int, ...]) -> None:
    grid = geometry(*map(uneven, sizes))
    frames = np.random.default_rng(0).normal(size=(1, 1, *sizes))
    points = points_in(grid, 300)
    wanted = RegularGridInterpolator(grid.axes, frames[0, 0])(points)
    np.testing.assert_allclose(Interpolation(grid, "linear").apply(frames, points, EXACT)[0, 0], wanted, atol=1e-12)


@pytest.mark.parametrize("scheme", NUM_NODES)
def test_a_periodic_axis_is_the_same_everywhere(scheme: str) -> None:
    """Turned by some nodes, values at turned places are the same: there is no seam."""
    count, period = 16, 2.0
    nodes = 0.25 + np.arange(count) * (period / count)
    grid = geometry(nodes, periods=(period,))
    frames = np.sin(np.pi * nodes).reshape(1, 1, -1)
    points = np.linspace(0.0, period, 101)[:-1].reshape(-1, 1)
    scheme_of = Interpolation(grid, scheme)
    found = scheme_of.apply(frames, points, EXACT)
    turned = scheme_of.apply(np.roll(frames, 5, axis=2), points + 5 * period / count, EXACT)
    np.testing.assert_allclose(turned, found, atol=1e-12)
    error = np.abs(found[0, 0] - np.sin(np.pi * points[:, 0])).max()
    # Classical bounds: h^2/8 |u''| and 3 h^4/128 |u''''|, with u the sine.
    step = np.pi * period / count
    assert error <= {"linear": step**2 / 8, "cubic": 3 * step**4 / 128}[scheme] * 1.01


@pytest.mark.parametrize("scheme", NUM_NODES)
def test_what_is_missing_reaches_its_stencils_and_no_further(scheme: str) -> None:
    """Whether a value is there follows from the nodes around it alone, worked out here by hand."""
    grid = geometry(np.arange(10.0), np.arange(8.0))
    frames = np.ones((1, 2, 10, 8))
    frames[0, 0, 4, 5] = np.nan
    points = points_in(grid, 2000)
    found = Interpolation(grid, scheme).apply(frames, points, EXACT)
    half = NUM_NODES[scheme] // 2
    touches = np.ones(len(points), dtype=bool)
    for axis, node in enumerate((4, 5)):
        size = grid.shape[axis]
        first = np.clip(np.floor(points[:, axis]) - half + 1, 0, size - 2 * half)
        touches &= (first <= node) & (node < first + 2 * half)
    np.testing.assert_array_equal(np.isnan(found[0, 0]), touches)
    assert 0 < touches.sum() < len(points)
    np.testing.assert_allclose(found[0, 1], 1.0, rtol=1e-12)


def test_an_axis_of_one_node_has_one_value() -> None:
    grid = geometry(np.array([3.0]), np.arange(5.0))
    found = Interpolation(grid, "cubic").apply(np.arange(5.0).reshape(1, 1, 1, 5), np.array([[3.0, 2.25]]), EXACT)
    np.testing.assert_allclose(found, 2.25)


def test_a_value_depends_on_nothing_but_its_place() -> None:
    """Pieces are cut by memory; where they are cut, and what is read with it, changes no bit."""
    grid = geometry(uneven(6), uneven(5))
    frames, points = np.random.default_rng(0).normal(size=(40, 3, 6, 5)).astype("float32"), points_in(grid, 9000)
    whole = Interpolation(grid, "cubic").apply(frames, points, np.dtype(np.float32))
    alone = Interpolation(grid, "cubic").apply(frames[7:8], points[8000:8003], np.dtype(np.float32))
    np.testing.assert_array_equal(whole[7:8, :, 8000:8003], alone)


def test_too_few_nodes_are_refused() -> None:
    with pytest.raises(SourceError, match="cubic interpolation needs 4 nodes along an axis, and axis 1 has 3"):
        Interpolation(geometry(np.arange(4.0), np.arange(3.0)), "cubic")
