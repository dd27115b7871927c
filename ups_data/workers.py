"""Worker processes that fail: told by an error of ours, and none of them left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from ups_data.collate import SparseBatch
from ups_data.errors import WorkerError

_SHARED_MEMORY = Path("/dev/shm")  # of Linux; elsewhere the names are not listed
_HINTS = {int(signal.SIGKILL): " (is this machine short of memory?)"}


class _ChildSignal:
    """The SIGCHLD handler of torch, which raises wherever the main thread is when a worker dies, with our error."""

    def __init__(self) -> None:
        self.torch_handler: Callable[[int, FrameType | None], Any] | None = None
        self.is_silent = False  # while workers are ended on purpose

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.is_silent or self.torch_handler is None:
            return
        try:
            self.torch_handler(number, frame)
        except RuntimeError as error:
            raise WorkerError(f"a worker process is gone: {error}") from error


_CHILD_SIGNAL = _ChildSignal()  # one, as there is one handler of a signal in a process


def begin_worker(then: Callable[[int], None] | None, number: int) -> None:
    """Have this worker process end with the one that it serves, however that one ends, and call `then`.

    Torch's own watch compares the number of the parent with what it was: behind a fork server that is the server's,
    which lives as long as a worker does.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if then is not None:
        then(number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def spare_garbage() -> Iterator[None]:
    """Let workers that are forked inside not collect what this process left behind.

    A forked process has a copy of all objects. Were its collector to find some that nothing refers to any more, it
    would end them a second time: memory of a GPU ends such a worker (CUDA knows no forks), a DataLoader's iterator
    complains. Objects that are frozen are never collected; this process goes on to collect them afterwards.
    """
    frozen_before = gc.get_freeze_count() > 0
    gc.freeze()
    try:
        yield
    finally:
        if not frozen_before:  # by somebody who wants to keep it so
            gc.unfreeze()


def watch_workers() -> None:
    """Let torch's error about a dead worker be a `WorkerError`; call it once workers run.

    Torch raises it from a signal handler, so as soon as the worker dies, wherever the main thread is. It sets its
    handler once in the life of a process, and Lightning takes it away again after every `fit`: it is put back here.
    Signals belong to the main thread: in any other one nothing happens, and the error is raised where the next batch is
    waited for, up to 5 seconds later.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    present, ours = signal.getsignal(signal.SIGCHLD), _CHILD_SIGNAL
    if callable(present) and ours.torch_handler is None:
        ours.torch_handler = present
    elif callable(present):
        return  # ours, or one of somebody else that calls ours
    if ours.torch_handler is not None:
        signal.signal(signal.SIGCHLD, ours)


def describe_deaths(batches: Iterator[list[SparseBatch]]) -> str:
    """Say which workers of a DataLoader's iterator are dead, and of what; an empty text where all live."""
    codes = {worker.pid: worker.exitcode for worker in _workers_of(batches) if worker.exitcode is not None}
    return ", ".join(
        f"worker {pid} was ended by {signal.Signals(-code).name}{_HINTS.get(-code, '')}"
        if code < 0
        else f"worker {pid} exited with status {code}"
        for pid, code in codes.items()
    )


def end_workers(batches: Iterator[list[SparseBatch]]) -> None:
    """Kill the workers of a DataLoader's iterator, also those that are stopped or hang. They only read."""
    _CHILD_SIGNAL.is_silent = True
    try:
        workers = _workers_of(batches)
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()
        if workers:
            # Torch has no public name for it; left to itself it would wait for a stopped worker, and leave it stopped.
            batches._shutdown_workers()  # type: ignore[attr-defined]  # noqa: SLF001  torch has no public name for it
        for worker in workers:
            _remove_shared_memory(worker)
    finally:
        _CHILD_SIGNAL.is_silent = False


def _remove_shared_memory(worker: BaseProcess) -> None:
    """Remove what a worker that is dead named and did not come to hand on: torch takes a name away once it is open."""
    for path in _SHARED_MEMORY.glob(f"torch_{worker.pid}_*"):
        with suppress(OSError):  # somebody else's
            path.unlink()


def _workers_of(batches: Iterator[list[SparseBatch]]) -> list[BaseProcess]:
    return list(getattr(batches, "_workers", []))
