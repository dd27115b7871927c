"""Every order is a permutation that any position can be asked of; block by block, it stays within its blocks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ups_data.errors import DatasetError
from ups_data.order import BatchOrder, BlockShuffle, Shuffle, StreamShuffle
from ups_data.order.shuffle import SampleOrder


def order_of(size: int, shuffle: Shuffle, *, seed: int = 0, epoch: int = 0) -> SampleOrder:
    return SampleOrder(num_samples=size, seed=seed, epoch=epoch, shuffle=shuffle)


blocks = st.builds(BlockShuffle, block=st.integers(1, 40), mixed=st.integers(1, 6))
streams = st.builds(StreamShuffle, block=st.integers(1, 40), lanes=st.integers(1, 30), run=st.integers(1, 9))


@settings(deadline=None)
@given(size=st.integers(1, 400), shuffle=blocks | streams, seed=st.integers(0, 2**63), epoch=st.integers(0, 1000))
def test_every_shuffle_is_a_permutation(size: int, shuffle: Shuffle, seed: int, epoch: int) -> None:
    order = order_of(size, shuffle, seed=seed, epoch=epoch)
    whole = order(np.arange(size))
    assert np.array_equal(np.sort(whole), np.arange(size))
    some = np.arange(size)[:: max(1, size // 7)]
    assert np.array_equal(order(some), whole[some])


@settings(deadline=None)
@given(size=st.integers(1, 400), shuffle=blocks, epoch=st.integers(0, 5))
def test_only_a_few_blocks_are_open_at_a_time(size: int, shuffle: BlockShuffle, epoch: int) -> None:
    """From its first sample to its last, a block lies within one run of `mixed` blocks: no reader needs more."""
    served = order_of(size, shuffle, epoch=epoch)(np.arange(size)) // shuffle.block
    groups: dict[int, set[int]] = {}
    open_blocks: set[int] = set()
    remaining = {block: int((served == block).sum()) for block in set(served.tolist())}
    for number, block in enumerate(served.tolist()):
        open_blocks.add(block)
        groups[number] = set(open_blocks)
        remaining[block] -= 1
        if not remaining[block]:
            open_blocks.discard(block)
    assert max(len(members) for members in groups.values()) <= shuffle.mixed


@settings(deadline=None)
@given(size=st.integers(1, 400), shuffle=streams, epoch=st.integers(0, 5))
def test_lanes_go_through_whole_blocks_in_runs(size: int, shuffle: StreamShuffle, epoch: int) -> None:
    plain = order_of(size, replace(shuffle, run=1), epoch=epoch)(np.arange(size))
    lanes = [plain[lane :: shuffle.lanes] for lane in range(shuffle.lanes)]
    assert max(map(len, lanes)) - min(map(len, lanes)) <= 1
    line, place = np.concatenate(lanes), 0
    while place < size:
        block = np.arange(line[place], min(line[place] + shuffle.block, size))
        assert line[place] % shuffle.block == 0
        assert np.array_equal(line[place : place + len(block)], block)
        place += len(block)
    served = order_of(size, shuffle, epoch=epoch)(np.arange(size))
    window = shuffle.lanes * shuffle.run
    for lane, stored in enumerate(lanes):
        for start in range(0, len(stored), shuffle.run):
            run = served[lane :: shuffle.lanes][start : start + shuffle.run]
            assert np.array_equal(np.sort(run), np.sort(stored[start : start + shuffle.run]))
    # What comes of one buffer, whoever serves it, is one run of each lane.
    assert shuffle.batches_of(window) == 1


def test_ranks_read_lanes_of_their_own() -> None:
    """With a lane for each sample of a global batch, what one rank reads another does not."""
    shuffle = StreamShuffle(block=50, lanes=12, run=4)
    parts = [
        BatchOrder(num_samples=1200, batch_size=12, seed=3, shuffle=shuffle, rank=rank, world_size=3)
        for rank in range(3)
    ]
    places = [np.concatenate([part.request(0, batch).indices for batch in range(100)]) for part in parts]
    stretches = [1 + int((np.diff(np.sort(own)) != 1).sum()) for own in places]
    # Four lanes of 100 samples each, through blocks of 50 that begin and end where they like.
    assert max(stretches) <= 4 * 3
    assert sorted(np.concatenate(places).tolist()) == list(range(1200))


def test_blocks_and_their_samples_are_shuffled() -> None:
    shuffle = BlockShuffle(block=10, mixed=3)
    first, second = (order_of(995, shuffle, epoch=epoch)(np.arange(995)) for epoch in (0, 1))
    assert not np.array_equal(first, second)
    for served in (first, second):
        assert abs(np.corrcoef(served, np.arange(995))[0, 1]) < 0.25
        # A group of three blocks is not three blocks one after another.
        assert len(set((served[:10] // 10).tolist())) > 1


def test_every_block_comes_everywhere() -> None:
    """The short last block too: its place is uniform over the slots (chi-square, 9 degrees of freedom, p = 1e-4)."""
    shuffle = BlockShuffle(block=4, mixed=1)
    slots = [int(np.flatnonzero(order_of(38, shuffle, epoch=e)(np.arange(38)) == 36)[0]) // 4 for e in range(600)]
    counts = np.bincount(slots, minlength=10)
    assert np.square(counts - 60).sum() / 60 < 34


def test_golden_order() -> None:
    # Change only knowingly: every resumed run depends on it.
    assert order_of(11, BlockShuffle(block=3, mixed=2), seed=5, epoch=1)(np.arange(11)).tolist() == [
        0,
        6,
        1,
        2,
        7,
        8,
        3,
        10,
        5,
        9,
        4,
    ]


def test_golden_stream() -> None:
    # Change only knowingly: as above.
    shuffle = StreamShuffle(block=3, lanes=2, run=3)
    assert order_of(11, shuffle, seed=5, epoch=1)(np.arange(11)).tolist() == [7, 4, 6, 3, 8, 5, 0, 9, 1, 10, 2]


def test_one_group_is_a_full_shuffle_and_no_shuffle_is_none() -> None:
    assert np.array_equal(order_of(9, False)(np.arange(9)), np.arange(9))
    whole = order_of(50, BlockShuffle(block=5, mixed=10))(np.arange(50))
    assert len(set((whole[:10] // 5).tolist())) > 4


def test_a_billion_samples_are_cheap() -> None:
    for shuffle in (BlockShuffle(block=10**4, mixed=32), StreamShuffle(block=10**4)):
        order = order_of(10**9, shuffle)
        assert len(set(order(np.arange(640_000_000, 640_000_064)).tolist())) == 64


def test_wrong_shuffles_and_positions_are_refused() -> None:
    with pytest.raises(DatasetError, match="needs block and mixed of at least 1, got BlockShuffle"):
        BlockShuffle(block=0)
    with pytest.raises(DatasetError, match="needs block, lanes and run of at least 1, got StreamShuffle"):
        StreamShuffle(block=5, run=0)
    with pytest.raises(IndexError, match=r"positions must lie in \[0, 7\)"):
        order_of(7, BlockShuffle(block=2))(np.array([7]))
