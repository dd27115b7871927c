"""Writing a store as tar shards, and back as Zarr; memory holds a few MiB of rows at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import google_crc32c
import numpy as np
from jaxtyping import Shaped

from ups_data.schema import MANIFEST_NAME, FileEntry, Manifest
from ups_data.storage.rows import RowReader
from ups_data.storage.shard import ArraySpec, encode_shard
from ups_data.storage.tar_format import (
    INDEX_DTYPE,
    NO_ARRAY,
    TAR_BLOCK_BYTES,
    TAR_MANIFEST_NAME,
    ZARR_PREFIX,
    Group,
    Span,
    TarManifest,
    TarShard,
    describe_group,
    extend_checksum,
    groups_of,
    in_tar,
    member_suffix,
    npy_header,
    record_dtype,
    tar_header,
)
from ups_data.storage.tar_store import TarStore
from ups_data.storage.writer import StoreWriter
from ups_data.storage.zarr_store import ZarrStore

_PART_BYTES = 16 * 2**20
_RECORD_BYTES = 10240  # tar files end at a multiple of this
Progress = Callable[[str, int, int], None]


@dataclass(kw_only=True)
class _Tar:
    """One tar file as it is being written: how long it is, and its members so far.

    Attributes:
        store: whose rows.
        numbers: number of each array in the list of the manifest.
    """

    store: ZarrStore
    numbers: dict[str, int]
    size_bytes: int = 0
    members: list[tuple[int, ...]] = field(default_factory=list)

    @classmethod
    def of(cls, store: ZarrStore) -> Self:
        """Return an empty one for rows of a store."""
        return cls(store=store, numbers={key: number for number, key in enumerate(packed_specs(store))})

    def trajectories(self, numbers: range, progress: Progress) -> Iterator[bytes]:
        """Yield all bytes of a tar file of these trajectories."""
        specs = packed_specs(self.store)
        for number in numbers:
            for group in groups_of(specs, self.store.tables, number):
                yield from self.group(group)
            progress("trajectories", number + 1, len(self.store))
        yield self.end()

    def group(self, group: Group) -> Iterator[bytes]:
        """Yield the members of a group, its description last: it holds their checksums."""
        checksums: dict[str, int] = {}
        for span in group.spans:
            yield from self._array_member(group, span, checksums)
        content = describe_group(group, checksums, store=self.store.manifest.fingerprint)
        yield self._begin(f"{group.name}.json", len(content))
        self.members.append(
            (
                NO_ARRAY,
                len(self.members),
                0,
                self.size_bytes,
                len(content),
                self.size_bytes,
                google_crc32c.value(content),
            )
        )
        yield from self._end(content)

    def end(self) -> bytes:
        """Return what closes a tar file."""
        size = self.size_bytes + 2 * TAR_BLOCK_BYTES
        return bytes(2 * TAR_BLOCK_BYTES + -size % _RECORD_BYTES)

    def index(self) -> bytes:
        """Return the content of the index."""
        members = np.array(self.members, dtype=INDEX_DTYPE)
        return npy_header(INDEX_DTYPE, len(members)) + members.tobytes()

    def _array_member(self, group: Group, span: Span, checksums: dict[str, int]) -> Iterator[bytes]:
        reader = self.store.arrays[span.key]
        dtype, num_rows = record_dtype(reader.spec), span.stop - span.start
        header = npy_header(dtype, num_rows)
        suffix = member_suffix(span.key)
        yield self._begin(f"{group.name}.{suffix}", len(header) + num_rows * dtype.itemsize)
        offset, rows_offset = self.size_bytes, self.size_bytes + len(header)
        checksum = 0
        self.size_bytes += len(header)
        yield header
        for records in _records(reader, span):
            checksum = extend_checksum(checksum, records)
            part = records.tobytes()
            self.size_bytes += len(part)
            yield part
        size = self.size_bytes - offset
        self.members.append((self.numbers[span.key], span.start, num_rows, offset, size, rows_offset, checksum))
        checksums[suffix] = checksum
        yield self._pad()

    def _begin(self, name: str, size_bytes: int) -> bytes:
        header = tar_header(name, size_bytes)
        self.size_bytes += len(header)
        return header

    def _end(self, content: bytes) -> Iterator[bytes]:
        self.size_bytes += len(content)
        yield content
        yield self._pad()

    def _pad(self) -> bytes:
        padding = bytes(-self.size_bytes % TAR_BLOCK_BYTES)
        self.size_bytes += len(padding)
        return padding


def _records(reader: RowReader, span: Span) -> Iterator[Shaped[np.ndarray, " row"]]:
    """Yield rows and their checksums, a few MiB at a time."""
    dtype = record_dtype(reader.spec)
    step = max(1, _PART_BYTES // dtype.itemsize)
    for start in range(span.start, span.stop, step):
        rows = reader.read_rows(np.arange(start, min(start + step, span.stop)))
        records = np.empty(len(rows), dtype=dtype)
        records["values"] = rows
        records["crc32c"] = [google_crc32c.value(row.tobytes()) for row in rows]
        yield records


def write_tar_store(
    store: ZarrStore, dest: Path, *, writer: str, shard_bytes: int, overwrite: bool, progress: Progress
) -> TarManifest:
    """Write a store as tar shards of whole trajectories.

    Args:
        store: what to write.
        dest: directory that is made.
        writer: program and version, for the manifest.
        shard_bytes: a shard ends with the first trajectory that makes it this large.
        overwrite: replace the store that is there.
        progress: called with "trajectories", how many are done, and how many there are.

    Raises:
        StoreExistsError: the destination is taken.
        StoreError: the disk is full or fails.
    """
    specs = packed_specs(store)
    shards: list[TarShard] = []
    with StoreWriter(dest, overwrite=overwrite) as target:
        _write_metadata(store, specs, target)
        ends = (0,) * len(specs)
        trajectory = 0
        while trajectory < len(store):
            key = f"shards/{len(shards):06d}.tar"
            index, tar = f"{key.removesuffix('.tar')}.index.npy", _Tar.of(store)
            first, trajectory = trajectory, _count_trajectories(store, trajectory, shard_bytes)
            target.write_parts(key, tar.trajectories(range(first, trajectory), progress))
            target.write_file(index, tar.index())
            rows = _rows_after(tar, ends)
            shards.append(TarShard(key=key, index=index, first_trajectory=first, rows=rows))
            ends = tuple(stop for _, stop in rows)
        manifest = TarManifest(
            writer=writer,
            store=store.manifest.fingerprint,
            arrays=tuple(specs),
            shards=tuple(shards),
            files=target.entries,
        )
        target.publish(TAR_MANIFEST_NAME, manifest.to_json())
    return manifest


def packed_specs(store: ZarrStore) -> dict[str, ArraySpec]:
    """Return the arrays that stand in tar shards, by key."""
    return {key: reader.spec for key, reader in store.arrays.items() if in_tar(key)}


def _count_trajectories(store: ZarrStore, first: int, shard_bytes: int) -> int:
    """Return the end of the trajectories that share a shard: those that fill it by their rows, at least one."""
    size, trajectory = 0, first
    specs = packed_specs(store)
    while trajectory < len(store) and size < shard_bytes:
        for group in groups_of(specs, store.tables, trajectory):
            size += sum((span.stop - span.start) * record_dtype(specs[span.key]).itemsize for span in group.spans)
        trajectory += 1
    return trajectory


def digest_tar_shard(store: TarStore, number: int) -> tuple[str, str]:
    """Return the SHA-256 that a tar file and its index have if they are written again from their own rows.

    Raises:
        CorruptionError: rows that cannot be read.
    """
    shards = store.shards.manifest.shards
    ends = [*(shard.first_trajectory for shard in shards[1:]), len(store)]
    tar, digest = _Tar.of(store), hashlib.sha256()
    for part in tar.trajectories(range(shards[number].first_trajectory, ends[number]), _say_nothing):
        digest.update(part)
    return digest.hexdigest(), hashlib.sha256(tar.index()).hexdigest()


def _say_nothing(what: str, done: int, total: int) -> None:
    """Take progress and drop it."""


def _rows_after(tar: _Tar, ends: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return which rows of each array stand in a tar, given where those of the one before ended."""
    members = np.array(tar.members, dtype=INDEX_DTYPE)
    counts = [int(members["num_rows"][members["array"] == number].sum()) for number in range(len(ends))]
    return tuple((end, end + count) for end, count in zip(ends, counts, strict=True))


