"""Ranges of bytes into requests: which are joined, and how many are under way before the first are handed out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ups_data.storage.byte_store import CheckedRange

_WINDOW_BYTES = 64 * 2**20
_WINDOW_RANGES = 4096
_REQUEST_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class JoinedRange:
    """Ranges of one file that are read as one.

    Attributes:
        key: the file.
        start, stop: what is read.
        parts: the ranges that were asked for, in rising order.
    """

    key: str
    start: int
    stop: int
    parts: tuple[CheckedRange, ...]

    def pieces(self) -> list[tuple[int, int]]:
        """Return what single requests read, so that a timeout means much the same for each."""
        starts = range(self.start, self.stop, _REQUEST_BYTES)
        return [(start, min(start + _REQUEST_BYTES, self.stop)) for start in starts]


def join_ranges(ranges: Sequence[CheckedRange], *, max_waste: float, free_gap_bytes: int = 0) -> list[JoinedRange]:
    """Join ranges of one file into requests: those that touch, then across the smallest gaps.

    A gap is paid for by both of its sides, so that a whole frame never pays for what lies between pages.

    Args:
        ranges: in any order; they may overlap.
        max_waste: bytes that a request may read for nothing, as a share of those asked for; no gap is longer than that
            share of what is asked for before it in its request, or after it.
        free_gap_bytes: gaps up to this length are closed whatever they add up to.
    """
    runs = _runs(ranges, free_gap_bytes)
    gaps = [
        (right.start - left.stop, number)
        for number, (left, right) in enumerate(pairwise(runs))
        if left.key == right.key
    ]
    first, last = list(range(len(runs))), list(range(len(runs)))  # of the request that ends, or begins, with a run
    asked, wasted = [run.stop - run.start for run in runs], [0] * len(runs)  # of the request that begins with a run
    for gap, number in sorted(gaps):
        left, right = first[number], number + 1
        both, waste = asked[left] + asked[right], wasted[left] + wasted[right] + gap
        if gap <= max_waste * min(asked[left], asked[right]) and waste <= max_waste * both:
            asked[left], wasted[left] = both, waste
            last[left] = last[right]
            first[last[left]] = left
    joined, number = [], 0
    while number < len(runs):
        group = runs[number : last[number] + 1]
        parts = tuple(part for run in group for part in run.parts)
        joined.append(JoinedRange(key=group[0].key, start=group[0].start, stop=group[-1].stop, parts=parts))
        number += len(group)
    return joined


def _runs(ranges: Sequence[CheckedRange], free_gap_bytes: int) -> list[JoinedRange]:
    """Join the ranges that touch, or nearly."""
    runs: list[JoinedRange] = []
    parts: list[CheckedRange] = []
    stop = 0
    for part in [*sorted(ranges, key=lambda part: (part.key, part.offset, part.length)), None]:
        if parts and (part is None or part.key != parts[0].key or part.offset - stop > free_gap_bytes):
            runs.append(JoinedRange(key=parts[0].key, start=parts[0].offset, stop=stop, parts=tuple(parts)))
            parts, stop = [], 0
        if part is not None:
            parts.append(part)
            stop = max(stop, part.offset + part.length)
    return runs


def cut_windows(ranges: Sequence[CheckedRange]) -> Iterator[list[CheckedRange]]:
    """Cut a long list of ranges, so that what was read and not yet handed out stays bounded."""
    window: list[CheckedRange] = []
    size = 0
    for part in ranges:
        if window and (size + part.length > _WINDOW_BYTES or len(window) >= _WINDOW_RANGES):
            yield window
            window, size = [], 0
        window.append(part)
        size += part.length
    if window:
        yield window
