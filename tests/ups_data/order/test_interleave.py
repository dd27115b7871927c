"""Turns keep exact shares, never drift, and can be looked up alone."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ups_data.order import Interleave
from ups_data.order.interleave import whole_weights

weights = st.lists(st.integers(1, 12), min_size=1, max_size=6).map(tuple)


@settings(deadline=None)
@given(weights=weights)
def test_turns_are_those_of_the_definition(weights: tuple[int, ...]) -> None:
    """Turn j of stream s is due at (2 j + 1) / (2 w_s): sorting all of them is the definition."""
    steps = 2 * sum(weights) + 3
    due = sorted(
        (Fraction(2 * turn + 1, 2 * weight), stream, turn)
        for stream, weight in enumerate(weights)
        for turn in range(steps)
    )
    interleave = Interleave(weights)
    assert [interleave.turn(step) for step in range(steps)] == [(stream, turn) for _, stream, turn in due[:steps]]
    assert all(interleave.step_of(stream, turn) == step for step, (_, stream, turn) in enumerate(due[:steps]))


@settings(deadline=None)
@given(weights=weights)
def test_shares_are_exact_over_a_cycle_and_near_it_anywhere(weights: tuple[int, ...]) -> None:
    interleave, total = Interleave(weights), sum(weights)
    counts = [0] * len(weights)
    for step in range(3 * total):
        stream, turn = interleave.turn(step)
        assert turn == counts[stream]
        counts[stream] += 1
        for count, weight in zip(counts, weights, strict=True):
            share = Fraction(weight, total)
            assert abs(count - (step + 1) * share) <= Fraction(1, 2) + len(weights) * share / 2
        if (step + 1) % total == 0:
            assert counts == [weight * (step + 1) // total for weight in weights]


def test_far_steps_are_looked_up_at_once() -> None:
    interleave = Interleave((10**12 + 1, 7, 3 * 10**5))
    step = 10**17 + 12345
    stream, turn = interleave.turn(step)
    assert interleave.step_of(stream, turn) == step
    before = [interleave.turn(step - back) for back in range(1, 50)]
    assert len(set(before)) == 49


@pytest.mark.parametrize(
    ("given_weights", "expected"),
    [((0.1, 0.2, 0.7), (1, 2, 7)), ((2, 1e-3), (2000, 1)), ((5.0,), (1,)), ((6, 4, 2), (3, 2, 1))],
)
def test_weights_are_read_as_written(given_weights: tuple[float, ...], expected: tuple[int, ...]) -> None:
    assert whole_weights(given_weights) == expected
