"""Take up an unfinished conversion: what of it counts, and what is to be done again."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from preprocess.ledger import (
    BEGUN_NAME,
    Committed,
    CommittedFile,
    claim_begun,
    find_difference,
    find_ledgers,
    read_begun,
    read_ledgers,
    write_begun,
)
from preprocess.partition import JoinPieces, Part, Partition, RowTask, Share, table_path
from preprocess.settings import ConvertSettings
from preprocess.sources.base import Source
from ups_data import __version__
from ups_data.errors import StoreError, StoreExistsError
from ups_data.schema import SourceFingerprint
from ups_data.storage.folder_lock import LOCK_NAME
from ups_data.storage.writer import StoreWriter

STAGING_NAME = "staged"
_PART_LEDGER = re.compile(r"ledger-([1-9]\d*)-of-([1-9]\d*)\.jsonl")


def describe_begun(
    source: Source, settings: ConvertSettings, partition: Partition, files: tuple[SourceFingerprint, ...]
) -> dict[str, Any]:
    """Return what a conversion is begun from: all that decides the bytes of its store."""
    trajectories = hashlib.sha256()
    for info in source.trajectories:
        trajectories.update(repr((info.item, info.shape, dict(info.parameters), info.split)).encode())
        trajectories.update(info.times.tobytes())
    described = {
        "writer": f"ups_data {__version__}",
        "source": {
            "format": source.format,
            "files": _describe_files(files),
            "fields": [field.model_dump(mode="json") for field in source.fields],
            "axes": [axis.model_dump(mode="json") for axis in source.axes],
            "boundaries": [boundary.model_dump(mode="json") for boundary in source.boundaries],
            "missing_fields": sorted(source.missing_fields),
            "dtype": str(source.dtype),
            "num_trajectories": len(source.trajectories),
            "trajectories_sha256": trajectories.hexdigest(),
            "notes": list(source.notes),
        },
        "settings": settings.model_dump(mode="json"),
        # What the recipe became: a checkpoint under the same path may be another one by now.
        "importance": partition.plan.importance.model_dump(mode="json"),
        "arrays": {key: asdict(array) for key, array in partition.plan.arrays.items()},
        "block_bytes": partition.block_bytes,
        "task_bytes": partition.task_bytes,
        "num_tasks": len(partition.row_tasks) + len(partition.join_tasks),
    }
    if source.off_grid is not None:
        described["off_grid"] = source.off_grid.model_dump(mode="json")
    # As it reads back from JSON, so that what is compared has one form.
    content: dict[str, Any] = json.loads(json.dumps(described))
    return content


def _describe_files(files: tuple[SourceFingerprint, ...]) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for number, file in enumerate(files):
        name = f"{number}/{file.name}" if file.name in described else file.name
        described[name] = {"size_bytes": file.size_bytes, "sha256_ends": file.sha256_ends}
    return described


def part_ledger_name(part: Part) -> str:
    """Return the name of a part's ledger."""
    return f"ledger-{part.name}.jsonl"


def find_parts(folder: Path) -> list[Part]:
    """Return the parts that were begun in a folder, in order."""
    found = [_PART_LEDGER.fullmatch(path.name) for path in folder.glob("ledger-*.jsonl")]
    parts = [Part(number=int(match[1]), count=int(match[2])) for match in found if match]
    return sorted(parts, key=lambda part: (part.count, part.number))


def make_staging(folder: Path, name: str) -> Path:
    """Make the directory that a run writes files in, and remove those of earlier runs of the same name.

    What a process of such a run still writes finds no place any more: see `Workbench`.
    """
    staged = folder / STAGING_NAME
    staged.mkdir(exist_ok=True)
    for left in staged.glob(f"{name}.*"):
        shutil.rmtree(left)
    made = staged / f"{name}.{uuid.uuid4().hex}"
    made.mkdir()
    return made


def take_up(writer: StoreWriter, partition: Partition, begun: dict[str, Any], *, overwrite: bool) -> Committed:
    """Return what counts of an unfinished conversion to the same place, and remove everything else.

    Files of the store must be there with their size: they were synced before they were noted. What was not synced is
    held against its hash. A task counts if it is noted and all that others still need of it counts.

    Args:
        writer: holds the folder alone.
        partition: the tasks.
        begun: from what this conversion is begun.
        overwrite: begin afresh where that one was begun from something else.

    Raises:
        StoreExistsError: it was begun from other sources or settings, and `overwrite` is False.
    """
    with _folder_errors(writer):
        # First of all: from here on, no process of an earlier run can put anything in place.
        shutil.rmtree(writer.work / STAGING_NAME, ignore_errors=True)
        earlier = read_begun(writer.work)
        if earlier is not None and find_difference(earlier, begun) is not None and not overwrite:
            _refuse_difference(writer, earlier, begun, "or pass --overwrite to start afresh")
        if earlier != begun:
            writer.clear()
            write_begun(writer.work, begun, dest=writer.dest)
            return Committed()
        noted = read_ledgers(writer.work)
        committed = Committed(files={path: file for path, file in noted.files.items() if _is_intact(writer.work, file)})
        _select_tasks(committed, noted, partition, partition.share_of(partition.lay_outs))
        _sweep(writer.work, committed)
        return committed


