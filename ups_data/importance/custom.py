"""Metrics of the user's own, named `module:function`; imported when a conversion asks for them, never before."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable

from ups_data.errors import ConfigError
from ups_data.importance.base import Geometry, ImportanceMetric, Subject

FunctionFactory = Callable[[Geometry, Subject], ImportanceMetric]
"""A function that makes the metric of one trajectory, where the class itself does not."""


def is_custom(name: str) -> bool:
    """Tell whether a name has the form `package.module:function`."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))


def load_factory(name: str) -> type[ImportanceMetric] | FunctionFactory:
    """Import the factory `module:function`, and hold what it makes against the contract of a metric.

    Raises:
        ConfigError: no such module or function, a module that fails, or a thing that is no metric; names it.
    """
    module, _, path = name.partition(":")
    try:
        found: object = importlib.import_module(module)
    except Exception as error:
        raise ConfigError(
            f"importance metric {name!r}: module {module!r} cannot be imported ({type(error).__name__}: {error}). "
            f"Install it, or put its folder on PYTHONPATH"
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"importance metric {name!r}: module {module!r} has no {path!r}")
        found = getattr(found, part)
    if isinstance(found, type) and issubclass(found, ImportanceMetric):
        return found
    if isinstance(found, type) or not callable(found) or not _takes_two(found):
        kind = "a class" if isinstance(found, type) else f"of type {type(found).__name__}"
        raise ConfigError(
            f"importance metric {name!r} is {kind} and no metric: name a subclass of "
            f"ups_data.importance.ImportanceMetric, or a function (geometry, subject) that returns an instance of one"
        )
    return _held_to_contract(name, found)


def _takes_two(function: Callable[..., object]) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # some functions written in C do not tell what they take
        return True
    return True


def _held_to_contract(name: str, function: Callable[..., object]) -> FunctionFactory:
    def make(geometry: Geometry, subject: Subject) -> ImportanceMetric:
        metric = function(geometry, subject)
        if not isinstance(metric, ImportanceMetric):
            raise ConfigError(
                f"importance metric {name!r} returned a {type(metric).__name__} where an instance of "
                f"ups_data.importance.ImportanceMetric must come"
            )
        return metric

    return make
