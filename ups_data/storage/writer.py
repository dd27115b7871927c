"""Writing a store: whole shards only, each staged, synced and renamed; the manifest last; then the store itself.

A conversion works in `.NAME.partial` beside its destination and takes the final name by one rename when everything,
manifest included, is on disk. Until then there is nothing at the destination that a reader could open.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Shaped

from ups_data.errors import StoreError, StoreExistsError
from ups_data.schema import FORMAT_NAME, MANIFEST_NAME, FileEntry, Manifest
from ups_data.storage.codec import ChunkCodec
from ups_data.storage.shard import ArraySpec, array_metadata, encode_shard, memory_file
from ups_data.storage.tables import TrajectoryTables
from ups_data.storage.zarr_store import TABLE_GROUP, partial_path

_MANIFEST_HEAD_BYTES = 4096
GROUPS = ("", "pages", TABLE_GROUP)
"""Keys of the Zarr groups of every store."""


class ArrayWriter:
    """Takes the rows of one array in order and writes each shard as soon as it is full."""

    def __init__(self, spec: ArraySpec, writer: StoreWriter) -> None:
        self.spec = spec
        self._writer = writer
        self._pending: list[Shaped[np.ndarray, "..."]] = []
        self._num_pending = 0
        self._next_shard = 0
        writer.write_json(f"{spec.key}/zarr.json", array_metadata(spec))

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
    """Writes one store. Use as a context: leaving it by an error removes what was begun.

    Raises:
        StoreExistsError: the destination exists and `overwrite` is False, or it is no store of ours.
    """

    def __init__(self, dest: Path, *, overwrite: bool) -> None:
        # Links are followed, so that the last rename stays within one directory and replaces no link.
        self.dest = Path(os.path.realpath(dest))
        self._overwrite = overwrite
        check_destination(self.dest, overwrite=overwrite)
        self.root = partial_path(self.dest)
        self._lock: int | None = None
        self._entries: dict[str, FileEntry] = {}
        self._finished = False

    def __enter__(self) -> Self:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = _lock_directory(self.root, self.dest)
            for left in self.root.iterdir():
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(f"cannot write beside {self.dest}: {error}") from error
        return self

    def __exit__(self, *error: object) -> None:
        if not self._finished:
            shutil.rmtree(self.root, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    def create_array(self, spec: ArraySpec) -> ArrayWriter:
        """Begin an array."""
        return ArrayWriter(spec, self)

    def write_tables(self, tables: TrajectoryTables) -> None:
        """Write the flat tables over trajectories."""
        for name in TrajectoryTables.names():
            self._write_table(f"{TABLE_GROUP}/{name}", getattr(tables, name))

    def write_json(self, key: str, content: dict[str, Any]) -> None:
        """Write a JSON file."""
        self.write_file(key, (json.dumps(content, indent=1) + "\n").encode())

    def write_file(self, key: str, content: bytes) -> None:
        """Stage, sync and rename one file, and note its size and hash for the manifest.

        Raises:
            StoreError: the disk is full, read-only, or failed.
        """
        entry = FileEntry(key=key, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        self._write_durably(self.root / key, content)
        self._entries[key] = entry

    def finish(self, manifest: Manifest) -> Manifest:
        """Write groups and the manifest with the list of files, sync, and give the store its name."""
        for group in GROUPS:
            self.write_json(
                f"{group}/zarr.json".lstrip("/"), {"zarr_format": 3, "node_type": "group", "attributes": {}}
            )
        entries = tuple(self._entries[key] for key in sorted(self._entries))
        text = manifest.model_copy(update={"files": entries}).to_json()
        manifest = Manifest.from_json(text, where=str(self.root / MANIFEST_NAME))
        self._write_durably(self.root / MANIFEST_NAME, text.encode())
        # Somebody else may have finished a store there in the meantime.
        check_destination(self.dest, overwrite=self._overwrite)
        retired = self.dest.with_name(f".{self.dest.name}.retired")
        try:
            if (self.dest / MANIFEST_NAME).exists():
                shutil.rmtree(retired, ignore_errors=True)
                self.dest.rename(retired)
            self.root.rename(self.dest)
            self._finished = True
            _sync_directory(self.dest.parent)
        except OSError as error:
            raise StoreError(f"cannot give the finished store its name {self.dest}: {error}") from error
        shutil.rmtree(retired, ignore_errors=True)
        return manifest

    def _write_table(self, key: str, values: Shaped[np.ndarray, "..."]) -> None:
        import zarr

        store = zarr.storage.MemoryStore()
        chunks = tuple(max(1, size) for size in values.shape)
        zarr.create_array(
            store,
            shape=values.shape,
            chunks=chunks,
            dtype=values.dtype,
            fill_value=0,
            filters=None,
            compressors=[zarr.codecs.Crc32cCodec()],
        )
        self.write_file(f"{key}/zarr.json", memory_file(store, "zarr.json"))
        if values.size:
            codec = ChunkCodec(name="none", item_bytes=values.itemsize, chunk_bytes=values.nbytes)
            self.write_file("/".join([key, "c", *["0"] * values.ndim]), codec.encode(values))

    def _write_durably(self, path: Path, content: bytes) -> None:
        staged = path.with_name(f".{path.name}.staged")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with staged.open("wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            staged.replace(path)
            _sync_directory(path.parent)
        except OSError as error:
            raise StoreError(
                f"cannot write {path}: {error.strerror or error}; nothing at {self.dest} was changed"
            ) from error


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
    """Tell whether a directory holds a manifest of ours, damaged or not; other tools have files of that name too."""
    manifest = path / MANIFEST_NAME
    if not manifest.is_file():
        return False
    with manifest.open("rb") as handle:
        return f'"{FORMAT_NAME}"'.encode() in handle.read(_MANIFEST_HEAD_BYTES)


def _lock_directory(path: Path, dest: Path) -> int | None:
    """Hold the working directory of a conversion; the lock ends with the process, however that ends.

    Returns:
        The descriptor that holds the lock, None on file systems without such locks.

    Raises:
        StoreExistsError: another conversion holds it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = path.exists() and os.path.samestat(os.fstat(descriptor), os.stat(path))
    except BlockingIOError:
        held = False
    except OSError:
        os.close(descriptor)
        return None
    if held:
        return descriptor
    os.close(descriptor)
    raise StoreExistsError(f"another conversion to {dest} is running; wait for it or choose another destination")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
