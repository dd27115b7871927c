"""How meshes lie in a store: four sharded arrays of rows of 1,024 entries, in which each mesh begins a row of its own.

Meshes that trajectories share are stored once; the tables tell which mesh a trajectory has, and the sizes of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped

from ups_data.errors import CorruptionError, SchemaError
from ups_data.mesh import Mesh, PointLocation
from ups_data.schema import CodecName
from ups_data.storage.shard import ArraySpec

MESH_GROUP = "mesh"
NODES, TYPES, CORNERS, CONNECTIVITY = (
    f"{MESH_GROUP}/{name}" for name in ("nodes", "types", "num_corners", "connectivity")
)
ROW_ENTRIES = 1024
MESH_SIZES = ("nodes", "cells", "corners")
"""What the columns of table `mesh_sizes` count."""

_DTYPES = {NODES: "float64", TYPES: "uint8", CORNERS: "int32", CONNECTIVITY: "int32"}
_COUNTED = {NODES: 0, TYPES: 1, CORNERS: 1, CONNECTIVITY: 2}
_PADDING = {NODES: np.nan, TYPES: 0, CORNERS: 0, CONNECTIVITY: -1}


@dataclass(frozen=True, kw_only=True)
class MeshRows:
    """Where the rows of one mesh lie in an array: [first, stop), of which `entries` are no padding."""

    first: int
    stop: int
    entries: int


def mesh_specs(
    sizes: Int64[np.ndarray, "mesh 3"], *, dims: int, codec_of_rows: Callable[[int], CodecName], shard_bytes: int
) -> dict[str, ArraySpec]:
    """Describe the arrays of all meshes.

    Args:
        sizes: nodes, cells and corners of each mesh.
        dims: axes of the domain.
        codec_of_rows: codec of an array whose rows have so many bytes.
        shard_bytes: uncompressed size that a shard should have.
    """
    specs = {}
    for key, dtype in _DTYPES.items():
        chunk = row_shape(key, dims=dims)
        rows = int(_num_rows(sizes[:, _COUNTED[key]]).sum())
        row_bytes = np.dtype(dtype).itemsize * int(np.prod(chunk))
        specs[key] = ArraySpec(
            key=key,
            shape=(rows, *chunk[1:]),
            chunk_shape=chunk,
            rows_per_shard=int(min(rows, max(1, shard_bytes // row_bytes))),
            dtype=dtype,
            codec=codec_of_rows(row_bytes),
            dimension_names=("row", "dim", "entry") if key == NODES else ("row", "entry"),
        )
    return specs


def row_shape(key: str, *, dims: int) -> tuple[int, ...]:
    """Return the shape of one row of an array."""
    return (1, dims, ROW_ENTRIES) if key == NODES else (1, ROW_ENTRIES)


def row_dtype(key: str) -> str:
    """Return the stored dtype of an array."""
    return _DTYPES[key]


def find_rows(sizes: Int64[np.ndarray, "mesh 3"], key: str, mesh: int) -> MeshRows:
    """Return where a mesh lies in an array."""
    counts = sizes[:, _COUNTED[key]]
    first = int(_num_rows(counts[:mesh]).sum())
    entries = int(counts[mesh])
    return MeshRows(first=first, stop=first + -(-entries // ROW_ENTRIES), entries=entries)


def total_rows(sizes: Int64[np.ndarray, "mesh 3"], key: str) -> int:
    """Return the rows of an array."""
    return int(_num_rows(sizes[:, _COUNTED[key]]).sum())


def sizes_of(mesh: Mesh) -> tuple[int, int, int]:
    """Return nodes, cells and corners of a mesh."""
    return len(mesh.nodes), mesh.num_cells, mesh.connectivity.size


def rows_of(mesh: Mesh) -> dict[str, Shaped[np.ndarray, "row *chunk"]]:
    """Return the rows of a mesh in each array, the last of each padded."""
    content = {
        NODES: mesh.nodes.T,
        TYPES: mesh.types,
        CORNERS: np.diff(mesh.offsets),
        CONNECTIVITY: mesh.connectivity,
    }
    return {key: _to_rows(key, values) for key, values in content.items()}


def mesh_of(
    rows: dict[str, Shaped[np.ndarray, "row *chunk"]],
    sizes: tuple[int, int, int],
    location: PointLocation,
    *,
    where: str,
) -> Mesh:
    """Put a mesh together again.

    Raises:
        CorruptionError: rows that make no mesh; names `where`.
    """
    content = {
        key: np.moveaxis(part, 0, -2).reshape(*part.shape[1:-1], -1)[..., : sizes[_COUNTED[key]]]
        for key, part in rows.items()
    }
    try:
        return Mesh(
            location=location,
            nodes=np.ascontiguousarray(content[NODES].T, dtype=np.float64),
            types=content[TYPES].astype(np.uint8),
            offsets=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(content[CORNERS], dtype=np.int64)]),
            connectivity=content[CONNECTIVITY].astype(np.int32),
        )
    except SchemaError as error:
        raise CorruptionError(f"{where}: {error}") from error


def _to_rows(key: str, values: Shaped[np.ndarray, "*lead entry"]) -> Shaped[np.ndarray, "row *chunk"]:
    count = -(-values.shape[-1] // ROW_ENTRIES)
    padded = np.full((*values.shape[:-1], count * ROW_ENTRIES), _PADDING[key], dtype=_DTYPES[key])
    padded[..., : values.shape[-1]] = values
    return np.moveaxis(padded.reshape(*values.shape[:-1], count, ROW_ENTRIES), -2, 0)


def _num_rows(counts: Int64[np.ndarray, " mesh"]) -> Int64[np.ndarray, " mesh"]:
    return -(-counts // ROW_ENTRIES)
