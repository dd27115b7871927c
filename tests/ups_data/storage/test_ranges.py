"""Ranges are joined into few requests, within a bound on what is read for nothing."""

from hypothesis import given
from hypothesis import strategies as st

from ups_data.storage.byte_store import CheckedRange
from ups_data.storage.ranges import cut_windows, join_ranges


def span(key: str, offset: int, length: int) -> CheckedRange:
    return CheckedRange(key=key, offset=offset, length=length, accept=bytes)


SPANS = st.lists(st.builds(span, st.sampled_from("ab"), st.integers(0, 300), st.integers(1, 40)), max_size=30)


@given(SPANS, st.sampled_from([0.0, 0.25, 2.0]))
def test_every_range_is_read_and_little_else(spans: list[CheckedRange], max_waste: float) -> None:
    joined = join_ranges(spans, max_waste=max_waste)
    assert sorted(id(part) for one in joined for part in one.parts) == sorted(map(id, spans))
    asked: set[tuple[str, int]] = set()
    for one in joined:
        assert all(part.key == one.key for part in one.parts)
        assert one.start == min(part.offset for part in one.parts)
        assert one.stop == max(part.offset + part.length for part in one.parts)
        asked |= {(one.key, place) for part in one.parts for place in range(part.offset, part.offset + part.length)}
    read = sum(one.stop - one.start for one in joined)
    assert read - len(asked) <= max_waste * sum(part.length for part in spans)


def test_ranges_that_touch_are_one_request_and_the_smallest_gaps_are_closed_first() -> None:
    touching = [span("a", 10 * number, 10) for number in (2, 0, 1)]
    assert [(one.start, one.stop) for one in join_ranges(touching, max_waste=0)] == [(0, 30)]
    apart = [span("a", 0, 10), span("a", 14, 10), span("a", 25, 10), span("b", 36, 10)]
    found = [(one.key, one.start, one.stop) for one in join_ranges(apart, max_waste=0.1)]
    assert found == [("a", 0, 10), ("a", 14, 35), ("b", 36, 46)]
    found = [(one.key, one.start, one.stop) for one in join_ranges(apart, max_waste=0, free_gap_bytes=4)]
    assert found == [("a", 0, 35), ("b", 36, 46)]


def test_a_large_range_does_not_pay_for_gaps_between_small_ones() -> None:
    small = [span("a", 10_000 + 50 * number, 10) for number in range(9)]
    found = join_ranges([span("a", 0, 9_990), *small], max_waste=0.25)
    assert [len(one.parts) for one in found] == [1] * 10


def test_windows_bound_what_is_under_way() -> None:
    spans = [span("a", 0, 20 * 2**20)] * 10 + [span("a", 0, 100 * 2**20)] + [span("a", 0, 1)] * 5000
    windows = list(cut_windows(spans))
    assert [part for window in windows for part in window] == spans
    assert [len(window) for window in windows] == [3, 3, 3, 1, 1, 4096, 904]
    assert not list(cut_windows([]))
