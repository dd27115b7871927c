"""Memory that is used again: the same for a name, apart for others, large enough for what is asked."""

import numpy as np

from ups_data.scratch import Scratch


def test_a_name_has_its_own_memory_again_and_again() -> None:
    scratch = Scratch()
    first = scratch.take("a", (3, 4))
    first[...] = 7.0
    other = scratch.take("b", (12,), np.float32)
    other[...] = 1.0
    assert np.shares_memory(first, scratch.take("a", (2, 5), np.int32))
    assert not np.shares_memory(first, other)
    assert (scratch.take("a", (12,)) == 7.0).all()


def test_memory_grows_with_what_is_asked() -> None:
    scratch = Scratch()
    small = scratch.take("a", (2,), np.float32)
    large = scratch.take("a", (5, 7), np.int16)
    assert (large.shape, large.dtype, large.flags.c_contiguous) == ((5, 7), np.int16, True)
    assert not np.shares_memory(small, large)
    assert np.shares_memory(large, scratch.take("a", (2,), np.float32))
