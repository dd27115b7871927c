"""The standard deviation over frames, on grids and on clouds."""

import numpy as np
import pytest

from tests.ups_data.importance.cases import NODES, PERIODIC, cloud_of, maps_of
from ups_data.importance.variance import VarianceMetric


def test_a_standing_wave_varies_with_its_amplitude() -> None:
    times = np.arange(16) / 16
    frames = np.multiply.outer(np.cos(2 * np.pi * times), np.sin(2 * np.pi * NODES)) + 100.0
    found = maps_of(VarianceMetric, frames[:, None], PERIODIC)
    np.testing.assert_allclose(found[0], np.abs(np.sin(2 * np.pi * NODES)) / np.sqrt(2), atol=1e-12)


@pytest.mark.parametrize("geometry", [PERIODIC, cloud_of(64, 3)])
def test_it_is_that_of_numpy_on_every_geometry(geometry) -> None:
    frames = np.random.default_rng(0).normal(size=(9, 2, 64)).astype("float32")
    found = maps_of(VarianceMetric, frames, geometry)
    np.testing.assert_allclose(found, frames.astype("float64").std(axis=0), rtol=1e-12)


def test_a_single_frame_does_not_vary() -> None:
    assert not maps_of(VarianceMetric, np.random.default_rng(0).normal(size=(1, 2, 64)), PERIODIC).any()
