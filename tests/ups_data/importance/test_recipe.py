"""Mixtures of metrics: loud fields, scales, constants, names that do not exist."""

import numpy as np
import pytest

from tests.ups_data.importance.cases import BOUNDED, NODES, PERIODIC, cloud_of, importance_of, subject_of
from ups_data.errors import SchemaError
from ups_data.importance import DEFAULT_METRICS, METRICS, check_metrics, default_recipe
from ups_data.schema import ClipSpec, ImportanceSpec

BOTH = ImportanceSpec(metrics={"gradient": 1.0, "temporal_change": 1.0})


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


@pytest.mark.parametrize("geometry", [PERIODIC, cloud_of(64, 2)])
def test_constant_fields_are_important_everywhere_alike(geometry) -> None:
    everything = ImportanceSpec(metrics={name: 1.0 for name in METRICS if name not in {"vorticity", "distance"}})
    recipe = everything if geometry is PERIODIC else BOTH
    assert np.array_equal(importance_of(np.full((3, 2, 64), 0.1), geometry, recipe), np.ones(64))


def test_clouds_have_changes_and_gradients() -> None:
    cloud = cloud_of(100, 2)
    frames = np.zeros((2, 1, 100))
    frames[1, 0, 3] = 1.0
    assert importance_of(frames, cloud, BOTH).argmax() == 3


def test_the_default_recipe_can_be_taken_of_everything() -> None:
    assert default_recipe().metrics == {"gradient": 1.0, "temporal_change": 1.0}
    assert set(DEFAULT_METRICS) <= set(METRICS)
    for geometry in (PERIODIC, cloud_of(10, 3)):
        check_metrics(default_recipe(), subject_of(geometry))


def spike(at_rest: float) -> np.ndarray:
    """Frames of a bump of changes, and one point that changes a thousand times as much."""
    change = np.exp(-np.square((np.arange(64) - 20) / 4.0)) + at_rest
    change[np.abs(np.arange(64) - 20) > 12] = at_rest
    change[50] = 1000.0
    return np.stack([0 * change, change])[:, None]


CHANGE = ImportanceSpec(metrics={"temporal_change": 1.0}, exponent=2.0, floor=0.0)


def clipped(frames: np.ndarray, **clip: float) -> np.ndarray:
    return importance_of(frames, BOUNDED, CHANGE.model_copy(update={"clip": ClipSpec(**clip)}))


@pytest.mark.parametrize("at_rest", [0.0, 0.1])
def test_a_quantile_cuts_the_points_above_it(at_rest: float) -> None:
    change = spike(at_rest)[1, 0] ** 2
    found = clipped(spike(at_rest), quantile=0.9)
    expected = np.minimum(change, np.quantile(change[change > 0], 0.9))
    assert expected.any()
    np.testing.assert_allclose(found, expected / expected.mean())


def test_a_multiple_of_the_mean_cuts_what_is_above_it() -> None:
    change = spike(0.1)[1, 0] ** 2
    expected = np.minimum(change, 3 * change.mean())
    assert (expected < change).sum() == 1
    np.testing.assert_allclose(clipped(spike(0.1), times_mean=3.0), expected / expected.mean())


def test_nothing_is_cut_where_nothing_is_above() -> None:
    whole = importance_of(spike(0.1), BOUNDED, CHANGE)
    np.testing.assert_allclose(clipped(spike(0.1), times_mean=64.0), whole)
    assert np.array_equal(clipped(np.zeros((2, 1, 64)), quantile=0.5), np.ones(64))


def test_a_metric_of_grids_is_refused_on_clouds_with_the_way_out() -> None:
    recipe = ImportanceSpec(metrics={"vorticity": 1.0})
    with pytest.raises(SchemaError, match="'vorticity' is defined on grids, not on scattered points; use 'gradient'"):
        check_metrics(recipe, subject_of(cloud_of(10, 2)))


def test_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(SchemaError, match=r"Did you mean 'gradient'\? .* One of your own: module:function\."):
        check_metrics(ImportanceSpec(metrics={"gradeint": 1.0}))
