"""Stores: reading and writing, behind one contract."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ups_data.errors import StoreError, StoreNotFoundError
from ups_data.storage.base import PagePoints, Store
from ups_data.storage.byte_store import ByteStore, LocalByteStore
from ups_data.storage.cached_store import CachedByteStore
from ups_data.storage.object_store import ObjectByteStore
from ups_data.storage.range_cache import CacheOptions
from ups_data.storage.remote_options import RemoteOptions
from ups_data.storage.tar_store import TarStore
from ups_data.storage.zarr_store import ZarrStore

__all__ = ["CacheOptions", "PagePoints", "RemoteOptions", "Store", "TarStore", "ZarrStore", "open_store"]


def open_store(
    location: str | Path, *, remote: RemoteOptions | None = None, cache: CacheOptions | None = None
) -> Store:
    """Open a finished store.

        ups_data.open_store("data/burgers")
        ups_data.open_store("s3://bucket/burgers", remote=ups_data.RemoteOptions(region="eu-central-1"))

    Args:
        location: directory of the store, or its URL: `s3://`, `gs://`, `http(s)://` (with the extra `remote`) or
            `file://`. Credentials come from the environment's usual places, never from the URL.
        remote: where and how patiently a remote store is reached.
        cache: where and how much of a remote store is kept on a local disk; nothing where it is not given.

    Raises:
        StoreNotFoundError: nothing finished is there.
        SchemaError: the manifest breaks the schema, or was changed after it was written.
        CorruptionError: a file is missing, has another size, or metadata differ from what was committed.
        RemoteError: a remote service gives no usable answer, or its server does not know ranges.
    """
    source = _bytes_at(location, remote or RemoteOptions())
    if cache is not None:
        source = CachedByteStore(source, cache)
    try:
        return ZarrStore(source)
    except StoreNotFoundError as error:
        try:
            return TarStore(source)
        except StoreNotFoundError:
            raise error from None


def _bytes_at(location: str | Path, options: RemoteOptions) -> ByteStore:
    if isinstance(location, Path) or "://" not in location:
        return LocalByteStore(Path(location))
    parts = urlsplit(location)
    if parts.scheme != "file":
        return ObjectByteStore(location, options)
    if parts.netloc not in {"", "localhost"}:
        raise StoreError(f"{location} names the host {parts.netloc}: file URLs are local, as file:///data/burgers")
    return LocalByteStore(Path(unquote(parts.path)))
