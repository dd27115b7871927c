"""Options that several verbs have: types of single ones, and records of those that belong together."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what lies at the destination.")]
StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="A finished store.")]


def with_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Let a verb take records of options: a parameter whose type is a dataclass becomes the options of its fields.

    Typer reads the options of a verb from its signature. What several verbs take is written once, as a record whose
    fields are annotated as Typer's parameters are, and every verb that takes it gets it whole.
    """
    hints = get_type_hints(verb, include_extras=True)
    records: dict[str, type[Any]] = {}
    expanded: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(verb).parameters.items():
        if is_dataclass(hints[name]):
            records[name] = hints[name]
            expanded += _parameters(hints[name])
        else:
            expanded.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(verb)
    def gathered(**typed: Any) -> None:
        for name, record in records.items():
            typed[name] = record(**{field.name: typed.pop(field.name) for field in fields(record)})
        verb(**typed)

    gathered.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]  # what `inspect` asks first
    gathered.__annotations__ = {parameter.name: parameter.annotation for parameter in expanded}
    return gathered


def _parameters(record: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(record, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(record)
    ]
