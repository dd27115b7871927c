"""Which values of a described field are missing: by a number that stands for them, by NaN, or by an array of marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Shaped

from preprocess.sources.array_files import StoredArray
from ups_data.errors import SourceError


@dataclass(frozen=True, kw_only=True)
class MissingMarks:
    """An array of truth values (or of 0 and 1) along some of a field's dimensions.

    Attributes:
        array: where it lies.
        dims: its dimensions, in stored order.
        where: the mark of a missing value, 1 or 0.
    """

    array: StoredArray
    dims: tuple[str, ...]
    where: int

    def read(self, values: Shaped[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
        """Return where values are missing.

        Raises:
            SourceError: anything but 0 and 1.
        """
        if values.dtype.kind != "b":
            strange = (values != 0) & (values != 1)
            if strange.any():
                place = tuple(map(int, np.argwhere(strange)[0]))
                raise SourceError(
                    f"{self.array.where} holds {values[place]} at {place}; marks of missing values are 0 and 1"
                )
        return np.asarray(values == self.where)


Missing = MissingMarks | float | Literal["nan"]
"""Marks, the number that stands for a missing value, or NaN itself."""


def check_sentinel(sentinel: float, dtype: np.dtype[Any], *, where: str) -> None:
    """Refuse a number that no value of an array can be.

    Raises:
        SourceError: naming the array, its type and the number.
    """
    if dtype.kind == "f":
        fits = bool(abs(sentinel) <= float(np.finfo(dtype).max))
    else:
        kept = np.array(sentinel).astype(np.int64)
        fits = dtype.kind in "iu" and bool(kept == sentinel and kept.astype(dtype) == kept)
    if not fits:
        raise SourceError(f"{where} holds {dtype}, of which none can be {sentinel:g}, its stated missing value")


def find_sentinel(values: Shaped[np.ndarray, "..."], sentinel: float) -> Bool[np.ndarray, "..."]:
    """Return where values are the number that stands for a missing one, rounded as they are."""
    return np.asarray(values == np.array(sentinel).astype(values.dtype))


def take_out(
    block: Shaped[np.ndarray, "time component *space"],
    missing: Bool[np.ndarray, "time component *space"],
    *,
    where: str,
) -> Shaped[np.ndarray, "time component *space"]:
    """Put NaN in place of missing values.

    Raises:
        SourceError: NaN that is not declared missing; names `where` and the place.
    """
    undeclared = ~missing & np.isnan(block)
    if undeclared.any():
        frame, component, *point = map(int, np.argwhere(undeclared)[0])
        raise SourceError(
            f"{where} holds nan at frame {frame} of these, component {component}, point {tuple(point)}, which is not "
            f"declared missing; `missing: nan` declares every NaN"
        )
    return np.where(missing, block.dtype.type(np.nan), block)
