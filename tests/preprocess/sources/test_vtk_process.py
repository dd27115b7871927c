"""The process that reads files of VTK: its crashes, hangs and hunger are errors here, and it is never left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from preprocess.sources.vtk_files import read_vtk
from preprocess.sources.vtk_process import ReadLimits, VtkProcess, shared_process
from tests.preprocess.sources.meshes import box, plane, with_data
from ups_data.errors import SourceError, UnknownFormatError

ROOT = Path(__file__).resolve().parents[3]
KILLED_PARENT = """
import sys
from pathlib import Path
from preprocess.sources.vtk_process import VtkProcess

process = VtkProcess()
process.read_file(Path(sys.argv[1]), block=None)
print(process.pid, flush=True)
process.read_file(Path(sys.argv[2]), block=None)
"""


def write(folder: Path, *, size: int | None = None) -> Path:
    path = folder / "a.vtu"
    with_data(plane() if size is None else box(size), time=0.25).save(path)
    return path


def hanging(folder: Path) -> Path:
    """A pipe that nobody writes into: whoever opens it waits for ever."""
    path = folder / "hangs.vtk"
    os.mkfifo(path)
    return path


def members(group: int) -> list[int]:
    """Return the processes of a group that live."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, _, own = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(own) == group and state != "Z":
                found.append(int(folder.name))
    return found


def wait_until_gone(group: int) -> None:
    deadline = time.monotonic() + 30
    while members(group):
        assert time.monotonic() < deadline, "processes were left behind"
        time.sleep(0.02)


@pytest.fixture
def process():
    process = VtkProcess()
    yield process
    process.close()


def test_what_it_reads_is_what_would_be_read_here(tmp_path: Path, process: VtkProcess) -> None:
    path = write(tmp_path)
    told, here = process.read_file(path, block=None), read_vtk(path)
    assert (told.time, dict(told.numbers)) == (0.25, dict(here.numbers))
    for name in ("nodes", "types", "offsets", "connectivity", "sizes", "centres"):
        np.testing.assert_array_equal(getattr(told.cells, name), getattr(here.cells, name), strict=True)
    np.testing.assert_array_equal(told.dims, here.dims)
    assert list(told.at_nodes) == ["p", "U"]
    for name, values in here.at_nodes.items():
        np.testing.assert_array_equal(told.at_nodes[name], values, strict=True)
    first = process.pid
    process.read_file(path, block=None)
    assert process.pid == first


def test_errors_come_over_as_they_are(tmp_path: Path, process: VtkProcess) -> None:
    path = write(tmp_path)
    first = None
    for message, kind, suffix in [
        ("has no blocks", SourceError, "vtu"),
        ("its name must tell", UnknownFormatError, "x"),
    ]:
        file = path.rename(tmp_path / f"b.{suffix}")
        with pytest.raises(kind, match=f"{file.name}.*{message}") as raised:
            process.read_file(file, block="air")
        assert raised.type is kind
        path = file.rename(tmp_path / "a.vtu")
        first = first or process.pid
    assert process.read_file(path, block=None).time == 0.25
    assert process.pid == first
    (tmp_path / "a.pvd").write_text("<VTKFile")
    with pytest.raises(SourceError, match=r"a.pvd is no collection that can be read"):
        process.read_collection(tmp_path / "a.pvd")


def test_a_file_that_never_ends_is_refused_and_the_next_one_read(tmp_path: Path) -> None:
    # Each sound file is the first of its process, which has the time to begin on top.
    process = VtkProcess(ReadLimits(file_s=2.0))
    path, hangs = write(tmp_path), hanging(tmp_path)
    process.read_file(path, block=None)
    group = process.pid
    with pytest.raises(
        SourceError, match=r"hangs.vtk is damaged.* did not come to an end in 2 s, and 2 s and 2 s a MiB"
    ):
        process.read_file(hangs, block=None)
    wait_until_gone(group)
    assert process.read_file(path, block=None).time == 0.25
    process.close()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGSEGV, r"hangs.vtk is damaged: VTK's reader crashed on it \(SIGSEGV: "),
        (signal.SIGKILL, r"hangs.vtk could not be read: the process that reads files of VTK was killed"),
    ],
)
def test_a_crash_is_an_error_and_the_next_file_is_read(tmp_path: Path, number: int, message: str) -> None:
    process = VtkProcess()
    path, hangs = write(tmp_path), hanging(tmp_path)
    process.read_file(path, block=None)
    group = process.pid
    reader = next(member for member in members(group) if member != group)
    timer = threading.Timer(0.5, os.kill, (reader, number))
    timer.start()
    with pytest.raises(SourceError, match=message):
        process.read_file(hangs, block=None)
    timer.join()
    wait_until_gone(group)
    assert process.read_file(path, block=None).time == 0.25
    process.close()


def test_what_comes_while_a_file_is_read_does_not_end_the_reader(tmp_path: Path, process: VtkProcess) -> None:
    """The signal of the kernel that a request has come may come late: when its file is being read."""
    hangs = hanging(tmp_path)
    process.read_file(write(tmp_path), block=None)
    reader = next(member for member in members(process.pid) if member != process.pid)

    def disturb_and_crash() -> None:
        process._child.process.stdin.write(b" ")
        time.sleep(0.2)
        os.kill(reader, signal.SIGSEGV)

    timer = threading.Timer(0.5, disturb_and_crash)
    timer.start()
    with pytest.raises(SourceError, match=r"crashed on it \(SIGSEGV: "):
        process.read_file(hangs, block=None)
    timer.join()


def test_memory_is_bounded(tmp_path: Path) -> None:
    process = VtkProcess(ReadLimits(file_bytes=64 * 2**20, expansion=0))
    assert process.read_file(write(tmp_path), block=None).time == 0.25
    path = write(tmp_path, size=80)
    with pytest.raises(
        SourceError, match=r"a.vtu (is damaged: .*bad_alloc.*; 0.1 GiB of memory were allowed|is damaged, or)"
    ):
        process.read_file(path, block=None)
    process.close()


def test_limits_follow_the_size_of_a_file() -> None:
    limits = ReadLimits(file_s=10, mib_s=2, file_bytes=1000, expansion=3)
    assert (limits.seconds(2**20), limits.memory(500)) == (12, 2500)
    assert limits.memory(10**18) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_it_ends_with_a_killed_parent_also_while_it_hangs(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_PARENT, str(write(tmp_path)), str(hanging(tmp_path))]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    group = int(parent.stdout.readline())
    time.sleep(0.2)
    assert members(group)
    parent.kill()
    parent.communicate()
    wait_until_gone(group)


def test_sources_of_one_process_share_it_and_forks_do_not() -> None:
    assert shared_process() is shared_process()
    own = id(shared_process())
    read_end, write_end = os.pipe()
    if not (fork := os.fork()):
        os.write(write_end, b"same" if id(shared_process()) == own else b"other")
        os._exit(0)
    os.waitpid(fork, 0)
    assert os.read(read_end, 8) == b"other"
    os.close(read_end)
    os.close(write_end)
