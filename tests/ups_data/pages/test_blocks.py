"""Blocks of frames cover every trajectory, and hold every window of the promised span."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ups_data.pages import build_pages, cut_blocks


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 20), st.integers(1, 10))
def test_every_window_lies_whole_in_the_block_of_its_first_frame(counts: list[int], length: int, span: int) -> None:
    blocks = cut_blocks(np.array(counts), frames_per_block=length, target_span=span)
    for number, count in enumerate(counts):
        mine = blocks.trajectory == number
        starts, stops = blocks.start[mine], blocks.start[mine] + blocks.frames[mine]
        assert blocks.num_blocks[number] == mine.sum()
        assert stops.max() == count
        for first in range(count):
            block = np.searchsorted(starts, first, side="right") - 1
            assert min(first + span, count) <= stops[block]


def test_without_blocks_a_trajectory_is_one() -> None:
    blocks = cut_blocks(np.array([3, 9]), frames_per_block=None, target_span=4)
    assert (blocks.num_blocks.tolist(), blocks.start.tolist(), blocks.frames.tolist()) == ([1, 1], [0, 0], [3, 9])


@given(st.data())
def test_points_at_rest_stand_after_all_others_and_are_never_drawn(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 200))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    importance = random.gamma(1.0, size=count)
    importance[random.random(count) < data.draw(st.floats(0, 0.9))] = np.nan
    importance[0] = 1.0
    page = data.draw(st.integers(1, 20))
    wanted = -(-count // page) + 1
    table = build_pages(
        importance,
        random.permutation(count),
        page_points=page,
        num_strata=3,
        block_points=4,
        seed=1,
        key=(0, 0),
        all_pages=wanted,
    )
    layout = table.layout
    assert table.index.shape == (wanted, page)
    assert layout.all_pages == wanted
    assert layout.num_points == np.isfinite(importance).sum()
    drawn, resting = table.index[: layout.num_pages], table.index[layout.num_pages :]
    assert np.isfinite(importance[drawn[drawn >= 0]]).all()
    assert np.isnan(importance[resting[resting >= 0]]).all()
    assert np.sort(table.index[table.index >= 0]).tolist() == list(range(count))
