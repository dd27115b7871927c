"""Whether the files of a store are those that were committed, and the shards in them whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from preprocess.convert import Progress
from preprocess.validate.findings import Findings, say_nothing
from ups_data.errors import CorruptionError, StoreError, StoreNotFoundError
from ups_data.schema import MANIFEST_NAME, FileEntry, Manifest
from ups_data.storage import TarStore
from ups_data.storage.byte_store import ByteStore, LocalByteStore
from ups_data.storage.mesh_arrays import MESH_GROUP
from ups_data.storage.sharded_array import ShardedArray
from ups_data.storage.tables import TrajectoryTables
from ups_data.storage.tar_format import ZARR_PREFIX
from ups_data.storage.tar_writer import digest_tar_shard, metadata_entries, packed_specs
from ups_data.storage.writer import GROUPS
from ups_data.storage.zarr_store import TABLE_GROUP, ZarrStore

_READ_BYTES = 2**20


def find_damage(root: Path, manifest: Manifest, *, progress: Progress | None = None) -> dict[str, str]:
    """Return the keys of files that are not what the manifest lists, and what is wrong with each.

    Args:
        root: directory of the store.
        manifest: of the store.
        progress: called with "files", how many are looked at, and how many there are.

    Raises:
        StoreError: a file cannot be read, for another reason than that it is not there.
    """
    told, source, damage = progress or say_nothing, LocalByteStore(root), {}
    for number, entry in enumerate(manifest.files):
        told("files", number, len(manifest.files))
        try:
            _check_file(root, entry, source)
        except (CorruptionError, StoreNotFoundError) as error:
            damage[entry.key] = str(error)
    told("files", len(manifest.files), len(manifest.files))
    return damage


def check_files(
    root: Path,
    listing: Mapping[str, tuple[FileEntry, ...]],
    source: ByteStore,
    findings: Findings,
    progress: Progress,
) -> None:
    """Compare every file with the manifest, given by its name and the files that it lists."""
    ((name, entries),) = listing.items()
    for number, entry in enumerate(entries):
        progress("files", number, len(entries))
        with findings.gathered("files", StoreError):
            _check_file(root, entry, source)
    progress("files", len(entries), len(entries))
    findings.count("files", len(entries))
    known = {name, *(entry.key for entry in entries)}
    for key in _walk(root):
        findings.expect(
            "files",
            key in known,
            f"{root / key} does not belong to the store: the manifest does not list it; remove it",
        )


def _check_file(root: Path, entry: FileEntry, source: ByteStore) -> None:
    size = source.size(entry.key)
    if size != entry.size_bytes:
        raise CorruptionError(
            f"{root / entry.key} has {size} bytes, {entry.size_bytes} were committed; restore it or convert again"
        )
    digest = hashlib.sha256()
    for start in range(0, size, _READ_BYTES):
        digest.update(source.read_ranges(entry.key, [(start, min(_READ_BYTES, size - start))])[0])
    if digest.hexdigest() != entry.sha256:
        raise CorruptionError(
            f"{root / entry.key} is not the file that was committed (SHA-256 differs); restore it or convert again"
        )


def _walk(root: Path) -> Iterator[str]:
    """Yield the key of everything below a directory that is no directory; links to directories are not followed."""
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted([*files, *links]):
            yield (Path(folder) / name).relative_to(root).as_posix()


def check_listing(store: ZarrStore, findings: Findings) -> None:
    """Refuse a file that the manifest lists and no array has: its hash holds, yet nobody knows what it is."""
    wanted = {f"{group}/zarr.json".lstrip("/") for group in GROUPS}
    if any(key.startswith(f"{MESH_GROUP}/") for key in store.arrays):
        wanted.add(f"{MESH_GROUP}/zarr.json")
    for key, array in store.arrays.items():
        wanted.add(f"{key}/zarr.json")
        wanted.update(array.spec.shard_key(shard) for shard in range(array.spec.num_shards))
    for name in TrajectoryTables.names():
        values: Shaped[np.ndarray, "..."] = getattr(store.tables, name)
        wanted.add(f"{TABLE_GROUP}/{name}/zarr.json")
        if values.size:
            wanted.add("/".join([TABLE_GROUP, name, "c", *["0"] * values.ndim]))
    listed = {entry.key for entry in store.manifest.files}
    for key in sorted(listed - wanted):
        findings.add("files", f"{store.location}/{key} is listed by the manifest, but belongs to no array of the store")
    for key in sorted(wanted - listed):
        findings.add("files", f"{store.location}/{key} belongs to the store, but the manifest does not list it")


def check_shards(store: ZarrStore, findings: Findings) -> None:
    """Look whether the index of each shard names its chunks one after another."""
    sizes = {entry.key: entry.size_bytes for entry in store.manifest.files}
    for array in store.arrays.values():
        if not isinstance(array, ShardedArray):
            continue
        for shard in range(array.spec.num_shards):
            with findings.gathered("shards", StoreError):
                _check_shard(array, shard, sizes[array.spec.shard_key(shard)])
            findings.count("shards")


def check_tar_listing(store: TarStore, findings: Findings) -> None:
    """Refuse a file that is neither a shard nor what the manifest of the Zarr store tells."""
    manifest = store.shards.manifest
    wanted = {
        f"{ZARR_PREFIX}/{entry.key}": entry.sha256 for entry in metadata_entries(store.manifest, packed_specs(store))
    }
    shards = {name for shard in manifest.shards for name in (shard.key, shard.index)}
    for entry in manifest.files:
        known = entry.key in shards or entry.key == f"{ZARR_PREFIX}/{MANIFEST_NAME}"
        findings.expect(
            "files",
            known or wanted.pop(entry.key, None) == entry.sha256,
            f"{store.location}/{entry.key} is listed, but is not what the manifest of the Zarr store tells; pack again",
        )
    for key in sorted(wanted):
        findings.add("files", f"{store.location}/{key} belongs to the store, but the manifest does not list it")


def check_tar_shards(store: TarStore, findings: Findings) -> None:
    """Pack each shard anew from what its index finds: all other bytes follow from tables and rows."""
    listed = {entry.key: entry.sha256 for entry in store.shards.manifest.files}
    for number, shard in enumerate(store.shards.manifest.shards):
        with findings.gathered("shards", StoreError):
            for key, digest in zip((shard.key, shard.index), digest_tar_shard(store, number), strict=True):
                findings.expect(
                    "shards", listed[key] == digest, f"{store.location}/{key} is not what its rows make; pack again"
                )
        findings.count("shards")


def _check_shard(array: ShardedArray, shard: int, size_bytes: int) -> None:
    spec = array.spec
    index = array.read_shard_index(shard)
    used = min(spec.rows_per_shard, spec.num_rows - shard * spec.rows_per_shard)
    lengths = index[:used, 1]
    starts = np.cumsum(lengths) - lengths
    rest = np.full((spec.rows_per_shard - used, 2), np.iinfo(np.uint64).max, dtype=np.uint64)
    fixed = spec.codec_of_chunk.encoded_bytes
    end = size_bytes - index.nbytes - 4
    sound = np.array_equal(index[:used, 0], starts) and np.array_equal(index[used:], rest) and lengths.sum() == end
    if not sound or (fixed is not None and (lengths != fixed).any()):
        raise CorruptionError(
            f"{spec.shard_key(shard)}: the shard index does not list {used} chunks one after another up to itself; "
            f"convert again"
        )
