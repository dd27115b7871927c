"""Declared rounding of values, to the nearest number of fewer bits and of two as near to the even one."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from ups_data.schema import RoundingRule

MANTISSA_BITS = {"float32": 23, "float64": 52}
"""Bits of the mantissa that each stored dtype writes down; the leading one is not."""


def round_values(values: Float[np.ndarray, "*shape"], rule: RoundingRule) -> Float[np.ndarray, "*shape"]:
    """Return rounded values in their own dtype; NaN stays NaN, and what is larger than can be kept becomes infinite."""
    if rule.mantissa_bits is None:
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(values.dtype)
    return _round_mantissa(values, rule.mantissa_bits)


def _round_mantissa(values: Float[np.ndarray, "*shape"], bits: int) -> Float[np.ndarray, "*shape"]:
    dropped = MANTISSA_BITS[values.dtype.name] - bits
    if dropped < 1:
        return values.copy()
    kind = np.uint32 if values.dtype.itemsize == 4 else np.uint64
    words = values.view(kind)
    # Half of the last kept bit, less the smallest bit where the last kept one is even: ties go to it. What carries over
    # goes on into the exponent, as it should.
    rounded = np.bitwise_and(np.right_shift(words, dropped), 1)
    rounded += kind((1 << (dropped - 1)) - 1)
    rounded += words
    rounded &= ~kind((1 << dropped) - 1)
    found = rounded.view(values.dtype)
    missing = np.isnan(values)
    if missing.any():
        found[missing] = np.nan
    return found


def measure_errors(
    values: Float[np.ndarray, "channel *space"], rounded: Float[np.ndarray, "channel *space"]
) -> Float64[np.ndarray, "2 channel"]:
    """Return the largest absolute and relative error of each channel; missing values have none.

    The relative error is over the size of the value; zero, which stays zero, has none.
    """
    exact = values.reshape(len(values), -1).astype(np.float64)
    errors = np.abs(rounded.reshape(exact.shape) - exact)
    sizes = np.abs(exact)
    relative = np.divide(errors, sizes, out=np.zeros_like(errors), where=sizes > 0)
    return np.stack([np.fmax.reduce(part, axis=1, initial=0.0) for part in (errors, relative)])
