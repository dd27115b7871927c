"""Malformed runs of PhysicsNeMo-Curator, in Zarr and in DoMINO's archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.preprocess.sources.malformed.spoiling import AXIS, NUMPY_ANY, check_refused, cut_file
from tests.preprocess.sources.specimens import curator_arrays, write_curator

NEEDED = ("surface_mesh_centers", "surface_fields", "surface_areas")


@pytest.mark.parametrize(
    "way", ["missing", *(way for way in NUMPY_ANY if way not in {"objects", "short"}), "other count"]
)
@pytest.mark.parametrize("name", [*NEEDED, "surface_normals"])
@pytest.mark.parametrize("kind", ["v2", "npz"])
def test_a_spoilt_array_of_a_run_is_refused(tmp_path: Path, kind: str, name: str, way: str) -> None:
    if (name, way) == ("surface_normals", "missing"):
        return  # then there is a field less
    arrays = curator_arrays(1, ("surface",))
    values = arrays.pop(name)
    if way == "other count":
        arrays[name] = values[:-1]
    elif way != "missing":
        arrays[name] = NUMPY_ANY[way](values)
    if kind == "v2" and way == "text":
        arrays[name] = arrays[name].astype("S")
    path = write_curator(tmp_path, kind, arrays=arrays)
    check_refused(path, "curator", None, path.name, name)


@pytest.mark.parametrize("kept", [0, 3, 0.3, 0.9])
@pytest.mark.parametrize("name", NEEDED)
def test_a_run_cut_short_is_refused(tmp_path: Path, name: str, kept: float) -> None:
    path = write_curator(tmp_path, "v2")
    chunk = next(file for file in (path / name).iterdir() if file.name.startswith("0"))
    cut_file(chunk, kept)
    check_refused(path, "curator", None, path.name, name)
    archive = write_curator(tmp_path, "npz")
    archive.write_bytes(archive.read_bytes()[: int(kept * 1000)])
    check_refused(archive, "curator", None, archive.name)


@pytest.mark.parametrize("way", ["text", "complex", "nan", "infinite"])
@pytest.mark.parametrize("kind", ["v2", "npz"])
def test_spoilt_parameters_of_a_run_are_refused(tmp_path: Path, kind: str, way: str) -> None:
    arrays = curator_arrays()
    spoilt = {**NUMPY_ANY, **AXIS}[way](arrays["global_params_values"])
    arrays["global_params_values"] = spoilt.astype("S") if spoilt.dtype.kind == "U" and kind == "v2" else spoilt
    path = write_curator(tmp_path, kind, arrays=arrays)
    check_refused(path, "curator", None, path.name, "global_params_values")


@pytest.mark.parametrize("name", NEEDED)
def test_a_run_with_values_that_are_not_finite_is_refused(tmp_path: Path, name: str) -> None:
    arrays = curator_arrays(1, ("surface",))
    arrays[name][5] = np.nan
    path = write_curator(tmp_path, "npz", arrays=arrays)
    check_refused(path, "curator", None, path.stem, "nan")