def _write_metadata(store: ZarrStore, specs: dict[str, ArraySpec], target: StoreWriter) -> None:
    """Write all files of the Zarr store that are no shards of its arrays, byte for byte."""
    for entry in metadata_entries(store.manifest, specs):
        target.write_file(f"{ZARR_PREFIX}/{entry.key}", store.read_file(entry))
    target.write_file(f"{ZARR_PREFIX}/{MANIFEST_NAME}", store.manifest.to_json().encode())


def metadata_entries(manifest: Manifest, specs: dict[str, ArraySpec]) -> list[FileEntry]:
    """Return the files of a Zarr store that are no shards of its arrays."""
    shards = {spec.shard_key(shard) for spec in specs.values() for shard in range(spec.num_shards)}
    return [entry for entry in manifest.files if entry.key not in shards]


def write_zarr_store(store: ZarrStore, dest: Path, *, overwrite: bool, progress: Progress) -> Manifest:
    """Write a store, from tar shards or from Zarr, as Zarr: the files that its conversion wrote.

    Returns:
        The manifest, which has the same fingerprint, unless the compressor of this machine writes other bytes for the
        same values than that of the conversion.

    Raises:
        StoreExistsError: the destination is taken.
        StoreError: the disk is full or fails.
    """
    specs = {key: reader.spec for key, reader in store.arrays.items()}
    total = sum(spec.num_shards for spec in specs.values())
    done = 0
    with StoreWriter(dest, overwrite=overwrite) as target:
        for entry in metadata_entries(store.manifest, specs):
            target.write_file(entry.key, store.read_file(entry))
        for key, spec in specs.items():
            for shard in range(spec.num_shards):
                first = shard * spec.rows_per_shard
                rows = np.arange(first, min(first + spec.rows_per_shard, spec.num_rows))
                target.write_file(spec.shard_key(shard), encode_shard(spec, store.arrays[key].read_rows(rows)))
                done += 1
                progress("shards", done, total)
        return target.finish(store.manifest)
