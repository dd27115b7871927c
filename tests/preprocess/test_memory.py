"""The largest memory of a process is its own."""

import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="other systems are asked by getrusage alone")
def test_what_the_starting_process_had_does_not_count() -> None:
    # Bytes that are all zero would not be resident.
    child = (
        "from preprocess.memory import largest_resident_bytes as f; a = f(); b = b'x' * (200 * 2**20); print(a, f())"
    )
    parent = (
        "import subprocess, sys; held = b'x' * (600 * 2**20); "
        f"print(subprocess.run([sys.executable, '-c', {child!r}], capture_output=True, text=True, check=True).stdout)"
    )
    command = [sys.executable, "-c", parent]
    before, after = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert before < 400 * 2**20
    assert 190 * 2**20 < after - before < 300 * 2**20
