"""The norm of the gradient on grids and on clouds."""

import numpy as np
import pytest

from tests.ups_data.importance.cases import cloud_of, maps_of
from ups_data.importance import CloudGeometry, GridGeometry
from ups_data.importance.gradient import GradientMetric


def test_it_adds_squares_of_axes_and_averages_frames() -> None:
    x, y = np.arange(8.0), np.arange(6.0)
    geometry = GridGeometry(axes=(x, y), periods=(None, None))
    plane = 3 * x[:, None] + 4 * y
    np.testing.assert_allclose(maps_of(GradientMetric, np.stack([plane, 0 * plane])[:, None], geometry), 5 / np.sqrt(2))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_it_is_exact_for_linear_fields_on_clouds(dims: int) -> None:
    cloud = cloud_of(500, dims)
    slopes = np.array([[3.0, -4.0, 12.0], [0.0, 1.0, 0.0]])[:, :dims]
    frames = (slopes @ cloud.coordinates.T + 7.0)[None]
    expected = np.linalg.norm(slopes, axis=1)[:, None] * np.ones(500)
    np.testing.assert_allclose(maps_of(GradientMetric, frames, cloud), expected, rtol=1e-9, atol=1e-12)


def test_frames_of_a_cloud_are_averaged() -> None:
    cloud = cloud_of(100, 2)
    plane = 3 * cloud.coordinates[:, 0] + 4 * cloud.coordinates[:, 1]
    np.testing.assert_allclose(maps_of(GradientMetric, np.stack([plane, 0 * plane])[:, None], cloud), 5 / np.sqrt(2))


def test_the_same_points_as_a_grid_and_as_a_cloud() -> None:
    nodes = np.linspace(0, 1, 40)
    grid = GridGeometry(axes=(nodes, nodes), periods=(None, None))
    places = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1)
    field = np.sin(4 * places[..., 0]) * np.cos(3 * places[..., 1])
    on_grid = maps_of(GradientMetric, field[None, None], grid)
    on_cloud = maps_of(
        GradientMetric, field.reshape(1, 1, -1), CloudGeometry(coordinates=places.reshape(-1, 2))
    ).reshape(1, 40, 40)
    inner = (slice(None), slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(on_cloud[inner], on_grid[inner], atol=0.02)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("period", [None, 2.0])
def test_the_way_of_even_nodes_is_that_of_any(period: float | None, gaps: bool) -> None:
    random = np.random.default_rng(0)
    axes = (np.arange(8) * 0.25, np.arange(5) * 3.0, np.arange(6) * 1e-3)
    frames = random.normal(size=(3, 2, 8, 5, 6))
    if gaps:
        frames[random.random(frames.shape) < 0.2] = np.nan
    even = GridGeometry(axes=axes, periods=(period, None, None))
    any_ = GridGeometry(axes=axes, periods=(period, None, None), spacings=(None, None, None))
    np.testing.assert_allclose(maps_of(GradientMetric, frames, even), maps_of(GradientMetric, frames, any_), rtol=1e-12)
