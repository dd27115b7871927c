"""Streaming moments equal those of NumPy in float64, however the data are cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ups_data.statistics import FieldStatistics, Moments, Normaliser, pool_statistics


@given(cuts=st.lists(st.integers(1, 99), max_size=5), offset=st.floats(-1e4, 1e4))
def test_merged_moments_equal_numpy(cuts: list[int], offset: float) -> None:
    values = np.random.default_rng(0).normal(size=(3, 100)) + offset
    merged = Moments.empty(3)
    for part in np.split(values, sorted(set(cuts)), axis=1):
        merged = merged.merge(Moments.of(part))
    assert merged.count.tolist() == [100, 100, 100]
    np.testing.assert_allclose(merged.mean, values.mean(axis=1), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(merged.std, values.std(axis=1), rtol=1e-11)
    np.testing.assert_allclose(merged.rms, np.sqrt(np.square(values).mean(axis=1)), rtol=1e-12)
    assert np.array_equal(merged.min, values.min(axis=1))
    assert np.array_equal(merged.max, values.max(axis=1))


def test_a_small_spread_on_a_large_mean_survives() -> None:
    values = 1e9 + np.arange(1000.0)
    merged = Moments.of(values[None, :500]).merge(Moments.of(values[None, 500:]))
    assert merged.std[0] == pytest.approx(values.std(), rel=1e-10)


def test_changes_are_counted_within_trajectories_only() -> None:
    frames = np.array([0.0, 1.0, 3.0]).reshape(3, 1, 1)
    statistics = FieldStatistics(1)
    for _ in range(2):
        previous = None
        for frame in frames:
            statistics.update(frame, previous)
            previous = frame
    (record,) = statistics.records(("u",))
    assert (record.count, record.min, record.max) == (6, 0.0, 3.0)
    assert (record.delta_mean, record.delta_std) == (1.5, 0.5)


def test_a_steady_field_has_no_changes() -> None:
    statistics = FieldStatistics(1)
    statistics.update(np.ones((1, 4)), None)
    (record,) = statistics.records(("u",))
    assert record.delta_std is None


def test_constant_channel_is_only_shifted() -> None:
    statistics = FieldStatistics(2)
    statistics.update(np.array([[5.0, 5.0], [0.0, 4.0]]), None)
    normaliser = Normaliser.from_statistics(statistics.records(("a", "b")))
    assert normaliser.mean.tolist() == [5.0, 2.0]
    assert normaliser.scale.tolist() == [1.0, 2.0]


@given(cut=st.integers(1, 59), offset=st.floats(-1e3, 1e3))
def test_pooled_records_are_those_of_all_values(cut: int, offset: float) -> None:
    values = np.random.default_rng(1).normal(size=(2, 60))
    values[:, cut:] += offset
    parts = []
    for part in (values[:, :cut], values[:, cut:]):
        statistics = FieldStatistics(2)
        statistics.update(part, part)
        parts.append(statistics.records(("a", "b")))
    for channel, record in enumerate(pool_statistics(parts)):
        truth = values[channel]
        assert (record.channel, record.count) == ("ab"[channel], 60)
        assert (record.min, record.max) == (truth.min(), truth.max())
        assert record.mean == pytest.approx(truth.mean(), rel=1e-10, abs=1e-10)
        assert record.std == pytest.approx(truth.std(), rel=1e-9)
        assert record.rms == pytest.approx(np.sqrt(np.square(truth).mean()), rel=1e-10)
        assert record.delta_mean is None
