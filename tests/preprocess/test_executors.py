"""Processes of a conversion: what fails in them arrives, they die with their parent, and one that dies is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import ups_data
from preprocess.convert import ConvertSettings, convert
from tests.memory_source import StumblingSource, wave_frames
from ups_data.errors import SourceError, StoreExistsError, StoreNotFoundError, WorkerError

ROOT = Path(__file__).parents[2]
SETTINGS = ConvertSettings(name="same", shard_mib=1)


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    monkeypatch.setattr("preprocess.settings._MIB", 1024)
    monkeypatch.setattr("preprocess.partition._TRAJECTORY_BYTES", 0)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def make_source(tmp_path: Path, *, deadly: bool) -> StumblingSource:
    frames = [wave_frames((14, 12), num_frames=3, seed=seed) for seed in range(6)]
    return StumblingSource.grid(frames).stumble(4, tmp_path / "mended", deadly=deadly)


@pytest.mark.parametrize(
    ("deadly", "error", "message"),
    [
        (
            True,
            WorkerError,
            # The other worker's task may be the one that is named: a pool that broke fails all of them at once.
            r"a worker process of the conversion died while \S+ was under way; .* the same command goes on",
        ),
        (False, SourceError, r"array\[4\] cannot be read now"),
    ],
)
def test_what_happens_in_a_worker_is_told_and_the_work_goes_on(tmp_path, deadly, error, message):
    source = make_source(tmp_path, deadly=deadly)
    with pytest.raises(error, match=message):
        convert(source, tmp_path / "s", SETTINGS, workers=2)
    assert (tmp_path / ".s.partial").exists()
    with pytest.raises(StoreNotFoundError):
        ups_data.open_store(tmp_path / "s")
    source.until.touch()
    convert(source, tmp_path / "s", SETTINGS, workers=2)
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mended", "s", "whole"]


# A conversion whose workers wait for ever, once they have begun, and say who they are.
_WAITING = textwrap.dedent(
    """
    import os, sys, time
    from pathlib import Path
    from preprocess.convert import ConvertSettings, convert
    from tests.memory_source import MemorySource, wave_frames

    folder = Path(sys.argv[1])

    class Waiting(MemorySource):
        def read_frames(self, trajectory, start, stop):
            (folder / f"worker-{os.getpid()}").touch()
            time.sleep(1000)

    if __name__ == "__main__":
        frames = [wave_frames((400, 400), num_frames=4)] * 30
        convert(Waiting.grid(frames), folder / "s", ConvertSettings(), workers=2)
    """
)


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_workers_end_with_a_killed_parent_and_free_its_folder(tmp_path):
    script = tmp_path / "waiting.py"
    script.write_text(_WAITING)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment)
    while process.poll() is None and len(list(tmp_path.glob("worker-*"))) < 2:
        pass
    workers = [int(path.name.removeprefix("worker-")) for path in tmp_path.glob("worker-*")]
    assert all(map(is_running, workers))
    source = make_source(tmp_path, deadly=False)
    source.until.touch()
    with pytest.raises(StoreExistsError, match=r"another conversion to .* is running"):
        convert(source, tmp_path / "s", SETTINGS)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # It waits for the lock that the workers share, so that none of them is left once it has begun.
    convert(source, tmp_path / "s", SETTINGS, overwrite=True)
    assert not any(map(is_running, workers))
    assert len(ups_data.open_store(tmp_path / "s")) == 6
