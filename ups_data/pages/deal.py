"""Deal the points of a stratum to its pages like cards, so that every page covers all of the stratum."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int32, Int64, Integer

_SLICE_POINTS = 2**20


def deal(
    ordered: Integer[np.ndarray, " point"], table: Int32[np.ndarray, "page entry"], *, random: np.random.Generator
) -> None:
    """Deal points, given in curve order, to the pages of a table.

    The ordered list is split into runs of R = num_pages consecutive points and each page takes one point of each
    run. Within a run, consecutive pages take van der Corput positions, so that k consecutive pages
    hold points about R / k apart; a random shift a run keeps grids from aliasing with the field.

    Args:
        ordered: the points.
        table: gets their numbers (R, P), -1 where a page has no further point; points of a page stay in curve order
            and padding stands at the end.
        random: gives the shifts.
    """
    num_pages, page_points = table.shape
    num_runs = -(-ordered.size // num_pages)
    if num_runs > page_points:
        raise ValueError(f"{ordered.size} points do not fit on {num_pages} pages of {page_points}")
    shifts = random.integers(num_pages, size=num_runs)
    table[:, num_runs:] = -1
    turn = van_der_corput_order(num_pages)[:, None]
    step = max(1, _SLICE_POINTS // num_pages)
    for first in range(0, num_runs, step):
        runs = np.arange(first, min(first + step, num_runs))
        places = turn + shifts[runs]
        places -= num_pages * (places >= num_pages)  # the remainder, faster
        places += runs * num_pages
        dealt = np.where(places < ordered.size, ordered[np.minimum(places, ordered.size - 1)], -1)
        table[:, first : first + runs.size] = dealt


def van_der_corput_order(size: int) -> Int64[np.ndarray, " size"]:
    """Return the numbers 0 to size - 1 in bit-reversed order: 0, 4, 2, 6, 1, 5, 3, 7 for size 8."""
    bits = max(1, (size - 1).bit_length())
    numbers = np.arange(1 << bits, dtype=np.int64)
    reversed_ = np.zeros_like(numbers)
    for bit in range(bits):
        reversed_ |= ((numbers >> bit) & 1) << (bits - 1 - bit)
    return reversed_[reversed_ < size]
