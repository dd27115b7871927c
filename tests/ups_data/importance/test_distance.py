"""Distances to walls, masks and borders, against brute force; targets that are missing or may be several."""

from collections.abc import Callable

import numpy as np
import pytest

from ups_data.errors import SchemaError
from ups_data.importance import CloudGeometry, Geometry, GridGeometry, Subject, check_metrics
from ups_data.importance.distance import REACH, distance_to
from ups_data.mesh import Mesh
from ups_data.schema import AxisSpec, BoundarySpec, FieldSpec, ImportanceSpec

X, Y = AxisSpec(name="x", lower=0.0, upper=2.0, periodic=True), AxisSpec(name="y", lower=-1.0, upper=1.0)
NODES = np.linspace(0, 2, 17)[:-1], np.sort(np.random.default_rng(0).uniform(-1, 1, size=12))
PLANE = GridGeometry(axes=NODES, periods=(2.0, None))
WALL = BoundarySpec(name="floor", kind="wall", axes=("y",), sides=("lower",))
INLET = BoundarySpec(name="inlet", kind="open", axes=("y",), sides=("upper",))
BODY = BoundarySpec(name="body", kind="wall", axes=("x", "y"))
FIELDS = (FieldSpec(name="velocity", components=("x", "y")), FieldSpec(name="body_mask"))


def subject_of(**changes) -> Subject:
    return Subject(**{"kind": "grid", "axes": ("x", "y"), "fields": FIELDS, "specs": (X, Y), **changes})


def map_of(target: str, frames: np.ndarray, geometry: Geometry, subject: Subject) -> np.ndarray:
    check_metrics(ImportanceSpec(metrics={f"distance:{target}" if target else "distance": 1.0}), subject)
    metric = distance_to(target)(geometry, subject)
    for frame in frames:
        metric.update(frame)
    return metric.result()


def expected_map(distances: np.ndarray) -> np.ndarray:
    return 1 / (1 + distances / (REACH * distances.max()))


