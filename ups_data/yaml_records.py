"""YAML text to strict records: one place that says how a description or a configuration is read.

PyYAML follows YAML 1.1, where `1e-3` is text, `no` is false and `2020-01-01` a date. Here only what JSON knows is
anything but text: numbers (`1e-3` among them), `true`, `false` and `null`. Aliases and repeated keys are refused.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import pydantic
import yaml

from ups_data.errors import ConfigError, suggest

_RecordT = TypeVar("_RecordT", bound=pydantic.BaseModel)

_MAX_CHARACTERS = 2**20
_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL", "~nN"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return what PyYAML asks for: by first character, the tags that a plain scalar may get."""
    resolvers = {"": [("tag:yaml.org,2002:null", re.compile(r"$"))]}
    for tag, pattern, firsts in _SCALARS:
        for first in firsts:
            entry = (f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})$"))
            resolvers.setdefault(first, []).append(entry)
    return resolvers


class _StrictLoader(yaml.SafeLoader):
    """Reads the JSON subset of YAML's types, without aliases and without repeated keys."""

    yaml_implicit_resolvers = _resolvers()

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # the stubs deny a root's None
        """Refuse aliases: a few of them nested make gigabytes out of a kilobyte."""
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # no types published
            raise yaml.composer.ComposerError(None, None, "aliases are not read here", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse keys that are no text or stand twice."""
        content: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                message = f"key {key!r} must be text; write it in quotes"
                raise yaml.constructor.ConstructorError(None, None, message, key_node.start_mark)
            if key in content:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            content[key] = self.construct_object(value_node, deep=deep)
        return content


def parse_yaml(text: str, *, where: str) -> Any:
    """Parse YAML text; see the module's docstring for what differs from PyYAML.

    Args:
        text: at most 1 MiB of it.
        where: the file, for messages.

    Raises:
        ConfigError: not valid YAML; names `where`, line and column.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ConfigError(f"{where} is {len(text)} characters long; a description has at most {_MAX_CHARACTERS}")
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506  a SafeLoader that reads less than safe_load
    except RecursionError as error:
        raise ConfigError(f"{where} is nested too deeply") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {_one_line(error)}") from error


def parse_record(record: type[_RecordT], content: Any, *, where: str) -> _RecordT:
    """Check parsed content against a pydantic record.

    Raises:
        ConfigError: a key that the record does not have (with the nearest it has), one that is missing, or a value
            that breaks its rule; names `where` and the key.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where} must hold keys and values, it holds {_kind_of(content)}")
    try:
        # JSON mode: lists become tuples and numbers stay numbers, nothing else is coerced by strict records.
        return record.model_validate_json(json.dumps(content, allow_nan=False))
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(record, error, where)) from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} holds a value that cannot be read: {error}") from error


def form(name: str) -> pydantic.Tag:
    """Return the tag of one form of a value that may be written in several, whose name errors do not tell."""
    return pydantic.Tag(f"({name})")


_SHOWN = 200
"""Characters of a value that messages show."""


def _explain(record: type[pydantic.BaseModel], error: pydantic.ValidationError, where: str) -> str:
    # A misspelt key is missing under its right name too: what was typed is told first.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    path = tuple(str(part) for part in first["loc"] if not _is_form(part))
    place = ".".join(path) or "the top level"
    if first["type"] == "extra_forbidden":
        parent = f"{where}, in {'.'.join(path[:-1])}," if path[:-1] else where
        return f"{parent} has the unknown key {path[-1]!r}. {suggest(path[-1], _keys_at(record, path[:-1]))}"
    if first["type"] == "missing":
        return f"{where} lacks the key {place!r}"
    message = first["msg"].removeprefix("Value error, ")
    given = repr(first["input"])
    if isinstance(first["input"], Mapping) and len(given) > _SHOWN:
        return f"{where}: {place}: {message}"  # a rule about several keys of a record, of which the rest would be shown
    return f"{where}: {place}: {message}, got {given[:_SHOWN]}"


def _is_form(part: int | str) -> bool:
    """Whether a part of a place is none of the content, but the form of a value that has several, see `form`."""
    return isinstance(part, str) and part.startswith("(")


def _keys_at(record: type[pydantic.BaseModel], path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the keys of the record that lies at `path` inside of `record`."""
    for part in path:
        if part in record.model_fields:
            inner = next(_records_in(record.model_fields[part].annotation), None)
            if inner is not None:
                record = inner
    return tuple(record.model_fields)


def _records_in(annotation: Any) -> Iterator[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _records_in(argument)


def _kind_of(content: Any) -> str:
    return "nothing" if content is None else f"a {type(content).__name__}"


def _one_line(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    mark = error.problem_mark
    place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
    return f"{error.problem or error.context}{place}"
