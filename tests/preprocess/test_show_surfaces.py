"""Meshes in pictures: which triangles are seen, and that they have the colours of their values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pyvista
from matplotlib.image import imread

import ups_data
from preprocess.convert import ConvertSettings, convert
from preprocess.report.figures import MISSING, Scale
from preprocess.show import ShowRequest, picture_store, read_subject, write_picture
from preprocess.show.surfaces import Surface, surface_of
from preprocess.sources import open_source
from tests.html_page import Page
from tests.preprocess.sources.meshes import box, plane
from ups_data.mesh import Mesh
from ups_data.schema import AxisSpec

AXES = tuple(AxisSpec(name=name, lower=0.0, upper=4.0) for name in "xyz")


def mesh_of(kind: int, cells: list[list[int]], nodes: list[list[float]], location: str = "nodes") -> Mesh:
    counts = [len(cell) for cell in cells]
    return Mesh(
        location=location,
        nodes=np.array(nodes, dtype=np.float64),
        types=np.full(len(cells), kind, dtype=np.uint8),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        connectivity=np.array([node for cell in cells for node in cell], dtype=np.int32),
    )


def area_of(surface: Surface) -> float:
    corners = np.zeros((len(surface.triangles), 3, 3))
    corners[..., : surface.nodes.shape[1]] = surface.nodes[surface.triangles]
    return float(np.linalg.norm(np.cross(*np.diff(corners, axis=1).swapaxes(0, 1)), axis=-1).sum() / 2)


SQUARES = [[0, 0], [1, 0], [1, 1], [0, 1], [2, 0], [2, 1]]


@pytest.mark.parametrize(
    ("kind", "cells", "area", "count"),
    [
        (5, [[0, 1, 2], [0, 2, 3]], 1.0, 2),
        (8, [[0, 1, 3, 2]], 1.0, 2),
        (9, [[0, 1, 2, 3], [1, 4, 5, 2]], 2.0, 4),
        (6, [[3, 0, 2, 1, 5, 4]], 2.0, 4),
        (7, [[0, 1, 4, 5, 2, 3]], 2.0, 4),
    ],
)
def test_cells_of_a_plane_are_cut_into_triangles(kind: int, cells: list[list[int]], area: float, count: int) -> None:
    surface = surface_of(mesh_of(kind, cells, SQUARES), AXES[:2])
    assert surface is not None
    assert (area_of(surface), len(surface.triangles)) == (pytest.approx(area), count)
    assert not surface.is_of_solids


def test_of_solids_the_outer_faces_are_seen_with_the_values_of_their_cells() -> None:
    grid = box(3)
    corners = np.asarray(grid.cell_connectivity).reshape(-1, 8).tolist()
    mesh = mesh_of(11, corners, grid.points.tolist(), "cells")
    surface = surface_of(mesh, AXES)
    assert surface is not None
    assert surface.is_of_solids
    assert area_of(surface) == pytest.approx(6.0)
    centres = np.asarray(grid.cell_centers().points)
    # A triangle lies on the border, within a cell's half diagonal of the centre of its cell.
    middles = surface.nodes[surface.triangles].mean(axis=1)
    assert np.linalg.norm(middles - centres[surface.cells], axis=1).max() < np.sqrt(3) / 6
    np.testing.assert_array_equal(surface.face_values(np.arange(27.0)), surface.cells)


def test_values_of_nodes_are_averaged_over_a_triangle_and_missing_ones_stay_missing() -> None:
    surface = surface_of(mesh_of(5, [[0, 1, 2], [0, 2, 3]], SQUARES[:4]), AXES[:2])
    assert surface is not None
    np.testing.assert_allclose(surface.face_values(np.array([0.0, 3.0, 6.0, np.nan])), [3.0, np.nan])


def test_cells_across_a_seam_are_left_out() -> None:
    wraps = (AXES[0].model_copy(update={"periodic": True}), AXES[1])
    mesh = mesh_of(5, [[0, 1, 2], [0, 1, 3]], [[0.0, 0.0], [0.5, 0.0], [0.2, 1.0], [3.9, 1.0]])
    surface = surface_of(mesh, wraps)
    assert surface is not None
    assert surface.cells.tolist() == [0]
    open_surface = surface_of(mesh, AXES[:2])
    assert open_surface is not None
    assert len(open_surface.cells) == 2


@pytest.mark.parametrize(
    "mesh",
    [
        mesh_of(3, [[0, 1], [1, 2]], SQUARES[:3]),
        mesh_of(42, [[0, 1, 2, 3]], [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        mesh_of(3, [[0, 1]], [[0.0], [1.0]]),
    ],
)
def test_what_has_no_surface_is_shown_by_its_points(mesh: Mesh) -> None:
    assert surface_of(mesh, AXES[: mesh.nodes.shape[1]]) is None


def store_of(grid: pyvista.UnstructuredGrid, folder: Path) -> ups_data.Store:
    grid.save(folder / "mesh.vtu")
    convert(open_source([folder / "mesh.vtu"]), folder / "store", ConvertSettings(page_points=1, num_strata=1))
    return ups_data.open_store(folder / "store")


def share_of(image: np.ndarray, colour: np.ndarray) -> float:
    """Return the share of the pixels of the left panel that have a colour."""
    panel = image[:, : image.shape[1] // 4, :3]
    return float((np.abs(panel - colour).max(axis=-1) < 0.02).mean())


def test_cells_of_a_plane_have_their_colours_all_over(tmp_path: Path) -> None:
    grid = plane()
    grid.cell_data["p"] = np.array([0.0, 1.0])
    subject = read_subject(store_of(grid, tmp_path), ShowRequest(ratio=1.0))
    picture = picture_store(subject)
    image = imread(write_picture(picture, tmp_path / "p.png"))
    low, high = Scale(colours="viridis", low=0.0, high=1.0).paint(np.array([0.0, 1.0]))[:, :3] / 255
    # The rectangle is twice as large as the triangle; its halves are not both one colour by chance.
    assert share_of(image, low) == pytest.approx(2 * share_of(image, high), rel=0.1)
    assert share_of(image, high) > 0.02
    page = Page(write_picture(picture, tmp_path / "p.html").read_text(encoding="utf-8"))
    assert len([one for one in page.all("svg") if one.get("class") == "chart"]) == 3
    assert "outer faces" not in page.text


def test_a_solid_and_a_surface_in_space_have_pictures(tmp_path: Path) -> None:
    for name, grid in (("solid", box(3)), ("sphere", pyvista.Icosphere(nsub=1).cast_to_unstructured_grid())):
        folder = tmp_path / name
        folder.mkdir()
        grid.clear_data()
        grid.point_data["p"] = np.asarray(grid.points)[:, 0].astype("float32")
        subject = read_subject(store_of(grid, folder), ShowRequest(ratio=0.5))
        picture = picture_store(subject)
        image = imread(write_picture(picture, folder / "p.png"))
        colours = np.unique((image[..., :3] * 255).round().astype(int).reshape(-1, 3), axis=0)
        assert len(colours) > 200
        assert ("outer faces" in picture.caption) == (name == "solid")
        text = write_picture(picture, folder / "p.html").read_text(encoding="utf-8")
        assert Page(text).all("svg")


def test_large_meshes_are_shown_by_their_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = plane()
    grid.point_data["p"] = np.arange(5.0)
    subject = read_subject(store_of(grid, tmp_path), ShowRequest(ratio=1.0))
    whole = imread(write_picture(picture_store(subject), tmp_path / "whole.png"))
    monkeypatch.setattr("preprocess.show.surfaces._MOST_TRIANGLES", {2: 2, 3: 2})
    points = imread(write_picture(picture_store(subject), tmp_path / "points.png"))
    blank = [float((image[..., :3] > 0.99).all(axis=-1).mean()) for image in (whole, points)]
    assert blank[1] > blank[0] + 0.05


def test_missing_values_are_grey(tmp_path: Path) -> None:
    grid = plane()
    grid.point_data["p"] = np.arange(5.0)
    subject = read_subject(store_of(grid, tmp_path), ShowRequest(ratio=1.0))
    subject.values[0] = np.nan
    image = imread(write_picture(picture_store(subject), tmp_path / "p.png"))
    grey = np.array([int(MISSING[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    assert share_of(image, grey) > 0.05
