"""Streaming moments against NumPy's over all frames at once."""

import numpy as np

from ups_data.importance.frame_moments import FrameMoments


def test_moments_are_those_of_all_frames_at_once() -> None:
    # A small change on a large mean: the difference of sums of squares would have no digit left.
    frames = 1e8 + np.random.default_rng(0).normal(size=(50, 2, 4, 3))
    moments = FrameMoments((2, 4, 3))
    for frame in frames:
        moments.update(frame)
    np.testing.assert_allclose(moments.mean, frames.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(moments.variance, frames.var(axis=0), rtol=1e-6)


def test_the_variance_of_a_constant_is_exactly_zero() -> None:
    moments = FrameMoments((1, 5))
    for _ in range(7):
        moments.update(np.full((1, 5), 0.1))
    assert not moments.variance.any()


def test_no_frame_has_no_variance() -> None:
    assert not FrameMoments((1, 5)).variance.any()
