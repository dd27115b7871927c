"""Numbers and values as they are typed behind an option."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from ups_data.errors import ConfigError
from ups_data.yaml_records import parse_yaml

_Number = TypeVar("_Number", int, float)


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """Read `KEY=VALUE` options, values as YAML reads them: `true`, `0.01`, `xy`."""
    options = {}
    for pair in pairs:
        key, found, value = pair.partition("=")
        if not found or not key:
            raise ConfigError(f"--option must be KEY=VALUE, got {pair!r}")
        options[key] = parse_yaml(value, where=f"--option {key}")
    return options


def parse_recipe(text: str) -> dict[str, Any]:
    """Read metrics and other numbers of a recipe: `gradient,curvature=0.5,exponent=1.5`; a metric alone weighs 1."""
    recipe: dict[str, Any] = {}
    parts = (part if "=" in part or part in {"exponent", "floor"} else f"{part}=1" for part in text.split(","))
    for key, number in parse_numbers(",".join(parts), "--importance").items():
        group, _, member = key.partition(".")
        if key in {"exponent", "floor"}:
            recipe[key] = number
        elif group == "clip":
            recipe.setdefault(group, {})[member] = number
        else:
            recipe.setdefault("metrics", {})[key] = number
    return recipe


def parse_numbers(text: str, option: str) -> dict[str, float]:
    """Read `a=1,b=0.5`."""
    numbers: dict[str, float] = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"{option} must be NAME=NUMBER,NAME=NUMBER,..., got {text!r}")
        if not key.strip() or key.strip() in numbers:
            raise ConfigError(f"{option} must name every entry once, got {text!r}")
        numbers[key.strip()] = number
    return numbers


def parse_list(text: str, option: str, kind: Callable[[str], _Number]) -> tuple[_Number, ...]:
    """Read `1,0.5,0.1`."""
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{option} must be NUMBER,NUMBER,..., got {text!r}")
    return numbers
