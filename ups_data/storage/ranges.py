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

    Args:
        ranges: in any order; they may overlap.
        max_waste: bytes between ranges that may be read for nothing, as a share of those asked for.
        free_gap_bytes: gaps up to this length are closed whatever they add up to.
    """
    ordered = sorted(ranges, key=lambda part: (part.key, part.offset, part.length))
    budget = max_waste * sum(part.length for part in ordered)
    stops: list[int] = []
    gaps = []
    for number, part in enumerate(ordered):
        same = number > 0 and ordered[number - 1].key == part.key
        if same:
            gaps.append((max(0, part.offset - stops[-1]), number))
        stops.append(max(part.offset + part.length, stops[-1] if same else 0))
    joined = set()
    for gap, number in sorted(gaps):
        budget -= gap if gap > free_gap_bytes else 0
        if budget < 0:
            break
        joined.add(number)
    starts = [number for number in range(len(ordered)) if number not in joined]
    groups = [ordered[start:stop] for start, stop in pairwise([*starts, len(ordered)])]
    return [
        JoinedRange(
            key=group[0].key,
            start=group[0].offset,
            stop=max(part.offset + part.length for part in group),
            parts=tuple(group),
        )
        for group in groups
    ]


def read_alone(part: CheckedRange) -> JoinedRange:
    """Return a request for one range by itself."""
    return JoinedRange(key=part.key, start=part.offset, stop=part.offset + part.length, parts=(part,))


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
