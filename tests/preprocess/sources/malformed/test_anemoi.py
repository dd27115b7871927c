"""Malformed data sets of anemoi: arrays, dates, attributes, chunks cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from tests.preprocess.sources import test_anemoi as anemoi
from tests.preprocess.sources.malformed.spoiling import AXIS, NUMPY_ANY, as_stored, check_refused, cut_chunk

ANEMOI = ("data", "dates", "latitudes", "longitudes")


@pytest.mark.parametrize("way", ["missing", *(way for way in NUMPY_ANY if way != "objects")])
@pytest.mark.parametrize("name", [*ANEMOI, "has_nans"])
def test_a_spoilt_array_of_anemoi_is_refused(tmp_path: Path, name: str, way: str) -> None:
    anemoi.write(tmp_path / "sound.zarr")
    values = np.asarray(zarr.open_array(tmp_path / "sound.zarr" / name, mode="r")[...])
    anemoi.write(tmp_path / "a.zarr", **{name: None if way == "missing" else as_stored(NUMPY_ANY[way](values))})
    # Where nothing tells of gaps, they are values that are not finite.
    told = "sst" if (name, way) == ("has_nans", "missing") else name
    check_refused(tmp_path / "a.zarr", "anemoi", None, "a.zarr", told)


@pytest.mark.parametrize("way", ["repeated", "falling"])
def test_spoilt_dates_of_anemoi_are_refused(tmp_path: Path, way: str) -> None:
    anemoi.write(tmp_path / "a.zarr", dates=AXIS[way](anemoi.DATES).copy())
    check_refused(tmp_path / "a.zarr", "anemoi", None, "a.zarr", "dates")


@pytest.mark.parametrize("kept", [0, 3, 0.5])
@pytest.mark.parametrize("name", ANEMOI)
def test_anemoi_cut_short_is_refused(tmp_path: Path, name: str, kept: float) -> None:
    anemoi.write(tmp_path / "a.zarr")
    cut_chunk(tmp_path / "a.zarr" / name, kept)
    check_refused(tmp_path / "a.zarr", "anemoi", None, "a.zarr", name)


@pytest.mark.parametrize("value", [7, "x", {"a": 1}, [1, 2, 3]], ids=str)
@pytest.mark.parametrize("attribute", ["variables", "missing_dates"])
def test_a_spoilt_attribute_of_anemoi_is_refused(tmp_path: Path, attribute: str, value: Any) -> None:
    anemoi.write(tmp_path / "a.zarr", attributes={attribute: value})
    check_refused(tmp_path / "a.zarr", "anemoi", None, "a.zarr", attribute)
