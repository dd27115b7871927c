"""The distance from the mean of the channel, over points and frames."""

import numpy as np
import pytest

from tests.ups_data.importance.cases import NODES, PERIODIC, cloud_of, maps_of, random_nodes
from ups_data.importance import GridGeometry
from ups_data.importance.value import ValueMetric


def test_a_sine_is_as_important_as_it_is_far_from_its_mean() -> None:
    found = maps_of(ValueMetric, (5 + np.sin(2 * np.pi * NODES))[None, None], PERIODIC)
    np.testing.assert_allclose(found[0], np.abs(np.sin(2 * np.pi * NODES)), atol=1e-12)


@pytest.mark.parametrize("geometry", [PERIODIC, cloud_of(64, 2)])
def test_the_mean_is_that_over_points_and_frames(geometry) -> None:
    frames = np.random.default_rng(0).normal(size=(9, 2, 64)) * [[1.0], [1e6]] + [[3.0], [-1e8]]
    mean = frames.mean(axis=(0, 2), keepdims=True)
    expected = np.sqrt(np.square(frames - mean).mean(axis=0))
    np.testing.assert_allclose(maps_of(ValueMetric, frames, geometry), expected, rtol=1e-7)


def test_a_constant_is_nowhere_far_from_its_mean() -> None:
    # Ten times 0.1 is not 1 in binary: a mean that is rounded must not make differences.
    geometry = GridGeometry(axes=(random_nodes(10),), periods=(None,))
    assert not maps_of(ValueMetric, np.full((3, 1, 10), 0.1), geometry).any()


def test_a_blob_is_found_where_it_is() -> None:
    frames = np.zeros((2, 1, 64))
    frames[:, 0, 20] = 1.0
    assert maps_of(ValueMetric, frames, PERIODIC)[0].argmax() == 20
