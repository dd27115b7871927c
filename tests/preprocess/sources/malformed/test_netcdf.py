"""Malformed NetCDF and GRIB: coordinates, variables, attributes, files cut short; variables and axes in Zarr too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.preprocess.sources.grib_messages import weather_grib
from tests.preprocess.sources.malformed.spoiling import (
    ANY,
    NETCDF_AXIS,
    check_refused,
    cut_file,
    replace_dataset,
    spoil_axis,
)
from tests.preprocess.sources.specimens import weather


@pytest.mark.parametrize("way", NETCDF_AXIS)
@pytest.mark.parametrize("axis", ["time", "lat", "lon"])
def test_a_spoilt_coordinate_of_netcdf_is_refused(tmp_path: Path, axis: str, way: str) -> None:
    path = tmp_path / "weather.nc"
    spoil_axis(weather(), axis, way).to_netcdf(path)
    check_refused(path, "xarray", None, "weather.nc", axis)


NOT_NUMBERS: dict[str, Any] = {
    "text": np.full((6, 9, 16), "three"),
    "complex": np.ones((6, 9, 16), "complex64"),
    "nan": np.full((6, 9, 16), np.nan),
    "infinite": np.full((6, 9, 16), np.inf),
    "huge": np.full((6, 9, 16), 1e200),
}


@pytest.mark.parametrize("way", NOT_NUMBERS)
@pytest.mark.parametrize("kind", ["nc", "zarr"])
def test_a_variable_that_holds_no_numbers_is_refused(tmp_path: Path, kind: str, way: str) -> None:
    if (kind, way) == ("nc", "complex"):
        return  # the library does not write them
    data = weather(u10=(("time", "lat", "lon"), NOT_NUMBERS[way]))
    path = tmp_path / f"weather.{kind}"
    if kind == "nc":
        data.to_netcdf(path)
    else:
        data.to_zarr(path, zarr_format=2, consolidated=False)
    check_refused(path, "xarray", None, "weather", "u10")


@pytest.mark.parametrize("axis", ["time", "lat", "lon"])
@pytest.mark.parametrize("kind", ["nc", "zarr"])
def test_an_axis_without_entries_is_refused(tmp_path: Path, kind: str, axis: str) -> None:
    path, data = tmp_path / f"weather.{kind}", weather().isel({axis: slice(0, 0)})
    if kind == "nc":
        data.to_netcdf(path)
    else:
        data.to_zarr(path, zarr_format=2, consolidated=False)
    check_refused(path, "xarray", None, "weather", axis)


NETCDF_ATTRIBUTES = [
    *(
        ("u10", name, value)
        for name in ("_FillValue", "missing_value", "scale_factor", "add_offset", "valid_min", "valid_range")
        for value in ("seven", h5py.Empty("f4"))
    ),
    *(("u10", name, [1.0, 2.0, 3.0]) for name in ("scale_factor", "add_offset", "valid_max", "valid_range")),
    *(("time", "units", value) for value in (None, 7.5, h5py.Empty("f4"), "seven")),
    ("lat", "units", "seven"),
]


@pytest.mark.parametrize(("item", "attribute", "value"), NETCDF_ATTRIBUTES, ids=str)
def test_a_spoilt_attribute_of_netcdf_is_refused(tmp_path: Path, item: str, attribute: str, value: Any) -> None:
    path = tmp_path / "weather.nc"
    weather().to_netcdf(path)
    with h5py.File(path, "r+") as file:
        file[item].attrs.pop(attribute, None)
        if value is not None:
            file[item].attrs[attribute] = value
    check_refused(path, "xarray", None, "weather.nc", item, attribute if item == "u10" else "")


@pytest.mark.parametrize("way", ["missing", *(way for way in ANY if way != "missing")])
@pytest.mark.parametrize("item", ["time", "lat", "lon"])
def test_a_spoilt_data_set_of_a_coordinate_of_netcdf_is_refused(tmp_path: Path, item: str, way: str) -> None:
    path = tmp_path / "weather.nc"
    weather().to_netcdf(path)
    with h5py.File(path, "r+") as file:
        values = ANY[way](file[item][...])
        attributes = {key: value for key, value in file[item].attrs.items() if "_LIST" not in key}
        del file[item]
    if values is not None:
        replace_dataset(path, item, values, attributes)
    # The NetCDF library does not tell what it stumbled over.
    check_refused(path, "xarray", None, "weather.nc")


@pytest.mark.parametrize("kept", [0, 3, 8, 0.3, 0.9])
def test_netcdf_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "weather.nc"
    weather().to_netcdf(path)
    cut_file(path, kept)
    check_refused(path, "xarray", None, "weather.nc")


@pytest.mark.parametrize("kept", [3, 8, 0.3, 0.9])
def test_grib_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    path = weather_grib(tmp_path / "weather.grib2")
    cut_file(path, kept)
    check_refused(path, "xarray", None, "weather.grib2")
