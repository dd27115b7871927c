"""NetCDF, Zarr and GRIB files opened through xarray: by content, lazily, with every missing value accounted for.

What declares missing values:

* `_FillValue` and `missing_value` that are numbers (CF conventions, section 2.5.1), the fill value of Zarr version 2,
  where xarray keeps them, and the bitmap of a GRIB message. Such entries read as NaN.
* An attribute that is NaN declares nothing: xarray writes one to every variable of floats. Nor does a fill value of 0
  in Zarr version 2 for values that are not packed: it is what zarr writes where nobody said anything.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import zarr
from jaxtyping import Bool, Shaped

from preprocess.sources.hdf5_files import has_hdf5_magic
from preprocess.sources.zarr_files import check_zarr_arrays, is_zarr, list_zarr_arrays, refuse_lost_metadata
from ups_data.errors import SourceError, UnknownFormatError

if TYPE_CHECKING:
    import xarray

NETCDF3_MAGIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
GRIB_MAGIC = b"GRIB"
_NEVER_WRITTEN = 9.969209968386869e36
_DECLARING = ("_FillValue", "missing_value")
# Attributes of a variable of numbers that are numbers themselves, and how many: at least one where None is told.
_NUMBERS = {
    **dict.fromkeys(_DECLARING),
    **dict.fromkeys(("scale_factor", "add_offset", "valid_min", "valid_max"), 1),
    "valid_range": 2,
}
_WORDS = {None: "numbers", 1: "one number", 2: "two numbers"}
_UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError)


def is_grib(path: Path) -> bool:
    """Tell whether a file begins as GRIB messages do."""
    return path.is_file() and _first_bytes(path) == GRIB_MAGIC


def open_with_xarray(path: Path, grib_keys: Mapping[str, str | int]) -> xarray.Dataset:
    """Open a file or a Zarr directory: values unpacked, times as they are counted, declared missing values NaN.

    Args:
        path: a NetCDF or GRIB file, or a directory of Zarr, consolidated or not.
        grib_keys: which messages of a GRIB file are meant, by their keys; empty for all.

    Raises:
        UnknownFormatError: what reads the file is not installed.
        SourceError: damaged, cut short, no such file, a codec of Zarr that is not on the list, an attribute that is no
            number where one must stand, or GRIB messages that make no common grid.
    """
    if is_zarr(path):
        raw = _open_zarr(path)
    elif is_grib(path):
        return _open_grib(path, grib_keys)
    else:
        raw = _open_netcdf(path)
    for name, variable in raw.variables.items():
        _check_numbers(variable, f"{path}: variable {str(name)!r}")
        _forget_what_declares_nothing(variable, has_fill_values=(path / ".zgroup").exists())
    xarray = _import_xarray(path)
    with warnings.catch_warnings():
        # Two different numbers may be declared: entries of either are missing.
        warnings.filterwarnings("ignore", message=".*multiple fill values", category=xarray.SerializationWarning)
        try:
            return xarray.decode_cf(raw, decode_times=False)
        except _UNREADABLE as error:
            raise SourceError(f"{path} cannot be read: {_one_line(error)}") from error


def declares_missing(variable: xarray.DataArray) -> bool:
    """Tell whether a variable of an opened data set declares missing values."""
    if "GRIB_missingValue" in variable.attrs:
        # The bitmap of the first message, unless they differ.
        return variable.attrs.get("GRIB_bitmapPresent") != 0
    return any(name in variable.encoding for name in _DECLARING)


def valid_range(variable: xarray.DataArray) -> tuple[float, float] | None:
    """Return the least and the largest valid value, in the unit of the unpacked values; None where none is told."""
    both = np.atleast_1d(variable.attrs.get("valid_range", (np.nan, np.nan)))
    ends = [variable.attrs.get("valid_min", both[0]), variable.attrs.get("valid_max", both[-1])]
    try:
        lower, upper = (float(np.asarray(end).reshape(())) for end in ends)
    except (TypeError, ValueError):
        return None
    if np.isnan(lower) and np.isnan(upper):
        return None
    # They are stored as the values are: packed, where those are (CF conventions, section 8.1).
    scale, offset = (variable.encoding.get(name, usual) for name, usual in (("scale_factor", 1), ("add_offset", 0)))
    edges = sorted(
        float(scale) * edge + float(offset)
        for edge in (np.nan_to_num(lower, nan=-np.inf), np.nan_to_num(upper, nan=np.inf))
    )
    slack = abs(float(scale)) / 2 if "scale_factor" in variable.encoding else 0.0
    return edges[0] - slack, edges[1] + slack


def never_written(values: Shaped[np.ndarray, "..."], variable: xarray.DataArray) -> Bool[np.ndarray, "..."]:
    """Return where values are what the NetCDF library leaves in place of those that were never written."""
    if values.dtype.kind != "f" or "scale_factor" in variable.encoding:
        return np.zeros(values.shape, dtype=np.bool_)
    return values == values.dtype.type(_NEVER_WRITTEN)


def _open_zarr(path: Path) -> xarray.Dataset:
    refuse_lost_metadata(path)
    check_zarr_arrays(path)
    xarray = _import_xarray(path)
    try:
        # Not from consolidated metadata: the codecs that were checked are those of the arrays themselves.
        with warnings.catch_warnings():
            # Of files beside the arrays, such as notes.
            warnings.filterwarnings("ignore", message="Object at .* is not recognized as a component of a Zarr")
            raw = xarray.open_zarr(path, consolidated=False, chunks=None, decode_cf=False)
        # A group without consolidated metadata lists its arrays as the file system does, in no order at all.
        return raw[sorted(map(str, raw.data_vars))]
    except _UNREADABLE as error:
        raise SourceError(
            f"{_first_damaged(path)} cannot be read as Zarr through xarray: {_one_line(error)}"
        ) from error


def _first_damaged(path: Path) -> str:
    """Name the first array that does not open by itself, or whose dimensions are not named one by one; else the path.

    What reads all of a group at once does not tell which array it stumbled over.
    """
    for key in list_zarr_arrays(path):
        try:
            array = zarr.open_array(path / key, mode="r")
            if array.ndim == 1:
                np.asarray(array[...])  # read with the group, as coordinates are
        except _UNREADABLE:
            return f"{path}: {key}"
        names = array.attrs.get("_ARRAY_DIMENSIONS", [""] * array.ndim)
        if not isinstance(names, list) or len(names) != array.ndim:
            return f"{path}: {key}"
    return str(path)


def _open_netcdf(path: Path) -> xarray.Dataset:
    if path.is_dir():
        raise SourceError(f"{path} is a directory, and no Zarr; name the files in it")
    if _first_bytes(path) not in NETCDF3_MAGIC and not has_hdf5_magic(path):
        raise SourceError(f"{path} cannot be read as NetCDF, Zarr or GRIB: it begins with {_first_bytes(path)!r}")
    xarray = _import_xarray(path)
    _require("netCDF4", path, "netcdf", "a NetCDF file")
    try:
        return xarray.open_dataset(path, decode_cf=False, cache=False)
    except _UNREADABLE as error:
        raise SourceError(f"{path} cannot be read as NetCDF: {_one_line(error)}") from error


def _open_grib(path: Path, keys: Mapping[str, str | int]) -> xarray.Dataset:
    xarray = _import_xarray(path)
    _require("cfgrib", path, "grib", "a GRIB file")
    # No index file beside the source; messages that fit no common grid are told, not skipped.
    options = {"indexpath": "", "errors": "raise", "filter_by_keys": dict(keys), "read_keys": ["bitmapPresent"]}
    try:
        # eccodes' errors have no base of their own, and cannot be imported here.
        return xarray.open_dataset(path, engine="cfgrib", decode_times=False, cache=False, backend_kwargs=options)
    except Exception as error:
        raise SourceError(
            f"{path} cannot be read as GRIB: {_one_line(error)}. Where its messages make no common grid, choose those "
            f"that do, as in --option 'grib_keys={{typeOfLevel: surface}}'"
        ) from error


def _check_numbers(variable: xarray.Variable, where: str) -> None:
    """Refuse attributes that xarray would pass over, or stumble over once values are read."""
    for name, count in _NUMBERS.items():
        if name not in variable.attrs or variable.dtype.kind not in "iuf":
            continue
        value = np.asarray(variable.attrs[name])
        if value.dtype.kind not in "iuf" or value.size != (count or max(value.size, 1)):
            raise SourceError(
                f"{where}: attribute {name} is {variable.attrs[name]!r:.80}; {_WORDS[count]} must stand there"
            )


def _forget_what_declares_nothing(variable: xarray.Variable, *, has_fill_values: bool) -> None:
    for name in _DECLARING:
        if name not in variable.attrs:
            continue
        value = np.asarray(variable.attrs[name])
        is_nan = value.dtype.kind == "f" and bool(np.isnan(value).all())
        is_zero = value.dtype.kind in "iuf" and not value.any()
        if is_nan or (has_fill_values and is_zero and "scale_factor" not in variable.attrs):
            del variable.attrs[name]


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _require(module: str, path: Path, extra: str, what: str) -> None:
    try:
        if module == "cfgrib":
            import cfgrib  # noqa: F401  what xarray reads GRIB with
        else:
            import netCDF4  # noqa: F401  what xarray reads NetCDF with
    except ImportError as error:
        raise UnknownFormatError(
            f'{path} is {what}, and what reads it is not installed: pip install "ups-data[{extra}]"'
        ) from error


def _import_xarray(path: Path) -> ModuleType:
    try:
        import xarray
    except ImportError as error:
        raise UnknownFormatError(
            f'{path} is read through xarray, which is not installed: pip install "ups-data[netcdf]"'
        ) from error
    return xarray


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
