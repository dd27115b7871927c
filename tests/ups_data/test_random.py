"""Randomness is a function of its words, and permutations are permutations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ups_data.random import Permutation, Stream, generator


def test_golden_words() -> None:
    # Change only knowingly: every stored layout and every resumed run depends on these numbers.
    numbers = generator(seed=1, stream=Stream.DRAW, words=(2, 3)).integers(0, 1000, size=5)
    assert numbers.tolist() == [188, 664, 0, 253, 888]
    order = Permutation(10, seed=5, epoch=1)(np.arange(10))
    assert order.tolist() == [7, 8, 6, 2, 1, 3, 5, 4, 9, 0]


def test_streams_and_words_never_share_numbers() -> None:
    keys = [(s, stream, (e, i)) for s in range(3) for stream in Stream for e in range(4) for i in range(4)]
    firsts = {generator(seed=s, stream=stream, words=words).bytes(16) for s, stream, words in keys}
    assert len(firsts) == len(keys)


@pytest.mark.parametrize("words", [(-1, 0), (0, 2**64)])
def test_words_out_of_range_are_refused(words: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 2\*\*64\)"):
        generator(seed=0, stream=Stream.DRAW, words=words)


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**63), epoch=st.integers(0, 1000))
def test_permutation_is_a_bijection(size: int, seed: int, epoch: int) -> None:
    order = Permutation(size, seed=seed, epoch=epoch)(np.arange(size))
    assert np.array_equal(np.sort(order), np.arange(size))


def test_permutation_of_a_billion_answers_single_positions() -> None:
    order = Permutation(10**9, seed=0, epoch=0)
    positions = np.array([0, 1, 10**9 - 1])
    assert np.array_equal(order(positions), np.array([order(positions[i : i + 1])[0] for i in range(3)]))
    assert len(set(order(np.arange(10**5)).tolist())) == 10**5


def test_permutations_of_small_sets_are_even() -> None:
    # 24 orders of 4 elements over 4,800 epochs: chi-square with 23 degrees of freedom, p = 1e-4 at 56.
    orders = [tuple(Permutation(4, seed=7, epoch=epoch)(np.arange(4)).tolist()) for epoch in range(4800)]
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert np.square(counts - 200).sum() / 200 < 56


def test_each_position_gets_each_element_evenly() -> None:
    size, epochs = 50, 4000
    orders = np.stack([Permutation(size, seed=3, epoch=epoch)(np.arange(size)) for epoch in range(epochs)])
    counts = np.stack([np.bincount(column, minlength=size) for column in orders.T])
    # 50 x 50 cells of mean 80; 49 * 49 degrees of freedom, so mean 2401 and standard deviation 69.
    assert abs(np.square(counts - 80).sum() / 80 - 2401) < 5 * 69


def test_position_outside_is_refused() -> None:
    with pytest.raises(IndexError, match=r"\[0, 3\)"):
        Permutation(3, seed=0, epoch=0)(np.array([3]))
    with pytest.raises(ValueError, match="at least one element"):
        Permutation(0, seed=0, epoch=0)
