"""Choose who carries out the tasks of a conversion."""

from __future__ import annotations

from dataclasses import dataclass

from preprocess.cluster import DaskExecutor
from preprocess.executors import Executor, ProcessExecutor, SerialExecutor
from preprocess.tasks import Workbench
from ups_data.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Crew:
    """Who carries out the tasks of a conversion.

    Attributes:
        workers: processes of this machine; 1 is this one.
        dask: address of the scheduler of a dask.distributed cluster whose workers do it instead.
    """

    workers: int = 1
    dask: str | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"a conversion needs one worker or more, got workers={self.workers}")
        if self.dask is not None and self.workers != 1:
            raise ConfigError(f"a cluster has workers of its own: leave out --workers {self.workers} beside --dask")

    def open(self, bench: Workbench, lock: int | None) -> Executor:
        """Return an executor for the tasks of `bench`; processes of this machine share the descriptor `lock`."""
        if self.dask is not None:
            return DaskExecutor(bench, address=self.dask)
        if self.workers == 1:
            return SerialExecutor(bench)
        return ProcessExecutor(bench, num_workers=self.workers, lock=lock)
