"""Cells in described arrays: kept with their measures, checked, and the same as in a file of VTK."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import pyvista

import ups_data
from preprocess.convert import ConvertSettings, convert
from preprocess.sources import Source, open_source
from preprocess.validate import validate
from tests.preprocess.sources.meshes import box
from ups_data.errors import SourceError

TEXT = """
kind: mesh
dims: [trajectory, time, point]
fields: {{u: {{file: u.npy}}}}
axes: {axes}
coordinates: {{file: nodes.npy}}
cells: {{file: cells.npy, type: {type}{more}}}
times: {{start: 0, step: 1}}
"""
# Two triangles over the unit square, a third one beside it.
NODES = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [3.0, 0.5]])
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3], [1, 4, 2]])

Write = Callable[..., Source]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes nodes, cells and random values, and opens their description."""

    def run(
        nodes: np.ndarray = NODES,
        cells: np.ndarray = TRIANGLES,
        *,
        type: str = "triangle",  # noqa: A002  as in the description
        more: str = "",
        num_points: int | None = None,
    ) -> Source:
        count = nodes.shape[-2] if num_points is None else num_points
        values = np.random.default_rng(0).normal(size=(2, 3, count)).astype("float32")
        for name, array in (("nodes", nodes), ("cells", cells), ("u", values)):
            np.save(tmp_path / f"{name}.npy", array)
        axes = "{" + ", ".join(f"{name}: {{unit: m}}" for name in "xyz"[: nodes.shape[-1]]) + "}"
        (tmp_path / "mesh.yaml").write_text(TEXT.format(axes=axes, type=type, more=more))
        return open_source([tmp_path / "mesh.yaml"])

    return run


def test_nodes_have_their_shares_of_the_cells(write: Write) -> None:
    source = write()
    assert (source.kind, source.has_measures, source.dtype) == ("mesh", True, np.float32)
    mesh = source.read_mesh(1)
    assert mesh is not None
    assert (mesh.location, mesh.types.tolist(), mesh.connectivity.tolist()) == ("nodes", [5, 5, 5], [*TRIANGLES.flat])
    np.testing.assert_array_equal(mesh.nodes, NODES)
    np.testing.assert_allclose(source.read_measures(0), np.array([1 / 3, 1 / 2, 2 / 3, 1 / 6, 1 / 3]))
    assert [(axis.name, axis.lower, axis.upper) for axis in source.axes] == [("x", 0.0, 3.0), ("y", 0.0, 1.0)]
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.read_measures(0), source.read_measures(0))


def test_centres_have_their_cells(write: Write) -> None:
    source = write(more=", location: cells", num_points=3)
    np.testing.assert_allclose(source.read_coordinates(0)[0], NODES[TRIANGLES].mean(axis=1))
    np.testing.assert_allclose(source.read_measures(0), [0.5, 0.5, 1.0])
    # The domain ends at the nodes, not at the centres.
    assert source.axes[0].upper == 3.0


def test_every_trajectory_may_have_its_own_cells_and_nodes(write: Write, tmp_path: Path) -> None:
    nodes, cells = np.stack([NODES, 2 * NODES]), np.stack([TRIANGLES, TRIANGLES[::-1]])
    source = write(nodes, cells + 1, more=", first: 1")
    assert source.read_measures(0).sum() == pytest.approx(2.0)
    assert source.read_measures(1).sum() == pytest.approx(8.0)
    convert(source, tmp_path / "s", ConvertSettings(page_points=1, num_strata=1))
    store = ups_data.open_store(tmp_path / "s")
    mesh = store.mesh(1)
    assert mesh is not None
    assert mesh.connectivity.tolist() == [*TRIANGLES[::-1].flat]
    np.testing.assert_array_equal(store.read_dense(1, [2])[0, 0], np.load(tmp_path / "u.npy")[1, 2])
    np.testing.assert_allclose(store.measures(1).sum(), 8.0)
    assert validate(tmp_path / "s").ok


def cells_of(grid: pyvista.UnstructuredGrid) -> np.ndarray:
    counts = np.unique(np.diff(grid.cell_offsets))
    return np.asarray(grid.cell_connectivity).reshape(-1, int(counts[0]))


