"""Rebuild the damaged files of a finished store from its source, exactly as they were, or change nothing.

Damaged is what `validate` calls so: a file that is missing, or of another size or SHA-256 than the manifest lists. The
manifest also holds the format, the options and the settings of the conversion, so the same tasks are cut and those
that the damaged files need are carried out again, in the folder that a conversion would work in. A file takes its place
only once all of them have the SHA-256 of the manifest. The table files need a pass over the whole source.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import preprocess.partition
from preprocess.convert import Conversion, Progress
from preprocess.crew import Crew
from preprocess.ledger import Committed, read_begun
from preprocess.partition import Partition, Share
from preprocess.plan import plan_conversion
from preprocess.settings import ConvertSettings
from preprocess.sources import Source, open_source
from preprocess.sources.off_grid import OffGridSource
from preprocess.validate import find_damage
from ups_data.errors import CorruptionError, SchemaError, SourceError, StoreError, StoreExistsError
from ups_data.schema import FileEntry, Manifest, SourceFingerprint
from ups_data.storage.byte_store import LocalByteStore
from ups_data.storage.durable import move_durably
from ups_data.storage.mesh_arrays import MESH_GROUP
from ups_data.storage.writer import StoreWriter
from ups_data.storage.zarr_store import TABLE_GROUP, partial_path, read_manifest


@dataclass(frozen=True, kw_only=True)
class RepairReport:
    """What was repaired.

    Attributes:
        location: the store.
        num_files: files that were looked at.
        rebuilt: keys of those that were damaged and are whole again.
        problems: what was wrong with each of them.
    """

    location: str
    num_files: int
    rebuilt: tuple[str, ...]
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON knows it."""
        return {
            "ok": True,
            "location": self.location,
            "num_files": self.num_files,
            "rebuilt": list(self.rebuilt),
            "problems": list(self.problems),
        }


