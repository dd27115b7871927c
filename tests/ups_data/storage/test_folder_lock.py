"""Who holds a folder: one alone or several together, found out from other processes; locks die with their process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ups_data.storage.folder_lock import LOCK_NAME, describe_holder, find_holders, hold_folder, remove_held

ROOT = Path(__file__).parents[3]
HOLD = """
import sys, time
from pathlib import Path
from ups_data.storage.folder_lock import hold_folder
held = hold_folder(Path(sys.argv[1]), shared=sys.argv[2] == "shared", wait_s=0)
print("held", flush=True)
time.sleep(1000)
"""


def hold_elsewhere(folder: Path, how: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLD, str(folder), how]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_who_holds_a_folder_is_found_out_and_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert find_holders(folder) == "nobody"
    process = hold_elsewhere(folder, "alone")
    try:
        assert find_holders(folder) == "one"
        assert describe_holder(folder).startswith(f"process {process.pid} on ")
        for shared in (False, True):
            with pytest.raises(BlockingIOError, match=rf"process {process.pid} on "):
                hold_folder(folder, shared=shared, wait_s=0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    # Its name still stands in the file, which says nothing.
    assert describe_holder(folder).startswith(f"process {process.pid} on ")
    assert find_holders(folder) == "nobody"
    held = hold_folder(folder, shared=False, wait_s=0)
    assert held is not None
    assert describe_holder(folder).startswith(f"process {os.getpid()} on ")
    os.close(held)


def test_several_hold_a_folder_together_and_nobody_alone_beside_them(tmp_path: Path) -> None:
    process = hold_elsewhere(tmp_path, "shared")
    try:
        held = hold_folder(tmp_path, shared=True, wait_s=0)
        assert held is not None
        assert find_holders(tmp_path) == "several"
        with pytest.raises(BlockingIOError):
            hold_folder(tmp_path, shared=False, wait_s=0)
        os.close(held)
        assert find_holders(tmp_path) == "several"
    finally:
        process.kill()
        process.communicate()
    assert find_holders(tmp_path) == "nobody"


def test_a_folder_that_is_removed_meanwhile_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "held"
    first = hold_folder(folder, shared=False, wait_s=0)
    assert first is not None
    (folder / LOCK_NAME).unlink()
    folder.rmdir()
    second = hold_folder(folder, shared=False, wait_s=1)
    assert second is not None
    assert not os.path.samestat(os.fstat(first), os.fstat(second))
    os.close(first)
    assert find_holders(folder) == "one"
    os.close(second)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        hold_folder(tmp_path / "file" / "folder", shared=False, wait_s=0)


TAKE = """
import os, sys
from pathlib import Path
from ups_data.storage.folder_lock import hold_folder
folder = Path(sys.argv[1])
for _ in sys.stdin:
    print("waits", flush=True)
    hold_folder(folder, shared=False, wait_s=60)
    found = sorted(os.listdir(folder))
    (folder / "mine").mkdir()
    (folder / "mine" / "file").touch()
    print(*found, flush=True)
    sys.stdin.readline()
    print(*sorted(os.listdir(folder / "mine")), flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize("names", [("z1", "z2"), ("a", "mine"), tuple(f"n{number}" for number in range(60))])
def test_who_takes_a_folder_that_is_being_removed_finds_it_empty_and_loses_nothing(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    folder = tmp_path / "work"
    held = hold_folder(folder, shared=False, wait_s=0)
    assert held is not None
    for name in names:
        (folder / name / "deep").mkdir(parents=True)
        (folder / name / "deep" / "file").touch()
    command = [sys.executable, "-c", TAKE, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    assert process.stdout.readline() == "waits\n"
    remove_held(folder)
    assert process.stdout.readline() == f"{LOCK_NAME}\n"
    os.close(held)
    out, _ = process.communicate("look\n")
    assert out == "file\n"


def test_a_folder_that_is_removed_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    held = hold_folder(folder, shared=False, wait_s=0)
    assert held is not None
    (folder / "link").symlink_to(tmp_path)
    (folder / "part").mkdir()
    remove_held(folder)
    os.close(held)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "work").touch()
    with pytest.raises(FileExistsError, match="work"):
        hold_folder(tmp_path / "work", shared=False, wait_s=60)


CHURN = """
import os, sys
from pathlib import Path
from ups_data.storage.folder_lock import hold_folder, remove_held
for _ in range(200):
    held = hold_folder(Path(sys.argv[1]), shared=False, wait_s=60)
    remove_held(Path(sys.argv[1]))
    os.close(held)
"""


def test_a_folder_that_others_make_and_remove_all_the_time_is_held_in_turn(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHURN, str(tmp_path / "work")]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        _, error = process.communicate()
        assert process.returncode == 0, error
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_made_is_told_at_once() -> None:
    with pytest.raises(OSError, match="nowhere"):
        hold_folder(Path("/proc/nowhere/work"), shared=False, wait_s=60)
