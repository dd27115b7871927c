"""Meshes of a source in its store: shared ones once, the same for any reader, checked by `validate`, told by `plan`."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from preprocess.convert import convert
from preprocess.forecast import forecast
from preprocess.meshes import survey_meshes
from preprocess.pack import pack
from preprocess.repair import repair
from preprocess.settings import ConvertSettings
from preprocess.sources import Source, open_source
from preprocess.validate import validate
from tests.preprocess.sources.meshes import box, plane, with_data
from tests.preprocess.sources.specimens import CORNERS, crash_arrays, random, write_crash, write_physicsnemo
from ups_data.errors import SourceError
from ups_data.schema import ImportanceSpec
from ups_data.storage import open_store


def three_boxes(folder: Path) -> Source:
    """Boxes of 4^3, 3^3 and 4^3 cells: the first and the last share their mesh."""
    paths = []
    for number, size in enumerate((4, 3, 4)):
        paths.append(folder / f"{'abc'[number]}.vtu")
        with_data(box(size), seed=number).save(paths[-1])
    return open_source(paths)


def test_meshes_are_those_of_the_source_and_stored_once(tmp_path: Path) -> None:
    source = three_boxes(tmp_path)
    survey = survey_meshes(source)
    np.testing.assert_array_equal(survey.numbers, [0, 1, 0])
    np.testing.assert_array_equal(survey.sizes, [[125, 64, 512], [64, 27, 216]])
    manifest = convert(source, tmp_path / "store", ConvertSettings(estimand="integral"))
    assert (manifest.geometry.kind, manifest.geometry.point_location) == ("mesh", "nodes")
    store = open_store(tmp_path / "store")
    for trajectory in range(3):
        mesh, wanted = store.mesh(trajectory), source.read_mesh(trajectory)
        assert mesh is not None
        assert wanted is not None
        for part in ("location", "nodes", "types", "offsets", "connectivity"):
            np.testing.assert_array_equal(getattr(mesh, part), getattr(wanted, part))
        np.testing.assert_array_equal(store.measures(trajectory), source.read_measures(trajectory))
        assert store.measures(trajectory).sum() == pytest.approx(1.0)
        np.testing.assert_array_equal(mesh.nodes, store.coordinates(trajectory))
    assert validate(tmp_path / "store").problems == ()
    stock, first = zarr.open_group(tmp_path / "store", mode="r"), store.mesh(0)
    assert first is not None
    np.testing.assert_array_equal(stock["mesh/connectivity"][0, :512], first.connectivity)
    np.testing.assert_array_equal(stock["trajectories/mesh"][:], [0, 1, 0])


@pytest.mark.parametrize("workers", [1, 2])
def test_bytes_do_not_depend_on_workers(tmp_path: Path, workers: int) -> None:
    source = three_boxes(tmp_path)
    first = convert(source, tmp_path / "one", ConvertSettings(name="same"))
    again = convert(source, tmp_path / "other", ConvertSettings(name="same"), workers=workers)
    assert first.fingerprint == again.fingerprint


def test_plan_tells_the_size_of_meshes(tmp_path: Path) -> None:
    source = three_boxes(tmp_path)
    told = {part.key: part.size_bytes for part in forecast(source, ConvertSettings(), sample_bytes=0).parts}
    convert(source, tmp_path / "store", ConvertSettings())
    files = [file for file in (tmp_path / "store" / "mesh").rglob("*") if file.is_file() and file.name != "zarr.json"]
    assert told["mesh"] == sum(file.stat().st_size for file in files)


def test_a_damaged_mesh_is_named(tmp_path: Path) -> None:
    convert(three_boxes(tmp_path), tmp_path / "store", ConvertSettings())
    file = tmp_path / "store" / "mesh" / "connectivity" / "c" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    assert any("mesh/connectivity" in problem for problem in validate(tmp_path / "store").problems)


def test_repair_rebuilds_a_mesh(tmp_path: Path) -> None:
    store, source = tmp_path / "store", three_boxes(tmp_path)
    convert(source, store, ConvertSettings())
    damaged = [store / "mesh" / "nodes" / "c" / "0" / "0" / "0", store / "mesh" / "zarr.json"]
    before = [file.read_bytes() for file in damaged]
    damaged[0].write_bytes(b"")
    damaged[1].unlink()
    report = repair(store, [tmp_path / f"{name}.vtu" for name in "abc"])
    assert set(report.rebuilt) == {"mesh/nodes/c/0/0/0", "mesh/zarr.json"}
    assert [file.read_bytes() for file in damaged] == before


def test_centres_of_cells(tmp_path: Path) -> None:
    grid = box(3)
    grid.cell_data["q"] = random(27)
    grid.save(tmp_path / "a.vtu")
    manifest = convert(open_source([tmp_path / "a.vtu"]), tmp_path / "store", ConvertSettings())
    assert manifest.geometry.point_location == "cells"
    mesh = open_store(tmp_path / "store").mesh(0)
    assert mesh is not None
    assert (mesh.num_cells, len(mesh.nodes)) == (27, 64)
    assert validate(tmp_path / "store").problems == ()


def test_edges_of_a_crash_are_cells(tmp_path: Path) -> None:
    arrays = crash_arrays()
    source = open_source([write_crash(tmp_path / "a.zarr", arrays)], options={"time_step": 1.0})
    convert(source, tmp_path / "store", ConvertSettings())
    mesh = open_store(tmp_path / "store").mesh(0)
    assert mesh is not None
    np.testing.assert_array_equal(mesh.connectivity.reshape(-1, 2), arrays["edges"])
    assert validate(tmp_path / "store").problems == ()


def test_importance_by_the_distance_to_the_faces_around_a_mesh(tmp_path: Path) -> None:
    with_data(box(4)).save(tmp_path / "a.vtu")
    recipe = ImportanceSpec(metrics={"distance": 1.0}, exponent=1.0, floor=0.0)
    convert(open_source([tmp_path / "a.vtu"]), tmp_path / "store", ConvertSettings(importance=recipe))
    store = open_store(tmp_path / "store")
    nodes = store.coordinates(0)
    to_border = np.minimum(nodes, 1 - nodes).min(axis=1)
    near = 1 / (1 + to_border / 0.05)
    np.testing.assert_allclose(store.importance(0), near / near.mean(), rtol=1e-6)


def test_clouds_have_none(tmp_path: Path) -> None:
    path = write_physicsnemo(tmp_path / "a.zarr", {"points": CORNERS, "point_data/p": random(5)})
    convert(open_source([path]), tmp_path / "store", ConvertSettings())
    store = open_store(tmp_path / "store")
    assert store.mesh(0) is None
    assert not (tmp_path / "store" / "mesh").exists()


def test_a_mesh_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_data(plane()).save(tmp_path / "a.vtu")
    source = open_source([tmp_path / "a.vtu"])
    sound = source.read_mesh(0)
    assert sound is not None
    monkeypatch.setattr(source, "read_mesh", lambda trajectory: sound.take_axes([0]))
    with pytest.raises(SourceError, match=r"a.vtu has 5 points on 2 axes, its mesh 5 nodes on 1"):
        survey_meshes(source)


def test_meshes_go_to_tar_shards_and_back(tmp_path: Path) -> None:
    """They stay shards of Zarr beside the tar files, since trajectories share them."""
    convert(three_boxes(tmp_path), tmp_path / "s", ConvertSettings(estimand="integral"))
    pack(str(tmp_path / "s"), tmp_path / "tar", to="webdataset")
    store, packed = open_store(tmp_path / "s"), open_store(tmp_path / "tar")
    for number in range(len(store)):
        found, expected = packed.mesh(number), store.mesh(number)
        assert found is not None
        assert expected is not None
        for part in ("location", "nodes", "types", "offsets", "connectivity"):
            np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
    assert validate(tmp_path / "tar").problems == ()
    report = pack(str(tmp_path / "tar"), tmp_path / "back", to="zarr")
    assert report.identical
