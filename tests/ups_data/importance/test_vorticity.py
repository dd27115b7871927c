"""The norm of the curl of flows whose curl is known; data that have none."""

import numpy as np
import pytest

from tests.ups_data.importance.cases import BOUNDED, cloud_of, maps_of, random_nodes, subject_of
from ups_data.errors import SchemaError
from ups_data.importance import GridGeometry, check_metrics
from ups_data.importance.vorticity import VorticityMetric
from ups_data.schema import FieldSpec, ImportanceSpec

PLANE = GridGeometry(axes=(random_nodes(12), random_nodes(10, seed=1)), periods=(None, None))
SPACE = GridGeometry(axes=tuple(random_nodes(size, seed=size) for size in (6, 7, 8)), periods=(None, None, None))
VELOCITY = FieldSpec(name="velocity", components=("x", "y"))
PRESSURE = FieldSpec(name="pressure")


def places(geometry: GridGeometry) -> list[np.ndarray]:
    return np.meshgrid(*geometry.axes, indexing="ij")


def test_a_rotation_in_the_plane_has_twice_its_rate() -> None:
    x, y = places(PLANE)
    frames = np.stack([x + y, -3 * y, 3 * x])[None]
    np.testing.assert_allclose(maps_of(VorticityMetric, frames, PLANE, PRESSURE, VELOCITY), 6.0, rtol=1e-9)


def test_a_flow_with_a_potential_has_none() -> None:
    x, y = places(PLANE)
    # The gradient of 3 x^2 + 4 x y - y^2.
    frames = np.stack([6 * x + 4 * y, 4 * x - 2 * y])[None]
    np.testing.assert_allclose(maps_of(VorticityMetric, frames, PLANE, VELOCITY), 0.0, atol=1e-10)


def test_a_linear_flow_in_space() -> None:
    x, y, z = places(SPACE)
    # The curl of (a y + b z, c x + d z, e x + f y) is (f - d, b - e, c - a).
    frames = np.stack([1 * y + 2 * z, 5 * x + 3 * z, 7 * x + 9 * y])[None]
    flow = FieldSpec(name="u", components=("x", "y", "z"))
    np.testing.assert_allclose(maps_of(VorticityMetric, frames, SPACE, flow), np.sqrt(36 + 25 + 16), rtol=1e-9)


def test_taylor_green_vortices_across_the_seam() -> None:
    nodes = 2 * np.pi * np.arange(64) / 64
    geometry = GridGeometry(axes=(nodes, nodes), periods=(2 * np.pi, 2 * np.pi))
    x, y = places(geometry)
    frames = np.stack([np.sin(x) * np.cos(y), -np.cos(x) * np.sin(y)])[None]
    found = maps_of(VorticityMetric, frames, geometry, VELOCITY)[0]
    # Vorticity 2 sin x sin y; relative error of the differences h^2 / 6.
    np.testing.assert_allclose(found, np.abs(2 * np.sin(x) * np.sin(y)), atol=2 * (nodes[1] ** 2) / 6 * 1.01)


def test_components_named_as_axes_belong_to_them_in_any_order() -> None:
    x, y = places(PLANE)
    reversed_names = FieldSpec(name="velocity", components=("y", "x"))
    frames = np.stack([3 * x, -3 * y])[None]
    np.testing.assert_allclose(maps_of(VorticityMetric, frames, PLANE, reversed_names), 6.0, rtol=1e-9)
    other_names = FieldSpec(name="velocity", components=("u", "v"))
    np.testing.assert_allclose(maps_of(VorticityMetric, frames[:, ::-1], PLANE, other_names), 6.0, rtol=1e-9)


def test_every_vector_field_has_a_map() -> None:
    x, y = places(PLANE)
    magnetic = FieldSpec(name="magnetic", components=("x", "y"))
    frames = np.stack([-y, x, 0 * x, x, x])[None]
    found = maps_of(VorticityMetric, np.concatenate([frames, 0 * frames]), PLANE, VELOCITY, PRESSURE, magnetic)
    np.testing.assert_allclose(found, np.array([2.0, 1.0])[:, None, None] / np.sqrt(2) * np.ones((2, 12, 10)))


@pytest.mark.parametrize(
    ("geometry", "fields", "message"),
    [
        (cloud_of(9, 2), (VELOCITY,), "'vorticity' is defined on grids, not on scattered points"),
        (BOUNDED, (PRESSURE,), "'vorticity' is defined on grids of two or three axes, and there is one axis"),
        (SPACE, (VELOCITY,), "needs a field of 3 components, one for each axis, and there is none: velocity has 2"),
        (PLANE, (PRESSURE,), "needs a field of 2 components, one for each axis, and there is none: pressure has 1"),
    ],
)
def test_data_without_a_curl_are_refused(geometry, fields: tuple[FieldSpec, ...], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        check_metrics(ImportanceSpec(metrics={"vorticity": 1.0}), subject_of(geometry, 1, *fields))
