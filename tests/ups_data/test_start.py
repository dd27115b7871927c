"""However workers start, batches are the same bytes, or what would hang is refused at once."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import ups_data
from ups_data.errors import DatasetError
from ups_data.storage.byte_store import LocalByteStore
from ups_data.storage.zarr_store import ZarrStore

SECONDS = 30  # then a worker that hangs is a WorkerError


KILLED_PARENT = """
import multiprocessing
import sys
import ups_data

if __name__ == "__main__":
    path, method = sys.argv[1:]
    dataset = ups_data.QueryDataset(ups_data.open_store(path), sampler=ups_data.ImportanceSampler(ratio=0.25))
    loader = ups_data.build_loader(dataset, batch_size=2, num_workers=2, multiprocessing_context=method)
    batches = iter(loader)
    next(batches)
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    sys.stdin.read()
"""


class NoForkByteStore(LocalByteStore):
    """Files of this machine that claim what connections to an object store must: no use in a forked process."""

    survives_fork = False


def dataset_of(store: ups_data.Store) -> ups_data.QueryDataset:
    return ups_data.QueryDataset(store, sampler=ups_data.ImportanceSampler(ratio=0.25), seed=3)


def content(loader: ups_data.QueryLoader) -> list[bytes]:
    return [batch.buffer.numpy().tobytes() for batch in loader]


@pytest.fixture(scope="module")
def expected(grid_store: ups_data.Store) -> list[list[bytes]]:
    loader = ups_data.build_loader(dataset_of(grid_store), batch_size=8)
    return [content(loader) for _ in range(2)]


@pytest.mark.parametrize(
    ("method", "parent_has_read", "persistent"),
    [
        *(("fork", read, persistent) for read in (False, True) for persistent in (False, True)),
        ("forkserver", True, False),  # each pays for a new Python: all of them by scripts/soak_starts.py
        ("spawn", True, True),
    ],
)
def test_start_methods(
    method: str,
    parent_has_read: bool,
    persistent: bool,
    grid_store: ups_data.Store,
    expected: list[list[bytes]],
) -> None:
    store = ups_data.open_store(grid_store.location)
    if parent_has_read:
        dataset_of(store).sample(0)
    loader = ups_data.build_loader(
        dataset_of(store),
        batch_size=8,
        num_workers=1,
        multiprocessing_context=method,
        persistent_workers=persistent,
        timeout=SECONDS,
    )
    epochs = 2 if persistent or method == "fork" else 1
    assert [content(loader) for _ in range(epochs)] == expected[:epochs]


def test_a_store_that_does_not_survive_a_fork_is_read_by_spawned_workers(grid_store: ups_data.Store) -> None:
    dataset = dataset_of(ZarrStore(NoForkByteStore(Path(grid_store.location))))
    for given, chosen in ((None, "spawn"), ("forkserver", "forkserver")):
        loader = ups_data.build_loader(dataset, batch_size=8, num_workers=1, multiprocessing_context=given)
        assert loader._loader.multiprocessing_context.get_start_method() == chosen
    for fork in ("fork", multiprocessing.get_context("fork")):
        with pytest.raises(DatasetError, match="connections to it hang in forked workers; leave out"):
            ups_data.build_loader(dataset, batch_size=8, num_workers=1, multiprocessing_context=fork)
    assert ups_data.build_loader(dataset, batch_size=8)._loader.multiprocessing_context is None


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_end_with_a_killed_parent(method: str, grid_store: ups_data.Store, tmp_path: Path) -> None:
    """Also behind a fork server, which is their parent to the system and lives as long as they do."""
    program = tmp_path / "train.py"
    program.write_text(KILLED_PARENT)
    command = [sys.executable, program, grid_store.location, method]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(word) for word in parent.stdout.readline().split()]
        running = [pid for pid in workers if is_alive(pid)]
        parent.kill()
    try:
        assert len(running) == 2
        deadline = time.monotonic() + SECONDS
        while any(is_alive(pid) for pid in workers):
            assert time.monotonic() < deadline, "workers were left behind"
            time.sleep(0.02)
    finally:
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
