"""Stores as Curator's MeshZarrSink lays them out: moving nodes come out as points and exact displacements."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.crash_mesh import CrashMeshSource
from tests.preprocess.sources.specimens import crash_arrays, write_crash
from ups_data.errors import ConfigError, SourceError
from ups_data.storage import open_store

STEP = {"time_step": 0.5, "time_unit": "ms"}


def test_positions_come_back_exactly_from_a_store(tmp_path: Path) -> None:
    arrays = [crash_arrays(seed=10 * i, nodes=12 + i) for i in range(2)]
    paths = [write_crash(tmp_path / f"mesh_{i:04}.zarr", content) for i, content in enumerate(arrays)]
    source = open_source(paths, options=STEP)
    assert isinstance(source, CrashMeshSource)
    assert [field.name for field in source.fields] == ["displacement", "stress", "thickness"]
    assert source.notes[0] == "points are the nodes of the first frame; position = point + displacement, exactly"
    assert "data of cells that were not converted: cell_part" in source.notes
    manifest = convert(source, tmp_path / "store", ConvertSettings())
    assert (manifest.dtype, manifest.time_unit, manifest.geometry.kind) == ("float64", "ms", "mesh")
    store = open_store(tmp_path / "store")
    for number, content in enumerate(arrays):
        dense = store.read_dense(number, list(range(4)))
        positions = store.coordinates(number) + dense[:, :3].transpose(0, 2, 1)
        np.testing.assert_array_equal(positions.astype("f4"), content["mesh_pos"])
        np.testing.assert_array_equal(dense[2, 3:9], content["stress"].T)
        np.testing.assert_array_equal(dense[3, 9], content["thickness"])
        np.testing.assert_array_equal(source.trajectories[number].times, [0.0, 0.5, 1.0, 1.5])
        mesh = source.read_mesh(number)
        assert mesh is not None
        np.testing.assert_array_equal(mesh.connectivity.reshape(-1, 2), content["edges"])
        assert set(mesh.types.tolist()) == {3}
    assert source.read_measures(0) is None
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read_frames(0, 1, 3), source.read_frames(0, 1, 3))


def test_a_difference_that_no_float64_holds_is_refused(tmp_path: Path) -> None:
    arrays = crash_arrays()
    arrays["mesh_pos"][0, 3, 1], arrays["mesh_pos"][1, 3, 1] = 1e-30, 1.0
    source = open_source([write_crash(tmp_path / "a.zarr", arrays)], options=STEP)
    np.testing.assert_array_equal(source.read_frames(0, 1, 2)[0, 1, 3], 1.0)
    arrays["mesh_pos"][0, 3, 1], arrays["mesh_pos"][1, 3, 1] = 1e20, 1.0
    source = open_source([write_crash(tmp_path / "b.zarr", arrays)], options=STEP)
    with pytest.raises(
        SourceError, match=r"mesh_pos: node 3 goes from 1.*e\+20 to 1.0 along y in frame 1; float64 does"
    ):
        source.read_frames(0, 1, 2)


def test_without_edges_they_are_points(tmp_path: Path) -> None:
    arrays = crash_arrays()
    del arrays["edges"]
    first = write_crash(tmp_path / "a.zarr", arrays)
    source = open_source([first], options=STEP)
    assert (source.kind, source.read_mesh(0)) == ("points", None)
    with pytest.raises(SourceError, match="some stores have edges and others have none"):
        open_source([first, write_crash(tmp_path / "b.zarr", crash_arrays())], options=STEP)


def test_what_is_not_told_is_asked_for(tmp_path: Path) -> None:
    path = write_crash(tmp_path / "a.zarr", crash_arrays())
    with pytest.raises(ConfigError, match="does not tell the time of its frames; state it: --option time_step="):
        open_source([path])
    with pytest.raises(ConfigError, match="time_step"):
        open_source([path], options={"time_step": 0.0})
    arrays = crash_arrays()
    del arrays["stress"]
    with pytest.raises(SourceError, match=r"b.zarr has data thickness, a.zarr has stress, thickness"):
        open_source([path, write_crash(tmp_path / "b.zarr", arrays)], options=STEP)
