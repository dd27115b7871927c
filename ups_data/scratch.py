"""Memory for arrays that are worked out, read and thrown away, again and again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped
from numpy.typing import DTypeLike


class Scratch:
    """Hands out arrays by name; whoever asks for a name again gets the same memory, with what was left in it.

    The system clears fresh memory page by page when it is first touched, which takes longer than a few sums over it,
    and large arrays are given back to it as soon as they are dropped.
    """

    def __init__(self) -> None:
        self._memory: dict[str, Shaped[np.ndarray, " byte"]] = {}

    def take(self, name: str, shape: Sequence[int], dtype: DTypeLike = np.float64) -> Shaped[np.ndarray, "..."]:
        """Return an array, which holds until its name is asked for again."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        memory = self._memory.get(name)
        if memory is None or memory.size < size:
            memory = self._memory[name] = np.empty(size, dtype=np.uint8)
        return memory[:size].view(kind).reshape(shape)
