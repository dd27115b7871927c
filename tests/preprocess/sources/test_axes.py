"""Nodes and times: what is refused, and the extent that follows from them."""

import numpy as np
import pytest

from preprocess.sources.axes import (
    as_float,
    first_times,
    goes_around,
    grid_axis,
    read_increasing,
    shared_axis,
    uniform_period,
)
from ups_data.errors import SourceError
from ups_data.schema import AxisKind


def test_increasing_numbers_pass_as_float64() -> None:
    numbers = read_increasing(np.array([0, 1, 4], dtype=">i2"), where="f: x")
    assert numbers.dtype == np.float64
    assert numbers.tolist() == [0.0, 1.0, 4.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array(["0", "1"]), "f: x holds <U1 where numbers must stand"),
        (np.array([True, False]), "f: x holds bool where numbers must stand"),
        (np.zeros((2, 2)), r"f: x has shape \(2, 2\); one row"),
        (np.zeros(0), r"f: x has shape \(0,\); one row of at least one number"),
        (np.array([0.0, np.nan]), "f: x holds nan at entry 1"),
        (np.array([0.0, 2.0, 1.0]), "f: x must increase strictly, but entry 1 is 2.0 and entry 2 is 1.0"),
        (np.array([0.0, 1.0, 1.0]), "must increase strictly, but entry 1 is 1.0 and entry 2 is 1.0"),
    ],
)
def test_refuses_what_does_not_increase(values: np.ndarray, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_increasing(values, where="f: x")


@pytest.mark.parametrize("count", [2, 128, 10_000])
def test_period_of_cell_centres_in_float32(count: int) -> None:
    centres = ((np.arange(count) + 0.5) / count).astype("float32").astype("float64")
    assert uniform_period(centres, where="f: x") == pytest.approx(1.0, rel=1e-6)


def test_period_needs_even_nodes() -> None:
    with pytest.raises(SourceError, match=r"not evenly spaced .a node is off by"):
        uniform_period(np.array([0.0, 0.1, 0.3]), where="f: x")
    with pytest.raises(SourceError, match="one node only"):
        uniform_period(np.zeros(1), where="f: x")


def test_extent_follows_from_the_nodes() -> None:
    nodes = np.array([0.125, 0.375, 0.625, 0.875])
    wall = grid_axis("x", nodes, periodic=False, where="f")
    wrap = grid_axis("x", nodes, periodic=True, where="f", unit="m")
    assert (wall.lower, wall.upper, wall.periodic) == (0.125, 0.875, False)
    assert (wrap.lower, wrap.upper, wrap.unit) == (0.125, 1.125, "m")


@pytest.mark.parametrize(
    ("nodes", "options", "message"),
    [
        ([0.0], {"periodic": False}, "one node only, so the domain has no extent"),
        ([0.0, 1.0], {"periodic": False, "extent": (0.0, 0.5)}, "run from 0.0 to 1.0, outside of"),
        ([0.0, 1.0], {"periodic": False, "extent": (1.0, 1.0)}, "it must have a length"),
        ([0.0, 0.5, 1.0], {"periodic": True, "extent": (0.0, 1.0)}, "the node at 1.0 repeats the one at 0.0"),
    ],
)
def test_axis_refuses(nodes: list[float], options: dict, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        grid_axis("x", np.array(nodes), where="f", **options)


def test_one_time_too_many_is_left_out_with_a_note() -> None:
    times, note = first_times(np.arange(5.0), 4, where="f: t")
    assert times.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert note == "f: t has 5 times for 4 frames; the last one was left out"
    assert first_times(np.arange(4.0), 4, where="f: t")[1] is None


@pytest.mark.parametrize("count", [3, 6])
def test_other_numbers_of_times_are_refused(count: int) -> None:
    with pytest.raises(SourceError, match=f"f: t has {count} times for 4 frames"):
        first_times(np.arange(float(count)), 4, where="f: t")


def test_scalars() -> None:
    assert as_float(np.array([[3]]), where="f") == 3.0
    for value in ("3", [1, 2], float("inf"), None):
        with pytest.raises(SourceError, match=r"f: nu is .*; one finite number is wanted"):
            as_float(value, where="f: nu")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_numbers_in_the_other_byte_order_are_refused(dtype: str) -> None:
    nodes = np.array([0.0, 0.5, 1.0, 2.0], dtype=dtype)
    with pytest.raises(
        SourceError, match=r"f: x holds the subnormal number .* at entry 1; .*written in the other order"
    ):
        read_increasing(nodes.byteswap(), where="f: x")
    np.testing.assert_array_equal(read_increasing(nodes, where="f: x"), nodes)


def test_a_shared_axis_covers_all_trajectories() -> None:
    rows = [np.array([0.0, 1.0, 4.0]), np.array([-1.0, 2.0]), np.array([0.0, 1.0, 4.0])]
    axis = shared_axis("x", rows, periodic=False, where="f: x")
    assert (axis.lower, axis.upper, axis.periodic) == (-1.0, 4.0, False)


def test_periods_must_agree() -> None:
    rows = [np.arange(4) / 4, np.arange(8) / 8]
    assert shared_axis("x", rows, periodic=True, where="f: x").upper == 1.0
    with pytest.raises(SourceError, match=r"f: x: trajectories have different periods along x: .*2.0\)\]; say so"):
        shared_axis("x", [*rows, np.arange(4) / 2], periodic=True, where="f: x", hint="; say so")


ANGLES = [
    ("latitude", np.linspace(-90, 90, 9), (-90, 90)),
    ("latitude", np.linspace(-80, 80, 9), (-90, 90)),
    ("latitude", np.arange(0.0, 50.0, 10), (-5, 45)),
    ("latitude", np.array([-50.0, -10.0, 0.0, 70.0]), (-70, 90)),
    ("latitude", np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(32)[0])), (-90, 90)),
    ("colatitude", np.arange(18) * 10.0 + 5, (0, 180)),
    ("longitude", np.arange(10.0, 60.0, 10), (5, 55)),
    ("longitude", np.linspace(0, 360, 37), (0, 360)),
    ("longitude", np.linspace(-180, 175, 72), (-180, 175)),
]


