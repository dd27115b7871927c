"""Tasks of a conversion on a dask.distributed cluster that is there already.

The workers must see the folder of the conversion and the sources under the same paths as this process, and run the
same versions: both is looked at before the first task, and again by each worker that joins later. A worker that is
lost costs the tasks that it had in hand, which Dask gives to others. A task may then be carried out twice at once,
where a worker is thought lost and is not. That is harmless: what a task writes is the same whoever writes it
(`Worker.commit`), and a worker that outlives the conversion can put nothing in place any more (`Workbench.staging`).

A process carries out one task at a time, however many threads it has, since sources and their libraries are not made
for threads: best are workers of one thread each.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

from preprocess.executors import Executor
from preprocess.partition import Task
from preprocess.tasks import TaskResult, Workbench, Worker
from ups_data import __version__
from ups_data.errors import ConfigError, StoreError, UpsDataError, WorkerError

if TYPE_CHECKING:
    import distributed

SCHEMES = ("tcp", "tls")
_CONNECT_SECONDS = 10.0
# The size from which Dask warns of a task that is large, as ours are for sources of millions of trajectories.
_LARGE_GRAPH, _MAX_BENCH = "distributed.admin.large-graph-warning-threshold", "4 GiB"
_COUNT_SECONDS = 10.0
LOST_SECONDS = 60.0
"""How long a conversion waits where all workers are gone."""


class DaskExecutor(Executor):
    """Carries out tasks on the workers of a cluster.

    Args:
        bench: what the tasks need; every worker gets a copy.
        address: of the scheduler, `tcp://host:8786`.
        connect_s: how long to wait for the scheduler, and for its first worker.

    Raises:
        ConfigError: dask.distributed is not installed, the address is none, nobody answers there, no worker is there,
            or workers have other versions or see other files.
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        address: str,
        connect_s: float = _CONNECT_SECONDS,
    ) -> None:
        dask = _import_dask()
        self._address = check_address(address)
        self._counted_at = self._seen_at = time.monotonic()
        self._client = _connect(address, connect_s)
        try:
            self._check_workers(bench, connect_s)
            # A task, which is done again where its result is lost with its worker: data that was scattered is not.
            with _cluster_errors(address), dask.config.set({_LARGE_GRAPH: _MAX_BENCH}):
                self._bench = self._client.submit(_take_bench, bench, pure=False)
        except BaseException:
            self._client.close(timeout=_CONNECT_SECONDS)
            raise
        self._pool = self._client.get_executor(pure=False, retries=0)

    def submit(self, task: Task) -> Future[TaskResult]:
        """Hand a task to the cluster."""
        if time.monotonic() - self._counted_at > _COUNT_SECONDS:
            self.check()
        with _cluster_errors(self._address):
            future: Future[TaskResult] = self._pool.submit(_run_task, self._bench, _versions(), task)
        return future

    def collect(self, future: Future[TaskResult], task: Task) -> TaskResult:
        """Return what a task committed, or raise what it raised."""
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            raise WorkerError(
                f"workers of the cluster at {self._address} died again and again while {task.name} was under way; most "
                f"often they ran out of memory. What was committed is kept: the same command goes on from there"
            ) from error
        except CancelledError as error:
            raise _lost(self._address, f"it gave up {task.name}") from error

    def check(self) -> None:
        """Raise if the scheduler is gone, or all workers are for a while."""
        with _cluster_errors(self._address):
            found = self._count_threads()
        if found:
            self.num_slots, self._seen_at = found, time.monotonic()
        elif time.monotonic() - self._seen_at >= LOST_SECONDS:
            raise _lost(self._address, f"no worker is left there, and none came for {LOST_SECONDS:g} s")

    def close(self, *, abandon: bool) -> None:
        """Leave the cluster; tasks that wait there are dropped, those under way come to their end unheard."""
        del abandon
        self._bench.release()
        self._client.close(timeout=_CONNECT_SECONDS)

    def _check_workers(self, bench: Workbench, connect_s: float) -> None:
        with _cluster_errors(self._address):
            try:
                self._client.wait_for_workers(1, timeout=connect_s)
            except TimeoutError as error:
                raise ConfigError(
                    f"the scheduler at {self._address} has no workers: start one with `dask worker {self._address} "
                    f"--nthreads 1`"
                ) from error
            try:
                self._client.get_versions(check=True)
            except ValueError as error:
                raise ConfigError(f"the cluster at {self._address} runs other versions of Dask: {error}") from error
            self.num_slots = self._count_threads()
            told = self._client.run(_examine, bench, _versions(), on_error="return")
        faults = {worker: fault for worker, fault in told.items() if fault is not None}
        for worker, fault in sorted(faults.items()):
            raise ConfigError(
                f"{len(faults)} of {len(told)} workers of {self._address} cannot do this conversion; {worker}: "
                f"{_describe_fault(fault)}"
            )

    def _count_threads(self) -> int:
        self._counted_at = time.monotonic()
        return sum(self._client.nthreads().values())


