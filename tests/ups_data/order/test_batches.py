"""Global batches are the same for every number of ranks; tails do what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ups_data.errors import DatasetError
from ups_data.order import BatchOrder, BatchRequest, BlockShuffle, Shuffle, StreamShuffle


def requests(**settings: object) -> list[BatchRequest]:
    order = BatchOrder(**{"seed": 1, "shuffle": True, **settings})
    return [order.request(epoch, batch) for epoch in range(2) for batch in range(len(order))]


@settings(deadline=None)
@given(
    num_samples=st.integers(1, 60),
    batch_size=st.integers(1, 13),
    world_size=st.integers(1, 7),
    shuffle=st.sampled_from([False, True, BlockShuffle(block=3, mixed=2), StreamShuffle(block=5, lanes=3, run=2)]),
    full=st.booleans(),
)
def test_ranks_share_each_global_batch_evenly(
    num_samples: int, batch_size: int, world_size: int, shuffle: Shuffle, full: bool
) -> None:
    chosen = {"num_samples": num_samples, "batch_size": batch_size, "shuffle": shuffle}
    whole = requests(**chosen)
    parts = [requests(**chosen, rank=rank, world_size=world_size, full=full) for rank in range(world_size)]
    assert {len(part) for part in parts} == {len(whole)}
    for number, request in enumerate(whole):
        mine = [part[number] for part in parts]
        assert np.array_equal(np.concatenate([one.indices for one in mine]), request.indices)
        assert {(one.epoch, one.step) for one in mine} == {(request.epoch, request.step)}
        assert {one.global_samples for one in mine} == {len(request.indices)}
        sizes = [len(one.indices) for one in mine]
        assert max(sizes) - min(sizes) <= 1
        each = {size + one.num_padding for size, one in zip(sizes, mine, strict=True)}
        assert each == {-(-(batch_size if full else len(request.indices)) // world_size)}
    served = np.concatenate([request.indices for request in whole])
    assert np.array_equal(np.sort(served), np.repeat(np.arange(num_samples), 2))


def test_tails() -> None:
    sizes = {
        tail: [len(r.indices) for r in requests(num_samples=16, batch_size=6, tail=tail)]
        for tail in ("pad_mask", "drop")
    }
    assert sizes == {"pad_mask": [6, 6, 4] * 2, "drop": [6, 6] * 2}
    assert BatchOrder(num_samples=16, batch_size=6, seed=0, shuffle=True, tail="drop").num_dropped == 4
    assert BatchOrder(num_samples=16, batch_size=6, seed=0, shuffle=True).num_dropped == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size is the number of samples of a global batch, at least 1, got 0"),
        ({"rank": 2, "world_size": 2}, r"rank must lie in \[0, world_size=2\), got 2"),
        ({"world_size": 0}, r"rank must lie in \[0, world_size=0\), got 0"),
        ({"tail": "pad"}, "no tail policy 'pad'. Did you mean 'pad_mask'"),
        ({"tail": "error", "batch_size": 6}, "16 samples leave 4 after whole batches of 6"),
        ({"tail": "drop", "batch_size": 99}, "16 samples do not fill one batch of 99"),
    ],
)
def test_wrong_orders_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        requests(**{"num_samples": 16, "batch_size": 4, **settings})


def test_an_order_is_cheap_at_a_billion_samples() -> None:
    order = BatchOrder(num_samples=10**9, batch_size=64, seed=0, shuffle=True)
    request = order.request(epoch=5, batch=10**7)
    assert request.step == 5 * len(order) + 10**7
    assert len(np.unique(request.indices)) == 64
    assert request.indices.max() < 10**9
