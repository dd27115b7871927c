"""The metric `error:CHECKPOINT`: its name, and which bytes it stands for.

What measures it lies above this package, with the models, and needs torch: `ups_data.inference.error_map` is imported
when a conversion asks for the metric, as the module of a `module:function` is, and never before.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from pathlib import Path

from ups_data.errors import ConfigError, SchemaError
from ups_data.importance.base import ImportanceMetric

ERROR = "error"
_NAME = re.compile(r"error:(?P<path>.+?)(?:@(?P<sha256>[0-9a-f]{64}))?")
_MODULE, _FUNCTION = "ups_data.inference.error_map", "error_metric"


def is_error(name: str) -> bool:
    """Tell whether a name asks for the errors of a checkpoint, whether or not it says of which."""
    return name.partition(":")[0] == ERROR


def check_error(name: str) -> None:
    """Refuse a name that does not say whose errors are meant.

    Raises:
        SchemaError: it names no checkpoint.
    """
    _parse(name)


def pin_error(name: str) -> str:
    """Return the name with the SHA-256 of the checkpoint behind its path: `error:PATH@SHA256`.

    A run that goes on writes other weights under the same path, and with them maps would be others.

    Raises:
        SchemaError: the name does not say which checkpoint.
        ConfigError: there is none, or it is not the one whose SHA-256 the name has already.
    """
    path, pinned = _parse(name)
    found = _sha256_of(name, path)
    if pinned is not None and found != pinned:
        raise ConfigError(
            f"importance metric {ERROR}:{path}: the checkpoint has the SHA-256 {found}, and {pinned} is asked for: it "
            f"was written again since, as by a run that went on; put the file back that the maps were measured with"
        )
    return f"{ERROR}:{path}@{found}"


def load_error(name: str) -> type[ImportanceMetric]:
    """Import what measures the errors of a checkpoint, and load the checkpoint; it is loaded once in a process.

    Raises:
        SchemaError: the name does not say which checkpoint.
        ConfigError: there is none, it cannot be read, or it is not the one that is pinned.
    """
    pinned = name if _parse(name)[1] is not None else pin_error(name)
    found: type[ImportanceMetric] = getattr(importlib.import_module(_MODULE), _FUNCTION)(pinned)
    return found


def path_of(name: str) -> Path:
    """Return the path of the checkpoint that a name says."""
    return Path(_parse(name)[0])


def _parse(name: str) -> tuple[str, str | None]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise SchemaError(
            f"importance metric {name!r} must name the checkpoint whose errors are meant, as in "
            f"error:runs/NAME/last.safetensors"
        )
    return match["path"], match["sha256"]


def _sha256_of(name: str, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(
            f"importance metric {name!r}: the checkpoint {path} cannot be read ({error.strerror}); paths are relative "
            f"to the folder that the command runs in, {Path.cwd()}"
        ) from error
