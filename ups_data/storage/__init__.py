"""Stores: reading and writing, behind one contract."""

from __future__ import annotations

from pathlib import Path

from ups_data.storage.base import PagePoints, Store
from ups_data.storage.zarr_store import ZarrStore

__all__ = ["PagePoints", "Store", "ZarrStore", "open_store"]


def open_store(path: str | Path) -> Store:
    """Open a finished store.

    Args:
        path: directory of the store.

    Raises:
        StoreNotFoundError: nothing finished is there.
        SchemaError: the manifest breaks the schema, or was changed after it was written.
        CorruptionError: a file is missing, has another size, or metadata differ from what was committed.
    """
    return ZarrStore(Path(path))
