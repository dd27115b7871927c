"""Convert in parts that run at any time, on any machines with the same file system, and then put the store together.

Every part carries out tasks of its own (`Partition.share_of_part`) and notes them in a ledger of its own, in the one
folder of the conversion; none waits for another. Shards that several parts have rows of, at most two for each array and
part, are left to the commit, which also writes tables and manifest. The store is the same bytes as without parts.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import preprocess.partition
from preprocess.convert import Conversion, Progress
from preprocess.crew import Crew
from preprocess.ledger import read_begun, read_ledgers
from preprocess.partition import Part, Partition
from preprocess.plan import plan_conversion
from preprocess.resume import find_parts, part_ledger_name, take_up, take_up_part
from preprocess.settings import ConvertSettings
from preprocess.sources.base import Source
from ups_data.errors import ConfigError, StoreError, StoreExistsError
from ups_data.schema import Manifest
from ups_data.storage.writer import StoreWriter

_MAX_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """What a part did.

    Attributes:
        part: which one.
        num_tasks: tasks that it has.
        num_done_before: those that an earlier run did.
        parts_left: numbers of the parts that are not done yet.
    """

    part: Part
    num_tasks: int
    num_done_before: int
    parts_left: tuple[int, ...]


def parse_part(text: str) -> Part:
    """Read `3/8`.

    Raises:
        ConfigError: it is no such text, or no such part.
    """
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise ConfigError(f"a part is NUMBER/COUNT, 1/8 to 8/8, got {text!r}")
    return Part(number=int(number), count=int(count))


def convert_part(
    source: Source,
    dest: Path,
    settings: ConvertSettings,
    part: Part,
    *,
    overwrite: bool = False,
    workers: int = 1,
    dask: str | None = None,
    progress: Progress | None = None,
) -> PartReport:
    """Do one part of a conversion; other parts may be under way. The same call goes on with a part that was killed.

    Args:
        source: as for `convert`, and the same for all parts; so are `dest` and `settings`.
        dest: where the store will lie.
        settings: what may be chosen.
        part: which part.
        overwrite: the store that is there shall be replaced, by `commit_parts`.
        workers: as for `convert`; so is `dask`.
        dask: as for `convert`.
        progress: called with "frames", how many of the part are written, and how many it has.

    Raises:
        StoreExistsError: `dest` is taken, the conversion was begun from other sources or settings or in another number
            of parts, or this part is running.
        UpsDataError: as `convert` raises them.
    """
    crew = Crew(workers=workers, dask=dask)
    partition = _cut(source, settings)
    with StoreWriter(dest, overwrite=overwrite, resume=True, shared=True) as writer:
        conversion = Conversion(source, settings, partition, writer)
        committed = take_up_part(writer, partition, conversion.begun, part)
        share = partition.share_of_part(part)
        names = {task.name for task in (*share.rows, *share.joins)}
        before = len(committed.tasks & names)
        with _part_held(writer.work, part):
            conversion.carry_out(share, committed, crew=crew, part=part, progress=progress)
        done = read_ledgers(writer.work).tasks
        left = [number for number, missing in _find_missing(partition, done, part.count) if missing]
        return PartReport(part=part, num_tasks=len(names), num_done_before=before, parts_left=tuple(left))


def commit_parts(
    source: Source,
    dest: Path,
    settings: ConvertSettings,
    *,
    overwrite: bool = False,
    workers: int = 1,
    dask: str | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Put the store together once all parts are done.

    Raises:
        ConfigError: a part is not done; names those that are not.
        StoreExistsError: `dest` is taken, a part is running, or the parts were done with other sources or settings.
        UpsDataError: as `convert` raises them.
    """
    crew = Crew(workers=workers, dask=dask)
    partition = _cut(source, settings)
    with StoreWriter(dest, overwrite=overwrite, resume=True) as writer:
        if read_begun(writer.work) is None:
            writer.keep_unfinished = False
            raise ConfigError(f"no part of a conversion to {dest} was begun, so there is nothing to commit")
        conversion = Conversion(source, settings, partition, writer)
        committed = take_up(writer, partition, conversion.begun, overwrite=False)
        _refuse_missing(partition, committed.tasks, find_parts(writer.work), dest)
        share = partition.share_of(partition.lay_outs)
        conversion.carry_out(share, committed, crew=crew, progress=progress)
        return conversion.finish(settings.name or writer.dest.name)


def _cut(source: Source, settings: ConvertSettings) -> Partition:
    plan = plan_conversion(source, settings)
    return Partition(plan=plan, block_bytes=preprocess.partition.BLOCK_BYTES, task_bytes=settings.shard_bytes)


@contextmanager
def _part_held(folder: Path, part: Part) -> Iterator[None]:
    """Hold a part by a lock on its ledger, which ends with the process."""
    path = folder / part_ledger_name(part)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StoreExistsError(f"part {part} of the conversion in {folder} is running already; wait for it") from error
    except OSError:
        pass  # a file system without locks keeps nobody out
    try:
        yield
    finally:
        os.close(descriptor)


def _find_missing(partition: Partition, done: set[str], count: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each part and the tasks of it that are not done."""
    for number in range(1, count + 1):
        share = partition.share_of_part(Part(number=number, count=count))
        yield number, [task.name for task in share.rows if task.name not in done]


def _refuse_missing(partition: Partition, done: set[str], begun: list[Part], dest: Path) -> None:
    missing = [task.name for task in partition.row_tasks if task.name not in done]
    if not missing:
        return
    if not begun:
        raise ConfigError(
            f"the conversion to {dest} lacks {len(missing)} of {len(partition.row_tasks)} tasks and was not begun in "
            f"parts: run it again without --commit"
        )
    numbers = {part.number for part in begun}
    told = [
        f"{number}/{begun[0].count} ({f'{len(tasks)} tasks to do' if number in numbers else 'not begun'})"
        for number, tasks in _find_missing(partition, done, begun[0].count)
        if tasks
    ]
    more = f" and {len(told) - _MAX_NAMED} more" if len(told) > _MAX_NAMED else ""
    raise ConfigError(
        f"the conversion to {dest} cannot be committed before all parts are done; run part "
        f"{', '.join(told[:_MAX_NAMED])}{more}, then commit again"
    )
