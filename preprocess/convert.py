"""Convert a source to a store: plan, independent tasks that write whole shards, commit, manifest.

The plan is cut into tasks (`partition`), which any number of processes carry out (`tasks`, `executors`) and note in a
ledger, so that the same command goes on where an unfinished conversion stopped (`ledger`, `resume`). The store
is the same bytes however many processes there were and however often it was interrupted.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

import preprocess.partition
from preprocess.crew import Crew
from preprocess.executors import Executor
from preprocess.ledger import LEDGER_NAME, Committed, Ledger, read_ledgers
from preprocess.meshes import MeshSurvey, survey_meshes, write_meshes
from preprocess.partition import JoinPieces, LayOut, Part, Partition, RowTask, Share, Task, WriteFrames
from preprocess.plan import plan_conversion
from preprocess.resume import describe_begun, make_staging, part_ledger_name, take_up
from preprocess.settings import ConvertSettings
from preprocess.sources.base import Source
from preprocess.sources.survey import Deviations
from preprocess.tasks import Laid, TaskResult, Workbench, grid_key
from ups_data import __version__
from ups_data.errors import SourceError, StoreExistsError
from ups_data.schema import (
    FileEntry,
    GeometrySpec,
    Manifest,
    OffGridSpec,
    ParameterSpec,
    RoundingError,
    RoundingSpec,
    SourceSpec,
)
from ups_data.statistics import FieldStatistics
from ups_data.storage.tables import TrajectoryTables
from ups_data.storage.writer import StoreWriter, array_metadata_files, group_files, table_files

__all__ = ["ConvertSettings", "Progress", "convert"]

_CHECK_SECONDS = 5.0

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def convert(
    source: Source,
    dest: Path,
    settings: ConvertSettings,
    *,
    overwrite: bool = False,
    workers: int = 1,
    dask: str | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Convert all trajectories of `source` to a new store at `dest`.

    Trajectories are read in blocks of frames of at most 256 MiB; a trajectory that fits in one block is read once, a
    longer one twice. Nothing appears at `dest` before everything is written. Whatever ends a conversion, what it
    committed is kept in `.NAME.partial` beside `dest`, and the same call goes on from there.

    Args:
        source: the data set; it must pickle for other processes to read it.
        dest: where the store will lie.
        settings: what may be chosen.
        overwrite: replace the store that is there, and begin afresh where an unfinished conversion was begun from other
            sources or settings.
        workers: processes; 1 is this one. A script that asks for more needs `if __name__ == "__main__"`, since
            each of them imports it.
        dask: address of the scheduler of a dask.distributed cluster whose workers carry out the tasks instead.
        progress: called with "frames", how many are written, and how many there are.

    Raises:
        StoreExistsError: `dest` is taken, or an unfinished conversion was begun from other sources or settings.
        SourceError: the source cannot be read, or a value is not finite; names file, item, frame and point.
        ConfigError: settings that cannot hold for this source.
        SchemaError: coordinates that break a rule.
        StoreError: the disk is full or read-only.
        WorkerError: a worker process died.
    """
    crew = Crew(workers=workers, dask=dask)
    plan = plan_conversion(source, settings)
    partition = Partition(plan=plan, block_bytes=preprocess.partition.BLOCK_BYTES, task_bytes=settings.shard_bytes)
    with StoreWriter(dest, overwrite=overwrite, resume=True) as writer:
        try:
            conversion = Conversion(source, settings, partition, writer)
            committed = take_up(writer, partition, conversion.begun, overwrite=overwrite)
            conversion.carry_out(partition.share_of(partition.lay_outs), committed, crew=crew, progress=progress)
            return conversion.finish(settings.name or writer.dest.name)
        except BaseException:
            # Files that are in place are kept, also those of tasks that did not come to their end; nothing else is.
            writer.keep_unfinished = _has_files(writer.work)
            raise


