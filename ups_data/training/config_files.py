"""Configurations as files: one with the base that it names, and overrides from a command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ups_data.errors import ConfigError
from ups_data.training.config import TrainConfig, merge_sections
from ups_data.training.original_keys import translate
from ups_data.yaml_records import parse_record, parse_yaml

_BASE = "base"


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file with the base that it names, and put overrides above it.

    A section `training` holds keys of the research that this project starts from, see `original_keys`.

    Args:
        path: its key `base` may name another file, relative to this one, whose keys hold where this one is silent.
        overrides: `section.key=value`, values as YAML reads them.

    Raises:
        ConfigError: a file that cannot be read, an unknown key (with the nearest valid one), a value out of range.
    """
    content = _read_with_base(path, ())
    for override in overrides:
        content = merge_sections(content, _parse_override(override))
    where = f"{path} with its overrides" if overrides else str(path)
    return parse_record(TrainConfig, translate(content, where=where), where=where)


def _parse_override(override: str) -> dict[str, Any]:
    key, found, value = override.partition("=")
    if not found or not all(key.split(".")):
        raise ConfigError(f"an override reads section.key=value, got {override!r}")
    content = parse_yaml(value, where=f"override {key}")
    for part in reversed(key.split(".")):
        content = {part: content}
    return content


def _read_with_base(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigError(f"{path} is its own base, by way of {', '.join(file.name for file in seen)}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {path} cannot be read: {error}") from error
    content = parse_yaml(text, where=str(path))
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold sections (data, sampler, model, ...)")
    base = content.pop(_BASE, None)
    if base is None:
        return content
    return merge_sections(_read_with_base(path.parent / str(base), (*seen, path.resolve())), content)
