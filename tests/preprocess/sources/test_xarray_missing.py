"""Missing values of NetCDF, Zarr and GRIB: the declared are kept, the others are refused with their place."""

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import xarray
import zarr

import ups_data
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import Source, open_source
from preprocess.sources.xarray_files import XarraySource
from preprocess.validate import validate
from tests.preprocess.sources.grib_messages import read_messages, weather_grib, write_message
from tests.preprocess.sources.specimens import weather
from ups_data.errors import SourceError


def ocean() -> xarray.Dataset:
    """Return two fields over different masks, one of which moves in time, and one without any."""
    data = weather(4).drop_vars("orography")
    random = np.random.default_rng(3)
    for name in ("sst", "ice"):
        data[name] = (data["u10"].dims, random.normal(size=data["u10"].shape).astype("float32"))
    data["sst"][:, 3:5, 2:9] = np.nan
    for time in range(4):
        data["ice"][time, : 2 + time, 5:7] = np.nan
    return data


def expected(data: xarray.Dataset, names: tuple[str, ...]) -> np.ndarray:
    """Return the values as a source has them: (time, field, lon, lat), latitudes rising."""
    data = data.isel(lat=slice(None, None, -1))
    fields = [data[name].transpose("time", "lon", "lat") for name in names]
    return np.stack([field.values for field in fields], axis=1)


def check(source: Source, data: xarray.Dataset, *missing: str) -> None:
    assert source.missing_fields == set(missing)
    values = expected(data, tuple(field.name for field in source.fields))
    assert {field.name for field in source.fields} == set(data.data_vars)
    np.testing.assert_array_equal(source.read_frames(0, 0, 4), values)
    np.testing.assert_array_equal(source.read_frames(0, 2, 3), values[2:3])


SENTINELS = {
    "_FillValue": {"_FillValue": -1e34},
    "missing_value": {"missing_value": np.float32(-999.0), "_FillValue": None},
}


@pytest.mark.parametrize("way", SENTINELS)
@pytest.mark.parametrize("kind", ["nc", "nc3", "zarr2", "zarr3"])
def test_declared_values_are_missing_variable_by_variable_and_frame_by_frame(
    tmp_path: Path, kind: str, way: str
) -> None:
    data = ocean()
    encoding = {name: SENTINELS[way] if name != "u10" else {"_FillValue": None} for name in data.data_vars}
    if kind.startswith("nc"):
        path = tmp_path / "ocean.nc"
        data.to_netcdf(path, encoding=encoding, format="NETCDF3_CLASSIC" if kind == "nc3" else "NETCDF4")
    else:
        path = tmp_path / "ocean.zarr"
        data.to_zarr(path, encoding=encoding, zarr_format=int(kind[-1]), consolidated=kind == "zarr2")
    check(open_source([path]), data, "sst", "ice")


def test_a_variable_may_declare_two_values(tmp_path: Path) -> None:
    data, path = ocean(), tmp_path / "ocean.nc"
    data.drop_vars(["sst", "ice"]).to_netcdf(path, encoding={"u10": {"_FillValue": None}})
    with netCDF4.Dataset(path, "a") as file:
        for name in ("sst", "ice"):
            variable = file.createVariable(name, "f4", ("time", "lat", "lon"), fill_value=-1e34)
            variable.missing_value = np.float32(-999.0)
            values = data[name].values
            variable[:2] = np.nan_to_num(values[:2], nan=-1e34)
            variable[2:] = np.nan_to_num(values[2:], nan=-999.0)
    check(open_source([path]), data, "sst", "ice")


def test_packed_values_with_a_fill_value_are_unpacked_around_it(tmp_path: Path) -> None:
    data = ocean()[["sst"]]
    packing = {"sst": {"dtype": "int16", "scale_factor": 0.001, "add_offset": 1.0, "_FillValue": -32768}}
    path = tmp_path / "packed.nc"
    data.to_netcdf(path, encoding=packing)
    source = open_source([path])
    assert source.missing_fields == {"sst"}
    with xarray.open_dataset(path) as read:
        np.testing.assert_array_equal(source.read_frames(0, 0, 4), expected(read, ("sst",)))


@pytest.mark.parametrize("kind", ["nc", "zarr2", "zarr3"])
def test_a_gap_that_nothing_declares_is_refused_with_its_place_and_the_way_out(tmp_path: Path, kind: str) -> None:
    data = weather(4).drop_vars("orography")
    data["u10"][2, 3, 5] = np.nan
    path = tmp_path / f"gap.{kind}"
    # Of itself xarray writes a fill value of NaN, which says nothing about the values.
    data.to_netcdf(path) if kind == "nc" else data.to_zarr(path, zarr_format=int(kind[-1]), consolidated=False)
    source = open_source([path])
    assert not source.missing_fields
    place = r"u10 holds at frame 2, lat 22.5, lon 112.5 a value that is missing.*--option 'missing=\[u10\]'"
    with pytest.raises(SourceError, match=place):
        source.read_frames(0, 1, 4)
    source.read_frames(0, 0, 2)
    told = open_source([path], options={"missing": ["u10"]})
    assert told.missing_fields == {"u10"}
    assert np.argwhere(np.isnan(told.read_frames(0, 0, 4))).tolist() == [[2, 0, 5, 5]]
    with pytest.raises(SourceError, match=r"option missing names 'u11'. Did you mean 'u10'"):
        open_source([path], options={"missing": ["u11"]})


