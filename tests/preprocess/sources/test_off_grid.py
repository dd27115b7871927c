"""A source of points between the nodes of another one: what it tells, reads, measures and refuses."""

import pickle

import numpy as np
import pytest

from preprocess.sources import off_grid
from preprocess.sources.off_grid import OffGridSource
from tests.memory_source import MemorySource, cloud, even_nodes, wave_frames
from ups_data.errors import ConfigError, SourceError
from ups_data.importance import GridGeometry, ImportanceMap, default_recipe
from ups_data.schema import AxisSpec, OffGridSpec

CUBIC = OffGridSpec(scheme="cubic", ratio=0.5, seed=4)


def waves(shape: tuple[int, int] = (32, 24), num_frames: int = 5) -> MemorySource:
    """Analytic: sin(2 pi x + t) cos(3 y), wrapping around in x."""
    x, y = even_nodes(shape[0], True), even_nodes(shape[1], False)
    frames = [wave(x[:, None], y[None, :], time, number) for number in range(2) for time in range(num_frames)]
    stacked = np.stack(frames).reshape(2, num_frames, 1, *shape)
    return MemorySource.grid(list(stacked), periodic=(True, False), parameters=[{"nu": 1.0}, {"nu": 2.0}])


def wave(x: np.ndarray, y: np.ndarray, time: float, number: int) -> np.ndarray:
    return np.sin(2 * np.pi * x + time + number) * np.cos(3 * y)


def test_it_is_the_grids_data_set_on_other_points() -> None:
    grid = waves()
    source = OffGridSource(grid, CUBIC)
    assert (source.kind, source.has_measures, source.dtype) == ("points", True, np.float64)
    assert (source.fields, source.axes, source.format) == (grid.fields, grid.axes, grid.format)
    for info, own in zip(grid.trajectories, source.trajectories, strict=True):
        assert own.shape == (384,)
        assert (own.item, own.parameters, own.split) == (info.item, info.parameters, info.split)
        np.testing.assert_array_equal(own.times, info.times)
    assert source.notes == ("points between the nodes, 0.5 for each node, seed 4; values by cubic interpolation",)
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.read_frames(1, 2, 4), source.read_frames(1, 2, 4))


@pytest.mark.parametrize(("scheme", "most"), [("linear", 0.01), ("cubic", 1e-4)])
def test_its_values_are_those_of_the_analytic_field(scheme: str, most: float) -> None:
    source = OffGridSource(waves(), OffGridSpec(scheme=scheme, points=700))
    for trajectory in range(2):
        ((x, y),) = (part.T for part in source.read_coordinates(trajectory))
        frames = source.read_frames(trajectory, 1, 4)
        assert frames.shape == (3, 1, 700)
        for number, frame in enumerate(frames, 1):
            np.testing.assert_allclose(frame[0], wave(x, y, number, trajectory), atol=most)


def test_its_measures_add_up_to_the_domain() -> None:
    assert OffGridSource(waves(), CUBIC).read_measures(0).sum() == pytest.approx(1.0)


def test_frames_are_the_same_in_any_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    source = OffGridSource(waves(), CUBIC)
    whole = source.read_frames(0, 0, 5)
    monkeypatch.setattr(off_grid, "_READ_BYTES", 1)
    np.testing.assert_array_equal(source.read_frames(0, 0, 5), whole)


# -- what is measured on the nodes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["linear", "cubic"])
def test_deviations_are_those_of_the_scheme_at_twice_the_spacing(scheme: str) -> None:
    """On a smooth field the estimate made of them bounds the true error at the points, and is not ten times over it."""
    spec = OffGridSpec(scheme=scheme, points=2000)
    source = OffGridSource(waves((48, 41)), spec)
    survey = source.survey(0, [(0, 5)], default_recipe())
    survey.measure_block(0)
    count, squares, largest = survey.deviations()[:, 0]
    assert count == 5 * 24 * 20
    ((x, y),) = (part.T for part in source.read_coordinates(0))
    true = np.stack([wave(x, y, time, 0) for time in range(5)]) - source.read_frames(0, 0, 5)[:, 0]
    estimate = spec.error_estimate(float(np.sqrt(squares / count)))
    assert 1 < estimate / np.sqrt(np.mean(true**2)) < 3
    assert 0.5 < spec.error_estimate(float(largest)) / np.abs(true).max() < 2


def test_deviations_of_a_polynomial_of_the_schemes_degree_are_none() -> None:
    x, y = np.linspace(0, 1, 9), np.linspace(0, 1, 10)
    frames = (x[:, None] ** 3 * y[None] ** 2 + 1)[None, None]
    source = OffGridSource(MemorySource.grid([frames]), CUBIC)
    survey = source.survey(0, [(0, 1)], default_recipe())
    survey.measure_block(0)
    assert survey.deviations()[0, 0] == 4 * 4
    assert survey.deviations()[2, 0] < 1e-13


def test_a_grid_of_too_few_nodes_has_no_deviations() -> None:
    source = OffGridSource(MemorySource.grid([wave_frames((6, 30))]), CUBIC)
    survey = source.survey(0, [(0, 3)], default_recipe())
    survey.measure_block(0)
    np.testing.assert_array_equal(survey.deviations(), 0)


