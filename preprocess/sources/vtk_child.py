"""The processes that read files of VTK, whose own readers may crash, hang or take all memory where a file is damaged.

The first of them, started by `vtk_process`, imports VTK and reads nothing: it forks a reader, which takes requests from
their standard input, a line of JSON each, and answers on their standard output. After an error a reader is replaced, as
it may have damaged itself; when it crashes, the first one ends in the same way.

They end by themselves: at the end of their input, at the deadline of a file, and with the process that started them,
also while they hang in code that lets no Python run. The last they learn from a pipe of its own, to which nobody ever
writes: on the pipe of requests, the signal for a request may come once the file that it asks for is being read.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import resource
import select
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from preprocess.sources.vtk_files import import_pyvista, read_collection, read_vtk
from preprocess.sources.vtk_messages import ArrayMap, pack_file, write_message
from ups_data.errors import SourceError, UnknownFormatError

_MAX_LOG_BYTES = 2**20
_STATM = Path("/proc/self/statm")
_SOUND = """# vtk DataFile Version 3.0
a triangle
ASCII
DATASET POLYDATA
POINTS 3 float
0 0 0 1 0 0 0 1 0
POLYGONS 1 4
3 0 1 2
POINT_DATA 3
SCALARS p float 1
LOOKUP_TABLE default
1 2 3
"""
# Exit status of a reader that wants to be replaced.
_REPLACE = 3


def main(lifeline: int) -> None:
    """Answer requests until there are no more.

    Args:
        lifeline: the end of a pipe that closes with the process that asks.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Reports of a damaged file that never end must not fill a disk; what is beyond this is not written.
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_LOG_BYTES, _MAX_LOG_BYTES))
    with contextlib.suppress(UnknownFormatError):  # pyvista is not installed: each request is told
        _warm_up()
    while reader := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1])
        if code != _REPLACE:
            _end_like(code)
    _end_with(lifeline)
    _serve()


def _warm_up() -> None:
    """Have VTK load what it reads with, once for all readers to come."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "triangle.vtk"
        path.write_text(_SOUND)
        read_vtk(path)


def _serve() -> None:
    with os.fdopen(os.dup(1), "wb") as answers:
        # What VTK prints must not get between the answers.
        os.dup2(2, 1)
        while line := sys.stdin.buffer.readline():
            request = json.loads(line)
            with _deadline(request["seconds"]):
                if not _answer(answers, request):
                    # Taking Python and VTK down in order would take longer than to begin again.
                    os._exit(_REPLACE)


def _end_with(lifeline: int) -> None:
    """Have this process end when the other end of a pipe closes; the signal's own action needs no Python."""
    # Elsewhere than on Linux this signal ends nothing, and the deadline alone does.
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it closed before
        sys.exit()


def _end_like(code: int) -> None:
    if code < 0:
        if -code not in {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _answer(answers: io.BufferedIOBase, request: dict[str, Any]) -> bool:
    """Answer a request; return whether the file was sound."""
    header: dict[str, Any]
    arrays: ArrayMap = {}
    path = Path(request["path"])
    try:
        import_pyvista(path)
        with _bounds(request["bytes"]):
            if request["what"] == "collection":
                header = {"steps": [[time, str(file)] for time, file in read_collection(path)]}
            else:
                header, arrays = pack_file(read_vtk(path, block=request["block"]))
    except UnknownFormatError as error:
        header = {"unknown": str(error)}
    except SourceError as error:
        header = {"error": str(error)}
    except MemoryError:
        header = {"error": f"{path} is damaged, or stands for more than {request['bytes']} bytes of memory"}
    write_message(answers, header, arrays)
    return "unknown" not in header and "error" not in header


@contextlib.contextmanager
def _deadline(seconds: int) -> Iterator[None]:
    """End this process when the time is over: the alarm's own action needs no Python."""
    signal.alarm(seconds)
    yield
    signal.alarm(0)


@contextlib.contextmanager
def _bounds(num_bytes: int) -> Iterator[None]:
    """Let the process take no more memory than that."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if _STATM.exists():
        taken = int(_STATM.read_text().split()[0]) * resource.getpagesize()
        limit = taken + num_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
