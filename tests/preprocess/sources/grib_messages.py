"""GRIB messages as ECMWF's own library writes them, on a globe of 8 x 5 nodes."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import eccodes
import numpy as np

MISSING = 9999.0
GLOBE: dict[str, Any] = {
    "Ni": 8,
    "Nj": 5,
    "latitudeOfFirstGridPointInDegrees": 90.0,
    "latitudeOfLastGridPointInDegrees": -90.0,
    "longitudeOfFirstGridPointInDegrees": 0.0,
    "longitudeOfLastGridPointInDegrees": 315.0,
    "iDirectionIncrementInDegrees": 45.0,
    "jDirectionIncrementInDegrees": 45.0,
    "dataDate": 20200101,
    "bitsPerValue": 24,
}


def write_message(file: IO[bytes], values: np.ndarray, *, sample: str = "regular_ll_pl_grib2", **keys: Any) -> None:
    """Write one field of 5 x 8 values, latitudes from north to south; NaN goes into the bitmap."""
    message = eccodes.codes_grib_new_from_samples(sample)
    for key, value in {**GLOBE, **keys}.items():
        eccodes.codes_set(message, key, value)
    if np.isnan(values).any():
        eccodes.codes_set(message, "bitmapPresent", 1)
        eccodes.codes_set(message, "missingValue", MISSING)
    eccodes.codes_set_values(message, np.nan_to_num(values, nan=MISSING).reshape(-1))
    eccodes.codes_write(message, file)
    eccodes.codes_release(message)


def read_messages(path: Path) -> list[np.ndarray]:
    """Return the values of all messages, as eccodes decodes them, NaN where the bitmap says so."""
    found = []
    with path.open("rb") as file:
        while (message := eccodes.codes_grib_new_from_file(file)) is not None:
            values = eccodes.codes_get_values(message)
            missing = eccodes.codes_get(message, "missingValue")
            found.append(np.where(values == missing, np.nan, values).reshape(5, 8))
            eccodes.codes_release(message)
    return found


def weather_grib(path: Path, *, masked: bool = False, names: tuple[str, ...] = ("t", "u")) -> Path:
    """Write three times of some variables on two levels, in the order time, variable, level."""
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        for hour in (0, 600, 1200):
            for name in names:
                for level in (500, 850):
                    values = random.normal(size=(5, 8))
                    if masked and name == names[0]:
                        values[1, :3] = np.nan
                    write_message(file, values, shortName=name, level=level, dataTime=hour)
    return path
