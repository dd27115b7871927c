"""Tasks: every row of every array has one owner, every shard one writer, wherever the cuts fall."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.partition import JoinPieces, LayOut, Partition, WriteFrames, shard_rows
from preprocess.plan import plan_conversion
from preprocess.settings import ConvertSettings
from tests.memory_source import MemorySource
from tests.ups_data.storage.cases import GEOMETRIES, settings_for


def partition_of(sizes, *, block_bytes, task_bytes, shard_bytes, monkeypatch=None):
    """Cut trajectories of given (frames, points), one channel of float32."""
    frames = [np.zeros((count, 1, points), dtype="float32") for count, points in sizes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("preprocess.settings._MIB", shard_bytes)
        plan = plan_conversion(MemorySource.grid(frames), ConvertSettings(shard_mib=1, page_points=4))
    return Partition(plan=plan, block_bytes=block_bytes, task_bytes=task_bytes)


def check_ownership(partition):
    """Every row once, in order within a task; shards whole or joined from pieces in the order of rows."""
    for key, spec in partition.plan.arrays.items():
        owners = np.zeros(spec.num_rows, dtype=int)
        written = defaultdict(int)
        starts = {}
        for task in partition.row_tasks:
            if key not in partition.rows(task):
                continue
            start, stop = partition.rows(task)[key]
            owners[start:stop] += 1
            segments = list(partition.segments(task, key))
            assert sum(segment.num_rows for segment in segments) == stop - start
            for segment in segments:
                starts[segment.path] = start
                start += segment.num_rows
                if not segment.is_piece:
                    written[segment.shard] += 1
                    low, high = shard_rows(spec, segment.shard)
                    assert segment.num_rows == high - low
        assert (owners == 1).all()
        for join in partition.join_tasks:
            if join.key == key:
                written[join.shard] += 1
                assert len(join.pieces) > 1
                assert [starts[piece] for piece in join.pieces] == sorted(starts[piece] for piece in join.pieces)
        assert dict(written) == dict.fromkeys(range(spec.num_shards), 1)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 60)), min_size=1, max_size=12),
    block_bytes=st.integers(1, 1500),
    task_bytes=st.integers(1, 1500),
    shard_bytes=st.integers(1, 900),
)
def test_every_row_has_one_owner_and_every_shard_one_writer(sizes, block_bytes, task_bytes, shard_bytes):
    check_ownership(partition_of(sizes, block_bytes=block_bytes, task_bytes=task_bytes, shard_bytes=shard_bytes))


@pytest.mark.parametrize("name", GEOMETRIES)
def test_it_holds_on_every_geometry(name, monkeypatch):
    monkeypatch.setattr("preprocess.settings._MIB", 500)
    source = GEOMETRIES[name]("float32")
    plan = plan_conversion(source, settings_for(source, shard_mib=1))
    check_ownership(Partition(plan=plan, block_bytes=3000, task_bytes=1000))


def test_trajectories_are_laid_out_once_each_and_in_order():
    partition = partition_of([(2, 10)] * 9, block_bytes=100, task_bytes=2**17, shard_bytes=100)
    found = [number for task in partition.lay_outs for number in range(task.first, task.stop)]
    assert found == list(range(9))
    assert all(not task.long for task in partition.lay_outs)
    # Two of 80 bytes each count as more than 128 KiB: reading a trajectory costs, however small it is.
    assert {task.stop - task.first for task in partition.lay_outs} == {2, 1}


def test_the_frames_of_a_long_trajectory_are_tasks_of_their_own():
    partition = partition_of([(1, 5), (7, 40), (1, 5)], block_bytes=200, task_bytes=330, shard_bytes=320)
    first, long, last = partition.lay_outs
    assert (first.long, long, last.long) == (False, LayOut(first=1, stop=2, long=True), False)
    cuts = [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert partition.frame_tasks(long) == tuple(WriteFrames(trajectory=1, block=0, start=a, stop=b) for a, b in cuts)
    assert partition.frame_tasks(first) == ()


def test_a_frame_larger_than_a_task_is_one_task():
    partition = partition_of([(3, 40)], block_bytes=100, task_bytes=10, shard_bytes=320)
    assert [(task.start, task.stop) for task in partition.frame_tasks(partition.lay_outs[0])] == [
        (0, 1),
        (1, 2),
        (2, 3),
    ]


def test_names_are_unique():
    partition = partition_of([(3, 40), (1, 9), (4, 33)] * 3, block_bytes=300, task_bytes=100, shard_bytes=64)
    tasks = [*partition.row_tasks, *partition.join_tasks]
    assert len({task.name for task in tasks}) == len(tasks)
    assert any(isinstance(task, JoinPieces) for task in tasks)
