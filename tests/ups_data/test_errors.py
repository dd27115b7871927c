"""The tree of errors is the one that is drawn, and names are suggested."""

import builtins
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ups_data.errors
from ups_data.errors import StoreNotFoundError, UpsDataError, suggest

DRAWN = re.findall(r"^( *(?:[│├└─ ]*))(\w+Error)(?: \((\w+)\))?", ups_data.errors.__doc__ or "", re.MULTILINE)


def test_the_tree_is_the_one_that_is_drawn() -> None:
    parents: dict[int, type] = {}
    seen = set()
    for indent, name, builtin in DRAWN:
        error = getattr(ups_data.errors, name)
        depth = len(indent)
        above = [parents[other] for other in sorted(parents) if other < depth]
        assert issubclass(error, above[-1] if above else Exception)
        if builtin:
            assert issubclass(error, getattr(builtins, builtin))
        parents = {other: kind for other, kind in parents.items() if other < depth} | {depth: error}
        seen.add(name)
    defined = {
        name
        for name, kind in vars(ups_data.errors).items()
        if isinstance(kind, type) and issubclass(kind, UpsDataError)
    }
    assert seen == defined


def test_an_error_is_caught_as_what_it_is_by_nature() -> None:
    for kind in (UpsDataError, FileNotFoundError, OSError):
        with pytest.raises(kind, match="nothing at"):
            raise StoreNotFoundError("nothing at /nowhere")
    assert str(StoreNotFoundError("nothing at /nowhere")) == "nothing at /nowhere"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("presure", "Did you mean 'pressure'? Valid names: pressure, velocity."),
        ("q", "Valid names: pressure, velocity."),
        ("", "Valid names: pressure, velocity."),
    ],
)
def test_suggestions(name: str, text: str) -> None:
    assert suggest(name, ["velocity", "pressure"]) == text


def test_nothing_to_suggest() -> None:
    assert suggest("u", []) == "Valid names: (none)."


@given(st.lists(st.text(min_size=1), min_size=1, unique=True), st.data())
def test_a_valid_name_is_its_own_nearest(names: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(names))
    assert suggest(name, names).startswith(f"Did you mean {name!r}? ")