def repair(
    path: Path,
    sources: Sequence[Path],
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> RepairReport:
    """Rebuild what is damaged of a store.

    Args:
        path: directory of the store.
        sources: the files that it was made from.
        workers: processes.
        progress: called with "files" and "frames", how many are done, and how many there are.

    Raises:
        StoreNotFoundError: there is no finished store.
        CorruptionError: its manifest is damaged, which nothing can be rebuilt without.
        SourceError: these are not the files that it was made from, or they cannot be read.
        StoreError: what was rebuilt is not what was committed, or cannot be written; nothing was changed.
        StoreExistsError: a conversion to the same place did not finish.
    """
    crew = Crew(workers=workers)
    path = Path(os.path.realpath(path))
    manifest = _read_whole_manifest(path)
    problems = find_damage(path, manifest, progress=progress)
    if problems:
        source = open_source(sources, manifest.source.format, manifest.source.options)
        if manifest.off_grid is not None:
            source = OffGridSource(source, manifest.off_grid)
        _refuse_other_files(source, manifest)
        _refuse_unfinished(path)
        with StoreWriter(path, overwrite=True) as writer:
            _rebuild(source, manifest, frozenset(problems), writer, crew=crew, progress=progress)
            _check_rebuilt(writer.root, manifest, problems)
            for key in problems:
                move_durably(writer.root / key, path / key, dest=path)
    return RepairReport(
        location=str(path),
        num_files=len(manifest.files),
        rebuilt=tuple(problems),
        problems=tuple(problems.values()),
    )


def _read_whole_manifest(path: Path) -> Manifest:
    try:
        return read_manifest(LocalByteStore(path))
    except (SchemaError, CorruptionError) as error:
        raise CorruptionError(
            f"{error}. Without its manifest nobody knows what the store held, so it cannot be repaired: convert again "
            f"with --overwrite"
        ) from error


def _refuse_other_files(source: Source, manifest: Manifest) -> None:
    found, recorded = list(source.fingerprints()), list(manifest.source.files)
    other = [file for file in found if file not in recorded]
    missing = [file for file in recorded if file not in found]
    if not other and not missing:
        return
    told = [f"{file.name} {_tell_difference(file, missing)}" for file in other]
    told += [f"{file.name} is not given" for file in missing if file.name not in {one.name for one in other}]
    raise SourceError(f"{manifest.name} was not made from these files: {'; '.join(told)}; nothing was changed")


def _tell_difference(file: SourceFingerprint, recorded: list[SourceFingerprint]) -> str:
    for other in recorded:
        if other.name == file.name and other.size_bytes != file.size_bytes:
            return f"has {file.size_bytes} bytes, it had {other.size_bytes}"
        if other.name == file.name:
            return "has other content"
    return "is not one of them"


def _refuse_unfinished(path: Path) -> None:
    partial = partial_path(path)
    if read_begun(partial) is not None:
        raise StoreExistsError(
            f"{partial} holds a conversion that was to replace this store and did not finish: finish it, or remove "
            f"that folder to keep and repair the store"
        )


def _recorded_settings(manifest: Manifest) -> ConvertSettings:
    """Return the settings of a conversion; what it chose by itself is taken from what it wrote."""
    if not manifest.settings:
        raise StoreError(
            f"the manifest of {manifest.name} does not tell the settings of its conversion, as those of earlier "
            f"versions do not: convert again with --overwrite"
        )
    layout = manifest.layout
    chosen = {
        **manifest.settings,
        "name": manifest.name,
        "page_points": layout.page_points,
        "num_strata": layout.num_strata,
        "block_points": layout.block_points,
        "dense": layout.dense,
        "importance": manifest.importance.model_dump(mode="json"),
    }
    return ConvertSettings.model_validate_json(json.dumps(chosen))


def _rebuild(
    source: Source,
    manifest: Manifest,
    damaged: frozenset[str],
    writer: StoreWriter,
    *,
    crew: Crew,
    progress: Progress | None,
) -> None:
    settings = _recorded_settings(manifest)
    plan = plan_conversion(source, settings)
    partition = Partition(plan=plan, block_bytes=preprocess.partition.BLOCK_BYTES, task_bytes=settings.shard_bytes)
    conversion = Conversion(source, settings, partition, writer)
    has_tables = any(key.startswith(f"{TABLE_GROUP}/") and key != f"{TABLE_GROUP}/zarr.json" for key in damaged)
    share = _find_share(partition, damaged, everywhere=has_tables)
    wanted = frozenset(f"store/{key}" for key in damaged)
    conversion.carry_out(share, Committed(), crew=crew, wanted=wanted, progress=progress)
    conversion.write_small_files(tables=has_tables)
    if any(key.startswith(f"{MESH_GROUP}/") for key in damaged):
        conversion.write_meshes()


def _find_share(partition: Partition, damaged: frozenset[str], *, everywhere: bool) -> Share:
    """Return the tasks that write damaged shards and what these need; all that deal pages for `everywhere`."""
    wanted = {
        (key, shard)
        for key, spec in partition.plan.arrays.items()
        for shard in range(spec.num_shards)
        if spec.shard_key(shard) in damaged
    }
    names = {
        task.name
        for task in partition.row_tasks
        for key in partition.rows(task)
        if any((key, segment.shard) in wanted for segment in partition.segments(task, key))
    }
    frames = {lay_out.name: partition.frame_tasks(lay_out) for lay_out in partition.lay_outs}
    return Share(
        lay_outs=tuple(
            lay_out
            for lay_out in partition.lay_outs
            if everywhere or lay_out.name in names or any(part.name in names for part in frames[lay_out.name])
        ),
        frames=tuple(part for parts in frames.values() for part in parts if part.name in names),
        joins=tuple(join for join in partition.join_tasks if (join.key, join.shard) in wanted),
    )


def _check_rebuilt(root: Path, manifest: Manifest, damaged: dict[str, str]) -> None:
    """Refuse all of it where a file is not, byte for byte, what was committed."""
    other = [entry.key for entry in manifest.files if entry.key in damaged and not _is_exact(root / entry.key, entry)]
    if other:
        raise StoreError(
            f"{len(other)} of {len(damaged)} files that were rebuilt are not what was committed, {other[0]} first; the "
            f"store was written by {manifest.writer}, maybe with other versions of libraries or on another processor. "
            f"Nothing was changed: restore it from a copy, or convert again with --overwrite"
        )


def _is_exact(path: Path, entry: FileEntry) -> bool:
    if not path.is_file() or path.stat().st_size != entry.size_bytes:
        return False
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() == entry.sha256
