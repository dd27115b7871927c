"""Malformed Zarr that xarray or PDEArena wrote: coordinates, files of the store, metadata of arrays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.preprocess.sources.malformed.spoiling import NETCDF_AXIS, check_refused, cut_file, read_all, spoil_axis
from tests.preprocess.sources.specimens import weather
from tests.preprocess.sources.test_pdearena_shallow_water import collect


@pytest.mark.parametrize("way", NETCDF_AXIS)
@pytest.mark.parametrize("axis", ["time", "lat", "lon"])
def test_a_spoilt_coordinate_of_zarr_is_refused(tmp_path: Path, axis: str, way: str) -> None:
    path = tmp_path / "weather.zarr"
    spoil_axis(weather(), axis, way).to_zarr(path, zarr_format=3, consolidated=False)
    check_refused(path, "xarray", None, "weather.zarr", axis)


@pytest.mark.parametrize("kept", [None, 0, 3, 0.5])
@pytest.mark.parametrize("name", [".zgroup", "u10/.zarray", "lat/.zarray", "u10/.zattrs", "u10/0.0.0", "lat/0"])
def test_a_file_of_zarr_missing_or_cut_short_is_refused(tmp_path: Path, name: str, kept: float | None) -> None:
    path = tmp_path / "weather.zarr"
    weather().drop_vars("orography").to_zarr(path, zarr_format=2, consolidated=False)
    file = path / name
    if kept is None:
        file.unlink()
    else:
        cut_file(file, kept)
    check_refused(path, "xarray", None, "weather.zarr")


METADATA: dict[str, Any] = {
    "shape": [6, 9],
    "chunks": [0],
    "dtype": "<q9",
    "fill_value": "seven",
    "order": 7,
    "zarr_format": 7,
    "filters": [{"id": "pickle"}],
    "compressor": {"id": "nothing"},
}


@pytest.fixture(scope="module")
def zarr_of_xarray(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weather and runs of shallow water, which convert as they are, by their format."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("xarray", "pdearena_shallow_water")}
    paths = {name: folder / "train.zarr" for name, folder in folders.items()}
    weather().rename(u10="u").to_zarr(paths["xarray"], zarr_format=2, consolidated=False)
    collect(folders["pdearena_shallow_water"], "train", 1, 2)
    (paths["pdearena_shallow_water"] / ".zmetadata").unlink()
    for name, path in paths.items():
        read_all(path, name)
    return paths


@pytest.mark.parametrize("entry", [*METADATA, "_ARRAY_DIMENSIONS"])
@pytest.mark.parametrize("key", ["u", "lat", "time"])
@pytest.mark.parametrize("format_name", ["xarray", "pdearena_shallow_water"])
def test_spoilt_metadata_of_an_array_of_zarr_are_refused(
    zarr_of_xarray: dict[str, Path], tmp_path: Path, format_name: str, key: str, entry: str
) -> None:
    path = shutil.copytree(zarr_of_xarray[format_name], tmp_path / "train.zarr")
    file = path / key / (".zattrs" if entry == "_ARRAY_DIMENSIONS" else ".zarray")
    content = json.loads(file.read_text())
    assert entry in content
    file.write_text(json.dumps({**content, entry: METADATA.get(entry, 7)}))
    check_refused(path, format_name, None, "train.zarr", key)
