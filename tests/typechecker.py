"""The checker that executes annotations while the tests run."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Self

import jaxtyping
from beartype import BeartypeConf, FrozenDict, beartype

check = beartype(
    conf=BeartypeConf(
        # An int may be given for a float (PEP 484), as mypy has it.
        is_pep484_tower=True,
        # jaxtyping decorates method by method; beartype knows Self only in decorated classes.
        hint_overrides=FrozenDict({Self: object}),
    )
)
_original = jaxtyping.jaxtyped


def jaxtyped(thing: Any = None, *, typechecker: Any) -> Any:
    """Check what `jaxtyping.jaxtyped` checks, at a fraction of its time.

    To tell more of an error it binds the arguments of every call and checks them twice. Most functions do without:
    beartype checks arguments and result once, within a context of axes of their own. They are decorated when they are
    first called, when every name that their module uses is there.
    """
    if thing is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if not inspect.isfunction(thing) or inspect.isgeneratorfunction(thing) or "<locals>" in thing.__qualname__:
        return _original(thing, typechecker=typechecker)
    checked: Callable[..., Any] | None = None
    context = _original("context")

    @functools.wraps(thing)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checked
        if checked is None:
            checked = check(thing) if knows_its_names(thing) else _original(thing, typechecker=typechecker)
        with context:
            return checked(*args, **kwargs)

    return call


def knows_its_names(function: Callable[..., Any]) -> bool:
    """Return whether all annotations can be evaluated; names that only type checkers import cannot."""
    try:
        inspect.get_annotations(function, eval_str=True)
    except (NameError, AttributeError):
        return False
    return True
