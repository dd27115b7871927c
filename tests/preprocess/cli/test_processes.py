"""The command line in processes of its own: streams and status, interruptions, and going on after them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.preprocess.cli.command_line import names_in, run

RunCommand = Callable[..., subprocess.CompletedProcess[str]]


def test_status_and_streams_of_a_process(run_command: RunCommand, waves: Path) -> None:
    good = run_command("convert", waves, "s", "--json")
    assert (good.returncode, json.loads(good.stdout)["ok"]) == (0, True)
    assert good.stderr == "frames: 15 of 15\n"
    bad = run_command("convert", waves, "s")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("error: ")
    assert run_command("--help").returncode == 0


# The signal comes before the given rename: the first, one in the middle, the manifest's, the one that names the store.
INTERRUPTED = """
import os, signal, sys
number, renames = int(sys.argv.pop(1)), 0

def count(event, arguments):
    global renames
    if event == "os.rename":
        renames += 1
        if renames == number:
            os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(count)
from preprocess.cli import main
try:
    main()
finally:
    print("renames:", renames, file=sys.stderr)
"""


def test_an_interrupted_conversion_goes_on_by_the_same_command(
    run_command: RunCommand, waves: Path, tmp_path: Path
) -> None:
    whole = run_command(0, "convert", waves, "whole", "--name", "same", code=INTERRUPTED)
    assert whole.returncode == 0, whole.stderr
    renames = int(whole.stderr.rsplit(maxsplit=1)[-1])
    for number in (1, renames // 2, renames - 1, renames):
        command = ("convert", waves, f"s{number}", "--name", "same")
        result = run_command(number, *command, code=INTERRUPTED)
        assert result.returncode == 130, result.stderr
        assert "interrupted" in result.stderr
        assert "Traceback" not in result.stderr
        # Before the first shard is in place, nothing is worth keeping.
        kept = names_in(tmp_path) - {"raw", "whole"}
        assert kept == (set() if number == 1 else {f".s{number}.partial"})
        assert ("the same command goes on from there" in result.stderr) == bool(kept)
        assert run("convert", waves, tmp_path / f"s{number}", "--name", "same").exit_code == 0
        left, right = (
            {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
            for root in (tmp_path / f"s{number}", tmp_path / "whole")
        )
        assert left == right
        shutil.rmtree(tmp_path / f"s{number}")
        assert names_in(tmp_path) == {"raw", "whole"}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_process_of_a_shell(waves: Path, tmp_path: Path, workers: int) -> None:
    """SIGINT from outside, as Ctrl-C sends it to all processes of a terminal, while a large conversion works."""
    values = np.concatenate([np.load(waves.parent / "u.npy")] * 1600)
    np.save(waves.parent / "u.npy", values)
    command = [sys.executable, "-m", "preprocess", "convert", str(waves), str(tmp_path / "s"), "--json"]
    process = subprocess.Popen(
        [*command, "--workers", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not list(tmp_path.glob(".s.partial/store/pages/values/c/*")):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130, errors
    assert output == ""
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    assert names_in(tmp_path) == {"raw", ".s.partial"}
