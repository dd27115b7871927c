"""Meshes through their rows and back, of sizes around the length of a row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ups_data.errors import CorruptionError
from ups_data.mesh import Mesh
from ups_data.storage.mesh_arrays import (
    CONNECTIVITY,
    CORNERS,
    NODES,
    ROW_ENTRIES,
    TYPES,
    find_rows,
    mesh_of,
    mesh_specs,
    rows_of,
    sizes_of,
    total_rows,
)


def made(num_nodes: int, num_cells: int, seed: int = 0, dims: int = 2) -> Mesh:
    random = np.random.default_rng(seed)
    counts = random.integers(2, 5, num_cells)
    return Mesh(
        location="nodes",
        nodes=random.normal(size=(num_nodes, dims)),
        types=random.integers(1, 14, num_cells).astype("u1"),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        connectivity=random.integers(0, num_nodes, counts.sum()).astype("i4"),
    )


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(
        st.tuples(st.sampled_from([1, 7, ROW_ENTRIES - 1, ROW_ENTRIES, ROW_ENTRIES + 1, 2500]), st.integers(1, 2100)),
        min_size=1,
        max_size=4,
    ),
    dims=st.integers(1, 3),
)
def test_meshes_come_back(sizes: list[tuple[int, int]], dims: int) -> None:
    meshes = [made(*size, seed=number, dims=dims) for number, size in enumerate(sizes)]
    table = np.array([sizes_of(mesh) for mesh in meshes], dtype=np.int64)
    specs = mesh_specs(table, dims=dims, codec_of_rows=lambda _: "none", shard_bytes=2**16)
    arrays = {key: np.concatenate([rows_of(mesh)[key] for mesh in meshes]) for key in specs}
    for key, spec in specs.items():
        assert arrays[key].shape == spec.shape
        assert arrays[key].dtype == spec.dtype
        assert total_rows(table, key) == spec.num_rows
    for number, mesh in enumerate(meshes):
        rows = {}
        for key, values in arrays.items():
            place = find_rows(table, key, number)
            rows[key] = values[place.first : place.stop]
        back = mesh_of(rows, sizes_of(mesh), "nodes", where="made")
        for part in ("nodes", "types", "offsets", "connectivity"):
            np.testing.assert_array_equal(getattr(back, part), getattr(mesh, part))


def test_padding_is_told_from_content() -> None:
    rows = rows_of(made(3, 2))
    assert np.isnan(rows[NODES][0, :, 3:]).all()
    assert (rows[TYPES][0, 2:] == 0).all()
    assert (rows[CORNERS][0, 2:] == 0).all()
    assert (rows[CONNECTIVITY][0, made(3, 2).connectivity.size :] == -1).all()


def test_rows_that_make_no_mesh_are_corrupt() -> None:
    mesh = made(5, 3)
    rows = rows_of(mesh)
    rows[CONNECTIVITY][0, 0] = 9
    with pytest.raises(CorruptionError, match="here: cells of a mesh name nodes"):
        mesh_of(rows, sizes_of(mesh), "nodes", where="here")
