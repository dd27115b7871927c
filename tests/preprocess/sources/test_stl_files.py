"""The surface of an STL file as points and triangles of described arrays, against what VTK makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pyvista

import ups_data
from preprocess.convert import ConvertSettings, convert
from preprocess.sources import open_source
from preprocess.sources.array_files import find_array
from preprocess.sources.stl_files import read_stl
from preprocess.validate import validate
from ups_data.errors import SourceError

DESCRIPTION = """
kind: mesh
dims: [trajectory, time, point]
fields: {p: {file: p.npy}}
axes: {x: {unit: m}, y: {unit: m}, z: {unit: m}}
coordinates: {file: car.stl, key: points}
cells: {file: car.stl, key: triangles, type: triangle, location: LOCATION}
times: {start: 0, step: 1}
"""


def surface() -> pyvista.PolyData:
    return pyvista.Sphere(theta_resolution=7, phi_resolution=6)


def write(folder: Path, *, binary: bool = True) -> Path:
    surface().save(folder / "car.stl", binary=binary)
    return folder / "car.stl"


@pytest.mark.parametrize("binary", [True, False])
def test_points_and_triangles_are_those_that_vtk_reads(tmp_path: Path, binary: bool) -> None:
    path = write(tmp_path, binary=binary)
    theirs, ours = pyvista.read(path), read_stl(path)
    np.testing.assert_array_equal(ours["points"].astype("f4"), theirs.points)
    np.testing.assert_array_equal(ours["triangles"], theirs.regular_faces)


@pytest.mark.parametrize("location", ["nodes", "cells"])
def test_fields_on_the_surface_convert(tmp_path: Path, location: str) -> None:
    write(tmp_path)
    count = {"nodes": surface().n_points, "cells": surface().n_cells}[location]
    values = np.random.default_rng(0).normal(size=(2, 3, count)).astype("f4")
    np.save(tmp_path / "p.npy", values)
    (tmp_path / "car.yaml").write_text(DESCRIPTION.replace("LOCATION", location))
    source = open_source([tmp_path / "car.yaml"])
    assert {path.name for path in source.paths} == {"car.yaml", "car.stl", "p.npy"}
    convert(source, tmp_path / "s", ConvertSettings())
    store = ups_data.open_store(tmp_path / "s")
    for number in range(2):
        np.testing.assert_array_equal(store.read_dense(number, range(3))[:, 0], values[number])
        np.testing.assert_allclose(store.measures(number).sum(), surface().area, rtol=1e-6)
    assert validate(tmp_path / "s").ok


@pytest.mark.parametrize("kept", [0, 3, 60, 0.5, 0.99])
@pytest.mark.parametrize("binary", [True, False])
def test_a_file_cut_short_is_refused(tmp_path: Path, binary: bool, kept: float) -> None:
    path = write(tmp_path, binary=binary)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(SourceError, match=r"car\.stl"):
        find_array(path, "points")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("vertex", "vertices", "car.stl is damaged or cut short: 55 of 56 facets are whole"),
        ("endloop", "loop", "car.stl is damaged or cut short: 55 of 56 facets are whole"),
        ("vertex ", "vertex one", "car.stl holds a vertex that is no number"),
        ("endsolid", "end", "a line `endsolid` is not there"),
    ],
)
def test_damaged_text_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, binary=False)
    head, found, tail = path.read_text().rpartition(old)
    assert found
    path.write_text(head + new + tail)
    with pytest.raises(SourceError, match=message):
        find_array(path, "triangles")


def test_what_it_has_no_array_for_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(SourceError, match=r"holds 2 arrays, so a key must be named. Valid names: points, triangles"):
        find_array(path, None)
    (tmp_path / "none.stl").write_bytes(b"\0" * 84)
    with pytest.raises(SourceError, match=r"none.stl holds no facet"):
        find_array(tmp_path / "none.stl", "points")
