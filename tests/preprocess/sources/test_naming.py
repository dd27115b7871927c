"""Names of a source are held to what a store can name."""

import pytest

from preprocess.sources.naming import check_name, name_field, storable_name
from ups_data.errors import SourceError
from ups_data.schema import FieldSpec


def test_good_names_pass() -> None:
    assert check_name("D_xx", where="f") == "D_xx"
    assert name_field("u", ("x", "y"), unit="m/s", where="f") == FieldSpec(name="u", components=("x", "y"), unit="m/s")


@pytest.mark.parametrize("name", ["", "two words", "a/b", "1st", "x" * 129])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(SourceError, match=r"a.h5: t0_fields: .* is no valid name: a letter first"):
        check_name(name, where="a.h5: t0_fields")


def test_components_must_be_distinct() -> None:
    with pytest.raises(SourceError, match=r"f: field 'u' needs one or more distinct components, got \('x', 'x'\)"):
        name_field("u", ("x", "x"), where="f")


def test_names_that_begin_with_a_digit_are_made_storable() -> None:
    assert [storable_name(name) for name in ("2t", "10u", "t2m", "")] == ["var_2t", "var_10u", "t2m", ""]
