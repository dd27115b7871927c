"""Which stored type holds a source's values exactly, and the cast to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Shaped

from ups_data.errors import SourceError

_LARGEST_EXACT_INTEGER = 2**53


def stored_dtype(dtypes: Iterable[np.dtype[Any]], *, where: str) -> np.dtype[Any]:
    """Return the smaller of float32 and float64 that holds values of all `dtypes` exactly.

    64-bit integers get float64; `exact_cast` refuses those of them that it cannot hold.

    Raises:
        SourceError: a type that is no real number (text, objects, complex numbers), or wider than float64.
    """
    result = np.dtype(np.float32)
    for dtype in dtypes:
        if dtype.kind not in "biuf":
            raise SourceError(f"{where} holds {dtype} where real numbers must stand")
        result = np.result_type(result, dtype)
    if result.itemsize > 8:
        raise SourceError(f"{where} holds {result}, which neither float32 nor float64 holds exactly; convert it first")
    return result


def exact_cast(values: Shaped[np.ndarray, "..."], dtype: np.dtype[Any], *, where: str) -> Shaped[np.ndarray, "..."]:
    """Cast to the stored type in native byte order; refuse integers beyond 2**53, which float64 would round.

    Raises:
        SourceError: naming `where` and the first such integer.
    """
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and values.size:
        too_large = (values > _LARGEST_EXACT_INTEGER) | (values < -_LARGEST_EXACT_INTEGER)
        if too_large.any():
            place = tuple(int(i) for i in np.unravel_index(int(np.argmax(too_large)), values.shape))
            raise SourceError(
                f"{where} holds the integer {values[place]} at {place}; beyond 2**53 float64 does not hold integers "
                f"exactly. Scale it or store it as a float"
            )
    return values.astype(dtype, copy=False)
