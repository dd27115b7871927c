"""Malformed sources, generated from sound ones of every format: each refused with a typed error that names its place.

A case is a specimen, an item in it (a data set, an attribute, an array, a file) and one way to spoil that item. Before
it is spoilt, a specimen converts: so what is refused is the damage. Each file beside this one has the cases of a family
of formats; here is what they share.

What is spoilt, by format ("-" where the format has no such thing):

    damage               PDEBench, The Well, PDEArena  arrays  torch  NetCDF, Zarr  anemoi  particles  meshes  VTK  cars
    cut short            all                           all     all    all, GRIB     all     all        all     all  all
    missing item         data sets, attributes         all     all    all           all     all        all     all  all
    wrong rank, text     all                           all     all    all           all     all        all     all  all
    ragged, empty        all                           HDF5    all    damaged file  -       -          -       -    -
    zero-length          all                           all     all    all           all     all        all     all  all
    axes or times that
    repeat, fall, or
    are not finite       all                           all     -      all           all     all        all     PVD  -

Files of the other byte order are no damage: see `test_byte_order`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray

from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from ups_data.errors import UpsDataError

Spoil = Callable[[np.ndarray], Any]


class Ragged(list):
    """Rows of unequal length, which HDF5 stores with a type of variable length."""


ANY: dict[str, Spoil] = {
    "missing": lambda values: None,
    "text": lambda values: np.full(values.shape, b"three"),
    "ragged": lambda values: Ragged([np.arange(2.0), np.arange(3.0)]),
    "empty": lambda values: h5py.Empty("f4"),
    "zero-length": lambda values: np.empty((0, *values.shape[1:]), values.dtype),
    "complex": lambda values: values.astype("complex64"),
    "rank": lambda values: np.stack([values, values], axis=-1),
}
AXIS: dict[str, Spoil] = {
    "short": lambda values: values[..., :-2],
    "repeated": lambda values: values[..., [0, *range(values.shape[-1] - 1)]],
    "falling": lambda values: values[..., ::-1],
    "nan": lambda values: np.where(np.arange(values.shape[-1]) == 1, np.nan, values),
    "infinite": lambda values: np.where(np.arange(values.shape[-1]) == 1, np.inf, values),
    "swapped-bytes": lambda values: values.astype("f8").byteswap(),
}
NETCDF_AXIS = {way: spoil for way, spoil in AXIS.items() if way not in {"short", "falling"}}
"""Latitudes may fall, and a dimension has as many coordinates as it has entries."""
NUMPY_ANY: dict[str, Spoil] = {
    "text": lambda values: np.full(values.shape, "three"),
    "objects": lambda values: np.full(values.shape, None),
    "zero-length": lambda values: np.empty((0, *values.shape[1:])),
    "complex": lambda values: values.astype("complex64"),
    "rank": lambda values: np.stack([values, values], axis=-1),
    "short": lambda values: values[..., :-1],
}


def read_all(path: Path, format_name: str, options: Any = None) -> None:
    """Do all that a conversion does; told the format, so that what is refused is not the recognition."""
    convert(open_source([path], format_name, options), path.parent / "store", ConvertSettings())


def check_refused(path: Path, format_name: str, options: Any, *places: str) -> None:
    """A typed error must name every place, and no store be left."""
    with pytest.raises(UpsDataError) as raised:
        read_all(path, format_name, options)
    for place in places:
        assert place in str(raised.value), f"{place!r} is not named: {raised.value}"
    assert not (path.parent / "store").exists()


def replace_dataset(path: Path, item: str, values: Any, attributes: dict[str, Any]) -> None:
    """Write values, rows of unequal length too, in place of a data set of an HDF5 file, or where it was."""
    with h5py.File(path, "r+") as file:
        if item in file:
            del file[item]
        if isinstance(values, Ragged):
            dataset = file.create_dataset(item, (len(values),), dtype=h5py.vlen_dtype("f8"))
            for row, entries in enumerate(values):
                dataset[row] = entries
        else:
            dataset = file.create_dataset(item, data=values)
        dataset.attrs.update(attributes)


def spoil_array(arrays: dict[str, np.ndarray], name: str, way: str) -> None:
    """Spoil an array of a group of Zarr, or take it away."""
    values = arrays.pop(name)
    if way == "nan":
        arrays[name] = np.full_like(values, np.nan)
    elif way != "missing":
        arrays[name] = as_stored(NUMPY_ANY[way](values))


def spoil_axis(data: xarray.Dataset, axis: str, way: str) -> xarray.Dataset:
    """Return a data set of which a coordinate is spoilt."""
    return data.assign_coords({axis: (axis, NETCDF_AXIS[way](data[axis].values), data[axis].attrs)})


def as_stored(values: np.ndarray) -> np.ndarray:
    """Return text as bytes, as Zarr has it."""
    return values.astype("S") if values.dtype.kind == "U" else values


def cut_file(path: Path, kept: float) -> None:
    """Keep some bytes of a file, or a share of them."""
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])


def cut_chunk(folder: Path, kept: float) -> None:
    """Keep some bytes, or a share, of the first chunk of an array of Zarr of version 2."""
    cut_file(min(file for file in folder.iterdir() if not file.name.startswith(".")), kept)


def damage_chunk(folder: Path, way: str) -> None:
    """Cut the first chunk of an array of Zarr, make it longer, or have its first bytes say that it holds 2 GiB."""
    chunk = min(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith((".z", "zarr.json")))
    content = chunk.read_bytes()
    changed = {
        "cut": content[:-2],
        "longer": content + b"\0\0\0",
        "lying": content[:4] + b"\xff\xff\xff\x7f" + content[8:],
    }
    chunk.write_bytes(changed[way])
