"""NetCDF files as xarray and the NetCDF library write them."""

import pickle
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
        open_source([cut], "netcdf")


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
