"""Stores in the layout that `to_zarr` of nvidia-physicsnemo 2.2.2 writes."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.physicsnemo_mesh import PhysicsNeMoMeshSource
from tests.preprocess.sources.specimens import CORNERS, TETRAHEDRA, mesh_arrays, random, write_physicsnemo
from ups_data.errors import ConfigError, SourceError
from ups_data.storage import open_store

SHARES = [1 / 24, 1 / 8, 1 / 8, 1 / 8, 1 / 12]
"""Of two tetrahedra of 1/6 and 1/3: a quarter of each for every corner."""


def test_data_of_points(tmp_path: Path) -> None:
    arrays = mesh_arrays()
    path = write_physicsnemo(tmp_path / "a.zarr", arrays)
    with pytest.raises(SourceError, match=r"data at its nodes \(U, p\) and at its cells \(nut\), and a point has all"):
        open_source([path])
    source = open_source([path], options={"location": "nodes"})
    assert isinstance(source, PhysicsNeMoMeshSource)
    assert source.kind == "mesh"
    assert [field.components for field in source.fields] == [("x", "y", "z"), ("",)]
    wanted = np.concatenate([arrays["point_data/U"].T, arrays["point_data/p"][None]])
    np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0], wanted)
    np.testing.assert_array_equal(source.read_coordinates(0)[0], CORNERS.astype("f8"))
    measures, mesh = source.read_measures(0), source.read_mesh(0)
    assert measures is not None
    assert mesh is not None
    np.testing.assert_allclose(measures, SHARES, rtol=1e-12)
    np.testing.assert_array_equal(mesh.connectivity.reshape(-1, 4), TETRAHEDRA)
    assert dict(source.trajectories[0].parameters) == {"Re": 100.0}
    assert source.notes == ("data that were not converted: cell_data/nut",)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read_frames(0, 0, 1)[0], wanted)


def test_data_of_cells(tmp_path: Path) -> None:
    source = open_source([write_physicsnemo(tmp_path / "a.zarr", mesh_arrays())], options={"location": "cells"})
    measures = source.read_measures(0)
    assert measures is not None
    np.testing.assert_allclose(measures, [1 / 6, 1 / 3], rtol=1e-12)
    np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0, 0], mesh_arrays()["cell_data/nut"])
    np.testing.assert_allclose(source.read_coordinates(0)[0], CORNERS[TETRAHEDRA].mean(axis=1))


def test_a_domain_has_parts(tmp_path: Path) -> None:
    wall = {
        "points": CORNERS[:4],
        "cells": np.array([[0, 1, 2], [0, 1, 3]]),
        "cell_data/p": random(2),
        "cell_data/wss": random(2, 3, seed=1),
    }
    arrays = mesh_arrays(prefix="interior/") | {f"boundaries/wall/{key}": values for key, values in wall.items()}
    arrays["global_data/speed"] = np.array([30.0, 1.0], dtype="f4")
    path = write_physicsnemo(tmp_path / "a.zarr", arrays, "DomainMesh")
    with pytest.raises(SourceError, match=r"data on 2 parts: boundaries/wall, interior; say which: --option part="):
        open_source([path])
    with pytest.raises(SourceError, match=r"no part 'boundaries/walls' with data. Did you mean 'boundaries/wall'"):
        open_source([path], options={"part": "boundaries/walls"})
    source = open_source([path], options={"part": "boundaries/wall"})
    np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0, 1:], wall["cell_data/wss"].T)
    # All centres lie at x = 1/3, and the nodes do not: no axis may be left out.
    assert len(source.axes) == 3
    assert dict(source.trajectories[0].parameters) == {"Re": 100.0, "speed_0": 30.0, "speed_1": 1.0}
    interior = open_source([path], options={"part": "interior", "location": "nodes", "fields": ["p"]})
    np.testing.assert_array_equal(interior.read_frames(0, 0, 1)[0, 0], arrays["interior/point_data/p"])
    assert "data that were not converted: U" in interior.notes[0]


def test_points_without_cells_are_a_cloud(tmp_path: Path) -> None:
    arrays = {"points": CORNERS, "cells": np.zeros((0, 1), dtype="i8"), "point_data/flow/p": random(5)}
    source = open_source([write_physicsnemo(tmp_path / "a.zarr", arrays)])
    assert (source.kind, source.fields[0].name, source.read_mesh(0)) == ("points", "flow.p", None)
    np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0, 0], arrays["point_data/flow/p"])


def test_meshes_of_several_sizes_become_a_store(tmp_path: Path) -> None:
    second = mesh_arrays(seed=5)
    second |= {
        "points": np.concatenate([CORNERS, [[2, 2, 2]]]).astype("f4"),
        "cells": np.array([*TETRAHEDRA, [2, 3, 4, 5], [2, 3, 4, 4]]),
        "point_data/U": random(6, 3, seed=7),
        "point_data/p": random(6, seed=8),
    }
    paths = [
        write_physicsnemo(tmp_path / "a.zarr", mesh_arrays()),
        write_physicsnemo(tmp_path / "b.zarr", {**second, "cell_data/nut": random(4)}),
    ]
    with pytest.raises(SourceError, match=r"b.zarr has 1 of 4 cells without extent, the first is number 3"):
        open_source(paths, options={"location": "nodes"})
    source = open_source(paths, options={"location": "nodes", "drop_faulty": True})
    convert(source, tmp_path / "store", ConvertSettings())
    store = open_store(tmp_path / "store")
    assert [store.num_points(i) for i in range(2)] == [5, 6]
    np.testing.assert_array_equal(store.read_dense(1, [0])[0, 3], second["point_data/p"])


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    first = write_physicsnemo(tmp_path / "a.zarr", mesh_arrays())
    other = {key: values for key, values in mesh_arrays().items() if key != "point_data/p"}
    nodes = {"location": "nodes"}
    with pytest.raises(SourceError, match=r"b.zarr has no data 'p' at its nodes. Valid names: U"):
        open_source([first, write_physicsnemo(tmp_path / "b.zarr", other)], options=nodes)
    other = mesh_arrays() | {"point_data/p": random(5, 2)}
    with pytest.raises(SourceError, match=r"point_data/p has shape \(5, 2\); in a.zarr it has 1 components"):
        open_source([first, write_physicsnemo(tmp_path / "b.zarr", other)], options=nodes)
    other = mesh_arrays() | {"global_data/angle": np.array(3.0)}
    with pytest.raises(SourceError, match=r"global data \['Re', 'angle'\], a.zarr has \['Re'\]"):
        open_source([first, write_physicsnemo(tmp_path / "b.zarr", other)], options=nodes)
    with pytest.raises(SourceError, match="one Mesh, so option part=interior fits nothing"):
        open_source([first], options={"part": "interior"})
    with pytest.raises(ConfigError, match="Did you mean 'location'"):
        open_source([first], options={"locations": "nodes"})
