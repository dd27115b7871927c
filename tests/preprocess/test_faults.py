"""Faults around a conversion with workers: a full disk, permission denied, many writers, locks of the dead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import ups_data
from preprocess.convert import ConvertSettings, convert
from preprocess.ledger import read_ledgers
from preprocess.validate import validate
from tests.memory_source import MemorySource, wave_frames
from ups_data.errors import StoreError, StoreNotFoundError

ROOT = Path(__file__).parents[2]
SETTINGS = ConvertSettings(name="same", shard_mib=1)


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    monkeypatch.setattr("preprocess.settings._MIB", 1024)
    monkeypatch.setattr("preprocess.partition._TRAJECTORY_BYTES", 0)


def make_frames(count: int = 6) -> list:
    return [wave_frames((14, 12), num_frames=3, seed=seed) for seed in range(count)]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def run_child(code: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*prefix, sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


# -- a full disk -------------------------------------------------------------------------------------------------------

# A disk of its own that is too small, then larger; the store is taken elsewhere before the disk goes with the process.
_FULL = """
    import subprocess, sys
    from pathlib import Path
    import shutil
    import ups_data
    from preprocess.convert import ConvertSettings, convert
    from tests.memory_source import MemorySource, wave_frames
    from ups_data.errors import StoreError, StoreNotFoundError

    if __name__ == "__main__":
        disk, kept = Path(sys.argv[1]), Path(sys.argv[2])
        source = MemorySource.grid([wave_frames((64, 64), num_frames=4, seed=seed) for seed in range(20)])
        settings = ConvertSettings(name="same", shard_mib=1)
        if sys.argv[3] == "whole":
            convert(source, kept, settings)
            sys.exit()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(disk)], check=True)
        try:
            convert(source, disk / "s", settings, workers=2)
        except StoreError as error:
            print(error)
        try:
            ups_data.open_store(disk / "s")
        except StoreNotFoundError:
            print("nothing opens")
        print([path.name for path in disk.rglob("*.staged")])
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        convert(source, disk / "s", settings, workers=2)
        print(sorted(path.name for path in disk.iterdir()))
        shutil.copytree(disk / "s", kept)
"""


def may_mount() -> bool:
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not may_mount(), reason="a disk of its own needs the right to mount")
def test_a_full_disk_is_told_by_workers_and_the_work_goes_on_when_there_is_room(tmp_path):
    (tmp_path / "disk").mkdir()
    child = run_child(_FULL, tmp_path / "disk", tmp_path / "s", "full", prefix=("unshare", "--mount"))
    assert child.returncode == 0, child.stderr
    told, nothing, staged, left = child.stdout.splitlines()
    assert told.startswith("cannot write ")
    assert "No space left on device" in told
    assert (nothing, staged, left) == ("nothing opens", "[]", "['s']")
    whole = run_child(_FULL, tmp_path / "disk", tmp_path / "whole", "whole")
    assert whole.returncode == 0, whole.stderr
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert validate(tmp_path / "s").ok


# -- permission denied -------------------------------------------------------------------------------------------------


class ForbiddenSource(MemorySource):
    """Takes from the process that reads trajectory 4 the right to write to the conversion's folder, once."""

    folder: Path
    mark: Path

    def read_frames(self, trajectory, start, stop):
        if trajectory == 4 and not self.mark.exists():
            self.mark.touch()
            if os.geteuid() == 0:
                os.seteuid(65534)
            else:
                for path in (self.folder / "store").rglob("*"):
                    if path.is_dir():
                        path.chmod(0o500)
        return super().read_frames(trajectory, start, stop)


@pytest.mark.parametrize("workers", [1, 2])
def test_permission_denied_in_a_worker_is_told_and_the_work_goes_on(tmp_path, workers):
    source = ForbiddenSource.grid(make_frames())
    source.folder, source.mark = tmp_path / ".s.partial", tmp_path / "mark"
    user = os.geteuid()
    try:
        with pytest.raises(StoreError, match=r"cannot write .*: Permission denied"):
            convert(source, tmp_path / "s", SETTINGS, workers=workers)
    finally:
        os.seteuid(user)
    for path in source.folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o700)
    assert read_ledgers(source.folder).tasks
    with pytest.raises(StoreNotFoundError, match="a conversion that did not finish"):
        ups_data.open_store(tmp_path / "s")
    convert(source, tmp_path / "s", SETTINGS, workers=workers)
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mark", "s", "whole"]


# -- many writers ------------------------------------------------------------------------------------------------------

# Eight processes that begin at the same moment, and what became of each; two rounds, the second begins on a finished
# store.
_WRITERS = """
    import json, os, sys
    from pathlib import Path
    import preprocess.partition, preprocess.settings
    from preprocess.convert import convert
    from tests.memory_source import MemorySource
    from tests.preprocess.test_faults import SETTINGS, make_frames
    from ups_data.errors import UpsDataError

    preprocess.settings._MIB, preprocess.partition._TRAJECTORY_BYTES = 1024, 0
    folder, overwrite = Path(sys.argv[1]), sys.argv[2] == "overwrite"
    ready, go = os.pipe()
    children = []
    for number in range(8):
        child = os.fork()
        if not child:
            os.close(go)
            os.read(ready, 1)
            try:
                convert(MemorySource.grid(make_frames()), folder / "s", SETTINGS, overwrite=overwrite)
                told = "done"
            except UpsDataError as error:
                told = f"{type(error).__name__}: {error}"
            except BaseException as error:
                told = repr(error)
            (folder / f"told-{number}").write_text(told)
            os._exit(0)
        children.append(child)
    os.close(go)
    for child in children:
        os.waitpid(child, 0)
"""


@pytest.mark.parametrize("how", ["once", "overwrite"])
def test_of_eight_writers_to_one_place_none_harms_another(tmp_path, how):
    child = run_child(_WRITERS, tmp_path, how)
    assert child.returncode == 0, child.stderr
    told = [(tmp_path / f"told-{number}").read_text() for number in range(8)]
    refused = [text for text in told if text != "done"]
    assert len(refused) == 7 if how == "once" else len(refused) < 8
    for text in refused:
        assert text.startswith("StoreExistsError: ")
        assert "is running" in text or "already holds a finished store" in text
    convert(MemorySource.grid(make_frames()), tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_lock_of_a_dead_process_holds_nobody_up(tmp_path):
    (tmp_path / ".s.partial").mkdir()
    (tmp_path / ".s.partial" / "lock").write_text("process 4194000 on this host\n")
    convert(MemorySource.grid(make_frames()), tmp_path / "s", SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
