"""The size of every file that a conversion will write, the manifest excepted, with the codec `none`."""

from __future__ import annotations

from collections import Counter

import numpy as np

from preprocess.inspect import part_of
from preprocess.meshes import survey_meshes
from preprocess.plan import ConvertPlan, table_shapes
from preprocess.sources import Source
from ups_data.storage.mesh_arrays import MESH_GROUP
from ups_data.storage.tables import TABLE_DTYPES, TrajectoryTables
from ups_data.storage.writer import GROUPS, array_metadata_files, group_files, table_files


def measure_sizes(source: Source, plan: ConvertPlan, *, shard_bytes: int) -> dict[str, int]:
    """Return bytes by part of the store, as `inspect` counts them.

    Reads the coordinates of the source's grids, or its meshes, which decide how many of them there are, and no field.

    Args:
        source: the data set.
        plan: of its conversion.
        shard_bytes: uncompressed size that a shard should have.
    """
    num_grids, num_nodes = _count_grids(source)
    meshes = survey_meshes(source)
    shapes = table_shapes(
        plan, num_grids=num_grids, num_nodes=num_nodes, num_meshes=len(meshes.sizes), dims=len(source.axes)
    )
    tables = TrajectoryTables(**{name: np.zeros(shape, dtype=TABLE_DTYPES[name]) for name, shape in shapes.items()})
    mesh_specs = meshes.specs(dims=len(source.axes), codec_of_rows=lambda _: "none", shard_bytes=shard_bytes)
    groups = (*GROUPS, MESH_GROUP) if mesh_specs else GROUPS
    specs = (*plan.arrays.values(), *mesh_specs.values())
    parts: Counter[str] = Counter()
    for spec in specs:
        parts[part_of(spec.shard_key(0))] += spec.uncompressed_bytes
    for key, content in (group_files(groups) | array_metadata_files(specs) | table_files(tables)).items():
        parts[part_of(key)] += len(content)
    return dict(sorted(parts.items()))


def _count_grids(source: Source) -> tuple[int, int]:
    """Return the number of distinct grids, and the nodes of all their axes."""
    if source.kind != "grid":
        return 0, 0
    nodes: dict[bytes, int] = {}
    for trajectory, info in enumerate(source.trajectories):
        axes = [np.asarray(axis, dtype=np.float64) for axis in source.read_coordinates(trajectory)]
        key = repr(tuple(info.shape)).encode() + b"".join(axis.tobytes() for axis in axes)
        nodes[key] = sum(axis.size for axis in axes)
    return len(nodes), sum(nodes.values())
