"""What is kept of runs is what was made of them, wherever it lies, and no file is left."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ups_data.importance.kept_runs import KeptRuns

# More than any disk has.
TOO_MUCH = 2**70


def make(number: int) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(number)
    return random.integers(9, size=(5 + number, 3), dtype=np.int32), random.random((5 + number, 2, 2)), np.zeros(0)


class Making:
    """Notes which runs it made."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __call__(self, number: int) -> Sequence[np.ndarray]:
        self.made.append(number)
        return make(number)


def same(arrays: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    return [(a.dtype, a.shape, a.tobytes()) for a in arrays] == [(b.dtype, b.shape, b.tobytes()) for b in others]


@pytest.mark.parametrize(("num_bytes", "times"), [(1000, 1), (1001, 1), (TOO_MUCH, 3)])
def test_runs_are_those_that_were_made(num_bytes: int, times: int, tmp_path: Path) -> None:
    runs, making = KeptRuns(num_bytes=num_bytes, folder=tmp_path, most_in_memory=1000), Making()
    for _ in range(3):
        assert all(same(runs.take(number, making), make(number)) for number in range(4))
    assert making.made == times * [0, 1, 2, 3]
    assert same(runs.take(2, making), make(2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("num_bytes", [1000, 1001])
def test_runs_that_come_out_of_order_are_right_too(num_bytes: int, tmp_path: Path) -> None:
    runs, making = KeptRuns(num_bytes=num_bytes, folder=tmp_path, most_in_memory=1000), Making()
    for number in (2, 0, 2, 1, 0, 2, 2):
        assert same(runs.take(number, making), make(number))
    assert making.made == [2, 0, 2, 1, 2]


_FULL = """
import os, resource, signal, sys
from pathlib import Path
from ups_data.importance.kept_runs import KeptRuns
from tests.ups_data.importance.test_kept_runs import Making, make, same

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write beyond the limit fails as one to a full disk does
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
runs, making = KeptRuns(num_bytes=1001, folder=Path(sys.argv[1]), most_in_memory=1000), Making()
for _ in range(2):
    assert all(same(runs.take(number, making), make(number)) for number in range(4))
assert making.made == 2 * [0, 1, 2, 3], making.made
"""


def test_where_a_file_cannot_grow_runs_are_made_again(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    child = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert not list(tmp_path.iterdir())
