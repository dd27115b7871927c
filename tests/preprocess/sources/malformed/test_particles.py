"""Malformed runs of particles: arrays, times, attributes, values that are no field's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.preprocess.sources.malformed.spoiling import AXIS, NUMPY_ANY, check_refused, cut_chunk
from tests.preprocess.sources.test_particles import arrays_of
from tests.preprocess.sources.test_particles import write as write_particles


@pytest.mark.parametrize("way", [way for way in NUMPY_ANY if way != "objects"])
@pytest.mark.parametrize("name", ["positions", "velocities", "time"])
def test_a_spoilt_array_of_particles_is_refused(tmp_path: Path, name: str, way: str) -> None:
    arrays = arrays_of()
    arrays[name] = NUMPY_ANY[way](arrays[name])
    check_refused(write_particles(tmp_path / "run.zarr", arrays, 2), "particles", None, "run.zarr", name)


@pytest.mark.parametrize("way", AXIS)
def test_spoilt_times_of_particles_are_refused(tmp_path: Path, way: str) -> None:
    path = write_particles(tmp_path / "run.zarr", {**arrays_of(), "time": AXIS[way](np.arange(1.0, 6.0))})
    check_refused(path, "particles", None, "run.zarr", "time")


@pytest.mark.parametrize("kept", [0, 3, 0.5])
@pytest.mark.parametrize("name", ["positions", "velocities", "density", "time"])
def test_particles_cut_short_are_refused(tmp_path: Path, name: str, kept: float) -> None:
    path = write_particles(tmp_path / "run.zarr", arrays_of(), 2)
    cut_chunk(path / name, kept)
    check_refused(path, "particles", None, "run.zarr", name)


@pytest.mark.parametrize("name", ["positions", "time"])
def test_particles_that_lack_an_array_are_refused(tmp_path: Path, name: str) -> None:
    arrays = arrays_of()
    del arrays[name]
    check_refused(write_particles(tmp_path / "run.zarr", arrays, 2), "particles", None, "run.zarr", name)


@pytest.mark.parametrize("value", ["seven", [1.0, 2.0], {}, "nan"], ids=str)
@pytest.mark.parametrize("attribute", ["radius", "dt"])
def test_a_spoilt_attribute_of_particles_is_refused(tmp_path: Path, attribute: str, value: Any) -> None:
    arrays = arrays_of()
    del arrays["time"]
    path = write_particles(tmp_path / "run.zarr", arrays, 2, **{"dt": 0.1, attribute: value})
    check_refused(path, "particles", None, "run.zarr", attribute)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("name", ["positions", "velocities", "density"])
def test_a_value_of_particles_that_is_no_field_s_is_refused(tmp_path: Path, name: str, value: float) -> None:
    arrays = {key: values.astype("f8") if values.dtype.kind == "f" else values for key, values in arrays_of().items()}
    arrays[name].reshape(-1)[-1] = value
    told = {"positions": "position", "velocities": "velocity.z"}.get(name, name)
    check_refused(write_particles(tmp_path / "run.zarr", arrays, 2), "particles", None, "run", told)