def brute_force(marked: np.ndarray, distance: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the distance of every node of PLANE to the nearest marked one."""
    places = np.stack(np.meshgrid(*NODES, indexing="ij"), axis=-1).reshape(-1, 2)
    return distance(places[:, None], places[marked.reshape(-1)][None]).min(axis=1).reshape(16, 12)


def around_the_seam(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    along = np.abs(first[..., 0] - second[..., 0])
    return np.hypot(np.minimum(along, 2 - along), first[..., 1] - second[..., 1])


def random_mask(seed: int) -> np.ndarray:
    mask = np.random.default_rng(seed).uniform(size=(16, 12)) < 0.05
    mask[5:8, 3:9] = mask[0, 0] = True
    return mask


@pytest.mark.parametrize("seed", range(5))
def test_the_mask_of_a_boundary_across_the_seam_and_on_uneven_nodes(seed: int) -> None:
    mask = random_mask(seed)
    frame = np.concatenate([np.zeros((2, 16, 12)), 3.0 * mask[None]])
    found = map_of("body", frame[None], PLANE, subject_of(boundaries=(BODY,)))
    np.testing.assert_allclose(found, expected_map(brute_force(mask, around_the_seam))[None], rtol=1e-12)
    # The same by the name of the field; the one boundary need not be said.
    np.testing.assert_array_equal(map_of("body_mask", frame[None], PLANE, subject_of()), found)
    np.testing.assert_array_equal(map_of("", frame[None], PLANE, subject_of(boundaries=(BODY,))), found)


def test_points_that_lack_values_in_every_frame_one_map_a_channel() -> None:
    always, sometimes = random_mask(0), random_mask(1)
    frames = np.zeros((2, 3, 16, 12))
    frames[:, 0, always] = np.nan
    frames[0, 1, sometimes] = np.nan
    found = map_of("missing", frames, PLANE, subject_of(missing_fields=frozenset({"velocity"})))
    # Velocity.y lacks values in one frame only, and the mask may not lack any.
    np.testing.assert_allclose(found, expected_map(brute_force(always, around_the_seam))[None], rtol=1e-12)


def test_arcs_on_a_sphere() -> None:
    longitudes, latitudes = np.arange(16) * 22.5, np.linspace(-90, 90, 12)
    specs = (
        AxisSpec(name="x", lower=0, upper=360, periodic=True, unit="degrees", kind="longitude"),
        AxisSpec(name="y", lower=-90, upper=90, unit="degrees", kind="latitude"),
    )
    geometry = GridGeometry(axes=(longitudes, latitudes), periods=(360.0, None))
    mask = np.zeros((16, 12), dtype=bool)
    mask[0, 6] = True
    frame = np.concatenate([np.zeros((2, 16, 12)), mask[None]])
    found = map_of("body_mask", frame[None], geometry, subject_of(specs=specs))
    longitude, latitude = np.deg2rad(longitudes)[:, None], np.deg2rad(latitudes)
    cosine = np.sin(latitude) * np.sin(latitude[6]) + np.cos(latitude) * np.cos(latitude[6]) * np.cos(longitude)
    np.testing.assert_allclose(found[0], expected_map(np.arccos(np.clip(cosine, -1, 1))), rtol=1e-6)


def test_ends_of_axes() -> None:
    frames = np.zeros((1, 3, 16, 12))
    to_floor = np.broadcast_to(NODES[1] + 1, (16, 12))
    subject = subject_of(boundaries=(WALL, INLET))
    np.testing.assert_allclose(map_of("floor", frames, PLANE, subject)[0], expected_map(to_floor))
    to_both = np.minimum(to_floor, 1 - NODES[1])
    np.testing.assert_allclose(map_of("edges", frames, PLANE, subject)[0], expected_map(to_both))
    # Without boundaries, the ends of the one axis that does not wrap are all that may be meant.
    np.testing.assert_allclose(map_of("", frames, PLANE, subject_of())[0], expected_map(to_both))
    cloud = CloudGeometry(coordinates=np.random.default_rng(0).uniform(-1, 1, size=(50, 2)))
    found = map_of("floor", np.zeros((1, 3, 50)), cloud, subject_of(kind="points", boundaries=(WALL,)))
    np.testing.assert_allclose(found[0], expected_map(cloud.coordinates[:, 1] + 1))


def squares(count: int = 5) -> Mesh:
    """The unit square in count^2 quadrilaterals."""
    nodes = np.stack(np.meshgrid(*[np.linspace(0, 1, count + 1)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    first = (np.arange(count)[:, None] * (count + 1) + np.arange(count)).reshape(-1, 1)
    corners = (first + np.array([0, count + 1, count + 2, 1])).astype(np.int32)
    offsets = np.arange(len(corners) + 1) * 4
    types = np.full(len(corners), 9, dtype=np.uint8)
    return Mesh(location="nodes", nodes=nodes, types=types, offsets=offsets, connectivity=corners.reshape(-1))


def test_the_border_of_a_mesh() -> None:
    mesh = squares()
    geometry = CloudGeometry(coordinates=mesh.nodes, read_mesh=lambda: mesh)
    found = map_of("", np.zeros((1, 3, 36)), geometry, subject_of(kind="mesh", specs=()))
    to_border = np.minimum(mesh.nodes, 1 - mesh.nodes).min(axis=1)
    np.testing.assert_allclose(found[0], expected_map(to_border))


def test_a_surface_without_an_edge_is_refused() -> None:
    corners = np.array([0, 1, 2, 0, 1, 3, 0, 2, 3, 1, 2, 3], dtype=np.int32)
    nodes = np.concatenate([np.zeros((1, 3)), np.eye(3)])
    closed = Mesh(
        location="nodes",
        nodes=nodes,
        types=np.full(4, 5, dtype=np.uint8),
        offsets=np.arange(5) * 3,
        connectivity=corners,
    )
    geometry = CloudGeometry(coordinates=nodes, read_mesh=lambda: closed)
    with pytest.raises(SchemaError, match="'distance:edges': this trajectory has no edge, since every edge or face"):
        map_of("", np.zeros((1, 3, 4)), geometry, subject_of(kind="mesh", specs=()))


def test_nothing_of_the_kind_is_a_map_of_zeros_and_a_mask_of_everything_one_of_ones() -> None:
    frames = np.zeros((1, 3, 16, 12))
    assert not map_of("body_mask", frames, PLANE, subject_of()).any()
    assert not map_of("missing", frames, PLANE, subject_of(missing_fields=frozenset({"velocity"}))).any()
    np.testing.assert_array_equal(map_of("body_mask", frames + 1, PLANE, subject_of()), 1.0)


@pytest.mark.parametrize(
    ("target", "changes", "match"),
    [
        ("", {"boundaries": (WALL, INLET)}, r"must say what distances are to.*'distance:floor' \(lower end of y\), 'd"),
        ("", {"missing_fields": frozenset({"velocity"})}, r"'distance:missing' \(points that lack values\), 'distance"),
        (
            "",
            {"kind": "points"},
            "must say what .* none is told here; or the name of a field that is a mask: body_mask",
        ),
        ("wall", {"boundaries": (WALL,)}, r"'distance:wall' names nothing that distances can be taken to. 'distance:f"),
        ("velocity", {}, r"'distance:velocity' names nothing .* 'distance:edges' \(ends of the axes\)"),
        ("missing", {}, "'distance:missing' names nothing"),
        ("edges", {"kind": "points"}, "'distance:edges' names nothing"),
        ("edges", {"specs": (X, Y.model_copy(update={"kind": "latitude", "unit": "rad"}))}, "needs axes that are all"),
    ],
)
def test_what_is_not_told_is_refused_with_the_candidates(target: str, changes: dict, match: str) -> None:
    with pytest.raises(SchemaError, match=match):
        map_of(target, np.zeros((1, 3, 16, 12)), PLANE, subject_of(**changes))


def test_a_field_that_is_no_mask_is_refused() -> None:
    frame = np.zeros((3, 16, 12))
    frame[2, :2, :2] = [[0.5, 0.25], [0, 1]]
    with pytest.raises(SchemaError, match=r"'distance:body_mask': the field is no mask, .* it holds 0.25 and 1"):
        map_of("body_mask", frame[None], PLANE, subject_of())
