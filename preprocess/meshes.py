"""The meshes of a source: which trajectories share one, how large each is, and their rows in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64

from preprocess.sources.base import Source
from ups_data.errors import SourceError
from ups_data.mesh import Mesh, PointLocation
from ups_data.schema import CodecName
from ups_data.storage.mesh_arrays import MESH_GROUP, mesh_specs, rows_of, sizes_of
from ups_data.storage.shard import ArraySpec
from ups_data.storage.writer import StoreWriter, group_files


@dataclass(frozen=True, kw_only=True, eq=False)
class MeshSurvey:
    """What meshes a source has; none where `location` is None.

    Attributes:
        location: what the points of every trajectory are.
        numbers: number of each trajectory's mesh (n,), empty without meshes.
        firsts: the first trajectory that has each mesh (K,).
        sizes: nodes, cells and corners of each mesh (K, 3).
    """

    location: PointLocation | None
    numbers: Int32[np.ndarray, " trajectory"]
    firsts: Int64[np.ndarray, " mesh"]
    sizes: Int64[np.ndarray, "mesh 3"]

    def specs(self, *, dims: int, codec_of_rows: Callable[[int], CodecName], shard_bytes: int) -> dict[str, ArraySpec]:
        """Describe the arrays of the store that hold the meshes, none without meshes."""
        if self.location is None:
            return {}
        return mesh_specs(self.sizes, dims=dims, codec_of_rows=codec_of_rows, shard_bytes=shard_bytes)


def survey_meshes(source: Source) -> MeshSurvey:
    """Look at the mesh of every trajectory; memory holds one of them.

    Raises:
        SourceError: a mesh that does not fit its trajectory, or trajectories of which some have a mesh and others none.
    """
    known: dict[bytes, int] = {}
    numbers: list[int] = []
    firsts: list[int] = []
    sizes: list[tuple[int, int, int]] = []
    locations: set[PointLocation | None] = set()
    for trajectory in range(len(source.trajectories)) if source.kind == "mesh" else ():
        mesh = source.read_mesh(trajectory)
        locations.add(None if mesh is None else mesh.location)
        if len(locations) > 1:
            raise SourceError(
                f"{source.name}: {source.trajectories[trajectory].item} has points at "
                f"{'no mesh' if mesh is None else f'the {mesh.location} of its mesh'}, those before it have not"
            )
        if mesh is None:
            continue
        _check_mesh(source, trajectory, mesh)
        number = known.setdefault(_digest(mesh), len(firsts))
        if number == len(firsts):
            firsts.append(trajectory)
            sizes.append(sizes_of(mesh))
        numbers.append(number)
    return MeshSurvey(
        location=locations.pop() if locations else None,
        numbers=np.array(numbers, dtype=np.int32),
        firsts=np.array(firsts, dtype=np.int64),
        sizes=np.array(sizes, dtype=np.int64).reshape(-1, 3),
    )


def write_meshes(source: Source, survey: MeshSurvey, specs: dict[str, ArraySpec], writer: StoreWriter) -> None:
    """Write all meshes; memory holds one of them, and a shard of each array."""
    if not specs:
        return
    writer.write_files(group_files([MESH_GROUP]))
    arrays = {key: writer.create_array(spec) for key, spec in specs.items()}
    for number, trajectory in enumerate(survey.firsts.tolist()):
        mesh = source.read_mesh(trajectory)
        if mesh is None or sizes_of(mesh) != tuple(survey.sizes[number].tolist()):
            raise SourceError(
                f"{source.name}: the mesh of {source.trajectories[trajectory].item} changed while it was converted"
            )
        for key, rows in rows_of(mesh).items():
            arrays[key].append(rows)
    for array in arrays.values():
        array.close()


def _check_mesh(source: Source, trajectory: int, mesh: Mesh) -> None:
    info = source.trajectories[trajectory]
    count = len(mesh.nodes) if mesh.location == "nodes" else mesh.num_cells
    if count != info.num_points or mesh.nodes.shape[1] != len(source.axes):
        raise SourceError(
            f"{source.name}: {info.item} has {info.num_points} points on {len(source.axes)} axes, its mesh {count} "
            f"{mesh.location} on {mesh.nodes.shape[1]}"
        )
    if not mesh.num_cells or not np.isfinite(mesh.nodes).all():
        raise SourceError(f"{source.name}: the mesh of {info.item} has no cell, or a node that is not finite")


def _digest(mesh: Mesh) -> bytes:
    digest = hashlib.sha256(repr((mesh.nodes.shape, mesh.num_cells)).encode())
    for part in (mesh.nodes, mesh.types, mesh.offsets, mesh.connectivity):
        digest.update(np.ascontiguousarray(part).data)
    return digest.digest()