def test_importance_is_that_of_the_nodes_between_them() -> None:
    """At points near a node it is nearly the node's own, up to the mean that both are divided by."""
    grid = waves((64, 48))
    source = OffGridSource(grid, OffGridSpec(scheme="cubic", points=20000))
    importance = source.survey(0, [(0, 5)], default_recipe()).measure_block(0)
    for frame in source.read_frames(0, 0, 5):
        importance.update(frame)
    found = importance.result()
    geometry = GridGeometry(axes=grid.coordinates[0], periods=(1.0, None))
    whole = ImportanceMap(default_recipe(), geometry, grid.subject)
    for frame in grid.frames[0]:
        whole.update(frame)
    wanted = whole.result().reshape(64, 48)
    (points,) = source.read_coordinates(0)
    nearest = wanted[np.round(points[:, 0] * 64).astype(int) % 64, np.round(points[:, 1] * 47).astype(int)]
    assert np.corrcoef(found, nearest)[0, 1] > 0.99
    np.testing.assert_allclose(found.mean(), 1.0)


def test_blocks_are_measured_as_their_frames_say() -> None:
    """Of two blocks that overlap; a step into the second one begins in the first."""
    grid = waves(num_frames=6)
    source = OffGridSource(grid, CUBIC)
    survey = source.survey(0, [(0, 4), (3, 3)], default_recipe())
    survey.measure_block(0)
    assert survey.deviations()[0, 0] == 3 * 16 * 11
    survey.measure_block(1)
    assert survey.deviations()[0, 0] == 6 * 16 * 11


# -- what is missing, and what is refused ------------------------------------------------------------------------------


def test_points_beside_a_mask_have_no_value() -> None:
    frames = np.ones((3, 2, 12, 12))
    frames[:, 0, 5, 5] = np.nan
    frames[1, 1, 0, 0] = np.nan
    source = OffGridSource(MemorySource.grid([frames], missing=("u0", "u1")), OffGridSpec(scheme="linear", points=3000))
    values = source.read_frames(0, 0, 3)
    (points,) = source.read_coordinates(0)
    cells = np.minimum(np.floor(points * 11), 10)
    beside = (np.abs(cells - 4.5) < 1).all(axis=1)
    np.testing.assert_array_equal(np.isnan(values[:, 0]), [beside] * 3)
    np.testing.assert_array_equal(np.isnan(values[1, 1]), (cells == 0).all(axis=1))
    assert not np.isnan(values[[0, 2], 1]).any()


def test_a_value_that_is_not_finite_is_refused_by_its_node() -> None:
    frames = wave_frames((12, 9))
    frames[2, 0, 7, 3] = np.inf
    source = OffGridSource(MemorySource.grid([frames]), CUBIC)
    with pytest.raises(SourceError, match=r"array\[0\], frame 2, channel u0, node \(7, 3\) holds inf"):
        source.read_frames(0, 0, 3)


def test_a_missing_value_that_is_not_declared_is_refused() -> None:
    frames = wave_frames((12, 9))
    frames[0, 0, 1, 1] = np.nan
    with pytest.raises(SourceError, match=r"node \(1, 1\) holds nan, from which nothing can be interpolated"):
        OffGridSource(MemorySource.grid([frames]), CUBIC).read_frames(0, 0, 3)


def test_scattered_points_have_no_nodes() -> None:
    source = MemorySource.points([np.zeros((1, 1, 20))], [cloud(20, 2)])
    with pytest.raises(ConfigError, match="memory holds points, which have no nodes to interpolate between"):
        OffGridSource(source, CUBIC)


def test_too_few_nodes_are_refused_before_anything_is_read() -> None:
    with pytest.raises(SourceError, match=r"array\[0\] has 3 nodes along axis 'y', and cubic interpolation needs 4"):
        OffGridSource(MemorySource.grid([wave_frames((8, 3))]), CUBIC)
    assert OffGridSource(MemorySource.grid([wave_frames((8, 1))]), CUBIC).trajectories[0].shape == (4,)


def test_axes_that_do_not_fit_the_field_are_refused() -> None:
    grid = waves()
    grid.coordinates = [(parts[0], parts[1][:-1]) for parts in grid.coordinates]
    with pytest.raises(SourceError, match=r"axes have \(32, 23\) nodes, the field has \(32, 24\)"):
        OffGridSource(grid, CUBIC).read_coordinates(0)


def test_points_on_a_sphere_are_even_in_area() -> None:
    axes = (
        AxisSpec(name="lat", lower=-90.0, upper=90.0, unit="degrees", kind="latitude"),
        AxisSpec(name="lon", lower=0.0, upper=360.0, periodic=True, unit="degrees", kind="longitude"),
    )
    nodes = (np.linspace(-90, 90, 13), np.arange(24) * 15.0)
    grid = MemorySource.grid([wave_frames((13, 24))], axes=axes, nodes=[nodes])
    source = OffGridSource(grid, OffGridSpec(scheme="linear", points=4000))
    (points,) = source.read_coordinates(0)
    assert abs(np.sin(np.radians(points[:, 0])).mean()) < 1e-3
    assert (np.abs(points[:, 0]) < 30).mean() == pytest.approx(0.5, abs=0.005)
    assert source.read_measures(0).sum() == pytest.approx(4 * np.pi)
