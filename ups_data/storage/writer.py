"""Writing a store: whole shards only, each staged, synced and renamed; the manifest last; then the store itself.

A writer works in `.NAME.partial/store` beside its destination and takes the final name by one rename when everything,
manifest included, is on disk. Until then there is nothing at the destination that a reader could open. What else a
conversion needs to go on after a kill lies in `.NAME.partial` too, and is removed after that rename.

A store that is replaced changes its name with the new one at once where the system can exchange names; elsewhere
there is nothing at the destination for a moment, and a writer that is killed in it leaves the old store in
`.NAME.retired`, from where the next writer takes it back.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Shaped

from ups_data.errors import StoreError, StoreExistsError
from ups_data.schema import FORMAT_NAME, MANIFEST_NAME, FileEntry, Manifest
from ups_data.storage.codec import ChunkCodec
from ups_data.storage.durable import StagedFile, sync_directory, write_all_durably, write_durably
from ups_data.storage.exchange import exchange_names
from ups_data.storage.folder_lock import LOCK_NAME, hold_folder, remove_held
from ups_data.storage.shard import ArraySpec, array_metadata, encode_shard, memory_file
from ups_data.storage.tables import TrajectoryTables
from ups_data.storage.tar_format import TAR_MANIFEST_NAME
from ups_data.storage.zarr_store import TABLE_GROUP, partial_path, retired_path

_MANIFEST_HEAD_BYTES = 4096
_LOCK_SECONDS = 1.0
GROUPS = ("", "pages", TABLE_GROUP)
"""Keys of the Zarr groups of every store."""

_GROUP_METADATA: Mapping[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": {}}


class ArrayWriter:
    """Takes the rows of one array in order and writes each shard as soon as it is full."""

    def __init__(self, spec: ArraySpec, writer: StoreWriter) -> None:
        self.spec = spec
        self._writer = writer
        self._pending: list[Shaped[np.ndarray, "..."]] = []
        self._num_pending = 0
        self._next_shard = 0
        writer.write_files(array_metadata_files([spec]))

    def append(self, rows: Shaped[np.ndarray, "row *chunk"]) -> None:
        """Add rows; memory holds at most one shard and the rows of this call."""
        self._pending.append(rows.astype(self.spec.dtype, copy=False))
        self._num_pending += len(rows)
        if self._num_pending >= self.spec.rows_per_shard:
            self._flush()

    def close(self) -> None:
        """Write what is left, and check that all rows came."""
        self._flush()
        if self._num_pending:
            self._write_shard(np.concatenate(self._pending))
            self._pending, self._num_pending = [], 0
        if self._next_shard != self.spec.num_shards:
            raise StoreError(f"{self.spec.key}: {self._next_shard} of {self.spec.num_shards} shards were written")

    def _flush(self) -> None:
        if self._num_pending < self.spec.rows_per_shard:
            return
        rows = np.concatenate(self._pending)
        whole = len(rows) - len(rows) % self.spec.rows_per_shard
        for start in range(0, whole, self.spec.rows_per_shard):
            self._write_shard(rows[start : start + self.spec.rows_per_shard])
        self._pending, self._num_pending = [rows[whole:].copy()], len(rows) - whole

    def _write_shard(self, rows: Shaped[np.ndarray, "..."]) -> None:
        # A whole shard is encoded in memory first, so that no partly encoded shard ever has a name.
        self._writer.write_file(self.spec.shard_key(self._next_shard), encode_shard(self.spec, rows))
        self._next_shard += 1


class StoreWriter:
    """Writes one store. Use as a context: leaving it by an error removes what was begun, unless it shall be kept.

    Args:
        dest: where the finished store will lie.
        overwrite: replace the store that is there.
        resume: leave what an unfinished conversion to the same place left; the caller sorts it out.
        shared: hold the folder together with other writers, who each write a part; none of them can finish.

    Attributes:
        dest: the destination, links followed.
        work: the folder beside it that this writer holds, `.NAME.partial`.
        root: the store that is being written, in `work`.
        keep_unfinished: whether leaving by an error keeps `work` for a later writer with `resume`.
        lock: descriptor that holds `work`, None on file systems without such locks.

    Raises:
        StoreExistsError: the destination exists and `overwrite` is False, or it is no store of ours.
    """

    def __init__(self, dest: Path, *, overwrite: bool, resume: bool = False, shared: bool = False) -> None:
        # Links are followed, so that the last rename stays within one directory and replaces no link.
        self.dest = Path(os.path.realpath(dest))
        self._overwrite, self._resume, self._shared = overwrite, resume, shared
        self.work = partial_path(self.dest)
        self.root = self.work / "store"
        try:
            check_destination(self.dest, overwrite=overwrite)
        except StoreExistsError:
            self._clear_finished()
            raise
        self.keep_unfinished = resume
        self.lock: int | None = None
        self._entries: dict[str, FileEntry] = {}
        self._finished = False

    def __enter__(self) -> Self:
        try:
            self.lock = self._hold()
            try:
                self._begin()
            except BaseException:
                self._release()
                raise
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(f"cannot write beside {self.dest}: {error}") from error
        return self

    def __exit__(self, *error: object) -> None:
        if not self._finished and not self.keep_unfinished:
            remove_held(self.work)
        self._release()

    def _hold(self) -> int | None:
        try:
            return hold_folder(self.work, shared=self._shared, wait_s=_LOCK_SECONDS)
        except BlockingIOError as error:
            holder = f" ({error})" if str(error) else ""
            raise StoreExistsError(
                f"another conversion to {self.dest} is running{holder}; wait for it or choose another destination"
            ) from error

    def _begin(self) -> None:
        if not self._shared:
            take_back_retired(self.dest)
        # Somebody else may have finished a store there while this one waited for the folder.
        try:
            check_destination(self.dest, overwrite=self._overwrite)
        except StoreExistsError:
            if not self._shared and not self.root.exists():
                remove_held(self.work)
            raise
        if not self._resume:
            self.clear()
        self.root.mkdir(exist_ok=True)

    def _release(self) -> None:
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def clear(self) -> None:
        """Remove what an earlier conversion left."""
        for left in self.work.iterdir():
            if left.name == LOCK_NAME:
                continue
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        self.root.mkdir()

    def _clear_finished(self) -> None:
        """Remove what a conversion left that was killed right after its store took its name."""
        left = self.work.is_dir() and not self.root.exists()
        if not _is_store(self.dest) or not (left or retired_path(self.dest).exists()):
            return
        try:
            descriptor = hold_folder(self.work, shared=False, wait_s=0)
        except OSError:
            return
        if descriptor is None:
            return  # without locks nobody can tell whether it is in use
        shutil.rmtree(retired_path(self.dest), ignore_errors=True)
        if not self.root.exists():
            remove_held(self.work)
        os.close(descriptor)

    def adopt(self, entries: Iterable[FileEntry]) -> None:
        """Note files below `root` that others committed, for the manifest."""
        self._entries.update((entry.key, entry) for entry in entries)

    def create_array(self, spec: ArraySpec) -> ArrayWriter:
        """Begin an array."""
        return ArrayWriter(spec, self)

    def write_files(self, contents: Mapping[str, bytes | memoryview]) -> None:
        """Write small files as `write_file` does, all of them in few syncs.

        Raises:
            StoreError: the disk is full, read-only, or failed.
        """
        write_all_durably({self.root / key: content for key, content in contents.items()}, dest=self.dest)
        self._entries.update((key, _entry(key, content)) for key, content in contents.items())

    def write_file(self, key: str, content: bytes | memoryview) -> None:
        """Stage, sync and rename one file, and note its size and hash for the manifest.

        Raises:
            StoreError: the disk is full, read-only, or failed.
        """
        self.write_parts(key, [content])

    def write_parts(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """Write one file as `write_file` does, part by part, so that it need not fit into memory."""
        with StagedFile(self.root / key, dest=self.dest) as file:
            for part in parts:
                file.write(part)
            file.finish()
        self._entries[key] = FileEntry(key=key, size_bytes=file.size_bytes, sha256=file.sha256)

    def finish(self, manifest: Manifest) -> Manifest:
        """Write groups, where that was not done, and the manifest with the list of files; give the store its name."""
        self.write_files({key: content for key, content in group_files().items() if key not in self._entries})
        text = manifest.model_copy(update={"files": self.entries}).to_json()
        manifest = Manifest.from_json(text, where=str(self.root / MANIFEST_NAME))
        self.publish(MANIFEST_NAME, text)
        return manifest

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """What was written so far, sorted by key."""
        return tuple(self._entries[key] for key in sorted(self._entries))

    def publish(self, name: str, text: str) -> None:
        """Write the manifest, which comes last, sync, and give the store its name."""
        write_durably(self.root / name, text.encode(), dest=self.dest)
        # Somebody else may have finished a store there in the meantime.
        check_destination(self.dest, overwrite=self._overwrite)
        retired = retired_path(self.dest)
        try:
            if _is_store(self.dest):
                shutil.rmtree(retired, ignore_errors=True)
                _replace_store(self.root, self.dest, retired)
            else:
                self.root.rename(self.dest)
            self._finished = True
            sync_directory(self.dest.parent)
        except OSError as error:
            raise StoreError(f"cannot give the finished store its name {self.dest}: {error}") from error
        shutil.rmtree(retired, ignore_errors=True)
        remove_held(self.work)


def _entry(key: str, content: bytes | memoryview) -> FileEntry:
    return FileEntry(key=key, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def group_files(groups: Iterable[str] = GROUPS) -> dict[str, bytes | memoryview]:
    """Return the metadata of Zarr groups, of those of every store by default."""
    return {f"{group}/zarr.json".lstrip("/"): _json_file(_GROUP_METADATA) for group in groups}


def array_metadata_files(specs: Iterable[ArraySpec]) -> dict[str, bytes | memoryview]:
    """Return the metadata of arrays."""
    return {f"{spec.key}/zarr.json": _json_file(array_metadata(spec)) for spec in specs}


def _json_file(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def table_files(tables: TrajectoryTables) -> dict[str, bytes | memoryview]:
    """Return the files of the flat tables over trajectories."""
    files: dict[str, bytes | memoryview] = {}
    for name in TrajectoryTables.names():
        files.update(_array_files(f"{TABLE_GROUP}/{name}", getattr(tables, name)))
    return files


def _array_files(key: str, values: Shaped[np.ndarray, "..."]) -> dict[str, bytes | memoryview]:
    """Return the files of a plain array of one chunk."""
    files: dict[str, bytes | memoryview] = {f"{key}/zarr.json": _plain_metadata(values.shape, values.dtype)}
    if values.size:
        codec = ChunkCodec(name="none", item_bytes=values.itemsize, chunk_bytes=values.nbytes)
        files["/".join([key, "c", *["0"] * values.ndim])] = codec.encode(values)
    return files


@lru_cache(maxsize=512)  # a millisecond each, and most tables of a process are as large as those before
def _plain_metadata(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the `zarr.json` of a plain array of one chunk, made by zarr-python."""
    import zarr

    store = zarr.storage.MemoryStore()
    zarr.create_array(
        store,
        shape=shape,
        chunks=tuple(max(1, size) for size in shape),
        dtype=dtype,
        fill_value=0,
        filters=None,
        compressors=[zarr.codecs.Crc32cCodec()],
    )
    return memory_file(store, "zarr.json")


