"""The errors that ups_data raises, one tree, each also the natural builtin.

    UpsDataError
    ├── SchemaError (ValueError)          a manifest, field, axis or record breaks a rule
    ├── ConfigError (ValueError)          a configuration file or override is wrong
    ├── SourceError (ValueError)          a source file is not what it claims, or carries bad values
    │   └── UnknownFormatError            no source recognises it, or several do
    ├── StoreError (OSError)
    │   ├── StoreNotFoundError (FileNotFoundError)   nothing finished to open there
    │   ├── StoreExistsError (FileExistsError)       the destination is taken
    │   ├── RemoteError (ConnectionError)            a service gave no usable answer within the limits
    │   └── CorruptionError               bytes differ from what was written
    ├── SamplerError (ValueError)         a sampler cannot draw what was asked
    ├── DatasetError (ValueError)         a window, split or field selection that cannot be served
    ├── StateError (ValueError)           a saved state that belongs to something else
    ├── WorkerError (RuntimeError)        a worker process is gone, hangs or failed
    └── TrainingError (RuntimeError)      a training run that must not go on

Every message says what was wrong, the value against the rule, where, and how to mend it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UpsDataError(Exception):
    """Base of every error that this project raises on purpose."""


class SchemaError(UpsDataError, ValueError):
    """A manifest, field, axis or record breaks a rule of the schema."""


class ConfigError(UpsDataError, ValueError):
    """A configuration file, key or override is wrong."""


class SourceError(UpsDataError, ValueError):
    """A source file is not what it claims to be, or carries values that must not be converted."""


class UnknownFormatError(SourceError):
    """No source recognises a file, or more than one does."""


class StoreError(UpsDataError, OSError):
    """A store cannot be read or written."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is no finished store at the given place."""


class StoreExistsError(StoreError, FileExistsError):
    """The destination of a conversion is already taken."""


class RemoteError(StoreError, ConnectionError):
    """A remote store gave no usable answer within the configured attempts and deadline."""


class CorruptionError(StoreError):
    """The bytes of a store differ from what its writer committed."""


class SamplerError(UpsDataError, ValueError):
    """A sampler cannot draw exactly what was asked of it."""


class DatasetError(UpsDataError, ValueError):
    """A window, split or selection of fields cannot be served by the store."""


class StateError(UpsDataError, ValueError):
    """A saved state belongs to another store, dataset or loader."""


class WorkerError(UpsDataError, RuntimeError):
    """A process that a conversion or a loader handed work to died, hangs or failed before it was done."""


class TrainingError(UpsDataError, RuntimeError):
    """A training run met something that it must not train through."""


def suggest(name: str, valid: Iterable[str]) -> str:
    """Say which names are valid and which of them is nearest to `name`, as the tail of a message."""
    names = sorted(valid)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
    return f"{hint}Valid names: {', '.join(names) if names else '(none)'}."
