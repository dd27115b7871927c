"""The one place where randomness is made: counter-based generators and stateless permutations.

Every random number of the project is a pure function of words that its caller names (seed, epoch, sample,
stream). Nothing is kept between calls, so the number of workers or ranks cannot change a draw.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from jaxtyping import Int64, UInt64

_MASK = (1 << 64) - 1
_FEISTEL_ROUNDS = 6


class Stream(IntEnum):
    """What a generator is for: two purposes never share random numbers. Numbers change only knowingly."""

    DEAL = 1
    DRAW = 2
    SHUFFLE = 3
    SPLIT = 4
    PROVE = 5
    BLOCKS = 6
    GENERATE = 7
    LOSS = 8
    SEARCH = 9
    OFF_GRID = 10
    FRAMES = 11
    FRAME_POINTS = 12


def generator(*, seed: int, stream: Stream, words: tuple[int, int] = (0, 0)) -> np.random.Generator:
    """Return the generator keyed by a seed, a stream and two counter words.

    Philox-4x64-10 (Salmon et al. 2011): key = (seed, stream), counter = (0, 0, *words). Each (seed, stream, words) has
    2**128 numbers of its own before it could meet another.

    Args:
        seed: any non-negative integer below 2**64.
        stream: the purpose of the numbers.
        words: two non-negative integers below 2**64, such as (epoch, sample).
    """
    for value in (seed, *words):
        if not 0 <= value <= _MASK:
            raise ValueError(f"seed and counter words must lie in [0, 2**64), got {value}")
    key = np.array([seed, int(stream)], dtype=np.uint64)
    counter = np.array([0, 0, words[0], words[1]], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def _mix(values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Mix 64-bit words (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Permutation:
    """A stateless random permutation of [0, size) in O(1) memory.

    A balanced Feistel network over the smallest even number of bits that holds `size`, with cycle walking
    (Black and Rogaway 2002): positions that leave the range are sent through the network again. Any
    position can be looked up alone, so an epoch of 10^9 samples resumes anywhere at once.

    Args:
        size: number of elements, at least 1.
        seed: seed of the data stream.
        epoch: the epoch whose order this is.
        part: tells several permutations of one epoch apart.
    """

    def __init__(self, size: int, *, seed: int, epoch: int, part: int = 0) -> None:
        if size < 1:
            raise ValueError(f"a permutation needs at least one element, got size={size}")
        self.size = size
        half_bits = max(1, -(-(size - 1).bit_length() // 2))
        self._shift = np.uint64(half_bits)
        self._half_mask = np.uint64((1 << half_bits) - 1)
        keys = generator(seed=seed, stream=Stream.SHUFFLE, words=(epoch, part))
        self._keys = keys.integers(0, _MASK, size=_FEISTEL_ROUNDS, dtype=np.uint64, endpoint=True)

    def __call__(self, positions: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the elements at the given positions of the shuffled order."""
        if positions.size and (positions.min() < 0 or positions.max() >= self.size):
            raise IndexError(f"positions must lie in [0, {self.size}), got {positions.min()} to {positions.max()}")
        values = self._encrypt(positions.astype(np.uint64))
        while (outside := values >= self.size).any():
            values[outside] = self._encrypt(values[outside])
        return values.astype(np.int64)

    def _encrypt(self, values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
        left, right = values >> self._shift, values & self._half_mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right + key) & self._half_mask)
        return (left << self._shift) | right
