"""Take up an unfinished conversion: what of it counts, and what is to be done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from preprocess.ledger import (
    BEGUN_NAME,
    LEDGER_NAME,
    Committed,
    CommittedFile,
    Ledger,
    find_difference,
    read_begun,
    write_begun,
)
from preprocess.partition import JoinPieces, Partition, RowTask, table_path
from preprocess.settings import ConvertSettings
from preprocess.sources.base import Source
from ups_data import __version__
from ups_data.errors import StoreError, StoreExistsError
from ups_data.schema import SourceFingerprint
from ups_data.storage.writer import StoreWriter


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
            "dtype": str(source.dtype),
            "num_trajectories": len(source.trajectories),
            "trajectories_sha256": trajectories.hexdigest(),
            "notes": list(source.notes),
        },
        "settings": settings.model_dump(mode="json"),
        "arrays": {key: asdict(array) for key, array in partition.plan.arrays.items()},
        "block_bytes": partition.block_bytes,
        "task_bytes": partition.task_bytes,
    }
    # As it reads back from JSON, so that what is compared has one form.
    content: dict[str, Any] = json.loads(json.dumps(described))
    return content


def _describe_files(files: tuple[SourceFingerprint, ...]) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for number, file in enumerate(files):
        name = f"{number}/{file.name}" if file.name in described else file.name
        described[name] = {"size_bytes": file.size_bytes, "sha256_ends": file.sha256_ends}
    return described


def take_up(writer: StoreWriter, partition: Partition, begun: dict[str, Any], *, overwrite: bool) -> Committed:
    """Return what counts of an unfinished conversion to the same place, and remove everything else.

    Files of the store must be there with their size: they were synced before they were noted. What was not synced is
    held against its hash. A task counts if it is noted and all that others still need of it counts.

    Args:
        writer: holds the folder.
        partition: the tasks.
        begun: from what this conversion is begun.
        overwrite: begin afresh where that one was begun from something else.

    Raises:
        StoreExistsError: it was begun from other sources or settings, and `overwrite` is False.
    """
    try:
        return _take_up(writer, partition, begun, overwrite=overwrite)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"cannot write in {writer.work}: {error}; nothing at {writer.dest} was changed") from error


def _take_up(writer: StoreWriter, partition: Partition, begun: dict[str, Any], *, overwrite: bool) -> Committed:
    earlier = read_begun(writer.work)
    difference = None if earlier is None else find_difference(earlier, begun)
    if difference is not None and not overwrite:
        key, before, after = difference
        raise StoreExistsError(
            f"{writer.work} holds an unfinished conversion that was begun with another {key}: {before!r}, now "
            f"{after!r}. Go on with what it was begun with, or pass --overwrite to start afresh"
        )
    if earlier is None or difference is not None:
        writer.clear()
        write_begun(writer.work, begun, dest=writer.dest)
        return Committed()
    noted = Ledger(writer.work).read()
    committed = Committed(files={path: file for path, file in noted.files.items() if _is_intact(writer.work, file)})
    _select_tasks(committed, noted, partition)
    _sweep(writer.work, committed)
    return committed


def _is_intact(folder: Path, file: CommittedFile) -> bool:
    path = folder / file.path
    if not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    if file.path.startswith("store/"):
        return True
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() == file.sha256


def _select_tasks(committed: Committed, noted: Committed, partition: Partition) -> None:
    """Put those tasks into `committed` that are done for good."""
    joined = set()
    for join in partition.join_tasks:
        # Its own line does not count: pieces are removed before it is written.
        if _shard_path(partition, join) in committed.files:
            committed.tasks.add(join.name)
            joined.add((join.key, join.shard))
    for lay_out in partition.lay_outs:
        frames = partition.frame_tasks(lay_out)
        done = [part for part in frames if _counts(part, committed, noted, partition, joined)]
        committed.tasks.update(part.name for part in done)
        needed = {lay_out.summary_path} | ({table_path(lay_out.first)} if len(done) < len(frames) else set())
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
    kept = {LEDGER_NAME, BEGUN_NAME, *committed.files}
    for path in folder.rglob("*"):
        if (path.is_file() or path.is_symlink()) and str(path.relative_to(folder)) not in kept:
            path.unlink()
