"""Derivatives along the arcs of a sphere: fields whose gradient, Hessian and curl on it are known in closed form."""

import numpy as np
import pytest

from ups_data.errors import SchemaError
from ups_data.importance import (
    CloudGeometry,
    Geometry,
    GridGeometry,
    ImportanceMetric,
    Subject,
    check_metrics,
)
from ups_data.importance.curvature import CurvatureMetric
from ups_data.importance.differences import slabs
from ups_data.importance.gradient import GradientMetric
from ups_data.importance.vorticity import VorticityMetric
from ups_data.schema import AxisSpec, FieldSpec, ImportanceSpec
from ups_data.scratch import Scratch

LONGITUDE = AxisSpec(name="lon", lower=0.0, upper=360.0, periodic=True, unit="degrees_east", kind="longitude")
LATITUDE = AxisSpec(name="lat", lower=-90.0, upper=90.0, unit="degrees_north", kind="latitude")
COLATITUDE = AxisSpec(name="theta", lower=0.0, upper=np.pi, unit="rad", kind="colatitude")
DEPTH = AxisSpec(name="depth", lower=0.0, upper=1.0)
SCALAR, WIND = (FieldSpec(name="u"),), (FieldSpec(name="wind", components=("east", "north")),)


def globe(num_latitudes: int = 91, num_longitudes: int = 180) -> GridGeometry:
    """Every latitude from pole to pole, the poles included."""
    longitudes = np.arange(num_longitudes) * (360.0 / num_longitudes)
    return GridGeometry(axes=(longitudes, np.linspace(-90.0, 90.0, num_latitudes)), periods=(360.0, None))


def measure(
    metric: type[ImportanceMetric],
    frame: np.ndarray,
    geometry: Geometry,
    specs: tuple[AxisSpec, ...] = (LONGITUDE, LATITUDE),
    fields: tuple[FieldSpec, ...] = SCALAR,
) -> np.ndarray:
    kind = "grid" if isinstance(geometry, GridGeometry) else "points"
    subject = Subject(kind=kind, axes=tuple(spec.name for spec in specs), fields=fields, specs=specs)
    measured = metric(geometry, subject)
    measured.update(frame)
    return measured.result()


def angles(geometry: GridGeometry) -> tuple[np.ndarray, np.ndarray]:
    longitude, latitude = np.meshgrid(*geometry.axes, indexing="ij")
    return np.deg2rad(longitude), np.deg2rad(latitude)


# u = sin p + cos p cos l is z + x on the unit sphere, of gradient norm^2 2 - (x + z)^2 and Hessian -u times the metric.
def test_the_gradient_of_a_linear_function_in_space() -> None:
    geometry = globe()
    longitude, latitude = angles(geometry)
    u = np.sin(latitude) + np.cos(latitude) * np.cos(longitude)
    found = measure(GradientMetric, u[None], geometry)[0]
    np.testing.assert_allclose(found[:, 1:-1], np.sqrt(np.maximum(2 - u**2, 0))[:, 1:-1], atol=0.002)
    # At a pole it is that of the row beside, whatever the longitude.
    np.testing.assert_array_equal(found[:, 0], found[:, 1])


def test_the_hessian_of_a_linear_function_in_space() -> None:
    geometry = globe(181, 360)
    longitude, latitude = angles(geometry)
    u = np.sin(latitude) + np.cos(latitude) * np.cos(longitude)
    found = measure(CurvatureMetric, u[None], geometry)[0]
    np.testing.assert_allclose(found[:, 2:-2], np.sqrt(2) * np.abs(u)[:, 2:-2], atol=0.03)


def test_a_rotation_about_the_axis_has_twice_its_rate_times_the_sine_of_latitude() -> None:
    geometry = globe()
    _, latitude = angles(geometry)
    wind = np.stack([3 * np.cos(latitude), 0 * latitude])
    found = measure(VorticityMetric, wind, geometry, fields=WIND)[0]
    np.testing.assert_allclose(found[:, 1:-1], 6 * np.abs(np.sin(latitude))[:, 1:-1], atol=0.02)