RANGES: list[dict[str, Any]] = [{"valid_min": -2.0, "valid_max": 2.0}, {"valid_range": [-2.0, 2.0]}]


@pytest.mark.parametrize("attributes", RANGES)
def test_values_out_of_the_valid_range_are_refused_or_missing_as_told(
    tmp_path: Path, attributes: dict[str, Any]
) -> None:
    data = weather(4).drop_vars("orography")
    data["u10"][:] = np.clip(data["u10"], -1.9, 1.9)
    data["u10"].attrs |= attributes
    data.to_netcdf(tmp_path / "inside.nc")
    np.testing.assert_array_equal(open_source([tmp_path / "inside.nc"]).read_frames(0, 0, 4), expected(data, ("u10",)))
    data["u10"][1, 8, 0] = 7.0
    data.to_netcdf(tmp_path / "outside.nc")
    with pytest.raises(SourceError, match=r"frame 1, lat -90, lon 0 .* outside of the valid range -2 to 2"):
        open_source([tmp_path / "outside.nc"]).read_frames(0, 0, 4)
    told = open_source([tmp_path / "outside.nc"], options={"missing": ["u10"]})
    assert np.argwhere(np.isnan(told.read_frames(0, 0, 4))).tolist() == [[1, 0, 0, 0]]


def test_a_valid_range_is_packed_as_the_values_are(tmp_path: Path) -> None:
    data = weather(4).drop_vars("orography")
    path = tmp_path / "packed.nc"
    data.to_netcdf(
        path, encoding={"u10": {"dtype": "int16", "scale_factor": 0.01, "add_offset": 5.0, "_FillValue": -1}}
    )
    with netCDF4.Dataset(path, "a") as file:
        file["u10"].set_auto_maskandscale(False)
        file["u10"].valid_range = np.array([-1500, 1500], dtype="i2")
    open_source([path]).read_frames(0, 0, 4)
    with netCDF4.Dataset(path, "a") as file:
        file["u10"].valid_range = np.array([-500, 500], dtype="i2")
    with pytest.raises(SourceError, match=r"outside of the valid range -0.005 to 10.005"):
        open_source([path]).read_frames(0, 0, 4)


def test_frames_that_were_never_written_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.nc"
    weather(3).to_netcdf(path, unlimited_dims=["time"], encoding={"u10": {"_FillValue": None}})
    with netCDF4.Dataset(path, "a") as file:
        file["time"][3] = 18.0
    source = open_source([path])
    with pytest.raises(SourceError, match="frame 3, lat -90, lon 0 a value that was never written: the file"):
        source.read_frames(0, 0, 4)


def test_zeros_of_zarr_are_numbers_though_its_fill_value_is_zero(tmp_path: Path) -> None:
    data = weather(4).drop_vars("orography")
    data["u10"][:, 2] = 0.0
    path = tmp_path / "zeros.zarr"
    data.to_zarr(path, zarr_format=2, consolidated=False, encoding={"u10": {"_FillValue": 0.0}})
    with xarray.open_zarr(path, consolidated=False) as masked:
        assert np.isnan(masked["u10"].values).any()
    source = open_source([path])
    assert not source.missing_fields
    np.testing.assert_array_equal(source.read_frames(0, 0, 4), expected(data, ("u10",)))


def test_chunks_of_zarr_that_are_not_stored_are_noted(tmp_path: Path) -> None:
    data = weather(4).drop_vars("orography")
    path = tmp_path / "holes.zarr"
    data.to_zarr(path, zarr_format=3, consolidated=False, encoding={"u10": {"chunks": (1, 9, 16)}})
    (path / "u10" / "c" / "2" / "0" / "0").unlink()
    source = open_source([path])
    assert any("zarr: u10: 1 of 4 chunks are not stored" in note for note in source.notes)
    with pytest.raises(SourceError, match="frame 2, lat -90, lon 0 a value that is missing"):
        source.read_frames(0, 0, 4)


def test_zarr_with_a_codec_that_is_not_on_the_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pickled.zarr"
    weather(4).to_zarr(path, zarr_format=2, consolidated=True)
    metadata = path / "u10" / ".zarray"
    metadata.write_text(metadata.read_text().replace('"filters": null', '"filters": [{"id": "pickle"}]'))
    with pytest.raises(SourceError, match=r"pickled.zarr: u10 has the codec 'pickle'; only these are run"):
        open_source([path])


