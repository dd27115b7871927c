"""Points between nodes fill the domain evenly, each of them alone uniform over it."""

import numpy as np
import pytest

from preprocess.sources.placement import domain_measure, place_points
from ups_data.coordinates import grid_measures
from ups_data.importance import GridGeometry
from ups_data.schema import AxisSpec

LINE = (AxisSpec(name="x", lower=-1.0, upper=3.0),)
PLANE = (*LINE, AxisSpec(name="y", lower=0.0, upper=2.0, periodic=True))
BOX = (*PLANE, AxisSpec(name="z", lower=0.0, upper=1.0))
SPHERE = (
    AxisSpec(name="lat", lower=-90.0, upper=90.0, unit="degrees", kind="latitude"),
    AxisSpec(name="lon", lower=0.0, upper=360.0, periodic=True, unit="degrees", kind="longitude"),
)


def grid_of(specs: tuple[AxisSpec, ...], count: int = 9) -> GridGeometry:
    axes = tuple(np.linspace(spec.lower, spec.upper, count, endpoint=not spec.periodic) for spec in specs)
    periods = tuple(spec.upper - spec.lower if spec.periodic else None for spec in specs)
    return GridGeometry(axes=axes, periods=periods)


@pytest.mark.parametrize("specs", [LINE, PLANE, BOX, SPHERE])
def test_they_lie_in_the_domain_and_fill_it_evenly(specs: tuple[AxisSpec, ...]) -> None:
    """In each of 4^D boxes of one measure there are as many as there should be, to a few points."""
    points = place_points(grid_of(specs), specs, 4096, seed=3, trajectory=1)
    boxes = np.zeros(len(points), dtype=int)
    for axis, spec in enumerate(specs):
        places = points[:, axis]
        assert (spec.lower <= places).all()
        assert (places < spec.upper).all() if spec.periodic else (places <= spec.upper).all()
        even = np.sin(np.radians(places)) if spec.kind == "latitude" else places
        ends = (-1.0, 1.0) if spec.kind == "latitude" else (spec.lower, spec.upper)
        boxes = 4 * boxes + np.clip(4 * (even - ends[0]) / (ends[1] - ends[0]), 0, 3.999).astype(int)
    counts = np.bincount(boxes, minlength=4 ** len(specs))
    # At random they would spread by the square root, 8 to 32, and the worst of them by twice that and more.
    assert np.abs(counts - 4096 / counts.size).max() <= 10


def test_they_end_where_the_nodes_end() -> None:
    """Beyond the last node of an axis that does not wrap nothing is known."""
    grid = GridGeometry(axes=(np.linspace(-0.5, 2.5, 7),), periods=(None,))
    points = place_points(grid, LINE, 500, seed=0, trajectory=0)
    assert (points.min(), points.max()) == pytest.approx((-0.5, 2.5), abs=0.02)
    assert points.min() >= -0.5
    assert points.max() <= 2.5
    assert domain_measure(grid, LINE) == 3.0


def test_each_alone_is_uniform_over_seeds() -> None:
    """So that the mean over the set is an unbiased estimate of the mean over the domain: moments of one point."""
    tenth = np.array([place_points(grid_of(PLANE), PLANE, 11, seed=seed, trajectory=0)[10] for seed in range(4000)])
    unit = (tenth - [-1.0, 0.0]) / [4.0, 2.0]
    for power in (1, 2, 3):
        deviation = (unit**power).mean(axis=0) - 1 / (power + 1)
        spread = np.sqrt((1 / (2 * power + 1) - 1 / (power + 1) ** 2) / len(unit))
        assert np.abs(deviation / spread).max() < 4.5


@pytest.mark.parametrize(("count", "times"), [(1000, 5), (16000, 20)])
def test_sums_over_them_are_far_better_than_over_random_points(count: int, times: int) -> None:
    """Of exp(x + y), whose mean and variance are known; over 40 trajectories, and unbiased over them."""
    specs = tuple(AxisSpec(name=name, lower=-1.0, upper=1.0) for name in "xy")
    exact = np.sinh(1.0) ** 2
    deviation = np.sqrt((np.sinh(2.0) / 2) ** 2 - exact**2)
    errors = np.array(
        [
            np.exp(place_points(grid_of(specs), specs, count, seed=0, trajectory=number).sum(axis=1)).mean() - exact
            for number in range(40)
        ]
    )
    spread = np.sqrt(np.mean(errors**2))
    assert spread < deviation / np.sqrt(count) / times
    assert abs(errors.mean()) < 4 * spread / np.sqrt(40)


def test_they_are_a_function_of_seed_and_trajectory() -> None:
    grid = grid_of(PLANE)
    first = place_points(grid, PLANE, 64, seed=1, trajectory=2)
    np.testing.assert_array_equal(place_points(grid, PLANE, 64, seed=1, trajectory=2), first)
    assert np.abs(place_points(grid, PLANE, 64, seed=1, trajectory=3) - first).min() > 0
    assert np.abs(place_points(grid, PLANE, 64, seed=2, trajectory=2) - first).min() > 0
    # Golden: change only knowingly.
    np.testing.assert_allclose(first[:2], GOLDEN, rtol=1e-15)


GOLDEN = [[1.1775896681747637, 0.24789717374212383], [0.19710033316153464, 1.3875777557382303]]


@pytest.mark.parametrize("specs", [LINE, PLANE, BOX, SPHERE])
def test_the_measure_of_the_domain_is_that_of_its_cells(specs: tuple[AxisSpec, ...]) -> None:
    grid = grid_of(specs)
    assert domain_measure(grid, specs) == pytest.approx(grid_measures(grid.axes, specs).sum(), rel=1e-12)


def test_an_axis_of_one_node_counts_with_its_extent() -> None:
    grid = GridGeometry(axes=(np.array([0.5]), np.linspace(0.0, 2.0, 5)[:-1]), periods=(None, 2.0))
    assert domain_measure(grid, PLANE) == 8.0
    assert (place_points(grid, PLANE, 10, seed=0, trajectory=0)[:, 0] == 0.5).all()
