"""Files of VTK read in a process of its own, so that damage which VTK does not survive is an error like any other.

One process serves all files that this one reads. It is started with the first, again after a crash, and ends with this
process; see `vtk_child`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from preprocess.sources.vtk_files import VtkFile
from preprocess.sources.vtk_messages import ArrayMap, read_message, unpack_file
from ups_data.errors import SourceError, UnknownFormatError

_MIB, _GIB = 2**20, 2**30
_COMMAND = "from preprocess.sources.vtk_child import main; main({lifeline})"
# Threads would only take address space, which is bounded; workers of a conversion have a process each anyway.
_ONE_THREAD = {"VTK_SMP_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# The other end ends itself so much later, where this one did not live to do it.
_GRACE_S = 5
_LOG_TAIL = 4096


@dataclass(frozen=True, kw_only=True)
class ReadLimits:
    """What reading a file may take.

    Attributes:
        start_s: seconds for a new process to begin in.
        file_s, mib_s: seconds for any file, and more for each MiB of it.
        file_bytes, expansion: bytes of memory for any file, and more for each byte of it, as files may be compressed;
            never more than the machine has.
    """

    start_s: float = 60.0
    file_s: float = 60.0
    mib_s: float = 2.0
    file_bytes: int = 4 * _GIB
    expansion: int = 200

    def seconds(self, size: int) -> float:
        """Return the seconds that a file of `size` bytes may take."""
        return self.file_s + self.mib_s * size / _MIB

    def memory(self, size: int) -> int:
        """Return the bytes that reading a file of `size` bytes may take."""
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return min(self.file_bytes + self.expansion * size, machine)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Child:
    """A process that runs.

    Attributes:
        process: it.
        log: what it writes on its standard error.
        lifeline: the end of a pipe to which nobody writes; it closes with the process that started this one.
        parent: number of that process.
    """

    process: subprocess.Popen[bytes]
    log: IO[bytes]
    lifeline: int
    parent: int


class VtkProcess:
    """Reads files of VTK elsewhere, one at a time; errors that `vtk_files` raises there are raised here."""

    def __init__(self, limits: ReadLimits | None = None) -> None:
        self._limits = ReadLimits() if limits is None else limits
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._end: Callable[[], object] | None = None

    @property
    def pid(self) -> int | None:
        """Number of the process, and of the group that it begins; None where none was started."""
        return None if self._child is None else self._child.process.pid

    def read_file(self, path: Path, *, block: str | None) -> VtkFile:
        """Read one file.

        Raises:
            UnknownFormatError: as `vtk_files.read_vtk`.
            SourceError: so too; or VTK's reader crashed, did not come to an end, or took too much memory.
        """
        with self._lock:
            header, arrays = self._ask("file", path, block)
        return unpack_file(header, arrays, path)

    def read_collection(self, path: Path) -> tuple[tuple[float, Path], ...]:
        """Return times and files of a `.pvd` collection, in the order of time.

        Raises:
            SourceError: as `vtk_files.read_collection`, or as `read_file`.
        """
        with self._lock:
            header, _ = self._ask("collection", path, None)
        return tuple((float(time), Path(file)) for time, file in header["steps"])

    def close(self) -> None:
        """End the process, if one runs."""
        if self._end is not None:
            self._end()
        self._child, self._end = None, None

    def _ask(
        self, what: Literal["file", "collection"], path: Path, block: str | None
    ) -> tuple[dict[str, Any], ArrayMap]:
        size = path.stat().st_size
        seconds, memory = self._limits.seconds(size), self._limits.memory(size)
        if self._child is not None and self._child.process.poll() is not None:
            self.close()
        waiting = seconds + (self._limits.start_s if self._child is None else 0.0)
        request = {
            "what": what,
            "path": str(path),
            "block": block,
            "seconds": round(waiting) + _GRACE_S,
            "bytes": memory,
        }
        child = self._start() if self._child is None else self._child
        try:
            header, arrays = _exchange(child, request, time.monotonic() + waiting)
        except TimeoutError as error:
            self.close()
            raise SourceError(
                f"{path} is damaged, or hard to read: VTK's reader did not come to an end in {waiting:.0f} s, and "
                f"{self._limits.file_s:.0f} s and {self._limits.mib_s:g} s a MiB are enough for sound files"
            ) from error
        except (EOFError, BrokenPipeError) as error:
            reason = _explain_end(child)
            self.close()
            raise SourceError(f"{path} {reason}; {memory / _GIB:.1f} GiB of memory were allowed") from error
        except ValueError as error:
            self.close()
            raise SourceError(f"{path} is damaged: VTK's reader told {error}") from error
        except BaseException:
            # Half an answer would be taken for the beginning of the next.
            self.close()
            raise
        if "unknown" in header:
            raise UnknownFormatError(header["unknown"])
        if "error" in header:
            raise SourceError(header["error"])
        return header, arrays

    def _start(self) -> _Child:
        log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        theirs, ours = os.pipe()
        try:
            process = subprocess.Popen(
                # -P: only what this process imports from, not also the folder that it stands in.
                [sys.executable, "-P", "-c", _COMMAND.format(lifeline=theirs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                process_group=0,
                pass_fds=[theirs],
                env={
                    **os.environ,
                    **_ONE_THREAD,
                    "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
                },
            )
        except BaseException:
            os.close(ours)
            log.close()
            raise
        finally:
            os.close(theirs)
        self._child = _Child(process=process, log=log, lifeline=ours, parent=os.getpid())
        self._end = weakref.finalize(self, _finish, self._child)
        return self._child


def shared_process() -> VtkProcess:
    """Return the one that sources of this process share."""
    return _process_of(os.getpid())


@functools.cache
def _process_of(pid: int) -> VtkProcess:  # noqa: ARG001  a fork must not talk on the pipes of the process that it left
    return VtkProcess()


def _exchange(child: _Child, request: dict[str, Any], deadline: float) -> tuple[dict[str, Any], ArrayMap]:
    requests, answers = child.process.stdin, child.process.stdout
    assert requests is not None
    assert answers is not None
    requests.write(json.dumps(request).encode() + b"\n")
    descriptor = answers.fileno()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)

    def read_into(view: memoryview) -> None:
        while view:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(1000 * left):
                raise TimeoutError
            count = os.readv(descriptor, [view])
            if count == 0:
                raise EOFError
            view = view[count:]

    return read_message(read_into, request["bytes"])


def _explain_end(child: _Child) -> str:
    """Say how a process ended that closed its end."""
    try:
        code = child.process.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        return "could not be read: the process that reads files of VTK closed its output"
    child.log.seek(max(0, child.log.seek(0, os.SEEK_END) - _LOG_TAIL))
    lines = child.log.read().decode(errors="replace").split("\n")
    last = " ".join(next((line for line in reversed(lines) if line.strip()), "it said nothing").split())[:300]
    if code == -signal.SIGKILL:
        return "could not be read: the process that reads files of VTK was killed, as happens where memory runs out"
    if code < 0:
        return f"is damaged: VTK's reader crashed on it ({signal.Signals(-code).name}: {last})"
    return f"could not be read: the process that reads files of VTK failed ({last})"


def _finish(child: _Child) -> None:
    # A fork of the process that started it only lets go of it.
    if os.getpid() == child.parent:
        # Its whole group: a reader that hangs outlives the process that forked it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
    os.close(child.lifeline)
    for stream in (child.process.stdin, child.process.stdout, child.log):
        if stream is not None:
            stream.close()