@pytest.mark.parametrize(
    ("kind", "grid"),
    [
        ("hexahedron", box(2)),
        ("tetra", box(1).triangulate()),
        ("quad", pyvista.Plane(i_resolution=3, j_resolution=2).cast_to_unstructured_grid()),
        ("line", pyvista.Line(resolution=4).cast_to_unstructured_grid()),
        ("wedge", pyvista.UnstructuredGrid({13: np.arange(6)[None]}, box(1).points[[0, 1, 2, 4, 5, 6]])),
    ],
)
def test_cells_are_those_of_the_same_mesh_in_a_file_of_vtk(
    kind: str, grid: pyvista.UnstructuredGrid, write: Write, tmp_path: Path
) -> None:
    grid.clear_data()
    corners = cells_of(grid)
    if kind == "hexahedron":  # pyvista's are voxels, whose corners stand in another order
        corners = corners[:, [0, 1, 3, 2, 4, 5, 7, 6]]
        grid = pyvista.UnstructuredGrid({12: corners}, grid.points)
    if kind == "line":  # pyvista's is one polyline
        corners = np.stack([corners[0, :-1], corners[0, 1:]], axis=1)
        grid = pyvista.UnstructuredGrid({3: corners}, grid.points)
    used = np.flatnonzero(np.ptp(np.asarray(grid.points), axis=0) > 0)
    grid.point_data["u"] = np.zeros(grid.n_points, dtype="float32")
    grid.save(tmp_path / "same.vtu")
    theirs = open_source([tmp_path / "same.vtu"])
    ours = write(np.asarray(grid.points, dtype=np.float64)[:, used], corners, type=kind)
    np.testing.assert_allclose(ours.read_measures(0), theirs.read_measures(0))
    mine, other = ours.read_mesh(0), theirs.read_mesh(0)
    for name in ("nodes", "types", "offsets", "connectivity"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(other, name))


def test_arrays_of_hdf5_hold_cells_too(write: Write, tmp_path: Path) -> None:
    write()
    with h5py.File(tmp_path / "mesh.h5", "w") as file:
        file["mesh/cells"] = TRIANGLES.astype("uint16")
    path = tmp_path / "mesh.yaml"
    path.write_text(path.read_text().replace("file: cells.npy", "file: mesh.h5, key: mesh/cells"))
    source = open_source([path])
    mesh = source.read_mesh(0)
    assert mesh is not None
    assert mesh.connectivity.tolist() == [*TRIANGLES.flat]
    assert {file.name for file in source.paths} == {"mesh.yaml", "mesh.h5", "nodes.npy", "u.npy"}


def test_faulty_cells_and_lone_nodes_are_refused_or_left_out(write: Write) -> None:
    cells = np.array([[0, 1, 2], [1, 2, 0], [0, 2, 3], [3, 3, 0]])
    with pytest.raises(SourceError, match=r"cells.npy has 1 of 4 cells without extent, the first is number 3; say"):
        write(cells=cells)
    source = write(cells=cells, more=", drop_faulty: true")
    assert source.trajectories[0].shape == (4,)
    assert source.read_frames(0, 0, 3).shape == (3, 1, 4)
    np.testing.assert_array_equal(source.read_coordinates(0)[0], NODES[:4])
    assert [note.partition(": ")[2] for note in source.notes] == [
        "1 of 4 cells without extent were left out",
        "1 of 4 cells that stand there twice were left out",
        "1 of 5 nodes that belong to no cell were left out",
    ]


@pytest.mark.parametrize(
    ("cells", "choices", "message"),
    [
        (TRIANGLES + 1, {}, r"names nodes 1 to 5, and there are 5, counted from 0; do they count from 1\? Then say"),
        (TRIANGLES, {"more": ", first: 1"}, "names nodes 0 to 4, and there are 5, counted from 1$"),
        (TRIANGLES - 1, {}, "names nodes -1 to 3, and there are 5"),
        (TRIANGLES.astype(float), {}, r"has shape \(3, 3\) and type float64; cells of type triangle are integers of"),
        (TRIANGLES, {"type": "quad"}, r"cells of type quad are integers of shape \(cell, 4\)"),
        (TRIANGLES[0], {}, r"has shape \(3,\)"),
        (np.stack([TRIANGLES] * 3), {}, "has the cells of 3 trajectories, the fields have 2"),
        (np.array([[0, 1, 2, 3]]), {"type": "tetra"}, "cells of type tetra need 3 axes, there are 2"),
        (TRIANGLES, {"more": ", location: cells"}, "has 3 cells, the fields have 5 along 'point'"),
        (TRIANGLES[:0], {}, "none of the 0 cells has an extent"),
    ],
)
def test_cells_that_make_no_sense_are_refused(
    cells: np.ndarray, choices: dict[str, str], message: str, write: Write
) -> None:
    with pytest.raises(SourceError, match=message):
        write(cells=cells, **choices)


def test_corners_in_another_order_are_refused(write: Write) -> None:
    grid = box(2)
    with pytest.raises(SourceError, match=r"cells.npy: the 8 cells of type hexahedron fill [\d.]+e-1[78] of a box"):
        write(np.asarray(grid.points, dtype=np.float64), cells_of(grid), type="hexahedron")


def test_nodes_that_do_not_fit_are_refused(write: Write) -> None:
    with pytest.raises(SourceError, match=r"nodes.npy has shape \(5, 2\) .* of shape \(4, 2\) or \(2, 4, 2\)"):
        write(num_points=4)
    nodes = NODES.copy()
    nodes[2, 1] = np.nan
    with pytest.raises(SourceError, match=r"nodes.npy holds nan at \(2, 1\); it must be finite"):
        write(nodes)
