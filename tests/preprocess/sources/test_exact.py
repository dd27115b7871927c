"""The stored type holds every value of the source, or the source is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from preprocess.sources.exact import exact_cast, stored_dtype
from ups_data.errors import SourceError

EXACT = [np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float16, np.float32, np.float64]


@pytest.mark.parametrize(
    ("dtypes", "stored"),
    [
        (["bool"], "float32"),
        (["bool", "float32"], "float32"),
        (["int16", "uint8", "float16"], "float32"),
        ([">f4"], "float32"),
        (["int32", "float32"], "float64"),
        (["float32", "float64"], "float64"),
        (["int64"], "float64"),
        ([], "float32"),
    ],
)
def test_stored_type(dtypes: list[str], stored: str) -> None:
    found = stored_dtype(map(np.dtype, dtypes), where="f")
    assert found == np.dtype(stored)
    assert found.isnative


@pytest.mark.parametrize("dtype", ["complex64", "U3", "S3", "O", "datetime64[s]"])
def test_refuses_what_is_no_number(dtype: str) -> None:
    with pytest.raises(SourceError, match=r"f.npy holds .* where real numbers must stand"):
        stored_dtype([np.dtype(dtype)], where="f.npy")


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is double here")
def test_refuses_what_is_wider_than_float64() -> None:
    with pytest.raises(SourceError, match="neither float32 nor float64 holds exactly"):
        stored_dtype([np.dtype(np.longdouble)], where="f.npy")


@given(st.sampled_from(EXACT).flatmap(lambda dtype: hnp.arrays(dtype, 5)))
def test_cast_keeps_every_value(values: np.ndarray) -> None:
    cast = exact_cast(values, stored_dtype([values.dtype], where="f"), where="f")
    np.testing.assert_array_equal(cast.astype(values.dtype), values)


def test_cast_refuses_integers_that_float64_rounds() -> None:
    values = np.array([[1, 2**53], [2**53 + 1, 0]])
    with pytest.raises(SourceError, match=r"f.npy holds the integer 9007199254740993 at \(1, 0\)"):
        exact_cast(values, np.dtype("float64"), where="f.npy")
    assert exact_cast(values[:1], np.dtype("float64"), where="f.npy")[0, 1] == 2.0**53
    with pytest.raises(SourceError, match="beyond 2"):
        exact_cast(np.array([2**63], dtype=np.uint64), np.dtype("float64"), where="f.npy")


def test_cast_gives_native_byte_order() -> None:
    cast = exact_cast(np.array([1.5], dtype=">f4"), np.dtype("float32"), where="f")
    assert cast.dtype.isnative
    assert cast[0] == 1.5