def take_back_retired(dest: Path) -> None:
    """Give a store its name back that a writer set aside and was killed before its own store took that name."""
    retired = retired_path(dest)
    if not dest.exists() and _is_store(retired):
        retired.rename(dest)
        sync_directory(dest.parent)


def _replace_store(root: Path, dest: Path, retired: Path) -> None:
    """Put the store at `root` where another one lies, which goes to `retired`."""
    # Not exchanged in place: if this process is killed, the old store must not lie where a conversion goes on.
    root.rename(retired)
    if exchange_names(retired, dest):
        return
    retired.rename(root)
    dest.rename(retired)
    root.rename(dest)


def check_destination(dest: Path, *, overwrite: bool) -> None:
    """Refuse a destination that is taken; an empty directory is free.

    Raises:
        StoreExistsError: it holds a finished store and `overwrite` is False, or it holds anything else.
    """
    if not dest.exists() or (dest.is_dir() and not any(dest.iterdir())):
        return
    if not _is_store(dest):
        raise StoreExistsError(f"{dest} exists and is no store of ours; it is left alone: choose another destination")
    if not overwrite:
        raise StoreExistsError(f"{dest} already holds a finished store; choose another destination or pass --overwrite")


def _is_store(path: Path) -> bool:
    """Tell whether a directory holds a manifest of ours, damaged or not; other tools have files of such names too."""
    for name in (MANIFEST_NAME, TAR_MANIFEST_NAME):
        manifest = path / name
        if manifest.is_file():
            with manifest.open("rb") as handle:
                return f'"{FORMAT_NAME}'.encode() in handle.read(_MANIFEST_HEAD_BYTES)
    return False
