"""How far a conversion is: while it runs, interrupted, in parts, finished; nothing is changed by looking."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from preprocess.convert import ConvertSettings, convert
from preprocess.partition import Part
from preprocess.parts import commit_parts, convert_part
from preprocess.status import read_status
from tests.memory_source import MemorySource, StumblingSource, wave_frames
from ups_data.errors import SourceError, StoreNotFoundError
from ups_data.storage.zarr_store import partial_path

ROOT = Path(__file__).parents[2]
SETTINGS = ConvertSettings(name="same", shard_mib=1)


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    monkeypatch.setattr("preprocess.settings._MIB", 1024)
    monkeypatch.setattr("preprocess.partition._TRAJECTORY_BYTES", 0)


def make_source(tmp_path: Path, *, at: int = 6) -> StumblingSource:
    frames = [wave_frames((14, 12), num_frames=3, seed=seed) for seed in range(8)]
    return StumblingSource.grid(frames).stumble(at, tmp_path / "mended", deadly=False)


def states(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("*")}


def test_an_interrupted_conversion(tmp_path):
    began = time.time()
    with pytest.raises(SourceError, match="cannot be read now"):
        convert(make_source(tmp_path), tmp_path / "s", SETTINGS)
    partial = partial_path(tmp_path / "s")
    before = states(tmp_path)
    status = read_status(tmp_path / "s")
    assert states(tmp_path) == before
    assert (status.state, status.running, status.holder, status.replaces) == ("unfinished", False, "", False)
    assert 0 < status.tasks_done < status.num_tasks
    assert status.committed_bytes == sum(
        path.stat().st_size for path in (partial / "store").rglob("c/**/*") if path.is_file()
    )
    assert began - 2 <= status.begun_at <= status.progress_at <= time.time()
    assert (status.seconds_left, status.parts) == (None, ())
    assert json.loads(json.dumps(status.to_dict()))["tasks_done"] == status.tasks_done


def test_a_conversion_that_runs(tmp_path):
    seen = []

    class Watching(MemorySource):
        def read_frames(self, trajectory, start, stop):
            seen.append(read_status(tmp_path / "s"))
            return super().read_frames(trajectory, start, stop)

    convert(Watching.grid(make_source(tmp_path).frames), tmp_path / "s", SETTINGS)
    assert all(status.running and status.holder.startswith(f"process {os.getpid()} on ") for status in seen)
    done = [status.tasks_done for status in seen]
    assert done == sorted(done)
    assert done[0] == 0 < done[-1] < seen[-1].num_tasks
    assert seen[0].seconds_left is None
    assert seen[-1].seconds_left is not None
    assert seen[-1].seconds_left > 0
    status = read_status(tmp_path / "s")
    assert (status.state, status.running) == ("finished", False)
    assert status.committed_bytes == sum(
        path.stat().st_size for path in (tmp_path / "s").rglob("*") if path.is_file() and path.name != "manifest.json"
    )


def test_all_tasks_are_told_and_all_get_done(tmp_path):
    """What is counted before the commit of parts is everything but the shards that only the commit puts together."""
    source = make_source(tmp_path)
    source.until.touch()
    for number in (1, 2, 3):
        convert_part(source, tmp_path / "s", SETTINGS, Part(number=number, count=3))
    status = read_status(tmp_path / "s")
    left = status.num_tasks - status.tasks_done
    assert 0 <= left <= 2 * 4
    assert [(part.number, part.count, part.running) for part in status.parts] == [(n, 3, False) for n in (1, 2, 3)]
    assert sum(part.tasks_done for part in status.parts) == status.tasks_done
    commit_parts(source, tmp_path / "s", SETTINGS)
    assert read_status(tmp_path / "s").state == "finished"


_PART = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    import preprocess.partition, preprocess.settings
    from preprocess.partition import Part
    from preprocess.parts import convert_part
    from tests.memory_source import MemorySource
    from tests.preprocess.test_status import SETTINGS, make_source

    preprocess.settings._MIB, preprocess.partition._TRAJECTORY_BYTES = 1024, 0
    folder = Path(sys.argv[1])

    class Waiting(MemorySource):
        def read_frames(self, trajectory, start, stop):
            if trajectory == 2:
                print("waits", flush=True)
                time.sleep(1000)
            return super().read_frames(trajectory, start, stop)

    convert_part(Waiting.grid(make_source(folder).frames), folder / "s", SETTINGS, Part(number=1, count=2))
    """
)


def test_parts_of_which_one_runs(tmp_path):
    source = make_source(tmp_path, at=7)
    with pytest.raises(SourceError, match="cannot be read now"):
        convert_part(source, tmp_path / "s", SETTINGS, Part(number=2, count=2))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _PART, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waits\n"
            status = read_status(tmp_path / "s")
            assert status.running
            assert [part.running for part in status.parts] == [True, False]
            assert all(part.tasks_done for part in status.parts)
            assert status.seconds_left is not None
        finally:
            process.kill()
    assert [part.running for part in read_status(tmp_path / "s").parts] == [False, False]


def test_a_store_that_an_unfinished_conversion_will_replace(tmp_path):
    source = make_source(tmp_path)
    source.until.touch()
    convert(source, tmp_path / "s", SETTINGS)
    source.until.unlink()
    with pytest.raises(SourceError, match="cannot be read now"):
        convert(source, tmp_path / "s", SETTINGS, overwrite=True)
    status = read_status(tmp_path / "s")
    assert (status.state, status.replaces) == ("unfinished", True)


def test_where_nothing_was_begun(tmp_path):
    with pytest.raises(StoreNotFoundError, match="there is no store at"):
        read_status(tmp_path / "nowhere")
