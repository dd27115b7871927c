"""Carry out one task after another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32

from preprocess.ledger import CommittedFile
from preprocess.partition import LayOut, Task, WriteFrames, table_path
from preprocess.tasks.bench import Workbench
from preprocess.tasks.commit import Committer
from preprocess.tasks.frames import FrameReader
from preprocess.tasks.ground import GroundReader
from preprocess.tasks.laid import LaidRows
from preprocess.tasks.measure import measure_blocks
from preprocess.tasks.rows import TaskRows, join_pieces
from ups_data.pages import PageTable, build_pages
from ups_data.scratch import Scratch
from ups_data.statistics import FieldStatistics


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What a task committed.

    Attributes:
        name: the task.
        files: files that it put in place.
    """

    name: str
    files: tuple[CommittedFile, ...]


class Worker:
    """Carries out tasks, one after another."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._committer = Committer(bench)
        self._grounds = GroundReader(bench)
        self._scratch = Scratch()

    def run(self, task: Task) -> TaskResult:
        """Carry out a task and note it in the ledger.

        Raises:
            SourceError: the source cannot be read, or a value is not finite; names file, item, frame and point.
            SchemaError: coordinates that break a rule.
            StoreError: the disk is full or read-only.
        """
        self._committer.begin()
        if isinstance(task, LayOut):
            self._lay_out(task)
        elif isinstance(task, WriteFrames):
            self._write_frames(task)
        else:
            join_pieces(task, self._bench, self._committer, self._scratch)
        return TaskResult(name=task.name, files=self._committer.end(task.name))

    def _lay_out(self, task: LayOut) -> None:
        bench = self._bench
        gathered = LaidRows(dims=len(bench.source.axes))
        with TaskRows(task, bench, self._committer, self._scratch) as rows:
            for trajectory in range(task.first, task.stop):
                self._lay_out_trajectory(trajectory, task, rows, gathered)
            rows.close()
        with self._committer.open(task.summary_path, scratch=True) as file:
            file.write(gathered.result().to_bytes())
            file.finish()

    def _lay_out_trajectory(self, trajectory: int, task: LayOut, rows: TaskRows, gathered: LaidRows) -> None:
        bench = self._bench
        ground = self._grounds.read(trajectory)
        frames = FrameReader(bench, trajectory)
        statistics = FieldStatistics(bench.partition.plan.num_channels)
        ranges, recipe = bench.partition.block_ranges(trajectory), bench.partition.plan.importance
        survey = bench.source.survey(trajectory, ranges, recipe)
        tables = []
        measured = measure_blocks(bench, trajectory, ground, frames, statistics, survey=survey)
        for block, importance in enumerate(measured):
            table = self._deal(trajectory, block, importance, ground.order)
            gathered.add_block(table.layout)
            rows.add_static(table.index, importance, ground)
            if task.long:
                with self._committer.open(table_path(trajectory, block), scratch=True) as file:
                    np.save(file, table.index, allow_pickle=False)  # part by part: it may be large
                    file.finish()
            else:
                tables.append(table.index)
        gathered.add(statistics, frames.rounding_errors, ground.geometry)
        gathered.add_survey(survey)
        for block, index in enumerate(tables):
            start, count = ranges[block]
            own_stop = bench.partition.own_frames(trajectory, block)[1]
            rows.add_frames(index, frames.chunks(start, start + count), own_stop)

    def _deal(
        self,
        trajectory: int,
        block: int,
        importance: Float64[np.ndarray, " point"],
        order: Int32[np.ndarray, " point"],
    ) -> PageTable:
        plan = self._bench.partition.plan
        return build_pages(
            importance,
            order,
            page_points=plan.layout.page_points,
            num_strata=plan.layout.num_strata,
            block_points=plan.layout.block_points,
            seed=plan.layout.seed,
            key=(trajectory, block),
            all_pages=self._bench.partition.all_pages(trajectory, block),
        )

    def _write_frames(self, task: WriteFrames) -> None:
        path = self._bench.folder / table_path(task.trajectory, task.block)
        index = np.load(path, mmap_mode="r", allow_pickle=False)
        frames = FrameReader(self._bench, task.trajectory)
        own_stop = self._bench.partition.own_frames(task.trajectory, task.block)[1]
        with TaskRows(task, self._bench, self._committer, self._scratch) as rows:
            rows.add_frames(index, frames.chunks(task.start, task.stop), own_stop)
            rows.close()
