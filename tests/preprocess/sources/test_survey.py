"""What is measured on other points: deviations in any pieces, importance that takes from frames what is there."""

import numpy as np
import pytest

from preprocess.sources.survey import Deviations, KnownImportance


def test_deviations_are_moments_of_what_is_there() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 5, 2, 7))
    first[:, 1] = np.nan
    second[3, 1, :4] = np.nan
    arrays = []
    for part in (first, second):
        deviations = Deviations(2)
        deviations.update(part)
        arrays.append(deviations.to_array())
    both = np.concatenate([first, second])
    for record, values in zip(Deviations.records(np.stack(arrays), ("a", "b")), (both[:, 0], both[:, 1]), strict=True):
        known = values[np.isfinite(values)]
        assert record.count == known.size
        assert record.rms == pytest.approx(np.sqrt(np.mean(known**2)), rel=1e-12)
        assert record.max == np.abs(known).max()


def test_deviations_do_not_depend_on_how_many_frames_come_at_once() -> None:
    differences = np.random.default_rng(0).normal(size=(9, 3, 1001))
    whole, parts = Deviations(3), Deviations(3)
    whole.update(differences)
    for frame in differences:
        parts.update(frame[None])
    np.testing.assert_array_equal(whole.to_array(), parts.to_array())


def test_nothing_compared_is_told_as_nothing() -> None:
    (record,) = Deviations.records(Deviations(1).to_array()[None], ("a",))
    assert (record.count, record.rms, record.max) == (0, None, None)


def test_importance_is_of_points_that_had_a_value() -> None:
    importance = KnownImportance(np.array([1.0, 3.0, np.nan, 2.0]))
    frame = np.array([[1.0, np.nan, np.nan, np.nan], [np.nan, np.nan, np.nan, 1.0]])
    importance.update(frame)
    assert importance.num_points == 2
    np.testing.assert_allclose(importance.result(), [2 / 3, np.nan, np.nan, 4 / 3])
    importance.update(np.array([[np.nan, 0.0, np.nan, np.nan]] * 2))
    assert importance.num_points == 3
    np.testing.assert_allclose(importance.result(), [0.5, 1.5, np.nan, 1.0])
    np.testing.assert_allclose(importance.result(np.array([2.0, 1.0, 1.0, 0.5])), [1.0, 1.5, np.nan, 0.5])
