"""Exchange two names of a file system at once, where the system can."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def exchange_names(one: Path, other: Path) -> bool:
    """Let two existing names change places; at no moment is either of them missing.

    Returns:
        False where the system or the file system cannot do that, and then nothing was changed.

    Raises:
        OSError: a name is missing, or may not be changed.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if isinstance(OSError(number, ""), (FileNotFoundError, PermissionError)):
        raise OSError(number, os.strerror(number), str(one), None, str(other))
    return False
