"""The norm of the second derivatives of fields whose Hessian is known."""

import numpy as np
import pytest

from tests.ups_data.importance.cases import PERIODIC, cloud_of, maps_of, random_nodes
from ups_data.importance import GridGeometry
from ups_data.importance.curvature import CurvatureMetric


def test_a_quadratic_on_uneven_nodes_is_exact_inside() -> None:
    x, y, z = random_nodes(9), random_nodes(8, seed=1), random_nodes(7, seed=2)
    geometry = GridGeometry(axes=(x, y, z), periods=(None, None, None))
    px, py, pz = np.meshgrid(x, y, z, indexing="ij")
    field = px**2 - 2 * py**2 + 3 * px * py + 4 * py * pz + pz
    # Hessian [[2, 3, 0], [3, -4, 4], [0, 4, 0]].
    expected = np.sqrt(2**2 + 4**2 + 2 * (3**2 + 4**2))
    np.testing.assert_allclose(maps_of(CurvatureMetric, field[None, None], geometry), expected, rtol=1e-8)


def test_a_plane_wave_has_the_curvature_of_its_wave_vector_in_every_direction() -> None:
    nodes = np.arange(128) / 128
    geometry = GridGeometry(axes=(nodes, nodes), periods=(1.0, 1.0))
    px, py = np.meshgrid(nodes, nodes, indexing="ij")
    wave = np.sin(2 * np.pi * (2 * px + py))
    # The Hessian is -k k^T u, of norm |k|^2 |u|; relative error of the differences (k h)^2 / 6 at most.
    expected = (2 * np.pi) ** 2 * 5 * np.abs(wave)
    found = maps_of(CurvatureMetric, wave[None, None], geometry)[0]
    np.testing.assert_allclose(found, expected, atol=expected.max() * (4 * np.pi / 128) ** 2 / 3)


def test_frames_are_averaged_channel_by_channel() -> None:
    nodes = random_nodes(12)
    geometry = GridGeometry(axes=(nodes,), periods=(None,))
    frames = np.stack([[nodes**2, 2 * nodes**2], [0 * nodes, nodes]])
    found = maps_of(CurvatureMetric, frames, geometry)
    np.testing.assert_allclose(found, np.array([[2.0], [4.0]]) / np.sqrt(2) * np.ones(12), rtol=1e-8)


@pytest.mark.parametrize("shape", [(1, 64), (2, 64), (64, 1)])
def test_axes_too_short_to_bend(shape: tuple[int, int]) -> None:
    axes = tuple(np.arange(float(size)) for size in shape)
    geometry = GridGeometry(axes=axes, periods=(None, None))
    field = np.square(np.arange(64.0)).reshape(1, 64) * np.ones((shape[0], 1)) if shape[1] == 64 else None
    field = np.square(np.arange(64.0)).reshape(64, 1) if field is None else field
    np.testing.assert_allclose(maps_of(CurvatureMetric, field[None, None], geometry), 2.0)


def test_a_kink_is_found_where_it_is() -> None:
    nodes = PERIODIC.axes[0]
    found = maps_of(CurvatureMetric, np.abs(nodes - 0.5)[None, None], PERIODIC)[0]
    # The hat bends at its top and at the seam, and nowhere else.
    assert sorted(np.flatnonzero(found > 1e-6 * found.max())) == [0, 32]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_scattered_points_have_a_curvature_too(dims: int) -> None:
    cloud = cloud_of(300, dims)
    frames = np.stack([[(cloud.coordinates**2).sum(axis=1)], [0 * cloud.coordinates[:, 0]]])
    # The Hessian of |x|^2 is twice the unit matrix; the second frame has none.
    expected = 2 * np.sqrt(dims) / np.sqrt(2)
    np.testing.assert_allclose(maps_of(CurvatureMetric, frames, cloud), expected, rtol=1e-6)
