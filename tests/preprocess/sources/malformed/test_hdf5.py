"""Malformed files of PDEBench, The Well and PDEArena: every data set and every attribute spoilt, files cut short."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.preprocess.sources.malformed.spoiling import (
    ANY,
    AXIS,
    Spoil,
    check_refused,
    cut_file,
    read_all,
    replace_dataset,
)
from tests.preprocess.sources.specimens import HDF5_SPECIMENS, well_specimen

AXES = {"time", "x", "y", "t", "x-coordinate", "y-coordinate", "t-coordinate"}
UNREAD = {"train/dt", "train/dx", "train/dy"}
"""Of Navier-Stokes files: they restate what `t`, `x` and `y` tell."""
OPTIONAL = {"train/buo_y", "train/v", "boundary_conditions/x_periodic/mask", "boundary_conditions/y_wall/mask"}
"""Files without them are sound."""


def dataset_cases() -> list[Any]:
    cases = []
    for name, specimen in HDF5_SPECIMENS.items():
        for item in specimen.datasets:
            if name == "smoke" and item in UNREAD:
                continue
            ways = {**ANY, **(AXIS if item.rpartition("/")[2] in AXES else {})}
            if item in OPTIONAL:
                del ways["missing"]
            cases += [pytest.param(name, item, spoil, id=f"{name}-{item}-{way}") for way, spoil in ways.items()]
    return cases


@pytest.mark.parametrize("name", HDF5_SPECIMENS)
def test_the_specimens_themselves_convert(tmp_path: Path, name: str) -> None:
    specimen = HDF5_SPECIMENS[name]
    read_all(specimen.write(tmp_path), specimen.format, specimen.options)
    assert (tmp_path / "store" / "manifest.json").exists()


@pytest.mark.parametrize(("name", "item", "spoil"), dataset_cases())
def test_a_spoilt_data_set_is_refused(tmp_path: Path, name: str, item: str, spoil: Spoil) -> None:
    specimen = copy.deepcopy(HDF5_SPECIMENS[name])
    values = spoil(specimen.datasets.pop(item))
    attributes = specimen.attributes.pop(item, {})
    path = specimen.write(tmp_path)
    if values is not None:
        replace_dataset(path, item, values, attributes)
    # The name of this one tells its size; without it, the kind of name is told.
    told = "pde_" if values is None and "pde_" in item else item.rpartition("/")[2]
    check_refused(path, specimen.format, specimen.options, specimen.name, told)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("name", HDF5_SPECIMENS)
def test_a_value_that_is_no_field_s_is_refused(tmp_path: Path, name: str, value: float) -> None:
    specimen = copy.deepcopy(HDF5_SPECIMENS[name])
    item = max(specimen.datasets, key=lambda key: specimen.datasets[key].size)
    # All in float64: the data sets of one kind must have one type, and float32 holds no 1e200.
    specimen.datasets = {key: values.astype("f8") for key, values in specimen.datasets.items()}
    specimen.datasets[item][(-1,) * specimen.datasets[item].ndim] = value
    check_refused(specimen.write(tmp_path), specimen.format, specimen.options, specimen.name, "holds", "point (")


@pytest.mark.parametrize("kept", [0, 8, 100, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", HDF5_SPECIMENS)
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str, kept: float) -> None:
    specimen = HDF5_SPECIMENS[name]
    path = specimen.write(tmp_path)
    cut_file(path, kept)
    check_refused(path, specimen.format, specimen.options, specimen.name)


VALUES = {"missing": None, "text": "seven", "number": 7.5, "empty": h5py.Empty("f4")}
UNTOLD = {"symmetric", "antisymmetric", "viscosity"}
"""Attributes that only tell what the numbers are like, or that a scalar tells too."""
ANY_TEXT = {"dataset_name", "bc_type"}


def attribute_cases() -> list[Any]:
    """Return every attribute of a file of The Well, without those of the axes, which have defaults."""
    return [
        pytest.param(item, attribute, value, id=f"{item}-{attribute}-{way}")
        for item, content in well_specimen().attributes.items()
        for attribute in content
        for way, value in VALUES.items()
        if not item.startswith("dimensions/") and attribute not in UNTOLD
        if way != "text" or attribute not in ANY_TEXT
    ]


@pytest.mark.parametrize(("item", "attribute", "value"), attribute_cases())
def test_a_spoilt_attribute_of_the_well_is_refused(tmp_path: Path, item: str, attribute: str, value: Any) -> None:
    specimen = well_specimen()
    del specimen.attributes[item][attribute]
    if value is not None:
        specimen.attributes[item][attribute] = value
    named = attribute if item == "/" else item.rpartition("/")[2]
    check_refused(specimen.write(tmp_path), "the_well", None, specimen.name, named)


PARAMETERS = [("scalar", "Nu"), ("darcy", "beta"), ("flow", "eta"), ("flow", "M")]


@pytest.mark.parametrize("value", ["seven", h5py.Empty("f4"), np.nan, [1.0, 2.0, 3.0]], ids=str)
@pytest.mark.parametrize(("name", "attribute"), PARAMETERS)
def test_a_spoilt_parameter_of_pdebench_is_refused(tmp_path: Path, name: str, attribute: str, value: Any) -> None:
    specimen = copy.deepcopy(HDF5_SPECIMENS[name])
    specimen.attributes["/"][attribute] = value
    check_refused(specimen.write(tmp_path), "pdebench", None, specimen.name, attribute)


@pytest.mark.parametrize("value", [7.5, h5py.Empty("f4"), "sim: [1", "sim: !!python/object:os.system {}"], ids=str)
@pytest.mark.parametrize(("name", "item"), [("incompressible", "/"), ("grouped", "0001")])
def test_a_spoilt_configuration_of_pdebench_is_refused(tmp_path: Path, name: str, item: str, value: Any) -> None:
    specimen = copy.deepcopy(HDF5_SPECIMENS[name])
    specimen.attributes[item]["config"] = value
    check_refused(specimen.write(tmp_path), "pdebench", None, specimen.name, "config")


@pytest.mark.parametrize("value", [None, "sim: 7", "seven"])
def test_a_group_of_pdebench_with_other_parameters_is_refused(tmp_path: Path, value: str | None) -> None:
    specimen = copy.deepcopy(HDF5_SPECIMENS["grouped"])
    specimen.attributes["0001"] = {} if value is None else {"config": value}
    check_refused(specimen.write(tmp_path), "pdebench", None, specimen.name, "0001")
