"""PDEArena's shallow water, joined and written as its own script does it: by xarray, along b."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray

from preprocess.sources import open_source
from preprocess.sources.pdearena_shallow_water import ShallowWaterSource
from ups_data.coordinates import grid_measures
from ups_data.errors import SourceError, UnknownFormatError

LATITUDES = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(8)[0]))[::-1].astype("float32")
NAMES = {"u": "zonal wind", "v": "meridional wind", "vor": "relative vorticity", "pres": "interface displacement"}


def write_run(folder: Path, seed: int) -> Path:
    """Write one run as SpeedyWeather.jl does: hours since its start, one level, a fill value."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    variables = {}
    for name, long_name in NAMES.items():
        dims = ("time", "lat", "lon") if name == "pres" else ("time", "lev", "lat", "lon")
        shape = (5, 8, 16) if name == "pres" else (5, 1, 8, 16)
        unit = {"vor": "1/s", "pres": "m"}.get(name, "m/s")
        variables[name] = (dims, random.normal(size=shape).astype("f4"), {"long_name": long_name, "units": unit})
    coordinates = {
        "time": ("time", np.arange(5, dtype="i4") * 6, {"units": "hours since 2000-01-01 00:00:0.0"}),
        "lev": ("lev", np.ones(1, dtype="i4"), {"units": "1", "long_name": "vertical model levels"}),
        "lat": ("lat", LATITUDES, {"units": "degrees_north"}),
        "lon": ("lon", np.arange(16, dtype="f4") * 22.5, {"units": "degrees_east"}),
    }
    path = folder / "output.nc"
    encoding = {name: {"_FillValue": np.float32(-999999.0)} for name in NAMES}
    xarray.Dataset(variables, coordinates).to_netcdf(path, encoding=encoding, unlimited_dims=["time"])
    return path


def collect(root: Path, split: str, *seeds: int) -> xarray.Dataset:
    """Join the runs of a split as PDEArena's `collect_data2zarr` does, which has dask do it."""
    runs = [write_run(root / split / f"seed={seed}" / "run_0001", seed) for seed in seeds]
    data = xarray.concat(
        [xarray.load_dataset(run) for run in runs], dim="b", data_vars="all", coords="minimal", compat="override"
    )
    data.to_zarr(root / f"{split}.zarr", zarr_format=2)
    return data


@pytest.fixture
def splits(tmp_path: Path) -> dict[str, xarray.Dataset]:
    return {"train": collect(tmp_path, "train", 1, 2, 3), "valid": collect(tmp_path, "valid", 4)}


def test_runs_are_trajectories_and_values_are_those_of_the_files(
    tmp_path: Path, splits: dict[str, xarray.Dataset]
) -> None:
    source = open_source([tmp_path / "train.zarr", tmp_path / "valid.zarr"])
    assert isinstance(source, ShallowWaterSource)
    assert [info.split for info in source.trajectories] == ["train"] * 3 + ["valid"]
    assert [(field.name, field.unit) for field in source.fields] == [
        ("pres", "m"),
        ("u", "m/s"),
        ("v", "m/s"),
        ("vor", "1/s"),
    ]
    assert source.time_unit is not None
    assert source.time_unit.startswith("hours since 2000-01-01")
    assert [(axis.kind, axis.periodic) for axis in source.axes] == [("longitude", True), ("latitude", False)]
    assert grid_measures(source.read_coordinates(0), source.axes).sum() == pytest.approx(4 * np.pi, rel=1e-6)
    for number, (split, row) in enumerate((("train", 0), ("train", 1), ("train", 2), ("valid", 0))):
        found = source.read_frames(number, 1, 5)
        for channel, name in enumerate(sorted(NAMES)):
            values = splits[split][name].isel(b=row, time=slice(1, 5), lat=slice(None, None, -1))
            values = values.squeeze("lev") if "lev" in values.dims else values
            np.testing.assert_array_equal(found[:, channel], values.transpose("time", "lon", "lat").values)
    assert "dimension lev has one entry, at 1, and is left out" in source.notes
    assert pickle.loads(pickle.dumps(source)).read_frames(3, 0, 1).shape == (1, 4, 16, 8)


def test_the_folder_of_the_splits_is_a_data_set(tmp_path: Path, splits: dict[str, xarray.Dataset]) -> None:
    source = open_source([tmp_path])
    assert [info.split for info in source.trajectories] == ["train"] * 3 + ["valid"]
    assert [path.name for path in source.paths] == ["train.zarr", "valid.zarr"]


def test_one_run_alone_is_one_trajectory(tmp_path: Path) -> None:
    with xarray.open_dataset(write_run(tmp_path / "seed=1", 1), decode_times=False) as run:
        run.to_zarr(tmp_path / "one.zarr", zarr_format=2)
    source = open_source([tmp_path / "one.zarr"])
    assert [info.split for info in source.trajectories] == [None]
    # The files of SpeedyWeather are general ones.
    same = open_source([tmp_path / "seed=1" / "output.nc"])
    assert same.format == "xarray"
    order = [[field.name for field in same.fields].index(field.name) for field in source.fields]
    np.testing.assert_array_equal(source.read_frames(0, 0, 5), same.read_frames(0, 0, 5)[:, order])


def test_what_is_something_else_is_refused(tmp_path: Path) -> None:
    with xarray.open_dataset(write_run(tmp_path / "seed=1", 1), decode_times=False) as run:
        run.drop_vars("vor").to_zarr(tmp_path / "less.zarr", zarr_format=2)
        run.drop_vars("lon").to_zarr(tmp_path / "bare.zarr", zarr_format=2)
    with pytest.raises(UnknownFormatError, match=r"less.zarr is no Zarr group with u, v, vor, pres"):
        open_source([tmp_path / "less.zarr"], "pdearena_shallow_water")
    with pytest.raises(SourceError, match=r"bare.zarr: what dimension 'lon' .* means is not told"):
        open_source([tmp_path / "bare.zarr"])
