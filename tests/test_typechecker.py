"""The checker of annotations refuses what jaxtyping's own decorator refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float64, Int64

from tests.typechecker import check, jaxtyped


def plain(count: int, name: str = "") -> list[int]:
    return name or [count]  # type: ignore[return-value]  # the wrong result that must be caught


def pair(points: Int64[np.ndarray, " query"], weights: Float64[np.ndarray, " query"]) -> Float64[np.ndarray, " query"]:
    return weights[: len(points) if points[0] else 1]


def outer(points: Int64[np.ndarray, " query"]) -> Float64[np.ndarray, " query"]:
    """Axes of a call within have nothing to do with those outside."""
    CHECKED["pair"](np.ones(5, dtype=np.int64), np.ones(5))
    return np.ones(len(points))


CHECKED: dict[str, Callable[..., Any]] = {
    function.__name__: jaxtyped(typechecker=check)(function) for function in (plain, pair, outer)
}
ONES, ZEROS = np.ones(3, dtype=np.int64), np.zeros(3, dtype=np.int64)


@pytest.mark.parametrize(
    ("name", "arguments", "sound"),
    [
        ("plain", (1,), True),
        ("plain", ("1",), False),
        ("plain", (1, "a wrong result"), False),
        ("pair", (ONES, np.ones(3)), True),
        ("pair", (ONES, np.ones(4)), False),
        ("pair", (ONES, np.ones((3, 1))), False),
        ("pair", (ONES, ONES), False),
        ("pair", (ZEROS, np.ones(3)), False),
        ("outer", (ONES,), True),
    ],
)
def test_both_refuse_the_same(name: str, arguments: tuple[Any, ...], sound: bool) -> None:
    original = jaxtyping._decorator.jaxtyped(typechecker=check)({"plain": plain, "pair": pair, "outer": outer}[name])
    if sound:
        np.testing.assert_array_equal(CHECKED[name](*arguments), original(*arguments))
        return
    for function, error in ((CHECKED[name], BeartypeCallHintViolation), (original, jaxtyping.TypeCheckError)):
        with pytest.raises(error):
            function(*arguments)


def test_the_packages_are_checked_so() -> None:
    assert jaxtyping.jaxtyped is jaxtyped
