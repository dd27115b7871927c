"""Malformed meshes of PhysicsNeMo, and crashes as Curator writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.preprocess.sources.malformed.spoiling import check_refused, cut_file, damage_chunk, spoil_array
from tests.preprocess.sources.specimens import crash_arrays, mesh_arrays, write_crash, write_physicsnemo


def mesh_only() -> dict[str, np.ndarray]:
    arrays = mesh_arrays()
    del arrays["cell_data/nut"]
    return arrays


@pytest.mark.filterwarnings("ignore:The data type:zarr.errors.UnstableSpecificationWarning")  # of text
@pytest.mark.parametrize("way", ["missing", "zero-length", "complex", "text", "rank", "short", "nan"])
@pytest.mark.parametrize("key", ["points", "cells", "point_data/U", "point_data/p", "global_data/Re"])
def test_a_spoilt_array_of_a_physicsnemo_mesh_is_refused(tmp_path: Path, key: str, way: str) -> None:
    if (key, way) in {
        ("cells", "missing"),  # a cloud
        ("cells", "zero-length"),
        ("cells", "short"),
        ("point_data/U", "missing"),  # a field less
        ("point_data/p", "missing"),
        ("point_data/p", "rank"),  # two components
        ("point_data/U", "rank"),
        ("global_data/Re", "missing"),
        ("global_data/Re", "rank"),
        ("global_data/Re", "zero-length"),
        ("global_data/Re", "short"),
        ("cells", "nan"),
        ("point_data/U", "short"),  # two components
    }:
        return
    arrays = mesh_only()
    spoil_array(arrays, key, way)
    path = write_physicsnemo(tmp_path / "made.zarr", arrays)
    # A field is told by its name, and nodes that cells do not have by the store.
    named = {"nan": key.rpartition("/")[2], "short": ""}.get(way, key)
    check_refused(path, "physicsnemo_mesh", None, "made", named)


@pytest.mark.parametrize("way", ["cut", "longer", "lying"])
@pytest.mark.parametrize("key", ["points", "cells", "point_data/U", "point_data/p", "global_data/Re"])
def test_a_chunk_of_a_physicsnemo_mesh_that_is_damaged_is_refused(tmp_path: Path, key: str, way: str) -> None:
    path = write_physicsnemo(tmp_path / "made.zarr", mesh_only())
    damage_chunk(path / key, way)
    check_refused(path, "physicsnemo_mesh", None, "made.zarr", key)


@pytest.mark.parametrize("kind", ["Meshes", "", "DomainMesh"])
def test_a_physicsnemo_mesh_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    check_refused(write_physicsnemo(tmp_path / "made.zarr", mesh_only(), kind), "physicsnemo_mesh", None, "made.zarr")


@pytest.mark.filterwarnings("ignore:The data type:zarr.errors.UnstableSpecificationWarning")  # of text
@pytest.mark.parametrize("way", ["missing", "zero-length", "complex", "text", "rank", "short", "nan"])
@pytest.mark.parametrize("key", ["mesh_pos", "edges", "thickness"])
def test_a_spoilt_array_of_a_crash_is_refused(tmp_path: Path, key: str, way: str) -> None:
    if (key, way) in {
        ("edges", "missing"),
        ("edges", "zero-length"),
        ("edges", "nan"),
        ("thickness", "missing"),
        ("thickness", "rank"),
    }:
        return
    arrays = crash_arrays()
    spoil_array(arrays, key, way)
    path = write_crash(tmp_path / "made.zarr", arrays)
    check_refused(path, "crash_mesh", {"time_step": 0.1}, "made", key)


@pytest.mark.parametrize("kept", [0, 3, 0.3, 0.9])
def test_a_crash_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    path = write_crash(tmp_path / "made.zarr", crash_arrays())
    chunk = path / "mesh_pos" / "c" / "0" / "0" / "0"
    cut_file(chunk, kept)
    check_refused(path, "crash_mesh", {"time_step": 0.1}, "made.zarr: mesh_pos")
