"""The conventions of point ids and axes."""

import numpy as np
import pytest

from ups_data.coordinates import (
    Domain,
    cell_lengths,
    check_axis,
    coordinates_of,
    grid_coordinates,
    grid_measures,
)
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


# -- measures of cells -------------------------------------------------------------------------------------------------


def test_cells_reach_halfway_to_their_neighbours_and_to_the_ends_of_the_domain() -> None:
    nodes = np.array([0.0, 1.0, 4.0])
    inside = AxisSpec(name="x", lower=0.0, upper=4.0)
    wider = AxisSpec(name="x", lower=-1.0, upper=5.0)
    around = AxisSpec(name="x", lower=0.0, upper=6.0, periodic=True)
    assert cell_lengths(nodes, inside).tolist() == [0.5, 2.0, 1.5]
    assert cell_lengths(nodes, wider).tolist() == [1.5, 2.0, 2.5]
    assert cell_lengths(nodes, around).tolist() == [1.5, 2.0, 2.5]
    assert cell_lengths(nodes[:1], inside).tolist() == [4.0]


def test_cells_of_the_globe_make_up_its_area_and_integrate_harmonics() -> None:
    latitude = AxisSpec(name="lat", lower=-90.0, upper=90.0, unit="degrees_north", kind="latitude")
    longitude = AxisSpec(name="lon", lower=0.0, upper=360.0, unit="degrees_east", kind="longitude", periodic=True)
    axes = (np.linspace(-90, 90, 73), np.arange(144) * 2.5)
    measures = grid_measures(axes, (latitude, longitude))
    assert measures.sum() == pytest.approx(4 * np.pi, rel=1e-12)
    sine = np.sin(np.deg2rad(grid_coordinates(axes)[:, 0]))
    assert (measures * sine).sum() == pytest.approx(0.0, abs=1e-12)
    assert (measures * sine**2).sum() == pytest.approx(4 * np.pi / 3, rel=1e-3)
    colatitude = AxisSpec(name="theta", lower=0.0, upper=np.pi, unit="rad", kind="colatitude")
    turned = (np.linspace(0, np.pi, 73), axes[1])
    np.testing.assert_allclose(grid_measures(turned, (colatitude, longitude)), measures[::1], rtol=1e-9)


def test_measures_of_some_points_equal_those_of_the_whole_grid() -> None:
    specs = (AxisSpec(name="x", lower=0.0, upper=2.0), AxisSpec(name="y", lower=-1.0, upper=3.0, periodic=True))
    ids = np.array([5, 0, 3])
    assert np.array_equal(grid_measures((X, Y), specs, ids), grid_measures((X, Y), specs)[ids])
