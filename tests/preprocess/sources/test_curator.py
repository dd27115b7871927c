"""Runs in the layout of PhysicsNeMo-Curator: Zarr of version 2 and 3 and `.npz`, as its own writers lay them out."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.curator import CuratorSource
from tests.preprocess.sources.specimens import curator_arrays, write_curator
from ups_data.errors import ConfigError, SourceError
from ups_data.storage import open_store


@pytest.mark.parametrize("kind", ["v2", "v3", "npz"])
def test_a_surface_comes_out_as_it_is(tmp_path: Path, kind: str) -> None:
    paths = [write_curator(tmp_path, kind, number=number, domains=("surface",)) for number in (1, 2)]
    source = open_source(paths)
    assert isinstance(source, CuratorSource)
    assert source.kind == "points"
    assert [(field.name, len(field.components)) for field in source.fields] == [("p", 1), ("tau", 3), ("normals", 3)]
    assert [info.item for info in source.trajectories] == [path.name for path in paths]
    assert "the triangles of the body (stl_*) are not converted" in source.notes
    for number, trajectory in ((1, 0), (2, 1)):
        arrays = curator_arrays(number, ("surface",))
        frames = source.read_frames(trajectory, 0, 1)
        assert frames.dtype == np.float32
        wanted = np.concatenate([arrays["surface_fields"], arrays["surface_normals"]], axis=1)
        np.testing.assert_array_equal(frames[0], wanted.T)
        np.testing.assert_array_equal(
            source.read_coordinates(trajectory)[0], arrays["surface_mesh_centers"].astype("f8")
        )
        measures = source.read_measures(trajectory)
        assert measures is not None
        np.testing.assert_array_equal(measures, arrays["surface_areas"].astype("f8"))
    parameters = dict(source.trajectories[0].parameters)
    assert parameters["global_0"] == pytest.approx(38.889)
    assert parameters["reference_1"] == pytest.approx(1.205)
    assert parameters["stream_velocity"] == pytest.approx(38.889)
    assert "num_points" not in parameters
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read_frames(0, 0, 1), source.read_frames(0, 0, 1))


def test_a_volume_has_no_measures(tmp_path: Path) -> None:
    path = write_curator(tmp_path, "v2", domains=("surface", "volume"))
    with pytest.raises(
        SourceError, match="has surface and volume; say which: --option domain=surface, or domain=volume"
    ):
        open_source([path])
    source = open_source([path], options={"domain": "volume"})
    assert [field.name for field in source.fields] == ["U", "p", "nut"]
    arrays = curator_arrays(1, ("volume",))
    np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0], arrays["volume_fields"].T)
    assert source.read_measures(0) is None


def test_columns_may_be_named(tmp_path: Path) -> None:
    arrays = curator_arrays(1, ("surface",))
    arrays["surface_fields"] = arrays["surface_fields"][:, :2]
    path = write_curator(tmp_path, "npz", arrays=arrays)
    with pytest.raises(SourceError, match=r"surface_fields has 2 columns, and \{p: 1, tau: 3\} are 4; name them in"):
        open_source([path])
    source = open_source([path], options={"fields": {"p": 1, "heat": 1}, "parameters": ["speed", "density"]})
    assert [field.name for field in source.fields] == ["p", "heat", "normals"]
    assert source.trajectories[0].parameters["global_speed"] == pytest.approx(38.889)
    with pytest.raises(SourceError, match="global_params_values has 2 entries, and option parameters names 1"):
        open_source([path], options={"fields": {"p": 1, "heat": 1}, "parameters": ["speed"]})
    with pytest.raises(ConfigError, match="Did you mean 'fields'"):
        open_source([path], options={"field": {"p": 1}})
    with pytest.raises(SourceError, match="has no volume; it has surface"):
        open_source([path], options={"domain": "volume"})


def test_cells_without_area_are_refused_or_left_out(tmp_path: Path) -> None:
    arrays = curator_arrays(1, ("surface",))
    arrays["surface_areas"][[3, 7]] = 0.0
    path = write_curator(tmp_path, "v3", arrays=arrays)
    with pytest.raises(SourceError, match=r"surface_areas holds 0.0 at entry 3, and 2 of 50 entries are not positive"):
        open_source([path])
    source = open_source([path], options={"drop_faulty": True})
    assert source.trajectories[0].shape == (48,)
    assert f"{path.name}: 2 of 50 points without measure were left out" in source.notes
    np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0, 0], np.delete(arrays["surface_fields"][:, 0], [3, 7]))
    np.testing.assert_array_equal(
        source.read_coordinates(0)[0], np.delete(arrays["surface_mesh_centers"], [3, 7], axis=0)
    )


def test_runs_of_different_columns_or_parameters_are_refused(tmp_path: Path) -> None:
    first = write_curator(tmp_path, "npz", number=1)
    arrays: dict[str, Any] = curator_arrays(2, ("surface",))
    arrays["surface_fields"] = arrays["surface_fields"][:, :3]
    with pytest.raises(SourceError, match=r"run_2.npz: surface_fields has shape \(60, 3\); 4 columns are wanted"):
        open_source([first, write_curator(tmp_path, "npz", number=2, arrays=arrays)])
    arrays = curator_arrays(2, ("surface",))
    del arrays["global_params_values"]
    with pytest.raises(SourceError, match="and others tell different parameters"):
        open_source([first, write_curator(tmp_path, "npz", number=2, arrays=arrays)])


def test_a_chunk_that_is_not_stored_is_noted(tmp_path: Path) -> None:
    path = write_curator(tmp_path, "v2")
    next((path / "surface_fields").glob("0.0")).unlink()
    assert any("surface_fields: 1 of " in note for note in open_source([path]).notes)


def test_runs_become_a_store(tmp_path: Path) -> None:
    paths = [write_curator(tmp_path, "v2", number=number) for number in (1, 2)]
    convert(open_source(paths), tmp_path / "store", ConvertSettings())
    store = open_store(tmp_path / "store")
    for number in (1, 2):
        wanted = curator_arrays(number, ("surface",))["surface_fields"].T
        np.testing.assert_array_equal(store.read_dense(number - 1, [0])[0, :4], wanted)


def test_the_specimens_are_of_both_versions_of_zarr(tmp_path: Path) -> None:
    assert zarr.open_group(write_curator(tmp_path / "a", "v2"), mode="r").metadata.zarr_format == 2
    assert zarr.open_group(write_curator(tmp_path / "b", "v3"), mode="r").metadata.zarr_format == 3
