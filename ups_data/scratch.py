"""Memory for arrays that are worked out, read and thrown away, again and again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Shaped
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

    def difference(
        self, values: Float[np.ndarray, "*shape"], minus: Float[np.ndarray, "*shape"]
    ) -> Float64[np.ndarray, "*shape"]:
        """Return one array less another in float64, which holds until the next one."""
        result = self.take("difference", values.shape)
        if values.dtype != np.float64:
            # Converted whole: NumPy would do so in short pieces on the way, which takes longer.
            other = self.take("minus", minus.shape)
            result[...], other[...] = values, minus
            values, minus = result, other
        return np.subtract(values, minus, out=result)