class Schedule:
    """Which tasks may begin: frames once the pages of their trajectory are dealt, a shard once its pieces are there.

    Args:
        partition: the plan and its tasks.
        share: those tasks that are to be carried out.
        committed: what is done; what is done later is added.
        progress: see `convert`.
    """

    def __init__(self, partition: Partition, share: Share, committed: Committed, *, progress: Progress | None) -> None:
        self._partition, self._share, self._committed, self._progress = partition, share, committed, progress
        self._joins: dict[str, JoinPieces] = {}
        self._missing: dict[str, int] = {}
        self._ready: deque[Task] = deque()
        self._frames_done = self._num_frames_to_do = 0

    def run(self, executor: Executor) -> None:
        """Carry out all tasks that are not done."""
        self._begin()
        under_way: dict[Future[TaskResult], Task] = {}
        while self._ready or under_way:
            while self._ready and len(under_way) < executor.num_slots:
                task = self._ready.popleft()
                under_way[executor.submit(task)] = task
            done, _ = wait(under_way, timeout=_CHECK_SECONDS, return_when=FIRST_COMPLETED)
            if not done:
                executor.check()
            for future in done:
                task = under_way.pop(future)
                result = executor.collect(future, task)
                self._committed.files.update((file.path, file) for file in result.files)
                self._committed.tasks.add(result.name)
                self._follow(task)
                self._report(task)

    def _begin(self) -> None:
        done = self._committed.tasks
        open_joins = [join for join in self._share.joins if join.name not in done]
        self._joins = {piece: join for join in open_joins for piece in join.pieces}
        self._missing = {join.name: len(join.pieces) for join in open_joins}
        for lay_out in self._share.lay_outs:
            if lay_out.name not in done:
                self._ready.append(lay_out)
                # Frames of a trajectory whose pages must be dealt again are done where they are noted.
                continue
            self._follow(lay_out)
        for task in self._share.frames:
            if task.name in done:
                self._follow(task)
        self._num_frames_to_do = sum(map(self._num_frames, self._share.rows))
        self._frames_done = sum(self._num_frames(task) for task in self._share.rows if task.name in done)
        self._report(None)

    def _follow(self, task: Task) -> None:
        """Make ready what waited for `task` alone; first of all, since it frees disk."""
        if isinstance(task, JoinPieces):
            return
        if isinstance(task, LayOut):
            frames = [part for part in self._partition.frame_tasks(task) if part.name not in self._committed.tasks]
            self._ready.extendleft(reversed(frames))
        for key in self._partition.rows(task):
            for segment in self._partition.segments(task, key):
                if segment.is_piece and (join := self._joins.get(segment.path)):
                    self._missing[join.name] -= 1
                    if not self._missing[join.name]:
                        self._ready.appendleft(join)

    def _num_frames(self, task: RowTask) -> int:
        """Count the frames that a task writes."""
        if isinstance(task, WriteFrames):
            # Those that the next block has too are counted with it.
            return max(0, min(task.stop, self._partition.own_frames(task.trajectory, task.block)[1]) - task.start)
        return 0 if task.long else int(self._partition.plan.num_frames[task.first : task.stop].sum())

    def _report(self, task: Task | None) -> None:
        frames = 0 if task is None or isinstance(task, JoinPieces) else self._num_frames(task)
        self._frames_done += frames
        if self._progress is not None and (frames or task is None):
            self._progress("frames", self._frames_done, self._num_frames_to_do)


