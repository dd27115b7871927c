"""Who carries out the tasks of a conversion: this process, several on this machine, or a cluster (`cluster`)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from types import TracebackType
from typing import Self

from preprocess.partition import Task
from preprocess.tasks import TaskResult, Workbench, Worker
from ups_data.errors import WorkerError


class Executor(ABC):
    """Carries out tasks. Use as a context: leaving it by an error abandons what is under way.

    Attributes:
        num_slots: tasks that may be under way at once; giving it more would only make them wait elsewhere.
    """

    num_slots: int = 1

    @abstractmethod
    def submit(self, task: Task) -> Future[TaskResult]:
        """Begin a task.

        Raises:
            WorkerError: a process that should carry it out is gone.
        """

    def collect(self, future: Future[TaskResult], task: Task) -> TaskResult:
        """Return what a task committed once it came to its end, or raise what it raised.

        Raises:
            WorkerError: a process that should carry it out is gone.
        """
        try:
            return future.result()
        except BrokenExecutor as error:
            raise _describe_death(task) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(abandon=kind is not None)

    def check(self) -> None:  # noqa: B027  most executors hear of it by themselves
        """Raise if nobody is left to carry out tasks; called while nothing comes to its end.

        Raises:
            WorkerError: nobody is left.
        """

    @abstractmethod
    def close(self, *, abandon: bool) -> None:
        """Give back processes; `abandon` what is under way, or else wait for it."""


class SerialExecutor(Executor):
    """Carries out each task when it is submitted, in this process."""

    def __init__(self, bench: Workbench) -> None:
        self._worker = Worker(bench)

    def submit(self, task: Task) -> Future[TaskResult]:
        """Carry out a task; its errors are raised here."""
        future: Future[TaskResult] = Future()
        future.set_result(self._worker.run(task))
        return future

    def close(self, *, abandon: bool) -> None:
        """Do nothing: no task is ever under way."""


class ProcessExecutor(Executor):
    """Carries out tasks in processes of this machine.

    Processes are spawned, never forked: a fork inherits threads' locks and library state that do not survive it. They
    end when this process does, however it ends, and share its lock on the conversion's folder for as long as one of
    them lives, so that no later conversion meets a process of an earlier one there.

    Args:
        bench: what the tasks need.
        num_workers: number of processes.
        lock: descriptor that holds the folder, None where there is none.
    """

    def __init__(self, bench: Workbench, *, num_workers: int, lock: int | None) -> None:
        self.num_slots = num_workers
        context = multiprocessing.get_context("spawn")
        read_end, self._lifeline = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(
            num_workers,
            mp_context=context,
            initializer=_begin_worker,
            initargs=(bench, read_end, None if lock is None else _Descriptor(lock)),
        )

    def submit(self, task: Task) -> Future[TaskResult]:
        """Hand a task to the next free process."""
        try:
            return self._pool.submit(_run_task, task)
        except BrokenExecutor as error:
            raise _describe_death(task) from error

    def close(self, *, abandon: bool) -> None:
        """End the processes."""
        if abandon:
            self._lifeline.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._lifeline.close()


def _describe_death(task: Task) -> WorkerError:
    """Return what to raise where a process died that had `task` or another one in hand."""
    return WorkerError(
        f"a worker process of the conversion died while {task.name} was under way; most often the machine ran out of "
        f"memory, or somebody ended the process. What was committed is kept: the same command goes on from there, "
        f"with fewer --workers where memory is short"
    )


class _Descriptor:
    """A file descriptor that a spawned process inherits when this is an argument of it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __getstate__(self) -> object:
        return DupFd(self.number)

    def __setstate__(self, state: object) -> None:
        self.number = state.detach()  # type: ignore[attr-defined]  # what DupFd returns has no published type


# One worker a process, made when the process begins.
_workers: list[Worker] = []


def _begin_worker(bench: Workbench, lifeline: Connection, lock: _Descriptor | None) -> None:
    # Ctrl-C goes to all processes of a terminal; the parent decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The lock is held by the descriptor, which nothing here closes.
    del lock
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    _workers.append(Worker(bench))


def _end_with_parent(lifeline: Connection) -> None:
    """Leave at once when the other end closes, be it on purpose or since its process is gone."""
    try:
        lifeline.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


def _run_task(task: Task) -> TaskResult:
    return _workers[0].run(task)
