"""NetCDF files as xarray and the NetCDF library write them."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

import ups_data
from preprocess.convert import ConvertSettings, convert
from preprocess.sources import open_source
from preprocess.sources.xarray_files import XarraySource
from tests.preprocess.sources.specimens import LATITUDES, LONGITUDES, weather
from ups_data.coordinates import grid_measures
from ups_data.errors import ConfigError, SourceError


def write(dataset: xarray.Dataset, path: Path, **options: Any) -> Path:
    dataset.to_netcdf(path, **options)
    return path


@pytest.mark.parametrize("netcdf", ["NETCDF4", "NETCDF3_CLASSIC", "NETCDF3_64BIT"])
def test_a_weather_file_tells_all_by_itself(netcdf: str, tmp_path: Path) -> None:
    data = weather()
    source = open_source([write(data, tmp_path / "era.nc", format=netcdf)])
    assert isinstance(source, XarraySource)
    assert [(field.name, field.unit) for field in source.fields] == [("u10", "m s-1"), ("orography", "m")]
    assert [(axis.name, axis.unit, axis.periodic) for axis in source.axes] == [
        ("lon", "degrees_east", True),
        ("lat", "degrees_north", False),
    ]
    assert (source.axes[0].lower, source.axes[0].upper) == (0.0, 360.0)
    assert source.time_unit == "hours since 1979-01-01"
    np.testing.assert_array_equal(source.trajectories[0].times, 6.0 * np.arange(6))
    longitudes, latitudes = source.read_coordinates(0)
    np.testing.assert_array_equal(latitudes, LATITUDES[::-1])
    np.testing.assert_array_equal(longitudes, LONGITUDES)
    frames = source.read_frames(0, 2, 5)
    assert frames.dtype == np.float32
    np.testing.assert_array_equal(frames[:, 0], data["u10"].values[2:5, ::-1].swapaxes(1, 2))
    np.testing.assert_array_equal(frames[:, 1], np.broadcast_to(data["orography"].values[::-1].T, frames[:, 1].shape))
    assert "lat falls in the files and is read backwards" in source.notes


def test_a_store_of_it_equals_the_file_by_name_of_node(tmp_path: Path) -> None:
    data = weather(10)
    source = open_source([write(data, tmp_path / "era.nc")], options={"frames_per_trajectory": 4})
    convert(source, tmp_path / "store", ConvertSettings(splits={"train": 0.67, "test": 0.33}))
    store = ups_data.open_store(tmp_path / "store")
    assert [store.num_frames(number) for number in range(len(store))] == [4, 4, 2]
    longitudes, latitudes = store.axes(1)
    expected = data["u10"].sel(lat=latitudes, lon=longitudes).transpose("time", "lon", "lat").values[4:8]
    np.testing.assert_array_equal(store.read_frames(1, range(4), (0,))[:, 0], expected.reshape(4, -1))


def test_members_are_trajectories_and_their_numbers_parameters(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(3, 16, 4, 9))
    data = xarray.Dataset(
        {
            "u": (("member", "lon", "time", "lat"), values),
            "viscosity": ("member", np.array([0.1, 0.2, 0.3])),
            "gravity": ((), 9.81),
        },
        {name: weather()[name] for name in ("lat", "lon")} | {"time": ("time", np.arange(4.0), {"axis": "T"})},
    )
    path = write(data, tmp_path / "members.nc")
    with pytest.raises(SourceError, match=r"what dimension 'member' of variable 'u' means is not told. Say so with"):
        open_source([path])
    source = open_source([path], options={"trajectory": "member"})
    assert [dict(info.parameters) for info in source.trajectories] == [
        {"viscosity": pytest.approx(0.1 * number), "gravity": 9.81} for number in (1, 2, 3)
    ]
    expected = data["u"].isel(member=2, lat=slice(None, None, -1)).transpose("time", "lon", "lat").values
    np.testing.assert_array_equal(source.read_frames(2, 0, 4)[:, 0], expected)


def test_plain_dimensions_are_named_by_options(tmp_path: Path) -> None:
    data = xarray.Dataset(
        {"h": (("step", "x", "y"), np.random.default_rng(0).random((3, 5, 4)))},
        {"step": [0.0, 0.5, 1.0], "x": np.arange(5) / 5, "y": np.linspace(0, 1, 4)},
    )
    path = write(data, tmp_path / "waves.nc")
    source = open_source([path], options={"time": "step", "space": ["x", "y"], "periodic": ["x"]})
    assert [(axis.name, axis.periodic) for axis in source.axes] == [("x", True), ("y", False)]
    np.testing.assert_array_equal(source.read_frames(0, 0, 3)[:, 0], data["h"].values)
    with pytest.raises(SourceError, match=r"has no dimension 'stepp'. Did you mean 'step'"):
        open_source([path], options={"time": "stepp"})
    with pytest.raises(ConfigError, match=r"unknown key 'spaces'. Did you mean 'space'"):
        open_source([path], options={"spaces": ["x"]})


def test_several_files_are_several_trajectories(tmp_path: Path) -> None:
    paths = [write(weather(3 + number), tmp_path / f"{number}.nc") for number in range(2)]
    source = open_source(paths)
    assert [info.num_frames for info in source.trajectories] == [3, 4]
    moved = weather().assign_coords(lon=("lon", LONGITUDES + 1, {"units": "degrees_east"}))
    with pytest.raises(SourceError, match=r"moved.nc: the nodes of lon differ from those of 0.nc"):
        open_source([paths[0], write(moved, tmp_path / "moved.nc")])
    with pytest.raises(SourceError, match=r"less.nc lacks the variable 'orography'"):
        open_source([paths[0], write(weather().drop_vars("orography"), tmp_path / "less.nc")])


def test_packed_values_are_unpacked_and_gaps_are_refused_with_their_place(tmp_path: Path) -> None:
    data = weather()
    packing = {"u10": {"dtype": "int16", "scale_factor": 0.001, "_FillValue": -32768}}
    source = open_source([write(data, tmp_path / "packed.nc", encoding=packing)], options={"variables": ["u10"]})
    np.testing.assert_allclose(
        source.read_frames(0, 0, 6)[:, 0], data["u10"].values[:, ::-1].swapaxes(1, 2), atol=0.00051
    )
    data["u10"][3, 2, 5] = np.nan
    gappy = open_source([write(data, tmp_path / "gaps.nc")], options={"variables": ["u10"]})
    with pytest.raises(SourceError, match=r"gaps\.nc.*frame 3"):
        convert(gappy, tmp_path / "store", ConvertSettings())
    assert not (tmp_path / "store").exists()


def test_bounds_are_no_fields_and_other_variables_are_not_dropped_unsaid(tmp_path: Path) -> None:
    data = weather(lat_bnds=(("lat", "edge"), np.zeros((9, 2))))
    data["lat"].attrs["bounds"] = "lat_bnds"
    source = open_source([write(data, tmp_path / "bounds.nc")])
    assert "variables that were not converted: lat_bnds" in source.notes
    zonal = weather(zonal=(("time", "lat"), np.zeros((6, 9))))
    path = write(zonal, tmp_path / "zonal.nc")
    with pytest.raises(SourceError, match=r"'zonal' has dimensions \('time', 'lat'\), not all of lon, lat"):
        open_source([path])
    chosen = open_source([path], options={"variables": ["u10"]})
    assert [field.name for field in chosen.fields] == ["u10"]
    assert any("zonal" in note for note in chosen.notes)
    with pytest.raises(SourceError, match=r"has no variable 'u11'. Did you mean 'u10'"):
        open_source([path], options={"variables": ["u11"]})


def test_nodes_and_times_must_be_told(tmp_path: Path) -> None:
    bare = xarray.Dataset({"u": (("x", "y"), np.zeros((3, 4)))})
    with pytest.raises(SourceError, match="x is a dimension of space without coordinate variable"):
        open_source([write(bare, tmp_path / "bare.nc")], options={"space": ["x", "y"]})
    doubled = weather().assign_coords(time=("time", np.zeros(6), {"units": "hours since 1979-01-01"}))
    with pytest.raises(SourceError, match="time must increase strictly"):
        open_source([write(doubled, tmp_path / "doubled.nc")])


@pytest.mark.parametrize("keep", [100, 3000, -10])
def test_truncated_files_are_refused(keep: int, tmp_path: Path) -> None:
    path = write(weather(), tmp_path / "whole.nc", format="NETCDF4")
    cut = tmp_path / "cut.nc"
    cut.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceError, match=r"cut\.nc"):
        open_source([cut], "xarray")


def test_sources_pickle_and_read_the_same(tmp_path: Path) -> None:
    source = open_source([write(weather(), tmp_path / "era.nc")])
    before = source.read_frames(0, 1, 3)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read_frames(0, 1, 3), before)


def test_other_hdf5_files_are_not_taken_for_netcdf(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["tensor"] = np.zeros((2, 3, 4), dtype="float32")
    assert not XarraySource.recognises(tmp_path / "plain.h5")
    assert not XarraySource.recognises(tmp_path)


@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_of_either_version_reads_as_the_file_it_was_made_from(
    tmp_path: Path, zarr_format: int, consolidated: bool
) -> None:
    data, path = weather(), tmp_path / "era.zarr"
    with warnings.catch_warnings():
        # Consolidated metadata of version 3 are no part of the format yet, as zarr says.
        warnings.simplefilter("ignore")
        data.to_zarr(path, zarr_format=zarr_format, consolidated=consolidated)
    source, same = open_source([path]), open_source([write(data, tmp_path / "era.nc")])
    assert isinstance(source, XarraySource)
    # Groups of Zarr list their arrays in no order of their own: fields stand in that of their names.
    assert source.fields == same.fields[::-1]
    assert (source.axes, source.time_unit) == (same.axes, same.time_unit)
    np.testing.assert_array_equal(source.read_frames(0, 1, 5), same.read_frames(0, 1, 5)[:, ::-1])
    assert pickle.loads(pickle.dumps(source)).read_frames(0, 0, 1).shape == (1, 2, 16, 9)


def reanalysis() -> xarray.Dataset:
    """Return fields on levels and at the surface, with names that speak for themselves, as WeatherBench has them."""
    random = np.random.default_rng(5)
    shape = (4, 3, 12, 7)
    return xarray.Dataset(
        {
            "geopotential": (("time", "level", "longitude", "latitude"), random.normal(size=shape).astype("float32")),
            "2m_temperature": (("time", "longitude", "latitude"), random.normal(size=(4, 12, 7)).astype("float32")),
        },
        {
            "time": ("time", np.arange(4) * 6, {"units": "hours since 1959-01-01"}),
            "level": ("level", [50, 500, 850]),
            "longitude": np.arange(12) * 30.0,
            "latitude": np.linspace(-90, 90, 7),
        },
    )


def test_levels_become_components_or_an_axis(tmp_path: Path) -> None:
    data, path = reanalysis(), tmp_path / "wb.zarr"
    data.to_zarr(path, zarr_format=2)
    with pytest.raises(SourceError, match=r"what dimension 'level' of variable 'geopotential' means.*component="):
        open_source([path])
    source = open_source([path], options={"component": "level"})
    assert [field.name for field in source.fields] == ["var_2m_temperature", "geopotential"]
    assert "field var_2m_temperature is the variable 2m_temperature" in source.notes
    assert source.fields[1].channel_names == ("geopotential.50", "geopotential.500", "geopotential.850")
    assert [(axis.name, axis.kind, axis.unit, axis.periodic) for axis in source.axes] == [
        ("longitude", "longitude", "degrees", True),
        ("latitude", "latitude", "degrees", False),
    ]
    found = source.read_frames(0, 1, 3)
    np.testing.assert_array_equal(found[:, 1:], data["geopotential"].values[1:3])
    np.testing.assert_array_equal(found[:, 0], data["2m_temperature"].values[1:3])
    solid = {"space": ["level", "latitude", "longitude"], "variables": ["geopotential"]}
    volume = open_source([path], options=solid)
    assert [axis.name for axis in volume.axes] == ["longitude", "latitude", "level"]
    np.testing.assert_array_equal(
        volume.read_frames(0, 0, 4)[:, 0], data["geopotential"].transpose("time", "longitude", "latitude", "level")
    )
    with pytest.raises(SourceError, match=r"'2m_temperature' has dimensions.*not all of.*--option component=level"):
        open_source([path], options={"space": ["level", "latitude", "longitude"]})


def test_forecasts_of_an_ensemble_are_trajectories_over_both_dimensions(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    data = xarray.Dataset(
        {"t": (("number", "time", "step", "lat", "lon"), random.normal(size=(2, 3, 4, 9, 16)))},
        {
            **{name: weather()[name] for name in ("lat", "lon")},
            "number": ("number", [0, 7]),
            "time": ("time", [0.0, 24.0, 48.0], {"units": "hours since 2020-01-01"}),
            "step": ("step", [0.0, 6.0, 12.0, 18.0], {"units": "hours", "standard_name": "forecast_period"}),
        },
    )
    path = write(data, tmp_path / "forecasts.nc")
    with pytest.raises(SourceError, match=r"time may be any of time, step; say which.*--option trajectory="):
        open_source([path])
    source = open_source([path], options={"trajectory": ["number", "time"], "time": "step"})
    assert [dict(info.parameters) for info in source.trajectories[2:5]] == [
        {"number": 0.0, "time": 48.0},
        {"number": 7.0, "time": 0.0},
        {"number": 7.0, "time": 24.0},
    ]
    assert source.parameter_units == {"time": "hours since 2020-01-01"}
    expected = data["t"].isel(number=1, time=1, lat=slice(None, None, -1)).transpose("step", "lon", "lat").values
    np.testing.assert_array_equal(source.read_frames(4, 0, 4)[:, 0], expected)
    told = data.assign_coords(number=("number", [0, 7], {"standard_name": "realization"})).isel(time=0, drop=True)
    assert len(open_source([write(told, tmp_path / "told.nc")]).trajectories) == 2


def test_a_dimension_of_one_entry_is_left_out_with_a_note(tmp_path: Path) -> None:
    data = weather().expand_dims({"height": xarray.Variable("height", [2.0], {"units": "m", "positive": "up"})}, axis=1)
    source = open_source([write(data, tmp_path / "two_metres.nc")])
    assert [axis.name for axis in source.axes] == ["lon", "lat"]
    assert "dimension height has one entry, at 2.0, and is left out" in source.notes
    same = open_source([write(weather(), tmp_path / "flat.nc")])
    np.testing.assert_array_equal(source.read_frames(0, 0, 6), same.read_frames(0, 0, 6))


@pytest.mark.parametrize("shift", [-180.0, 0.0, 11.25])
@pytest.mark.parametrize("poles", [True, False])
def test_a_globe_has_the_area_of_a_sphere(tmp_path: Path, shift: float, poles: bool) -> None:
    latitudes = np.linspace(90, -90, 9) if poles else 90 - 22.5 * (np.arange(8) + 0.5)
    data = weather().isel(lat=slice(0, latitudes.size))
    data = data.assign_coords(
        lat=("lat", latitudes, data["lat"].attrs), lon=("lon", LONGITUDES + shift, data["lon"].attrs)
    )
    source = open_source([write(data, tmp_path / "globe.nc")])
    longitude, latitude = source.axes
    assert (longitude.kind, longitude.periodic, longitude.upper - longitude.lower) == ("longitude", True, 360.0)
    assert (latitude.kind, latitude.lower, latitude.upper) == ("latitude", -90.0, 90.0)
    area = grid_measures(source.read_coordinates(0), source.axes)
    assert area.sum() == pytest.approx(4 * np.pi, rel=1e-12)


def test_a_region_reaches_half_a_cell_beyond_its_nodes(tmp_path: Path) -> None:
    data = weather().isel(lat=slice(2, 5), lon=slice(3, 8))
    source = open_source([write(data, tmp_path / "region.nc")])
    longitude, latitude = source.axes
    assert (longitude.periodic, longitude.lower, longitude.upper) == (False, 56.25, 168.75)
    assert (latitude.lower, latitude.upper) == (-11.25, 56.25)
    area = grid_measures(source.read_coordinates(0), source.axes)
    expected = np.deg2rad(112.5) * (np.sin(np.deg2rad(56.25)) - np.sin(np.deg2rad(-11.25)))
    assert area.sum() == pytest.approx(expected, rel=1e-12)


def test_a_globe_that_stores_its_seam_twice_is_covered_once(tmp_path: Path) -> None:
    data = weather()
    closed = xarray.concat([data, data.isel(lon=[0]).assign_coords(lon=[360.0])], dim="lon", data_vars="all")
    closed["lon"].attrs.update(data["lon"].attrs)
    source = open_source([write(closed, tmp_path / "closed.nc")])
    assert (source.axes[0].periodic, source.axes[0].lower, source.axes[0].upper) == (False, 0.0, 360.0)
    area = grid_measures(source.read_coordinates(0), source.axes)
    assert area.sum() == pytest.approx(4 * np.pi, rel=1e-12)


def test_angles_that_are_none_are_refused(tmp_path: Path) -> None:
    steep = weather().assign_coords(lat=("lat", LATITUDES * 1.1, {"units": "degrees_north"}))
    with pytest.raises(SourceError, match=r"axis 'lat' is a latitude, and its nodes run from -99.*beyond -90 to 90"):
        open_source([write(steep, tmp_path / "steep.nc")])
    wide = weather().assign_coords(lon=("lon", LONGITUDES * 1.5, {"units": "degrees_east"}))
    with pytest.raises(SourceError, match=r"axis 'lon' is a longitude that runs from 0.0 to 506.25.*more than once"):
        open_source([write(wide, tmp_path / "wide.nc")])
