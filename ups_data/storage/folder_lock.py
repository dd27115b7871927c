"""Hold a folder, alone or together with others, by a lock on a file in it; it ends with the process, however that ends.

The lock is on a file and not on the folder itself, since network file systems lock only what is open for writing. Where
a file system has no locks at all, nobody is kept out.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Literal

LOCK_NAME = "lock"

Holders = Literal["nobody", "one", "several", "unknown"]
"""Who holds a folder: one alone, several together (or one of several), or nobody can tell."""


def hold_folder(folder: Path, *, shared: bool, wait_s: float) -> int | None:
    """Make a folder and hold it.

    Args:
        folder: it is made where it is not there, and again where its holder removes it meanwhile.
        shared: hold it together with others who do, too.
        wait_s: how long to wait for those who hold it.

    Returns:
        A descriptor that holds it until it and all its copies are closed; None on file systems without locks.

    Raises:
        BlockingIOError: somebody else holds it; names the process if it left its name.
        OSError: the folder cannot be made or written.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            # Its holder removed it between the refusal to make it and the look at what is there, or it is no folder.
            if os.path.lexists(folder) and not folder.is_dir():
                raise
            continue
        try:
            descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            # Its holder removed it after it was found here.
            continue
        try:
            held = _try_lock(descriptor, folder, shared=shared)
        except OSError:
            os.close(descriptor)
            return None
        if held:
            _leave_name("" if shared else f"process {os.getpid()} on {socket.gethostname()}\n", descriptor)
            return descriptor
        os.close(descriptor)
        if time.monotonic() >= deadline:
            raise BlockingIOError(describe_holder(folder))
        time.sleep(min(0.02, wait_s))


def remove_held(folder: Path) -> None:
    """Remove a folder that the caller holds alone, as far as that can be done.

    The lock goes last: once it is gone somebody else may hold the folder, and what lay there is theirs.
    """
    try:
        for left in folder.iterdir():
            if left.name == LOCK_NAME:
                continue
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        (folder / LOCK_NAME).unlink(missing_ok=True)
        folder.rmdir()
    except OSError:
        # Not empty: somebody else began there, or what is left cannot be removed.
        return


def find_holders(folder: Path) -> Holders:
    """Tell who holds a folder, without keeping anybody out for longer than a moment."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        return "nobody"
    except OSError:
        return "unknown"
    try:
        if not _take(descriptor, fcntl.LOCK_SH):
            return "one"
        return "nobody" if _take(descriptor, fcntl.LOCK_EX) else "several"
    except OSError:
        return "unknown"
    finally:
        os.close(descriptor)


def describe_holder(folder: Path) -> str:
    """Return the process that holds a folder alone, as it named itself; empty where it did not."""
    try:
        return (folder / LOCK_NAME).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _try_lock(descriptor: int, folder: Path, *, shared: bool) -> bool:
    if not _take(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
        return False
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(folder / LOCK_NAME))
    except FileNotFoundError:
        # Whoever held it removed the folder, and this file with it.
        return False


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _leave_name(name: str, descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, name.encode(), 0)
