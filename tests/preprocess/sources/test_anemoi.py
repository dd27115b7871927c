"""Gridded data sets of anemoi: variables, members and dates come out as they are, missing dates cut the series."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from preprocess.sources import open_source
from preprocess.sources.anemoi import AnemoiSource
from ups_data.errors import SourceError

VARIABLES = ["2t", "q_850", "sst"]
DATES = np.datetime64("2020-01-01T00:00:00", "s") + 21600 * np.arange(7)


def write(path: Path, *, zarr_format: Any = 2, attributes: dict[str, Any] | None = None, **arrays: Any) -> np.ndarray:
    """Write seven dates of three variables, two members and 30 cells; the last variable has gaps. Return the data."""
    random = np.random.default_rng(0)
    data = random.normal(size=(7, 3, 2, 30)).astype("float32")
    data[:, 2, :, 5:9] = np.nan
    content = {
        "data": data,
        "dates": DATES,
        "latitudes": random.uniform(-90, 90, 30),
        "longitudes": random.uniform(0, 360, 30),
        "has_nans": np.array([False, False, True]),
        "mean": np.zeros(3),
        **arrays,
    }
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for name, values in content.items():
        if values is not None:
            chunks = (1, *values.shape[1:]) if name == "data" else values.shape
            array = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)
            array[...] = values
            array.attrs["_ARRAY_DIMENSIONS"] = [f"{name}{axis}" for axis in range(values.ndim)]
    group.attrs.update({"variables": VARIABLES, "missing_dates": [], "frequency": "6h", **(attributes or {})})
    return data


def test_members_are_trajectories_and_cells_points(tmp_path: Path) -> None:
    path = tmp_path / "era5-o96.zarr"
    data = write(path, attributes={"variables_metadata": {"2t": {"units": "K"}}})
    source = open_source([path])
    assert isinstance(source, AnemoiSource)
    assert [(field.name, field.unit) for field in source.fields] == [("var_2t", "K"), ("q_850", None), ("sst", None)]
    assert "field var_2t is the variable 2t" in source.notes
    assert source.missing_fields == {"sst"}
    assert [dict(info.parameters) for info in source.trajectories] == [{"member": 0.0}, {"member": 1.0}]
    np.testing.assert_array_equal(source.trajectories[0].times, DATES.astype("int64"))
    assert [(axis.name, axis.kind, axis.periodic) for axis in source.axes] == [
        ("longitude", "longitude", False),
        ("latitude", "latitude", False),
    ]
    group = zarr.open_group(path, mode="r")
    (points,) = source.read_coordinates(0)
    np.testing.assert_array_equal(points, np.stack([group["longitudes"][:], group["latitudes"][:]], axis=1))
    for member in range(2):
        np.testing.assert_array_equal(source.read_frames(member, 2, 5), data[2:5, :, member])
    some = open_source([path], options={"variables": ["sst", "2t"]})
    np.testing.assert_array_equal(some.read_frames(1, 0, 7), data[:, [2, 0], 1])
    assert pickle.loads(pickle.dumps(source)).read_frames(1, 0, 1).shape == (1, 3, 30)


def test_missing_dates_cut_the_series_and_are_never_read(tmp_path: Path) -> None:
    path = tmp_path / "gaps.zarr"
    data = write(path, attributes={"missing_dates": ["2020-01-01T12:00:00", "2020-01-02T12:00:00"]})
    group = zarr.open_group(path, mode="r+")
    group["data"][2] = np.nan
    group["data"][6] = np.nan
    source = open_source([path])
    assert [info.times.size for info in source.trajectories] == [2, 3, 2, 3]
    np.testing.assert_array_equal(source.trajectories[1].times, DATES[3:6].astype("int64"))
    np.testing.assert_array_equal(source.read_frames(3, 0, 3), data[3:6, :, 1])
    assert "2 missing dates were left out; the series is cut into trajectories at each" in source.notes
    short = open_source([path], options={"frames_per_trajectory": 2})
    assert [info.times.size for info in short.trajectories] == [2, 2, 1, 2, 2, 1]


def test_gaps_may_be_declared_by_the_user(tmp_path: Path) -> None:
    write(tmp_path / "untold.zarr", has_nans=None)
    assert not open_source([tmp_path / "untold.zarr"]).missing_fields
    assert open_source([tmp_path / "untold.zarr"], options={"missing": ["sst"]}).missing_fields == {"sst"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attributes": {"layout": "tabular"}}, "has the layout 'tabular'; only 'gridded' is read"),
        ({"attributes": {"variables": ["2t"]}}, r"data has shape \(7, 3, 2, 30\); \(dates, 1 variables"),
        ({"attributes": {"variables": "2t"}}, "attribute variables is '2t'; a list of names is wanted"),
        ({"attributes": {"missing_dates": ["then"]}}, "attribute missing_dates is .*; a list of dates is wanted"),
        ({"latitudes": np.zeros(29)}, r"latitudes has shape \(29,\), data has 30 cells"),
        ({"longitudes": np.full(30, np.nan)}, "longitudes holds nan at 0; it must be finite"),
        ({"latitudes": np.linspace(-100, 90, 30)}, "axis 'latitude' is a latitude, and its nodes run from -100"),
        ({"dates": np.arange(7)}, "dates has type int64"),
        ({"dates": DATES[::-1].copy()}, "dates must increase strictly, but entry 1 does not"),
        ({"dates": DATES[:6]}, "dates has 6 entries, data 7"),
        ({"has_nans": np.zeros(2, dtype=bool)}, r"has_nans has shape \(2,\) for 3 variables"),
    ],
)
def test_what_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write(tmp_path / "bad.zarr", **changes)
    with pytest.raises(SourceError, match=message):
        open_source([tmp_path / "bad.zarr"])


def test_what_is_not_finished_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "building.zarr"
    write(path)
    zarr.open_group(path, mode="r+").create_group("_build")
    with pytest.raises(SourceError, match="is under construction: it holds the group _build"):
        open_source([path])
    write(tmp_path / "whole.zarr")
    with pytest.raises(SourceError, match=r"has no variable '3t'. Did you mean '2t'"):
        open_source([tmp_path / "whole.zarr"], options={"variables": ["3t"]})
    with pytest.raises(SourceError, match="2 paths were given for format 'anemoi'"):
        open_source([tmp_path / "whole.zarr", path], "anemoi")
