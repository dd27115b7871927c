"""Workers that die, hang, exit or raise end the iteration with a typed error, at once, and none is left behind."""

import faulthandler
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import ups_data
from tests.hang_guard import ends_at_all
from ups_data.errors import WorkerError
from ups_data.samplers import DrawKey

SHARED_MEMORY = Path("/dev/shm")
NO_WORKERS = {"num_workers": 0, "multiprocessing_context": None}


class FailingSampler(ups_data.BalancedSampler):
    """Does what it is told while it draws one sample of the second epoch, in a worker."""

    def __init__(self, fail: Callable[[], object]) -> None:
        super().__init__(ratio=0.3)
        self.fail = fail

    def __repr__(self) -> str:
        return "FailingSampler()"

    def draw(self, layout: ups_data.pages.PageLayout, key: DrawKey) -> ups_data.pages.PageDraw:
        if key.epoch == 1 and key.sample == 9:
            self.fail()
        return super().draw(layout, key)


@pytest.fixture
def nothing_left() -> Iterator[None]:
    children, shared = set(multiprocessing.active_children()), set(SHARED_MEMORY.iterdir())
    yield
    # Persistent workers end with their loader, which an error's traceback may hold in a cycle.
    gc.collect()
    # Workers of a loader that came to its end were told to go, and may be on their way out.
    for child in set(multiprocessing.active_children()) - children:
        child.join(timeout=60)
    assert set(multiprocessing.active_children()) <= children
    assert {path for path in set(SHARED_MEMORY.iterdir()) - shared if path.owner() and "torch" in path.name} == set()


def build(store: ups_data.Store, sampler: ups_data.samplers.Sampler, **options: object) -> ups_data.QueryLoader:
    dataset = ups_data.QueryDataset(store, sampler=sampler, seed=3)
    workers = {"num_workers": 2, "multiprocessing_context": "fork"}
    settings = {"batch_size": 2, **workers, **options}
    return ups_data.build_loader(dataset, **settings)


def freeze() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def abort() -> None:
    faulthandler.disable()  # pytest's would fill the terminal
    os.abort()


def run_out_of_memory() -> None:
    raise MemoryError("no room for a page")


def die_while_sharing() -> None:
    """Be killed between the two calls of torch that give memory a name and take it away."""
    (SHARED_MEMORY / f"torch_{os.getpid()}_1_0").write_bytes(bytes(8))
    os.kill(os.getpid(), signal.SIGKILL)


FAILURES: dict[str, tuple[Callable[[], object], str]] = {
    "killed": (
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        r"worker \d+ was ended by SIGKILL \(is this machine",
    ),
    "killed while it shares": (die_while_sharing, r"worker \d+ was ended by SIGKILL"),
    "aborted": (abort, r"worker \d+ was ended by SIGABRT"),
    "stopped": (freeze, "timed out after 2 seconds"),
    "raises": (lambda: {}["missing"], "KeyError.*missing"),
    "out of memory": (run_out_of_memory, "MemoryError.*no room for a page"),
    "exits": (lambda: sys.exit(3), "a worker was told to exit with status 3"),
    "exits hard": (lambda: os._exit(5), r"worker \d+ exited with status 5"),
}


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_worker_that_fails_ends_the_iteration(failure: str, persistent: bool, grid_store: ups_data.Store) -> None:
    fail, message = FAILURES[failure]
    options = {"persistent_workers": persistent, "timeout": 2 if failure == "stopped" else 0}
    loader = build(grid_store, FailingSampler(fail), **options)
    expected = [b.buffer.numpy().tobytes() for b in build(grid_store, FailingSampler(lambda: None), **NO_WORKERS)]
    assert [batch.buffer.numpy().tobytes() for batch in loader] == expected
    with ends_at_all(), pytest.raises(WorkerError, match=f"(?s){message}"):
        list(loader)
    state = loader.state_dict()
    assert state["epoch"] == 1
    # What is left of the epoch, by a loader that does not fail.
    healthy = build(grid_store, FailingSampler(lambda: None), num_workers=1)
    healthy.load_state_dict(loader.state_dict())
    assert len(list(healthy)) == 8 - state["batch"]


@pytest.mark.usefixtures("nothing_left")
def test_a_loader_goes_on_after_its_workers_were_killed(grid_store: ups_data.Store) -> None:
    others = set(multiprocessing.active_children())
    loader = build(grid_store, ups_data.BalancedSampler(ratio=0.3))
    whole = [batch.sample_ids.tolist() for batch in loader]
    workers = set(multiprocessing.active_children()) - others
    served: list[list[int]] = []

    def serve_and_kill() -> None:
        for batch in loader:
            served.append(batch.sample_ids.tolist())
            if len(served) == 3:
                for worker in workers:
                    os.kill(worker.pid or 0, signal.SIGKILL)

    with pytest.raises(WorkerError, match=r"ended by SIGKILL|killed by signal"):
        serve_and_kill()
    loader.load_state_dict(loader.state_dict())
    served += [batch.sample_ids.tolist() for batch in loader]
    assert np.sort(np.concatenate(served)).tolist() == list(range(16))
    assert served != whole
    del loader


def test_the_watch_is_set_up_again_where_it_was_taken_away(grid_store: ups_data.Store) -> None:
    """As Lightning does after every fit."""
    loader = build(grid_store, ups_data.BalancedSampler(ratio=0.3))
    list(loader)
    watching = signal.getsignal(signal.SIGCHLD)
    assert callable(watching)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    list(loader)
    assert signal.getsignal(signal.SIGCHLD) is watching


def test_an_error_in_this_process_stays_what_it_is(grid_store: ups_data.Store) -> None:
    for fail, kind in ((lambda: sys.exit(3), SystemExit), (lambda: {}["missing"], KeyError)):
        loader = build(grid_store, FailingSampler(fail), **NO_WORKERS)
        list(loader)
        with pytest.raises(kind):
            list(loader)


def test_workers_that_cannot_start_are_told(grid_store: ups_data.Store) -> None:
    sampler = FailingSampler(lambda: None)  # a function of the moment cannot be sent to a spawned process
    loader = build(grid_store, sampler, num_workers=1, multiprocessing_context="spawn")
    with pytest.raises(WorkerError, match=r"the workers failed before batch 0 of epoch 0 came.*pickle"):
        next(iter(loader))


class Left:
    """Garbage once nothing else refers to it: only the collector finds it, and it notes who that was."""

    def __init__(self, found_by: Path) -> None:
        self.itself, self.found_by = self, found_by

    def __del__(self) -> None:
        with self.found_by.open("a") as file:
            file.write(f"{os.getpid()}\n")


@pytest.mark.parametrize("frozen", [False, True])
def test_workers_do_not_collect_what_this_process_left(
    frozen: bool, grid_store: ups_data.Store, tmp_path: Path
) -> None:
    """Tensors of a GPU that are freed in a forked process end it."""
    gc.collect()
    gc.disable()
    try:
        if frozen:
            gc.freeze()
        count = gc.get_freeze_count()
        Left(tmp_path / "found")
        loader = build(grid_store, FailingSampler(gc.collect))
        batches = [batch for _ in range(2) for batch in loader]
        assert len(batches) == 2 * len(loader)
        assert not (tmp_path / "found").exists()
        assert gc.get_freeze_count() >= count if frozen else gc.get_freeze_count() == count
    finally:
        gc.unfreeze()
        gc.enable()
    gc.collect()
    assert (tmp_path / "found").read_text() == f"{os.getpid()}\n"