@pytest.mark.parametrize(("kind", "nodes", "extent"), ANGLES)
@pytest.mark.parametrize("unit", ["degrees", "radians"])
def test_angles_reach_half_a_cell_beyond_their_nodes(
    kind: AxisKind, nodes: np.ndarray, extent: tuple[float, float], unit: str
) -> None:
    factor = 1.0 if unit == "degrees" else np.pi / 180
    axis = grid_axis("a", nodes * factor, periodic=False, where="f: a", unit=unit, kind=kind)
    assert (axis.kind, axis.unit) == (kind, unit)
    if kind == "longitude" and len(nodes) == 72:
        # Five degrees are one whole cell: half of it at either end is covered once.
        extent = (-182.5, 177.5)
    np.testing.assert_allclose([axis.lower, axis.upper], np.array(extent) * factor, atol=1e-9)


def test_longitudes_that_close_the_circle_have_its_period() -> None:
    for unit, circle in (("degrees_east", 360.0), ("radians", 2 * np.pi)):
        nodes = np.arange(16, dtype="float32").astype("float64") * np.float64(np.float32(circle / 16))
        assert goes_around(nodes, unit)
        axis = grid_axis("a", nodes, periodic=True, where="f: a", unit=unit, kind="longitude")
        assert axis.upper - axis.lower == circle
        assert not goes_around(nodes[:-1], unit)
    assert not goes_around(np.zeros(1), "degrees")


@pytest.mark.parametrize(
    ("kind", "nodes", "unit", "message"),
    [
        (
            "latitude",
            [0, 91],
            "degrees",
            "'a' is a latitude, and its nodes run from 0.0 to 91.0 degrees, beyond -90",
        ),
        (
            "colatitude",
            [-1, 1],
            "radians",
            "a colatitude, and its nodes run from -1.0 to 1.0 radians, beyond 0 to 3.1",
        ),
        ("longitude", [0, 361], "degrees", "is a longitude that runs from 0.0 to 361.0 degrees, more than once around"),
        ("longitude", [0, 1], "m", "is a longitude, so its unit must be degrees or radians, not 'm'"),
        ("latitude", [0], "degrees", "has one node only"),
    ],
)
def test_angles_that_are_none_are_refused(kind: AxisKind, nodes: list[float], unit: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        grid_axis("a", np.array(nodes, dtype="f8"), periodic=False, where="f: a", unit=unit, kind=kind)
