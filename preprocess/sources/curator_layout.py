"""How a run of PhysicsNeMo-Curator is told from other arrays."""

from __future__ import annotations

import zipfile
from pathlib import Path

from preprocess.sources.zarr_files import is_zarr, list_zarr_arrays
from ups_data.errors import SourceError

CENTERS = {"surface": "surface_mesh_centers", "volume": "volume_mesh_centers"}
FIELDS = {"surface": "surface_fields", "volume": "volume_fields"}


def looks_like_curator(path: Path) -> bool:
    """Tell by the names of the arrays in a directory of Zarr or an `.npz` archive."""
    try:
        if is_zarr(path):
            names = set(list_zarr_arrays(path))
        elif path.is_file() and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = {name.removesuffix(".npy") for name in archive.namelist()}
        else:
            return False
    except (OSError, zipfile.BadZipFile, SourceError):
        return False
    return any({CENTERS[domain], FIELDS[domain]} <= names for domain in CENTERS)
