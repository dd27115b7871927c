"""Malformed descriptions of arrays, and the arrays, axes, times and parameters in the files that they name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
import zarr

from tests.preprocess.sources.malformed.spoiling import (
    ANY,
    AXIS,
    NUMPY_ANY,
    check_refused,
    damage_chunk,
    read_all,
    replace_dataset,
)

WriteArrays = Callable[..., Path]


@pytest.mark.parametrize(
    ("kind", "way"),
    # Neither HDF5 nor Zarr stores Python's objects.
    [(kind, way) for kind in ("npy", "h5", "zarr") for way in NUMPY_ANY if kind == "npy" or way != "objects"],
)
def test_a_spoilt_array_is_refused(write_arrays: WriteArrays, tmp_path: Path, kind: str, way: str) -> None:
    values = NUMPY_ANY[way](np.load(write_arrays().parent / "velocity.npy"))
    name = f"velocity.{kind}"
    if values.dtype.kind == "U" and kind == "h5":
        values = values.astype("S")
    if kind == "npy":
        np.save(tmp_path / name, values, allow_pickle=True)
    elif kind == "h5":
        with h5py.File(tmp_path / name, "w") as file:
            file["u"] = values
    else:
        group = zarr.open_group(tmp_path / name, mode="w", zarr_format=2)
        group.create_array("u", shape=values.shape, dtype=values.dtype)[...] = values
    path = tmp_path / "made.yaml"
    entry = f"file: {name}" + ("" if kind == "npy" else ", key: u")
    path.write_text(path.read_text().replace("file: velocity.npy", entry))
    check_refused(path, "arrays", None, name)


@pytest.mark.parametrize("way", ["cut", "longer", "lying"])
@pytest.mark.parametrize("version", [2, 3])
def test_a_damaged_chunk_of_described_zarr_is_refused(
    write_arrays: WriteArrays, tmp_path: Path, version: int, way: str
) -> None:
    path = write_arrays()
    values = np.load(tmp_path / "velocity.npy")
    blosc: Any = numcodecs.Blosc() if version == 2 else zarr.codecs.BloscCodec()
    group = zarr.open_group(tmp_path / "velocity.zarr", mode="w", zarr_format=version)
    group.create_array("u", shape=values.shape, dtype=values.dtype, compressors=blosc)[...] = values
    path.write_text(path.read_text().replace("file: velocity.npy", "file: velocity.zarr, key: u"))
    read_all(path, "arrays")
    shutil.rmtree(tmp_path / "store")
    damage_chunk(tmp_path / "velocity.zarr" / "u", way)
    check_refused(path, "arrays", None, "velocity.zarr: u")


def test_described_zarr_with_chunks_of_nothing_is_refused(write_arrays: WriteArrays, tmp_path: Path) -> None:
    path = write_arrays(("file: velocity.npy", "file: velocity.zarr, key: u"))
    zarr.create_array(tmp_path / "velocity.zarr" / "u", data=np.load(tmp_path / "velocity.npy"), zarr_format=2)
    (tmp_path / "velocity.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    read_all(path, "arrays")
    shutil.rmtree(tmp_path / "store")
    file = tmp_path / "velocity.zarr" / "u" / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chunks": [0] * 5}))
    check_refused(path, "arrays", None, "velocity.zarr: u")


@pytest.mark.parametrize("way", AXIS)
def test_a_spoilt_axis_of_described_arrays_is_refused(write_arrays: WriteArrays, tmp_path: Path, way: str) -> None:
    path = write_arrays(y=AXIS[way](np.linspace(0.0, 1.5, 6)))
    check_refused(path, "arrays", None, "rest.npz: y")


TIMES = ("{start: 0.0, step: 0.05, unit: s}", "{file: rest.npz, key: t}")
SEEDLING = ("seedling: {values: [1, 2, 3.5]}", "seedling: {file: rest.npz, key: nu}")


def test_described_arrays_with_times_and_parameters_in_files_convert(write_arrays: WriteArrays, tmp_path: Path) -> None:
    read_all(write_arrays(TIMES, SEEDLING, t=np.linspace(0.0, 1.5, 4), nu=np.arange(3.0)), "arrays")
    assert (tmp_path / "store" / "manifest.json").exists()


@pytest.mark.parametrize("way", ["text", "complex", "zero-length", "rank", *AXIS])
def test_spoilt_times_of_described_arrays_are_refused(write_arrays: WriteArrays, tmp_path: Path, way: str) -> None:
    path = write_arrays(TIMES, t={**NUMPY_ANY, **AXIS}[way](np.linspace(0.0, 1.5, 4)))
    check_refused(path, "arrays", None, "rest.npz: t")


@pytest.mark.parametrize("way", ["text", "complex", "zero-length", "rank", "nan", "infinite"])
def test_a_spoilt_parameter_of_described_arrays_is_refused(write_arrays: WriteArrays, tmp_path: Path, way: str) -> None:
    path = write_arrays(SEEDLING, nu={**NUMPY_ANY, **AXIS}[way](np.arange(3.0)))
    check_refused(path, "arrays", None, "rest.npz: nu")


@pytest.mark.parametrize("way", ["ragged", "empty", "group", "cut"])
def test_a_damaged_hdf5_file_of_described_arrays_is_refused(
    write_arrays: WriteArrays, tmp_path: Path, way: str
) -> None:
    path = write_arrays(("file: velocity.npy", "file: velocity.h5, key: u"))
    values = np.load(tmp_path / "velocity.npy")
    file = tmp_path / "velocity.h5"
    with h5py.File(file, "w") as content:
        content["u"] = values
    read_all(path, "arrays")
    shutil.rmtree(tmp_path / "store")
    if way == "group":
        with h5py.File(file, "r+") as content:
            del content["u"]
            content.create_group("u")
    elif way == "cut":
        file.write_bytes(file.read_bytes()[:-1000])
    else:
        replace_dataset(file, "u", ANY[way](values), {})
    check_refused(path, "arrays", None, "velocity.h5")


@pytest.mark.parametrize("name", ["velocity.npy", "rest.npz"])
def test_a_missing_file_of_described_arrays_is_refused(write_arrays: WriteArrays, tmp_path: Path, name: str) -> None:
    path = write_arrays()
    (tmp_path / name).unlink()
    check_refused(path, "arrays", None, name)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("axes:", "axes: {{{", "not valid YAML"),
        ("axes:", "axes: !!python/object:os.system\n ", "not valid YAML"),
        ("times:", "tmies:", "tmies"),
        ("stop: 1.0", "stop: one", "axes.x.stop"),
        ("stop: 1.0", "stop: .nan", "cannot be read"),
        ("step: 0.05", "step: 0", "made.yaml: times"),
        ("{train: 2, test: 1}", "{train: 2, test: 2}", "split"),
        ("[1, 2, 3.5]", "[1, 2]", "parameters.seedling"),
        ("[1, 2, 3.5]", "[1, 2, three]", "parameters.seedling"),
        ("component, x, y]", "component, x]", "velocity"),
        ("components: [x, y]", "components: [x, y, z]", "velocity"),
    ],
)
def test_a_spoilt_description_of_arrays_is_refused(write_arrays: WriteArrays, old: str, new: str, told: str) -> None:
    check_refused(write_arrays((old, new)), "arrays", None, told)


@pytest.mark.parametrize("kept", [0, 3, 60, 200])
@pytest.mark.parametrize("name", ["velocity.npy", "rest.npz"])
def test_arrays_cut_short_are_refused(write_arrays: WriteArrays, tmp_path: Path, name: str, kept: int) -> None:
    path = write_arrays()
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:kept])
    check_refused(path, "arrays", None, name)
