"""Points of meshes and their shares, against areas and volumes known by hand and by VTK."""

import numpy as np
import pytest
import pyvista
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from preprocess.sources.mesh_points import (
    SizedCells,
    find_repeated,
    locate_points,
    share_sizes,
    simplex_cells,
    take_cells,
)
from ups_data.errors import SourceError

UNIT = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])


def delaunay(dims: int, count: int, seed: int) -> SizedCells:
    nodes = np.random.default_rng(seed).random((count, dims))
    return simplex_cells(nodes, Delaunay(nodes).simplices, where="made")


@pytest.mark.parametrize(
    ("corners", "size"), [([0, 1], 1.0), ([0, 1, 2], 0.5), ([1, 2, 3], 3**0.5 / 2), ([0, 1, 2, 3], 1 / 6)]
)
def test_simplices_in_space(corners: list[int], size: float) -> None:
    cells = simplex_cells(UNIT, np.array([corners]), where="made")
    np.testing.assert_allclose(cells.sizes, [size], rtol=1e-12)
    np.testing.assert_allclose(cells.centres, UNIT[corners].mean(axis=0)[None])


def test_simplices_equal_those_of_vtk() -> None:
    cells = delaunay(3, 60, seed=1)
    grid = pyvista.UnstructuredGrid({10: cells.connectivity.reshape(-1, 4)}, cells.nodes)
    np.testing.assert_allclose(cells.sizes, np.abs(grid.compute_cell_sizes()["Volume"]), rtol=1e-9)
    np.testing.assert_allclose(cells.centres, grid.cell_centers().points, atol=1e-12)
    assert set(cells.types.tolist()) == {10}


@settings(max_examples=30, deadline=None)
@given(dims=st.sampled_from([2, 3]), count=st.integers(8, 60), seed=st.integers(0, 10**6))
def test_shares_add_up_to_the_cells(dims: int, count: int, seed: int) -> None:
    cells = delaunay(dims, count, seed)
    for location in ("nodes", "cells"):
        points = locate_points(cells, location, drop_faulty=True, where="made")
        assert points.measures.sum() == pytest.approx(cells.sizes.sum(), rel=1e-9)
        assert (points.measures > 0).all()
        assert len(points.coordinates) == len(points.measures) == len(points.rows)
    # Linear functions are integrated exactly by the shares of simplices' nodes.
    slope = np.arange(1.0, dims + 1)
    exact = (cells.centres @ slope * cells.sizes).sum()
    assert (share_sizes(cells) * (cells.nodes @ slope)).sum() == pytest.approx(exact, rel=1e-9)


def test_repeated_cells_are_found_in_any_order() -> None:
    cells = simplex_cells(UNIT, np.array([[0, 1, 2], [2, 0, 1], [0, 1, 3], [1, 2, 3], [3, 1, 0]]), where="made")
    np.testing.assert_array_equal(find_repeated(cells), [False, True, False, False, True])
    points = locate_points(cells, "cells", drop_faulty=True, where="made")
    np.testing.assert_array_equal(points.rows, [0, 2, 3])
    assert points.notes == ("made: 2 of 5 cells that stand there twice were left out",)
    with pytest.raises(
        SourceError, match="made has 2 of 5 cells that stand there twice, the first is number 1; say --opt"
    ):
        locate_points(cells, "cells", drop_faulty=False, where="made")


def test_nodes_of_no_cell_are_renumbered_away() -> None:
    nodes = np.concatenate([[[9.0, 9, 9]], UNIT])
    cells = simplex_cells(nodes, np.array([[1, 2, 3]]), where="made")
    with pytest.raises(SourceError, match="made has 2 of 5 nodes that belong to no cell, the first is number 0"):
        locate_points(cells, "nodes", drop_faulty=False, where="made")
    points = locate_points(cells, "nodes", drop_faulty=True, where="made")
    np.testing.assert_array_equal(points.rows, [1, 2, 3])
    np.testing.assert_array_equal(points.mesh.connectivity, [0, 1, 2])
    np.testing.assert_array_equal(points.coordinates, UNIT[:3])
    np.testing.assert_allclose(points.measures, 1 / 6)
    # Where points are cells, a node more does not matter.
    assert len(locate_points(cells, "cells", drop_faulty=False, where="made").mesh.nodes) == 5


def test_take_cells_of_unequal_sizes() -> None:
    cells = SizedCells(
        nodes=np.zeros((9, 2)),
        types=np.array([5, 9, 5], dtype="u1"),
        offsets=np.array([0, 3, 7, 10]),
        connectivity=np.arange(10, dtype="i4") % 9,
        sizes=np.arange(3.0),
        centres=np.zeros((3, 2)),
    )
    taken = take_cells(cells, np.array([2, 1]))
    np.testing.assert_array_equal(taken.offsets, [0, 3, 7])
    np.testing.assert_array_equal(taken.connectivity, [7, 8, 0, 3, 4, 5, 6])
    np.testing.assert_array_equal(taken.types, [5, 9])


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        (np.zeros((2, 5), dtype=int), "holds cells of 5 nodes"),
        (np.zeros((2, 3)), r"holds cells of 3 nodes \(float64\)"),
        (np.array([[0, 1, 4]]), "names nodes 0 to 4, and there are 4"),
        (np.array([[0, -1, 2]]), "names nodes -1 to 2, and there are 4"),
    ],
)
def test_cells_that_are_no_simplices_are_refused(corners: np.ndarray, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        simplex_cells(UNIT, corners, where="made")


def test_a_mesh_without_extent_is_refused() -> None:
    cells = simplex_cells(np.zeros((3, 2)), np.array([[0, 1, 2]]), where="made")
    with pytest.raises(SourceError, match="made: none of the 1 cells has an extent"):
        locate_points(cells, "nodes", drop_faulty=True, where="made")