def take_up_part(writer: StoreWriter, partition: Partition, begun: dict[str, Any], part: Part) -> Committed:
    """Return what counts of a part of a conversion; other parts may be under way, and theirs is left alone.

    Args:
        writer: holds the folder together with other parts.
        partition: the tasks.
        begun: from what this conversion is begun.
        part: which of its parts.

    Raises:
        StoreExistsError: the conversion was begun from other sources or settings, or in another number of parts.
    """
    with _folder_errors(writer):
        others = [other for other in find_parts(writer.work) if other.count != part.count]
        if others:
            raise StoreExistsError(
                f"{writer.work} holds a conversion that was begun in {others[0].count} parts, and this is part {part}: "
                f"keep their number, or go on without --part"
            )
        if find_ledgers(writer.work) and read_begun(writer.work) is None:
            raise StoreExistsError(
                f"{writer.work / BEGUN_NAME} is gone or damaged, so nobody knows from what the conversion in that "
                f"folder was begun: remove the folder, or convert without --part, which starts afresh"
            )
        claim_begun(writer.work, begun, dest=writer.dest)
        earlier = read_begun(writer.work) or {}
        if earlier != begun:
            _refuse_difference(writer, earlier, begun, "or remove that folder to start afresh")
        share = partition.share_of_part(part)
        noted = read_ledgers(writer.work)
        committed = Committed()
        for path in _files_of(share, partition) & noted.files.keys():
            if _is_intact(writer.work, noted.files[path]):
                committed.files[path] = noted.files[path]
            else:
                (writer.work / path).unlink(missing_ok=True)
        _select_tasks(committed, noted, partition, share)
        return committed


def _files_of(share: Share, partition: Partition) -> set[str]:
    """Return all files that the tasks of a share write, or may have written."""
    files = {
        segment.path for task in share.rows for key in partition.rows(task) for segment in partition.segments(task, key)
    }
    files |= {_shard_path(partition, join) for join in share.joins}
    files |= {task.summary_path for task in share.lay_outs}
    return files | {table_path(task.trajectory, task.block) for task in share.frames}


@contextmanager
def _folder_errors(writer: StoreWriter) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"cannot write in {writer.work}: {error}; nothing at {writer.dest} was changed") from error


def _refuse_difference(writer: StoreWriter, earlier: dict[str, Any], begun: dict[str, Any], remedy: str) -> NoReturn:
    key, before, after = find_difference(earlier, begun) or ("content", earlier, begun)
    raise StoreExistsError(
        f"{writer.work} holds an unfinished conversion that was begun with another {key}: {before!r}, now {after!r}. "
        f"Go on with what it was begun with, {remedy}"
    )


def _is_intact(folder: Path, file: CommittedFile) -> bool:
    path = folder / file.path
    if not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    if file.path.startswith("store/"):
        return True
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() == file.sha256


def _select_tasks(committed: Committed, noted: Committed, partition: Partition, share: Share) -> None:
    """Put those tasks of a share into `committed` that are done for good."""
    joined = set()
    for join in share.joins:
        # Its own line does not count: pieces are removed before it is written.
        if _shard_path(partition, join) in committed.files:
            committed.tasks.add(join.name)
            joined.add((join.key, join.shard))
    for lay_out in share.lay_outs:
        frames = partition.frame_tasks(lay_out)
        done = [part for part in frames if _counts(part, committed, noted, partition, joined)]
        committed.tasks.update(part.name for part in done)
        needed = {lay_out.summary_path}
        needed |= {table_path(part.trajectory, part.block) for part in frames if part.name not in committed.tasks}
        if needed <= committed.files.keys() and _counts(lay_out, committed, noted, partition, joined):
            committed.tasks.add(lay_out.name)


def _counts(
    task: RowTask, committed: Committed, noted: Committed, partition: Partition, joined: set[tuple[str, int]]
) -> bool:
    return task.name in noted.tasks and all(path in committed.files for path in _rows_needed(task, partition, joined))


def _rows_needed(task: RowTask, partition: Partition, joined: set[tuple[str, int]]) -> Iterator[str]:
    for key in partition.rows(task):
        for segment in partition.segments(task, key):
            if not segment.is_piece or (key, segment.shard) not in joined:
                yield segment.path


def _shard_path(partition: Partition, join: JoinPieces) -> str:
    return f"store/{partition.plan.arrays[join.key].shard_key(join.shard)}"


def _sweep(folder: Path, committed: Committed) -> None:
    """Remove every file that does not count: half-written ones, and those that were never noted."""
    kept = {LOCK_NAME, BEGUN_NAME, *(ledger.path.name for ledger in find_ledgers(folder)), *committed.files}
    for path in folder.rglob("*"):
        if (path.is_file() or path.is_symlink()) and str(path.relative_to(folder)) not in kept:
            path.unlink()