def check_address(address: str) -> str:
    """Return an address of a scheduler as it is.

    Raises:
        ConfigError: it is none, or of a scheme that is not known here.
    """
    parts = urlsplit(address)
    try:
        sound = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port is not None
    except ValueError:
        sound = False
    if not sound:
        raise ConfigError(
            f"--dask takes the address of a scheduler, {' or '.join(f'{scheme}://HOST:PORT' for scheme in SCHEMES)}, "
            f"got {address!r}"
        )
    return address


def _import_dask() -> ModuleType:
    try:
        import dask
        import distributed  # noqa: F401  dask alone is no cluster
    except ImportError as error:
        raise ConfigError('dask.distributed is not installed: pip install "ups-data[dask]"') from error
    return dask


def _connect(address: str, connect_s: float) -> distributed.Client:
    import distributed

    try:
        client = distributed.Client(address, timeout=connect_s, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ConfigError(
            f"no scheduler answers at {address} within {connect_s:g} s: {error}. Start one with `dask scheduler`, or "
            f"look for its address in what it printed"
        ) from error
    except ValueError as error:
        raise ConfigError(f"no connection to the scheduler at {address}: {error}") from error
    return client


@contextmanager
def _cluster_errors(address: str) -> Iterator[None]:
    """Turn what Dask raises about a connection or a worker into our errors."""
    try:
        yield
    except UpsDataError:
        raise
    except (OSError, TimeoutError, CancelledError, RuntimeError, ValueError) as error:
        raise _lost(address, str(error) or type(error).__name__) from error


def _lost(address: str, reason: str) -> WorkerError:
    return WorkerError(
        f"the cluster at {address} was lost: {reason}. What was committed is kept: the same command goes on from there"
    )


def _describe_fault(fault: object) -> str:
    if isinstance(fault, ModuleNotFoundError):
        return f"it has no module {fault.name!r}: install the same ups-data there"
    return str(fault) or type(fault).__name__


def _versions() -> dict[str, str]:
    """Return the versions that the bytes of a store may depend on."""
    return {"ups_data": __version__, "numpy": np.__version__, "python": platform.python_version()}


# -- in the processes of the workers -----------------------------------------------------------------------------------


# One worker a process, for the last conversion that it had to do with.
_workers: list[tuple[Workbench, Worker]] = []
_one_at_a_time = threading.Lock()


def _examine(bench: Workbench, versions: dict[str, str]) -> str | None:
    """Return why this process cannot carry out tasks, None if it can."""
    for name, found in _versions().items():
        if found != versions[name]:
            return f"it has {name} {found}, the command has {versions[name]}: install the same version there"
    mark = bench.staging / f".{platform.node()}.{threading.get_ident()}.seen"
    try:
        # Of a random name, so that no other file system has it.
        if not bench.staging.is_dir():
            return f"it does not see {bench.staging}: all workers need the file system of the destination"
        mark.touch()
        mark.unlink()
    except OSError as error:
        return f"it cannot write in {bench.staging}: {error.strerror or error}"
    missing = [path for path in bench.source.paths if not path.exists()]
    return f"it does not see the source {missing[0]}" if missing else None


def _take_bench(bench: Workbench) -> Workbench:
    return bench


def _run_task(bench: Workbench, versions: dict[str, str], task: Task) -> TaskResult:
    with _one_at_a_time:
        if not _workers or _workers[0][0].staging != bench.staging:
            # It may have joined after the others were looked at.
            if fault := _examine(bench, versions):
                raise StoreError(f"a worker on {platform.node()} cannot do this conversion: {fault}")
            _workers[:] = [(bench, Worker(bench))]
        return _workers[0][1].run(task)
