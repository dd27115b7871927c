"""Real torchrun: any number of ranks serves the same global batches, and goes on where another number was killed."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ups_data

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "ups_data" / "rank_program.py"
STEPS = 2 * 4  # two epochs of 16 samples in batches of 5, 5, 5 and 1


@dataclass(frozen=True, kw_only=True)
class Run:
    status: int
    ranks: list[dict[int, dict[str, Any]]]
    state: Path
    output: str

    def rows(self, step: int) -> list[list[Any]]:
        """Return id and content of a global batch's samples, in the order of ranks."""
        return [row for rank in self.ranks for row in rank[step]["rows"]]

    def steps(self) -> list[int]:
        return sorted(set.intersection(*(set(rank) for rank in self.ranks)))


def torchrun(store: ups_data.Store, folder: Path, world_size: int, *arguments: str) -> Run:
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world_size}"]
    done = subprocess.run(
        [*command, str(PROGRAM), store.location, str(folder), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    ranks = []
    for rank in range(world_size):
        lines = (folder / f"rank{rank}.jsonl").read_text().splitlines()
        ranks.append({record["step"]: record for record in map(json.loads, lines)})
    return Run(status=done.returncode, ranks=ranks, state=folder / "state.json", output=done.stderr)


@pytest.fixture(scope="module")
def alone(grid_store: ups_data.Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = torchrun(grid_store, tmp_path_factory.mktemp("ranks") / "one", 1)
    assert run.status == 0, run.output
    assert run.steps() == list(range(STEPS))
    return run


def assert_same(run: Run, step: int, alone: Run) -> None:
    assert run.rows(step) == alone.rows(step)
    for rank in run.ranks:
        np.testing.assert_allclose(rank[step]["gradient"], alone.ranks[0][step]["gradient"], rtol=1e-4, atol=1e-6)


def assert_no_process_is_left(folder: Path) -> None:
    """Neither ranks nor their workers, which have the same command line; workers look for their parent every 5 s."""

    def mentions(process: Path) -> bool:
        try:
            return str(folder).encode() in (process / "cmdline").read_bytes()
        except OSError:
            return False

    deadline = time.monotonic() + 15
    while left := [path.name for path in Path("/proc").glob("[0-9]*") if mentions(path)]:
        assert time.monotonic() < deadline, f"processes {left} are left"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_serve_and_train_as_one_process(
    world_size: int, alone: Run, grid_store: ups_data.Store, tmp_path: Path
) -> None:
    """Global batches of 5 and 1 samples; gradients of the mean over them, averaged by DDP."""
    run = torchrun(grid_store, tmp_path / "run", world_size)
    assert run.status == 0, run.output
    assert {len(rank) for rank in run.ranks} == {STEPS}
    for step in range(STEPS):
        assert_same(run, step, alone)


@pytest.mark.slow
def test_another_number_of_ranks_goes_on_where_one_was_killed(
    alone: Run, grid_store: ups_data.Store, tmp_path: Path
) -> None:
    """One of four is killed in the second epoch; three go on from the state of the last whole step."""
    killed = torchrun(grid_store, tmp_path / "killed", 4, "--kill-at=6", "--workers=1")
    assert killed.status != 0
    assert "SIGKILL" in killed.output
    assert_no_process_is_left(tmp_path / "killed")
    place = json.loads(killed.state.read_text())
    saved = place["epoch"] * 4 + place["batch"]
    assert saved == 6
    resumed = torchrun(grid_store, tmp_path / "resumed", 3, f"--state={killed.state}")
    assert resumed.status == 0, resumed.output
    assert resumed.steps() == list(range(saved, STEPS))
    for step in range(STEPS):
        assert_same(killed if step < saved else resumed, step, alone)
    second_epoch = [row[0] for step in range(4, STEPS) for row in (killed if step < saved else resumed).rows(step)]
    assert sorted(second_epoch) == list(range(16))