class Conversion:
    """What surrounds the tasks: the template before them, tables and manifest after them."""

    def __init__(self, source: Source, settings: ConvertSettings, partition: Partition, writer: StoreWriter) -> None:
        self._source, self._settings, self._writer = source, settings, writer
        self._partition, self._plan = partition, partition.plan
        self._channel_names = tuple(name for field in source.fields for name in field.channel_names)
        self._files = source.fingerprints()
        plan = self._plan
        train = plan.split_names.index("train") if "train" in plan.split_names else None
        self._counted = np.ones(len(plan.split_codes), dtype=bool) if train is None else plan.split_codes == train
        self._statistics_split: Literal["train"] | None = None if train is None else "train"
        self._committed = Committed()

    @cached_property
    def begun(self) -> dict[str, Any]:
        """All that decides the bytes of the store."""
        return describe_begun(self._source, self._settings, self._partition, self._files)

    def carry_out(
        self,
        share: Share,
        committed: Committed,
        *,
        crew: Crew,
        part: Part | None = None,
        wanted: frozenset[str] | None = None,
        progress: Progress | None,
    ) -> None:
        """Carry out tasks of the conversion.

        Args:
            share: the tasks.
            committed: what of them is done; what is done now is added.
            crew: who carries them out.
            part: which part of the conversion they are.
            wanted: files of the store that are to be written, if not all.
            progress: see `convert`.
        """
        ledger = LEDGER_NAME if part is None else part_ledger_name(part)
        bench = Workbench(
            source=self._source,
            partition=self._partition,
            counted=self._counted,
            folder=self._writer.work,
            staging=make_staging(self._writer.work, "whole" if part is None else part.name),
            ledger=ledger,
            dest=self._writer.dest,
            wanted=wanted,
        )
        Ledger(self._writer.work, ledger).add_run()
        with crew.open(bench, self._writer.lock) as executor:
            Schedule(self._partition, share, committed, progress=progress).run(executor)
        self._committed = committed

    def finish(self, name: str) -> Manifest:
        """Write what no task writes: metadata of the arrays, meshes, tables, manifest."""
        if self._source.fingerprints() != self._files:
            raise SourceError(
                f"{self._source.name}: its files changed while they were converted; convert again with --overwrite"
            )
        self.write_small_files()
        self._writer.adopt(
            FileEntry(key=file.path.removeprefix("store/"), size_bytes=file.size_bytes, sha256=file.sha256)
            for file in self._committed.files.values()
            if file.path.startswith("store/")
        )
        self.write_meshes()
        source, plan = self._source, self._plan
        counts = np.bincount(plan.split_codes, minlength=len(plan.split_names))
        statistics = self._gather_statistics().records(self._channel_names)
        reviewed = source.review_statistics(statistics) if self._statistics_split == "train" else ()
        manifest = Manifest(
            version=1 if source.off_grid is None else 2,
            writer=f"ups_data {__version__}",
            name=name,
            fields=source.fields,
            dtype="float64" if plan.dtype == "float64" else "float32",
            geometry=GeometrySpec(
                kind=source.kind,
                axes=source.axes,
                shape=plan.shape,
                stored_measures=source.has_measures,
                point_location=self._meshes.location,
            ),
            boundaries=source.boundaries,
            time_unit=source.time_unit,
            parameters=self._parameter_specs(),
            num_trajectories=len(plan.num_frames),
            num_frames=int(plan.num_frames.sum()),
            num_points=int(plan.num_points.sum()),
            splits={split: int(count) for split, count in zip(plan.split_names, counts, strict=True)},
            split_provenance=plan.split_provenance,
            statistics=statistics,
            statistics_split=self._statistics_split,
            layout=plan.layout,
            importance=self._plan.importance,
            codec=self._settings.codec,
            estimand=plan.estimand,
            missing_fields=tuple(field.name for field in source.fields if field.name in source.missing_fields),
            rounding=self._describe_rounding(),
            settings=self._settings.model_dump(mode="json", exclude={"name"}),
            off_grid=self._describe_off_grid(),
            source=SourceSpec(
                format=source.format,
                files=self._files,
                options=json.loads(json.dumps(dict(source.options), default=str)),
                notes=(*source.notes, *reviewed),
            ),
            files=(),
        )
        try:
            return self._writer.finish(manifest)
        except StoreExistsError:
            # Another store took the place: what could go on here would meet it again.
            self._writer.clear()
            raise

    def write_small_files(self, *, tables: bool = True) -> None:
        """Write the metadata of groups and arrays, and the tables unless told otherwise, all of them in few syncs."""
        files = group_files() | array_metadata_files(self._plan.arrays.values())
        self._writer.write_files(files | table_files(self._tables()) if tables else files)

    @cached_property
    def _laid(self) -> list[Laid]:
        """What is known of trajectories once all pages are dealt."""
        return [Laid.read(self._writer.work / task.summary_path) for task in self._partition.lay_outs]

    def write_meshes(self) -> None:
        """Write the meshes of a source that has any."""
        settings = self._settings
        specs = self._meshes.specs(
            dims=len(self._source.axes), codec_of_rows=settings.codec_of_rows, shard_bytes=settings.shard_bytes
        )
        write_meshes(self._source, self._meshes, specs, self._writer)

    @cached_property
    def _meshes(self) -> MeshSurvey:
        return survey_meshes(self._source)

    def _gather_statistics(self) -> FieldStatistics:
        """Merge the statistics of trajectories in their order, whoever gathered them: rounding depends on the order."""
        statistics = FieldStatistics(len(self._channel_names))
        moments = np.concatenate([part.moments for part in self._laid])
        for trajectory in np.flatnonzero(self._counted):
            statistics.merge(FieldStatistics.from_array(moments[trajectory]))
        return statistics

    def _describe_rounding(self) -> RoundingSpec | None:
        if self._plan.rounding is None:
            return None
        absolute, relative = np.concatenate([part.rounding for part in self._laid]).max(axis=0).tolist()
        errors = tuple(
            RoundingError(channel=name, max_absolute=most, max_relative=share)
            for name, most, share in zip(self._channel_names, absolute, relative, strict=True)
        )
        return RoundingSpec(rule=self._plan.rounding, errors=errors)

    def _describe_off_grid(self) -> OffGridSpec | None:
        if self._source.off_grid is None:
            return None
        moments = np.concatenate([part.deviations for part in self._laid])
        records = Deviations.records(moments, self._channel_names)
        return self._source.off_grid.model_copy(update={"deviations": records})

    def _tables(self) -> TrajectoryTables:
        dims, laid = len(self._source.axes), self._laid
        numbers, grids = _number_grids(laid, dims)
        on_grid = self._source.kind == "grid"
        shapes = [[axis.size for axis in axes] for axes in grids]
        return TrajectoryTables(
            num_frames=self._plan.num_frames,
            num_points=self._plan.num_points,
            split=self._plan.split_codes,
            num_blocks=self._plan.blocks.num_blocks,
            block_start=self._plan.blocks.start,
            block_frames=self._plan.blocks.frames,
            block_pages=self._plan.block_pages,
            drawn_points=np.concatenate([part.drawn_points for part in laid]),
            stratum_pages=np.concatenate([part.stratum_pages for part in laid]),
            stratum_mass=np.concatenate([part.stratum_mass for part in laid]),
            parameters=self._plan.parameters,
            times=np.concatenate([info.times for info in self._source.trajectories]).astype(np.float64),
            geometry=np.array(numbers, dtype=np.int32),
            geometry_shape=np.array(shapes, dtype=np.int64).reshape(-1, dims),
            axis_nodes=np.concatenate([axis for axes in grids for axis in axes]) if on_grid else np.empty(0),
            mesh=self._meshes.numbers,
            mesh_sizes=self._meshes.sizes,
        )

    def _parameter_specs(self) -> tuple[ParameterSpec, ...]:
        values = self._plan.parameters[self._counted]
        names, units = self._source.trajectories[0].parameters, self._source.parameter_units
        return tuple(
            ParameterSpec(name=name, unit=units.get(name), mean=float(column.mean()), std=float(column.std()))
            for name, column in zip(names, values.T, strict=True)
        )


def _has_files(folder: Path) -> bool:
    try:
        return bool(read_ledgers(folder).files)
    except OSError:
        # What cannot be read now may be worth keeping; what went wrong first is what the user must hear of.
        return True


_Axes = tuple[Float64[np.ndarray, " _"], ...]


def _number_grids(laid: Iterable[Laid], dims: int) -> tuple[list[int], list[_Axes]]:
    """Number grids in the order in which trajectories first use them; return a number a trajectory, and their axes."""
    numbers: list[int] = []
    known: dict[bytes, int] = {}
    grids: list[_Axes] = []
    for part in laid:
        if not len(part.shapes):
            numbers.extend(part.grids.tolist())
            continue
        nodes = np.split(part.nodes, np.cumsum(part.shapes.reshape(-1))[:-1])
        renumbered = []
        for start in range(0, len(nodes), dims):
            axes = tuple(nodes[start : start + dims])
            number = known.setdefault(grid_key(axes), len(grids))
            if number == len(grids):
                grids.append(axes)
            renumbered.append(number)
        numbers.extend(renumbered[number] for number in part.grids.tolist())
    return numbers, grids