def test_an_east_wind_that_is_even_in_latitude_turns() -> None:
    # u = const: omega = u tan p, which differences of coordinates would call 0.
    geometry = globe()
    _, latitude = angles(geometry)
    found = measure(VorticityMetric, np.stack([0 * latitude + 1, 0 * latitude]), geometry, fields=WIND)[0]
    inner = slice(10, -10)
    np.testing.assert_allclose(found[:, inner], np.abs(np.tan(latitude))[:, inner], rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("metric", [GradientMetric, CurvatureMetric, VorticityMetric])
def test_colatitudes_in_radians_and_another_order_of_axes_change_nothing(metric: type[ImportanceMetric]) -> None:
    geometry, fields = globe(31, 24), WIND
    values = np.random.default_rng(0).normal(size=(2, 24, 31))
    expected = measure(metric, values, geometry, fields=fields)
    # The same field on (colatitude, longitude): latitudes turn round, and components along them change their sign.
    turned = GridGeometry(axes=(np.linspace(0.0, np.pi, 31), geometry.axes[0]), periods=(None, 360.0))
    other = np.stack([-values[1, :, ::-1].T, values[0, :, ::-1].T])
    found = measure(metric, other, turned, (COLATITUDE, LONGITUDE), fields)
    if metric is not VorticityMetric:
        expected = expected[::-1]
    np.testing.assert_allclose(found, expected[:, :, ::-1].transpose(0, 2, 1), rtol=1e-8, atol=1e-9)


def test_slabs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = GridGeometry(axes=globe(31, 24).axes[::-1], periods=(None, 360.0))
    values = np.random.default_rng(0).normal(size=(2, 31, 24))
    values[0, 0, :3] = values[1, 12, 4] = np.nan
    specs = (LATITUDE, LONGITUDE)
    metrics = (GradientMetric, CurvatureMetric, VorticityMetric)
    whole = [measure(metric, values, geometry, specs, WIND) for metric in metrics]
    monkeypatch.setattr("ups_data.importance.differences._SLAB_VALUES", 24 * 2 * 3)
    assert len(list(slabs(values, geometry, Scratch()))) == 11
    for metric, expected in zip(metrics, whole, strict=True):
        np.testing.assert_array_equal(measure(metric, values, geometry, specs, WIND), expected)


def test_a_third_axis_stands_upright() -> None:
    geometry = globe(31, 24)
    longitude, latitude = angles(geometry)
    depths = np.linspace(0.0, 1.0, 5)
    solid = GridGeometry(axes=(*geometry.axes, depths), periods=(360.0, None, None))
    flat = np.cos(latitude) * np.sin(longitude)
    found = measure(GradientMetric, (flat[..., None] + 2 * depths)[None], solid, (LONGITUDE, LATITUDE, DEPTH))[0]
    along = measure(GradientMetric, flat[None], geometry)[0]
    # At the poles all is taken from the row beside.
    np.testing.assert_allclose(found, np.sqrt(along**2 + 4)[..., None] * np.ones(5), rtol=1e-9)


def test_scattered_points_of_a_sphere_have_their_gradient_along_it() -> None:
    random = np.random.default_rng(0)
    latitude, longitude = np.arcsin(random.uniform(-1, 1, size=4000)), random.uniform(0, 2 * np.pi, size=4000)
    cloud = CloudGeometry(coordinates=np.rad2deg(np.stack([longitude, latitude], axis=1)))
    u = np.sin(latitude) + np.cos(latitude) * np.cos(longitude)
    found = measure(GradientMetric, u[None], cloud)[0]
    # Points across the seam at 0 degrees and around the poles are neighbours.
    np.testing.assert_allclose(found, np.sqrt(2 - u**2), atol=0.2)
    assert np.abs(found - np.sqrt(2 - u**2)).mean() < 0.02


def test_curvature_is_refused_on_scattered_points_of_a_sphere() -> None:
    subject = Subject(kind="points", axes=("lon", "lat"), fields=SCALAR, specs=(LONGITUDE, LATITUDE))
    with pytest.raises(SchemaError, match="'curvature' is not defined on scattered points of a sphere; use 'gradient'"):
        check_metrics(ImportanceSpec(metrics={"curvature": 1.0}), subject)
