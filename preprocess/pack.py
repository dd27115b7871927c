"""From Zarr to tar shards and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from preprocess.convert import Progress
from ups_data import __version__
from ups_data.errors import ConfigError, suggest
from ups_data.storage import ZarrStore, open_store
from ups_data.storage.tar_writer import write_tar_store, write_zarr_store

Layout = Literal["webdataset", "zarr"]
DEFAULT_SHARD_MIB = 256


@dataclass(frozen=True, kw_only=True)
class PackReport:
    """What was packed.

    Attributes:
        dest: the new store.
        layout: `webdataset` or `zarr`.
        num_shards: tar files, or shards of all arrays.
        num_bytes: size of all files but the manifest.
        fingerprint: of the Zarr store that the new one is, or holds.
        identical: whether that is the fingerprint of the source; it is not where the compressor of the conversion wrote
            other bytes for the same values than the one that is installed.
    """

    dest: str
    layout: str
    num_shards: int
    num_bytes: int
    fingerprint: str
    identical: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON knows it."""
        return asdict(self)


def pack(
    source: str,
    dest: Path,
    *,
    to: str,
    shard_mib: int = DEFAULT_SHARD_MIB,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PackReport:
    """Write a store anew in the other layout; values, tables and manifest stay the same, bit for bit.

    Args:
        source: path or URL of a store in either layout.
        dest: directory that is made.
        to: `webdataset` or `zarr`.
        shard_mib: a tar file ends with the first trajectory that makes it this large.
        overwrite: replace the store that is there.
        progress: called with what is counted, how many are done, and how many there are.

    Raises:
        ConfigError: no such layout or size.
        StoreNotFoundError, CorruptionError: the source is not there, or damaged.
        StoreExistsError: the destination is taken.
    """
    if to not in get_args(Layout):
        raise ConfigError(f"there is no layout {to!r}. {suggest(to, get_args(Layout))}")
    if shard_mib < 1:
        raise ConfigError(f"tar files need at least 1 MiB, got {shard_mib}")
    store = open_store(source)
    assert isinstance(store, ZarrStore)
    told = progress or _say_nothing
    if to == "webdataset":
        packed = write_tar_store(
            store,
            dest,
            writer=f"ups-preprocess {__version__}",
            shard_bytes=shard_mib * 2**20,
            overwrite=overwrite,
            progress=told,
        )
        files, num_shards, fingerprint = packed.files, len(packed.shards), packed.store
    else:
        manifest = write_zarr_store(store, dest, overwrite=overwrite, progress=told)
        num_shards = sum(reader.spec.num_shards for reader in store.arrays.values())
        files, fingerprint = manifest.files, manifest.fingerprint
    return PackReport(
        dest=str(dest),
        layout=to,
        num_shards=num_shards,
        num_bytes=sum(entry.size_bytes for entry in files),
        fingerprint=fingerprint,
        identical=fingerprint == store.manifest.fingerprint,
    )


def _say_nothing(what: str, done: int, total: int) -> None:
    """Take progress and drop it."""
