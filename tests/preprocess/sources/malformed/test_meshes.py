"""Malformed files of VTK, of each kind, and folders of cars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.preprocess.sources.malformed.spoiling import NUMPY_ANY, check_refused, cut_file, read_all
from tests.preprocess.sources.meshes import plane, with_data
from tests.preprocess.sources.specimens import car_folder

VTK_FILES = {"xml": ("vtu", True), "xml-text": ("vtu", False), "surface": ("vtp", True), "legacy": ("vtk", True)}


def write_vtk(folder: Path, kind: str) -> Path:
    suffix, binary = VTK_FILES[kind]
    grid: Any = with_data(plane())
    if suffix == "vtp":
        grid = grid.extract_surface(algorithm="geometry")
    folder.mkdir(parents=True, exist_ok=True)
    grid.save(folder / f"made.{suffix}", binary=binary)
    return folder / f"made.{suffix}"


@pytest.mark.parametrize("kept", [0, 20, 100, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", VTK_FILES)
def test_a_mesh_cut_short_is_refused(tmp_path: Path, kind: str, kept: float) -> None:
    path = write_vtk(tmp_path, kind)
    cut_file(path, kept)
    check_refused(path, "vtk", {"location": "nodes"}, path.name)


LEGACY = """# vtk DataFile Version 3.0
made
ASCII
DATASET UNSTRUCTURED_GRID
POINTS 5 double
0 0 0  2 0 0  2 1 0  0 1 0  4 0.5 0
CELLS 2 9
4 0 1 2 3
3 1 4 2
CELL_TYPES 2
9 5
POINT_DATA 5
SCALARS p double 1
LOOKUP_TABLE default
1 2 3 4 5
"""
LEGACY_CHANGES = {
    "no version": ("Version 3.0", "Version three"),
    "another kind": ("UNSTRUCTURED_GRID", "SOMETHING_ELSE"),
    "no points": ("POINTS 5 double", "POINTS 0 double"),
    "too many points": ("POINTS 5 double", "POINTS 9 double"),
    "text for a number": ("2 1 0", "2 one 0"),
    "not finite": ("4 0.5 0", "4 nan 0"),
    "a node that is not there": ("3 1 4 2", "3 1 5 2"),
    "a node before the first": ("3 1 4 2", "3 1 -4 2"),
    "a type of other nodes": ("9 5\n", "12 5\n"),
    "a type that is none": ("9 5\n", "9 99\n"),
    "a cell without extent": ("3 1 4 2", "3 1 1 2"),
    "cells cut short": ("CELLS 2 9", "CELLS 3 9"),
    "a node of no cell": ("3 1 4 2", "3 1 3 2"),
    "no data": ("SCALARS p double 1\nLOOKUP_TABLE default\n1 2 3 4 5\n", ""),
    "too little data": ("1 2 3 4 5\n", "1 2 3\n"),
    "data that are not finite": ("1 2 3 4 5", "1 2 nan 4 5"),
    "data that are too large": ("1 2 3 4 5", "1 2 1e200 4 5"),
}


def test_the_mesh_itself_converts(tmp_path: Path) -> None:
    (tmp_path / "made.vtk").write_text(LEGACY)
    read_all(tmp_path / "made.vtk", "vtk")
    assert (tmp_path / "store" / "manifest.json").exists()


@pytest.mark.parametrize("change", LEGACY_CHANGES)
def test_a_spoilt_mesh_is_refused(tmp_path: Path, change: str) -> None:
    old, new = LEGACY_CHANGES[change]
    assert old in LEGACY
    (tmp_path / "made.vtk").write_text(LEGACY.replace(old, new))
    check_refused(tmp_path / "made.vtk", "vtk", None, "made.vtk" if "that are" not in change else "made")


XML_CHANGES = {
    "other counts": ('NumberOfPoints="5"', 'NumberOfPoints="9"'),
    "more cells than there are": ('NumberOfCells="2"', 'NumberOfCells="7"'),
    "no connectivity": ('Name="connectivity"', 'Name="nothing"'),
    "no types": ('Name="types"', 'Name="sorts"'),
    "no points": ("<Points>", "<Dots>"),
    "text for numbers": ('type="Float32"', 'type="String"'),
    "other components": ('NumberOfComponents="3"', 'NumberOfComponents="2"'),
}


@pytest.mark.parametrize("change", XML_CHANGES)
def test_a_spoilt_xml_mesh_is_refused(tmp_path: Path, change: str) -> None:
    path, (old, new) = write_vtk(tmp_path, "xml-text"), XML_CHANGES[change]
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    check_refused(path, "vtk", {"location": "nodes"}, path.name)


@pytest.mark.parametrize("value", [None, "three", "nan", "inf", "1e200"])
def test_a_spoilt_number_of_an_xml_mesh_is_refused(tmp_path: Path, value: str | None) -> None:
    path = write_vtk(tmp_path, "xml-text")
    lines = path.read_text().split("\n")
    row = next(number for number, line in enumerate(lines) if 'Name="p"' in line) + 1
    numbers = lines[row].split()
    lines[row] = " ".join([*numbers[:3], *([] if value is None else [value]), *numbers[4:]])
    path.write_text("\n".join(lines).replace('type="Float32" Name="p"', 'type="Float64" Name="p"'))
    check_refused(path, "vtk", {"location": "nodes"}, "made")


STEP = '<DataSet timestep="{}" file="made.vtu"/>'
COLLECTIONS = {
    "a file that is not there": '<DataSet timestep="0" file="no.vtu"/>',
    "no file": '<DataSet timestep="0"/>',
    "repeated times": STEP.format(1) + STEP.format(1),
    "text for a time": STEP.format("soon"),
    "times that are not finite": STEP.format("nan") + STEP.format(1),
    "no times": '<DataSet file="made.vtu"/>' * 2,
    "nothing": "",
}


@pytest.mark.parametrize("way", COLLECTIONS)
def test_a_spoilt_collection_is_refused(tmp_path: Path, way: str) -> None:
    write_vtk(tmp_path, "xml")
    path = tmp_path / "run.pvd"
    head = '<?xml version="1.0"?><VTKFile type="Collection" version="0.1"><Collection>'
    path.write_text(f"{head}{COLLECTIONS[way]}</Collection></VTKFile>")
    check_refused(path, "vtk", {"location": "nodes"}, "run.pvd")


@pytest.mark.parametrize("way", NUMPY_ANY)
def test_a_spoilt_pressure_of_a_car_is_refused(tmp_path: Path, way: str) -> None:
    car_folder(tmp_path / "cars")
    file = tmp_path / "cars" / "data" / "001" / "press.npy"
    np.save(file, NUMPY_ANY[way](np.load(file)), allow_pickle=True)
    check_refused(tmp_path / "cars", "car_cfd", None, "001", "press.npy")


@pytest.mark.parametrize("name", ["tri_mesh.ply", "press.npy"])
@pytest.mark.parametrize("kept", [None, 0, 2, 50, 200])
def test_a_file_of_a_car_missing_or_cut_short_is_refused(tmp_path: Path, name: str, kept: int | None) -> None:
    car_folder(tmp_path / "cars")
    file = tmp_path / "cars" / "data" / "010" / name
    content = file.read_bytes()
    file.unlink()
    if kept is not None:
        file.write_bytes(content[:kept])
    check_refused(tmp_path / "cars", "car_cfd", None, "010", name)


@pytest.mark.parametrize("content", [b"", b" , ", b"777", b"\xff\xfe\x00", b"001,001", b"../001", b"001\n010"])
@pytest.mark.parametrize("name", ["train.txt", "test.txt"])
def test_a_spoilt_list_of_cars_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    car_folder(tmp_path / "cars")
    (tmp_path / "cars" / name).write_bytes(content)
    check_refused(tmp_path / "cars", "car_cfd", None, "cars", name)
