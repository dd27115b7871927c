"""Maps against analytic fields: derivatives across the seam, loud fields, constants, changes."""

import numpy as np
import pytest

from ups_data.errors import SchemaError
from ups_data.importance import CloudGeometry, GridGeometry, ImportanceMap
from ups_data.importance.gradient import GradientMetric, axis_derivative
from ups_data.importance.temporal_change import TemporalChangeMetric
from ups_data.schema import ImportanceSpec

NODES = np.arange(64) / 64
PERIODIC = GridGeometry(axes=(NODES,), periods=(1.0,))
BOUNDED = GridGeometry(axes=(NODES,), periods=(None,))
BOTH = ImportanceSpec(metrics={"gradient": 1.0, "temporal_change": 1.0})


def importance_of(frames: np.ndarray, geometry: GridGeometry | CloudGeometry, spec: ImportanceSpec) -> np.ndarray:
    gathered = ImportanceMap(spec, geometry, frames.shape[1])
    for frame in frames:
        gathered.update(frame)
    return gathered.result()


def test_derivative_of_a_sine_across_the_seam() -> None:
    found = axis_derivative(np.sin(2 * np.pi * NODES)[None], PERIODIC, 0)[0]
    # Second-order error of central differences: (2 pi)^3 h^2 / 6.
    assert np.abs(found - 2 * np.pi * np.cos(2 * np.pi * NODES)).max() < (2 * np.pi) ** 3 / 64**2 / 6 * 1.01


def test_periodic_derivative_does_not_depend_on_where_the_seam_lies() -> None:
    values = np.exp(np.cos(2 * np.pi * NODES))
    rolled = axis_derivative(np.roll(values, 20)[None], PERIODIC, 0)[0]
    np.testing.assert_allclose(np.roll(rolled, -20), axis_derivative(values[None], PERIODIC, 0)[0], atol=1e-12)


def test_uneven_axes_differentiate_a_parabola_exactly_inside() -> None:
    nodes = np.sort(np.random.default_rng(0).uniform(size=30))
    geometry = GridGeometry(axes=(nodes,), periods=(None,))
    found = axis_derivative(np.square(nodes)[None], geometry, 0)[0]
    np.testing.assert_allclose(found[1:-1], 2 * nodes[1:-1], atol=1e-10)


def test_an_axis_of_one_node_has_no_gradient() -> None:
    geometry = GridGeometry(axes=(np.zeros(1), NODES), periods=(None, 1.0))
    assert not axis_derivative(np.ones((1, 1, 64)), geometry, 0).any()


def test_gradient_adds_squares_of_axes_and_averages_frames() -> None:
    x, y = np.arange(8.0), np.arange(6.0)
    metric = GradientMetric(GridGeometry(axes=(x, y), periods=(None, None)), 1)
    plane = 3 * x[:, None] + 4 * y
    metric.update(plane[None])
    metric.update(0 * plane[None])
    np.testing.assert_allclose(metric.result(), np.sqrt(25 / 2))


def test_temporal_change_is_the_rms_over_steps() -> None:
    metric = TemporalChangeMetric(BOUNDED, 1)
    for value in (0.0, 3.0, -1.0):
        metric.update(np.full((1, 64), value))
    np.testing.assert_allclose(metric.result(), np.sqrt((9 + 16) / 2))


def test_a_loud_field_does_not_drown_a_quiet_one() -> None:
    quiet = np.exp(-np.square((NODES - 0.25) / 0.03))
    loud = 1e6 * np.exp(-np.square((NODES - 0.75) / 0.03))
    both = importance_of(np.stack([quiet, loud])[None], BOUNDED, ImportanceSpec(metrics={"gradient": 1.0}))
    assert both[:32].sum() == pytest.approx(both[32:].sum())


def test_scaling_a_field_changes_nothing() -> None:
    frames = np.random.default_rng(0).normal(size=(3, 2, 64))
    scaled = frames * np.array([1.0, 1e-5])[:, None]
    np.testing.assert_allclose(importance_of(frames, PERIODIC, BOTH), importance_of(scaled, PERIODIC, BOTH))


def test_map_is_positive_and_of_mean_one() -> None:
    frames = np.zeros((2, 1, 64))
    frames[1, 0, 5] = 1.0
    found = importance_of(frames, PERIODIC, BOTH)
    assert found.min() > 0
    assert found.mean() == pytest.approx(1)
    assert found.argmax() == 5


def test_constant_fields_are_important_everywhere_alike() -> None:
    assert np.array_equal(importance_of(np.full((3, 2, 64), 7.0), PERIODIC, BOTH), np.ones(64))


def test_clouds_have_changes_but_no_gradient_yet() -> None:
    cloud = CloudGeometry(coordinates=np.random.default_rng(0).normal(size=(10, 2)))
    frames = np.zeros((2, 1, 10))
    frames[1, 0, 3] = 1.0
    assert importance_of(frames, cloud, ImportanceSpec(metrics={"temporal_change": 1.0})).argmax() == 3
    with pytest.raises(SchemaError, match="'gradient' is defined on grids"):
        importance_of(frames, cloud, BOTH)


def test_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(SchemaError, match="Did you mean 'gradient'"):
        ImportanceMap(ImportanceSpec(metrics={"gradeint": 1.0}), PERIODIC, 1)
