"""Rounded values against arithmetic: nearest, ties to even, subnormal numbers, infinities; and their errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ups_data.rounding import MANTISSA_BITS, measure_errors, round_values
from ups_data.schema import RoundingRule


def by_arithmetic(values: np.ndarray, bits: int) -> np.ndarray:
    """Round in float64, where a scaled mantissa of either dtype is exact; NumPy's rint takes ties to even."""
    _, exponent = np.frexp(values.astype(np.float64))
    # Below the smallest normal number the last kept bit stays where it is.
    exponent = np.maximum(exponent, np.finfo(values.dtype).minexp + 1)
    scaled = np.ldexp(values.astype(np.float64), bits + 1 - exponent)
    return np.ldexp(np.rint(scaled), exponent - bits - 1).astype(values.dtype)


@given(st.data())
def test_mantissas_are_rounded_to_the_nearest(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    bits = data.draw(st.integers(1, MANTISSA_BITS[np.dtype(dtype).name] - 1))
    most = float(np.finfo(dtype).max) / 4
    elements = st.floats(-most, most, width=np.dtype(dtype).itemsize * 8)
    values = data.draw(arrays(dtype, 20, elements=elements))
    found = round_values(values, RoundingRule(mantissa_bits=bits))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, by_arithmetic(values, bits))
    np.testing.assert_array_equal(np.signbit(found), np.signbit(values))
    np.testing.assert_array_equal(round_values(found, RoundingRule(mantissa_bits=bits)), found)


def test_ties_go_to_even() -> None:
    values = np.array([1.25, 1.75, 1.0 + 3 / 8, -1.25, 3.5], dtype=np.float32)
    found = round_values(values, RoundingRule(mantissa_bits=1))
    assert found.tolist() == [1.0, 2.0, 1.5, -1.0, 4.0]


def test_what_is_no_number_stays_so_and_too_large_ones_become_infinite() -> None:
    largest = np.finfo(np.float32).max
    values = np.array([np.nan, -np.nan, np.inf, largest, -largest, 0.0], dtype=np.float32)
    values.view(np.uint32)[0] = 0x7FFFFFFF  # a carry over the mantissa of this NaN would turn it into -0.0
    found = round_values(values, RoundingRule(mantissa_bits=3))
    np.testing.assert_array_equal(found, np.array([np.nan, np.nan, np.inf, np.inf, -np.inf, 0.0]))


def test_float16_is_that_of_numpy() -> None:
    values = np.array([1 / 3, 65504.0, 65520.0, 1e-8, -6e-8, np.nan])
    found = round_values(values, RoundingRule(mantissa_bits=None))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [0.333251953125, 65504.0, np.inf, 0.0, -(2.0**-24), np.nan])


@pytest.mark.parametrize("bits", [1, 7, 12, 22])
def test_relative_errors_stay_within_half_of_the_last_bit(bits: int) -> None:
    values = np.random.default_rng(0).normal(size=(3, 1000)).astype(np.float32)
    rounded = round_values(values, RoundingRule(mantissa_bits=bits))
    absolute, relative = measure_errors(values, rounded)
    exact = np.abs(rounded.astype(np.float64) - values)
    np.testing.assert_array_equal(absolute, exact.max(axis=1))
    np.testing.assert_array_equal(relative, (exact / np.abs(values.astype(np.float64))).max(axis=1))
    assert (relative <= 2.0 ** -(bits + 1)).all()
    assert (relative > 2.0 ** -(bits + 2)).all()


def test_missing_values_and_zeros_have_no_error() -> None:
    values = np.array([[np.nan, np.nan], [np.nan, 0.3], [0.0, 0.0]], dtype=np.float32)
    rounded = round_values(values, RoundingRule(mantissa_bits=2))
    (nothing, some, zero), relative = measure_errors(values, rounded)
    assert (nothing, zero, relative[0], relative[2]) == (0.0, 0.0, 0.0, 0.0)
    assert some == 0.3125 - np.float64(np.float32(0.3))
    assert relative[1] == some / np.float64(np.float32(0.3))
