"""Conversion in parts: no part waits, any order and any time, the same bytes; what is missing or different is told."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import ups_data
from preprocess.convert import ConvertSettings, convert
from preprocess.ledger import read_ledgers
from preprocess.partition import Part, Partition
from preprocess.parts import commit_parts, convert_part, parse_part
from preprocess.plan import plan_conversion
from tests.memory_source import MemorySource, StumblingSource, cloud, wave_frames
from ups_data.errors import ConfigError, SourceError, StoreExistsError, StoreNotFoundError

ROOT = Path(__file__).parents[2]
SETTINGS = ConvertSettings(name="same", shard_mib=1)
COUNTS = (3, 9, 2, 1, 8, 3)


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    """Shards of 1 KiB, so that small sources make many tasks; two trajectories are longer than a block."""
    monkeypatch.setattr("preprocess.settings._MIB", 1024)
    monkeypatch.setattr("preprocess.partition.BLOCK_BYTES", 5000)
    monkeypatch.setattr("preprocess.partition._TRAJECTORY_BYTES", 0)


def make_grids(seed: int = 0) -> MemorySource:
    return MemorySource.grid([wave_frames((14, 12), num_frames=count, seed=seed + count) for count in COUNTS])


def make_clouds() -> MemorySource:
    frames = [wave_frames((170,), num_frames=count, seed=count) for count in COUNTS]
    return MemorySource.points(frames, [cloud(170, 2, seed=seed) for seed in range(len(COUNTS))])


def cut(source: MemorySource) -> Partition:
    return Partition(plan=plan_conversion(source, SETTINGS), block_bytes=5000, task_bytes=SETTINGS.shard_bytes)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def do_parts(source: MemorySource, dest: Path, count: int, *, but: tuple[int, ...] = ()) -> None:
    for number in range(1, count + 1):
        if number not in but:
            convert_part(source, dest, SETTINGS, Part(number=number, count=count))


# -- shares ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5, 50])
def test_parts_divide_the_tasks_and_need_nothing_of_each_other(count):
    partition = cut(make_grids())
    shares = [partition.share_of_part(Part(number=number, count=count)) for number in range(1, count + 1)]
    names = [task.name for share in shares for task in share.rows]
    assert sorted(names) == sorted(task.name for task in partition.row_tasks)
    for share in shares:
        own = {task.name for task in share.rows}
        laid = {task.first for task in share.lay_outs}
        assert all(task.trajectory in laid for task in share.frames)
        assert all(piece.rsplit("/", 1)[1] in own for join in share.joins for piece in join.pieces)
    # What is left to the commit are shards across the borders of parts, at most one for each array and border.
    joined = [join.name for share in shares for join in share.joins]
    assert len(set(joined)) == len(joined)
    left = len(partition.join_tasks) - len(joined)
    assert left <= (min(count, len(partition.lay_outs)) - 1) * len(partition.plan.arrays)


def test_parts_have_like_sizes():
    source = MemorySource.grid([wave_frames((14, 12), num_frames=4)] * 60)
    partition = cut(source)
    sizes = [len(partition.share_of_part(Part(number=number, count=7)).rows) for number in range(1, 8)]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("text", ["3", "0/2", "3/2", "1/0", "a/2", "-1/2", "1/2/3", ""])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(ConfigError, match=r"a part (is NUMBER/COUNT|must be one of)"):
        parse_part(text)


# -- the store -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "count"), [(make_grids, 1), (make_grids, 20), (make_clouds, 3)])
def test_parts_in_any_order_make_the_same_bytes(tmp_path, make, count):
    source = make()
    convert(source, tmp_path / "whole", SETTINGS)
    order = list(range(1, count + 1))
    random.Random(count).shuffle(order)
    for position, number in enumerate(order):
        report = convert_part(source, tmp_path / "s", SETTINGS, Part(number=number, count=count))
        assert report.num_done_before == 0
        assert set(order[position + 1 :]) >= set(report.parts_left)
        with pytest.raises(StoreNotFoundError, match="a conversion that did not finish"):
            ups_data.open_store(tmp_path / "s")
    assert report.parts_left == ()
    commit_parts(source, tmp_path / "s", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert names_in(tmp_path) == ["s", "whole"]


def test_a_part_may_have_workers_and_so_may_the_commit(tmp_path):
    source = make_grids()
    convert_part(source, tmp_path / "s", SETTINGS, Part(number=1, count=2), workers=2)
    convert_part(source, tmp_path / "s", SETTINGS, Part(number=2, count=2))
    commit_parts(source, tmp_path / "s", SETTINGS, workers=2)
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_a_part_that_failed_goes_on_where_it_stopped(tmp_path):
    source = StumblingSource.grid(make_grids().frames).stumble(4, tmp_path / "mended", deadly=False)
    with pytest.raises(SourceError, match="cannot be read now"):
        convert_part(source, tmp_path / "s", SETTINGS, Part(number=2, count=2))
    partial = tmp_path / ".s.partial"
    before = {path: path.stat().st_mtime_ns for path in partial.glob("store/**/c/**/*") if path.is_file()}
    done = len(read_ledgers(partial).tasks)
    source.until.touch()
    report = convert_part(source, tmp_path / "s", SETTINGS, Part(number=2, count=2))
    assert report.num_done_before >= done > 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    convert_part(source, tmp_path / "s", SETTINGS, Part(number=1, count=2))
    commit_parts(source, tmp_path / "s", SETTINGS)
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_what_parts_did_counts_without_them_too(tmp_path):
    source = make_grids()
    convert_part(source, tmp_path / "s", SETTINGS, Part(number=1, count=2))
    partial = tmp_path / ".s.partial"
    shards = {path: path.stat().st_mtime_ns for path in partial.glob("store/**/c/**/*") if path.is_file()}
    assert shards
    convert(source, tmp_path / "s", SETTINGS)
    for path, written in shards.items():
        assert (tmp_path / "s" / path.relative_to(partial / "store")).stat().st_mtime_ns == written
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


@pytest.mark.parametrize("pattern", ["pieces/*/*/*/*", "laid/*", "store/pages/*/c/*/0*", "ledger-*"])
def test_what_is_lost_between_a_part_and_the_commit_is_done_again_by_the_part(tmp_path, pattern):
    source = make_grids()
    do_parts(source, tmp_path / "s", 3)
    lost = [path for path in sorted((tmp_path / ".s.partial").glob(pattern)) if path.is_file()]
    assert lost
    for path in lost[::2]:
        path.write_bytes(path.read_bytes()[:-1]) if path.name.startswith("ledger") else path.unlink()
    try:
        commit_parts(source, tmp_path / "s", SETTINGS)
    except ConfigError as error:
        assert "run part" in str(error)  # noqa: PT017  some losses matter no more, and then there is none
        do_parts(source, tmp_path / "s", 3)
        commit_parts(source, tmp_path / "s", SETTINGS)
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_commit_names_the_parts_that_are_missing(tmp_path):
    source = StumblingSource.grid(make_grids().frames).stumble(1, tmp_path / "mended", deadly=False)
    with pytest.raises(ConfigError, match=r"no part of a conversion to .*s was begun, so there is nothing to commit"):
        commit_parts(source, tmp_path / "s", SETTINGS)
    assert names_in(tmp_path) == []
    with pytest.raises(SourceError, match="cannot be read now"):
        convert_part(source, tmp_path / "s", SETTINGS, Part(number=1, count=3))
    convert_part(source, tmp_path / "s", SETTINGS, Part(number=2, count=3))
    for _ in range(2):
        with pytest.raises(
            ConfigError, match=r"run part 1/3 \(\d+ tasks to do\), 3/3 \(not begun\), then commit again"
        ):
            commit_parts(source, tmp_path / "s", SETTINGS)
    source.until.touch()
    do_parts(source, tmp_path / "s", 3)
    commit_parts(source, tmp_path / "s", SETTINGS)


def test_a_commit_of_what_was_not_begun_in_parts_says_so(tmp_path):
    source = StumblingSource.grid(make_grids().frames).stumble(4, tmp_path / "mended", deadly=False)
    with pytest.raises(SourceError, match="cannot be read now"):
        convert(source, tmp_path / "s", SETTINGS)
    with pytest.raises(ConfigError, match=r"lacks \d+ of \d+ tasks and was not begun in parts: run it again"):
        commit_parts(source, tmp_path / "s", SETTINGS)


def test_other_settings_sources_and_numbers_of_parts_are_refused(tmp_path):
    source, part = make_grids(), Part(number=1, count=2)
    convert_part(source, tmp_path / "s", SETTINGS, part)
    before = contents(tmp_path / ".s.partial" / "store")
    other = ConvertSettings(name="same", shard_mib=1, seed=3)
    for overwrite in (False, True):
        with pytest.raises(
            StoreExistsError, match=r"another settings\.seed: 0, now 3\. .*, or remove that folder to start afresh"
        ):
            convert_part(source, tmp_path / "s", other, Part(number=2, count=2), overwrite=overwrite)
    with pytest.raises(StoreExistsError, match=r"another settings\.seed"):
        commit_parts(source, tmp_path / "s", other, overwrite=True)
    fewer = MemorySource.grid(source.frames[:4])
    with pytest.raises(StoreExistsError, match=r"another source\.num_trajectories: 6, now 4"):
        convert_part(fewer, tmp_path / "s", SETTINGS, part)
    with pytest.raises(StoreExistsError, match=r"begun in 2 parts, and this is part 1/3: keep their number"):
        convert_part(source, tmp_path / "s", SETTINGS, Part(number=1, count=3))
    assert contents(tmp_path / ".s.partial" / "store") == before
    (tmp_path / ".s.partial" / "begun.json").write_text("{")
    with pytest.raises(StoreExistsError, match=r"begun\.json is gone or damaged, .* remove the folder"):
        convert_part(source, tmp_path / "s", SETTINGS, part)


def test_a_finished_store_is_replaced_by_the_commit_and_only_when_asked(tmp_path):
    convert(make_grids(seed=5), tmp_path / "s", SETTINGS)
    before = contents(tmp_path / "s")
    source, part = make_grids(), Part(number=1, count=1)
    with pytest.raises(StoreExistsError, match="already holds a finished store"):
        convert_part(source, tmp_path / "s", SETTINGS, part)
    assert names_in(tmp_path) == ["s"]
    convert_part(source, tmp_path / "s", SETTINGS, part, overwrite=True)
    assert contents(tmp_path / "s") == before
    commit_parts(source, tmp_path / "s", SETTINGS, overwrite=True)
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_parts_run_beside_each_other_and_nothing_else_does(tmp_path):
    class Nested(MemorySource):
        def read_frames(self, trajectory, start, stop):
            source = make_grids()
            if trajectory == 0:
                with pytest.raises(StoreExistsError, match=r"part 1/2 of the conversion in .* is running already"):
                    convert_part(source, tmp_path / "s", SETTINGS, Part(number=1, count=2))
                for act in (convert, commit_parts):
                    with pytest.raises(StoreExistsError, match=r"another conversion to .* is running"):
                        act(source, tmp_path / "s", SETTINGS)
                convert_part(source, tmp_path / "s", SETTINGS, Part(number=2, count=2))
            return super().read_frames(trajectory, start, stop)

    source = Nested.grid(make_grids().frames)
    convert_part(source, tmp_path / "s", SETTINGS, Part(number=1, count=2))
    commit_parts(source, tmp_path / "s", SETTINGS)
    convert(make_grids(), tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


# -- processes of their own, killed ------------------------------------------------------------------------------------

_PARTS = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    import preprocess.partition, preprocess.settings
    from preprocess.parts import convert_part, parse_part
    from tests.preprocess.test_parts import SETTINGS, make_grids

    preprocess.settings._MIB, preprocess.partition.BLOCK_BYTES, preprocess.partition._TRAJECTORY_BYTES = 1024, 5000, 0
    kill_at, renames = int(sys.argv[3]), 0

    def watch(event, arguments):
        global renames
        if event == "os.rename":
            renames += 1
            if renames == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    convert_part(make_grids(), Path(sys.argv[1]), SETTINGS, parse_part(sys.argv[2]))
    """
)


def begin_part(dest: Path, number: int, kill_at: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _PARTS, str(dest), f"{number}/3", str(kill_at)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_parts_at_the_same_time_killed_and_begun_again(tmp_path):
    for kills in ((4, 7, 2), (0, 0, 0)):
        running = [begin_part(tmp_path / "s", number, kill_at) for number, kill_at in enumerate(kills, 1)]
        for process, kill_at in zip(running, kills, strict=True):
            _, errors = process.communicate()
            assert process.returncode == (-signal.SIGKILL if kill_at else 0), errors
    commit_parts(make_grids(), tmp_path / "s", SETTINGS)
    convert(make_grids(), tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert names_in(tmp_path) == ["s", "whole"]