# -- GRIB ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_grib_messages_are_read_as_eccodes_reads_them(tmp_path: Path, masked: bool) -> None:
    path = weather_grib(tmp_path / "weather.grib2", masked=masked)
    messages = np.stack(read_messages(path)).reshape(3, 2, 2, 5, 8)
    source = open_source([path])
    assert [(axis.name, axis.kind, axis.periodic) for axis in source.axes] == [
        ("longitude", "longitude", True),
        ("latitude", "latitude", False),
        ("isobaricInhPa", "linear", False),
    ]
    assert source.missing_fields == ({"t"} if masked else set())
    # Time, variable, level, latitude, longitude; pressures fall in the file as latitudes do.
    frames = messages[..., ::-1, :].transpose(0, 1, 4, 3, 2).astype("float32")
    np.testing.assert_array_equal(source.read_frames(0, 0, 3), frames)
    assert source.read_coordinates(0)[2].tolist() == [500.0, 850.0]
    assert source.time_unit == "seconds since 1970-01-01T00:00:00"
    levels = open_source([path], options={"component": "isobaricInhPa"})
    assert levels.fields[0].components == ("850", "500")
    np.testing.assert_array_equal(levels.read_frames(0, 1, 2)[0, 2], frames[1, 1, :, :, 1])
    assert not list(tmp_path.glob("*.idx"))


def test_a_message_that_is_not_there_is_no_missing_value(tmp_path: Path) -> None:
    path = tmp_path / "holes.grib2"
    values = np.arange(40.0).reshape(5, 8)
    values[0, 0] = np.nan
    with path.open("wb") as file:
        for time, level in ((0, 500), (0, 850), (600, 850)):
            write_message(file, values, shortName="t", level=level, dataTime=time)
    with pytest.raises(
        SourceError, match=r"t holds at frame 1, isobaricInhPa 500, .*belongs to no message of the file"
    ):
        open_source([path]).read_frames(0, 0, 2)


def test_messages_that_make_no_grid_are_refused_with_the_option_that_chooses(tmp_path: Path) -> None:
    path = tmp_path / "mixed.grib2"
    with path.open("wb") as file:
        for name, times in (("t", (0, 600)), ("u", (0,))):
            for time in times:
                write_message(file, np.ones((5, 8)), shortName=name, level=500, dataTime=time)
    with pytest.raises(SourceError, match=r"mixed.grib2 cannot be read as GRIB.*--option 'grib_keys=\{"):
        open_source([path])
    chosen = open_source([path], options={"grib_keys": {"shortName": "t"}})
    assert [field.name for field in chosen.fields] == ["t"]


@pytest.mark.parametrize("kept", [4, 40, 100, 0.4, 0.97])
def test_grib_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    content = weather_grib(tmp_path / "whole.grib2").read_bytes()
    path = tmp_path / "cut.grib2"
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(SourceError, match=r"cut\.grib2"):
        open_source([path]).read_frames(0, 0, 3)


def test_stores_of_ours_and_other_groups_of_zarr_are_not_taken_for_sources(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "bare.zarr", mode="w")
    group.create_array("u", shape=(2, 3), dtype="f4")
    assert not XarraySource.recognises(tmp_path / "bare.zarr")


# -- stores of them --------------------------------------------------------------------------------------------------


def check_store(source: Source, folder: Path) -> None:
    """Hold every frame of a store against its source, missing values too."""
    settings = ConvertSettings(splits={"train": 1.0})
    manifest = convert(source, folder / "store", settings)
    assert set(manifest.missing_fields) == source.missing_fields
    store, info = ups_data.open_store(folder / "store"), source.trajectories[0]
    frames = source.read_frames(0, 0, info.num_frames)
    np.testing.assert_array_equal(store.read_dense(0, range(info.num_frames)), frames.reshape(*frames.shape[:2], -1))
    for channel, record in zip(frames.swapaxes(0, 1), manifest.statistics, strict=True):
        there = channel[~np.isnan(channel)].astype("float64")
        assert record.count == there.size
        np.testing.assert_allclose([record.mean, record.std, record.max], [there.mean(), there.std(), there.max()])
    assert validate(folder / "store").ok


def test_a_store_of_an_ocean_has_the_values_and_the_gaps_of_the_file(tmp_path: Path) -> None:
    encoding = {name: {"_FillValue": -1e34} for name in ("sst", "ice")} | {"u10": {"_FillValue": None}}
    ocean().to_netcdf(tmp_path / "ocean.nc", encoding=encoding)
    check_store(open_source([tmp_path / "ocean.nc"]), tmp_path)


def test_a_store_of_grib_has_the_values_and_the_bitmap_of_the_messages(tmp_path: Path) -> None:
    path = weather_grib(tmp_path / "weather.grib2", masked=True)
    check_store(open_source([path], options={"component": "isobaricInhPa"}), tmp_path)
