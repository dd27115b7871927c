"""What YAML text becomes, and how a record refuses what it does not know."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ups_data.errors import ConfigError
from ups_data.schema import AxisSpec, GeometrySpec
from ups_data.yaml_records import parse_record, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-2.5E+4", -2.5e4),
        (".5", 0.5),
        ("7", 7),
        ("true", True),
        ("null", None),
        ("", None),
        ("no", "no"),
        ("yes", "yes"),
        ("2020-01-01", "2020-01-01"),
        ("'1e-3'", "1e-3"),
        ("0x10", "0x10"),
        ("x", "x"),
    ],
)
def test_scalars_are_those_of_json(text: str, value: object) -> None:
    found = parse_yaml(text, where="f.yaml")
    assert found == value
    assert type(found) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_comes_back(value: float) -> None:
    assert float(parse_yaml(repr(value), where="f.yaml")) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", r"f.yaml is not valid YAML: key 'a' stands twice \(line 2, column 1\)"),
        ("a: &x 1\nb: *x", "aliases are not read here"),
        ("1: a", "key 1 must be text; write it in quotes"),
        ("a: [1, 2", "f.yaml is not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: !!python/name:os.system ''", "could not determine a constructor"),
        ("[" * 5000, "nested too deeply|not valid YAML"),
        ("a" * (2**20 + 1), "1048577 characters long; a description has at most 1048576"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, where="f.yaml")


def test_record_names_the_nearest_key() -> None:
    content = {"kind": "grid", "axes": [{"name": "x", "lower": 0, "upper": 1, "unti": "m"}]}
    with pytest.raises(ConfigError, match=r"f.yaml, in axes.0, has the unknown key 'unti'. Did you mean 'unit'\?"):
        parse_record(GeometrySpec, content, where="f.yaml")


def test_a_misspelt_key_is_told_before_the_one_that_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"has the unknown key 'uper'. Did you mean 'upper'\?"):
        parse_record(AxisSpec, {"name": "x", "lower": 0, "uper": 1}, where="f.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "x", "lower": 0}, "f.yaml lacks the key 'upper'"),
        ({"name": "x", "lower": "0", "upper": 1}, "f.yaml: lower: Input should be a valid number, got '0'"),
        ({"name": "x", "lower": 2, "upper": 1}, "f.yaml: the top level: axis 'x': lower=2.0 must be less than upper"),
        ({"name": "x", "lower": 0, "upper": float("nan")}, "f.yaml holds a value that cannot be read"),
        ([1], "f.yaml must hold keys and values, it holds a list"),
        (None, "f.yaml must hold keys and values, it holds nothing"),
    ],
)
def test_record_refuses(content: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_record(AxisSpec, content, where="f.yaml")
