"""Replacing a store: killed before every step of it, there is the old store or the new one, or it is told where."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import ups_data
from preprocess.convert import ConvertSettings, convert
from tests.memory_source import MemorySource, wave_frames
from ups_data.errors import StoreExistsError, StoreNotFoundError

ROOT = Path(__file__).parents[2]

# Overwrites a store in forked processes, each killed before another one of the last renames and removals.
_KILLED = textwrap.dedent(
    """
    import json, os, shutil, signal, sys
    from pathlib import Path
    import preprocess.convert
    from preprocess.convert import ConvertSettings, convert
    from tests.memory_source import MemorySource, wave_frames
    import ups_data
    from ups_data.errors import StoreNotFoundError
    import ups_data.storage.writer

    folder, exchanging = Path(sys.argv[1]), sys.argv[2] == "exchange"
    if not exchanging:
        ups_data.storage.writer.exchange_names = lambda one, other: False

    def overwrite(seed, kill_at):
        seen = 0
        def watch(event, arguments):
            nonlocal seen
            if event in ("os.rename", "shutil.rmtree"):
                seen += 1
                if seen == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(watch)
        convert(MemorySource.grid([wave_frames((9, 8))] * 2), folder / "s", ConvertSettings(seed=seed), overwrite=True)
        (folder / "seen").write_text(str(seen))

    def in_a_process(work, *arguments):
        child = os.fork()
        if not child:
            try:
                work(*arguments)
            finally:
                os._exit(0)
        os.waitpid(child, 0)

    def read_seed():
        try:
            seed = ups_data.open_store(folder / "s").manifest.layout.seed
        except StoreNotFoundError as error:
            seed = str(error)
        (folder / "seed").write_text(json.dumps(seed))

    def found():
        in_a_process(read_seed)
        return json.loads((folder / "seed").read_text())

    in_a_process(overwrite, 0, -1)
    in_a_process(overwrite, 1, -1)
    steps = int((folder / "seen").read_text())
    told = []
    for step in range(steps - 6, steps + 1):
        in_a_process(overwrite, step, step)
        # The store that another seed made, or the new one.
        first = found()
        in_a_process(overwrite, step, -1)
        told.append([step, first, found(), sorted(path.name for path in folder.iterdir())])
    print(json.dumps(told))
    """
)


@pytest.mark.parametrize("how", ["exchange", "rename twice"])
def test_killed_before_any_step_the_old_store_or_the_new_one_is_there(tmp_path, how):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", _KILLED, str(tmp_path), how]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    previous, missing = None, 0
    for step, found, after, left in told:
        if isinstance(found, str):
            missing += 1
            assert ".s.retired is the store that it was about to replace, whole: it may be renamed back" in found
        else:
            assert previous is None or found in {previous, step}
        assert after == step
        assert left == ["s", "seed", "seen"]
        previous = step
    # Where names cannot be exchanged there is one moment without a store; else there is none.
    assert missing == (0 if how == "exchange" else 1)
    assert {found == step for step, found, _, _ in told} == {True, False}


def make(folder: Path, *, seed: int, overwrite: bool = False) -> None:
    source = MemorySource.grid([wave_frames((9, 8))] * 2)
    convert(source, folder / "s", ConvertSettings(seed=seed), overwrite=overwrite)


def test_a_store_that_was_set_aside_is_taken_back_by_the_next_writer(tmp_path):
    make(tmp_path, seed=0)
    fingerprint = ups_data.open_store(tmp_path / "s").manifest.fingerprint
    (tmp_path / "s").rename(tmp_path / ".s.retired")
    with pytest.raises(StoreNotFoundError, match=r"\.s\.retired is the store that it was about to replace, whole"):
        ups_data.open_store(tmp_path / "s")
    with pytest.raises(StoreExistsError, match=r"already holds a finished store; .* pass --overwrite"):
        make(tmp_path, seed=1)
    assert ups_data.open_store(tmp_path / "s").manifest.fingerprint == fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_what_a_killed_writer_left_of_the_old_store_is_cleared(tmp_path):
    make(tmp_path, seed=0)
    shutil.copytree(tmp_path / "s", tmp_path / ".s.retired")
    with pytest.raises(StoreExistsError, match="already holds a finished store"):
        make(tmp_path, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
