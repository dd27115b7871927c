"""The conventions of point ids and axes."""

import numpy as np
import pytest

from ups_data.coordinates import Domain, check_axis, coordinates_of, grid_coordinates
from ups_data.errors import SchemaError
from ups_data.schema import AxisSpec

X, Y = np.array([0.0, 0.5, 2.0]), np.array([-1.0, 1.0])


def test_point_ids_count_in_c_order_with_the_last_axis_fastest() -> None:
    expected = [[0, -1], [0, 1], [0.5, -1], [0.5, 1], [2, -1], [2, 1]]
    assert grid_coordinates((X, Y)).tolist() == expected


def test_some_coordinates_equal_those_of_the_whole_grid() -> None:
    ids = np.array([5, 0, 3])
    assert np.array_equal(coordinates_of((X, Y), ids), grid_coordinates((X, Y))[ids])


def test_domain_takes_the_extents_of_the_axes() -> None:
    axes = (AxisSpec(name="x", lower=0.0, upper=2.0), AxisSpec(name="y", lower=-1.0, upper=1.0, periodic=True))
    domain = Domain.from_axes(axes)
    assert domain == Domain(names=("x", "y"), lower=(0.0, -1.0), upper=(2.0, 1.0), periodic=(False, True))
    assert domain.dims == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, np.nan, 1.0], "not finite at node 1"),
        ([0.0, 0.6, 0.5], "node 1 lies at 0.6 and node 2 at 0.5"),
        ([0.0, 0.0, 0.5], "must increase strictly"),
        ([0.0, 0.5, 1.5], "outside of its extent"),
        ([-0.5, 0.5, 0.7], "outside of its extent"),
        ([0.0, 0.5, 1.0], "repeats the one at 0.0"),
    ],
)
def test_bad_axes_are_refused_with_the_place(values: list[float], message: str) -> None:
    spec = AxisSpec(name="x", lower=0.0, upper=1.0, periodic=True)
    with pytest.raises(SchemaError, match=f"file: axis 'x'.*{message}"):
        check_axis(np.array(values), spec, where="file")


def test_good_axes_pass() -> None:
    check_axis(np.array([0.0, 1.0]), AxisSpec(name="x", lower=0.0, upper=1.0), where="file")
    check_axis(np.array([0.0, 0.5]), AxisSpec(name="x", lower=0.0, upper=1.0, periodic=True), where="file")
