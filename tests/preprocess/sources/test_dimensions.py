"""Dimensions come out as time, component, space, whatever order they were stored in."""

import itertools

import numpy as np
import pytest

from preprocess.sources.dimensions import arrange

SIZES = {"time": 2, "component": 3, "x": 4, "y": 5}


@pytest.mark.parametrize("dims", list(itertools.permutations(SIZES)))
def test_every_order(dims: tuple[str, ...]) -> None:
    wanted = np.arange(120).reshape(2, 3, 4, 5)
    stored = wanted.transpose([tuple(SIZES).index(dim) for dim in dims])
    np.testing.assert_array_equal(arrange(stored, dims, space=("x", "y"), num_frames=2), wanted)


def test_absent_time_and_component() -> None:
    field = np.arange(20).reshape(5, 4)
    found = arrange(field, ("y", "x"), space=("x", "y"), num_frames=3)
    assert found.shape == (3, 1, 4, 5)
    for frame in found:
        np.testing.assert_array_equal(frame[0], field.T)
