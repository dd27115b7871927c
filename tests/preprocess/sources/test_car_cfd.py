"""A directory in the layout of CarCFD: vertices, pressures without the entries that belong to none, splits."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

import ups_data
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.car_cfd import CarCFDSource
from tests.preprocess.sources.specimens import car_folder, write_ply
from ups_data.errors import ConfigError, SourceError, UnknownFormatError


def test_cars_come_out_as_they_are(tmp_path: Path) -> None:
    cars = car_folder(tmp_path)
    source = open_source([tmp_path])
    assert isinstance(source, CarCFDSource)
    assert (source.kind, [field.name for field in source.fields]) == ("mesh", ["pressure"])
    assert [(info.item, info.split) for info in source.trajectories] == [
        ("data/002", "train"),
        ("data/001", "train"),
        ("data/010", "test"),
    ]
    for number, car in enumerate(("002", "001", "010")):
        points, pressure = cars[car]
        np.testing.assert_array_equal(source.read_coordinates(number)[0], points.astype("float64"))
        wanted = np.delete(pressure, np.arange(16, 112))
        assert wanted.size == len(points)
        np.testing.assert_array_equal(source.read_frames(number, 0, 1), wanted[None, None])
    assert source.axes[2].upper == max(points[:, 2].max() for points, _ in cars.values())
    assert source.notes[0] == "entries 16 to 111 of press.npy left out, in 3 of 3 cars"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read_frames(0, 0, 1), source.read_frames(0, 0, 1))


def test_cars_become_a_store(tmp_path: Path) -> None:
    cars = car_folder(tmp_path / "cars")
    manifest = convert(open_source([tmp_path / "cars"]), tmp_path / "s", ConvertSettings())
    assert (manifest.splits, manifest.split_provenance) == ({"train": 2, "test": 1}, "source")
    store = zarr.open_group(tmp_path / "s", mode="r")
    index, values = store["pages/index"][:], store["pages/values"][:]
    pages = int(store["trajectories/stratum_pages"][0].sum())
    points = index[:pages]
    wanted = np.delete(cars["002"][1], np.arange(16, 112))
    np.testing.assert_array_equal(values[:pages, 0][points >= 0], wanted[points[points >= 0]])


def test_the_faces_of_a_car_are_its_cells(tmp_path: Path) -> None:
    cars = car_folder(tmp_path / "cars")
    points, pressure = cars["010"]
    source = open_source([tmp_path / "cars"])
    convert(source, tmp_path / "s", ConvertSettings(estimand="integral"))
    store = ups_data.open_store(tmp_path / "s")
    mesh, triangles = store.mesh(2), np.arange(68)[:, None] + np.arange(3)
    assert mesh is not None
    np.testing.assert_array_equal(mesh.connectivity.reshape(-1, 3), triangles)
    np.testing.assert_array_equal(mesh.nodes, points.astype("float64"))
    # A pressure stays with its vertex: dropping entries moves neither.
    np.testing.assert_array_equal(store.read_dense(2, [0])[0, 0], np.delete(pressure, np.arange(16, 112)))
    edges = np.diff(points.astype("float64")[triangles], axis=1)
    areas = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) / 2
    wanted = np.bincount(triangles.reshape(-1), weights=np.repeat(areas / 3, 3))
    np.testing.assert_allclose(store.measures(2), wanted)
    np.testing.assert_allclose(store.measures(2).sum(), areas.sum())


def test_vertices_of_no_face_are_refused_or_left_out_with_their_pressures(tmp_path: Path) -> None:
    points, pressure = car_folder(tmp_path)["001"]
    write_ply(tmp_path / "data" / "001" / "tri_mesh.ply", points, faces=np.arange(2, 54).reshape(-1, 4)[:, :3])
    with pytest.raises(SourceError, match=r"data/001/tri_mesh.ply has 15 of 54 nodes that belong to no cell, the fir"):
        open_source([tmp_path])
    source = open_source([tmp_path], options={"drop_faulty": True})
    kept = np.arange(2, 54).reshape(-1, 4)[:, :3].reshape(-1)
    np.testing.assert_array_equal(source.read_coordinates(1)[0], points[kept].astype("float64"))
    np.testing.assert_array_equal(source.read_frames(1, 0, 1)[0, 0], np.delete(pressure, np.arange(16, 112))[kept])
    assert "data/001/tri_mesh.ply: 15 of 54 nodes that belong to no cell were left out" in source.notes


def test_cars_without_faces_are_clouds(tmp_path: Path) -> None:
    cars = car_folder(tmp_path)
    for car, (points, _) in cars.items():
        write_ply(tmp_path / "data" / car / "tri_mesh.ply", points, faces=None)
    source = open_source([tmp_path])
    assert (source.kind, source.has_measures, source.read_mesh(0)) == ("points", False, None)
    write_ply(tmp_path / "data" / "001" / "tri_mesh.ply", cars["001"][0], faces=np.arange(54).reshape(-1, 3))
    with pytest.raises(
        SourceError, match="car_cfd: some trajectories have cells and others points alone; convert them apart"
    ):
        open_source([tmp_path])


def test_pressures_without_surplus_are_taken_whole(tmp_path: Path) -> None:
    cars = car_folder(tmp_path)
    pressure = cars["001"][1][: len(cars["001"][0])]
    np.save(tmp_path / "data" / "001" / "press.npy", pressure)
    np.testing.assert_array_equal(open_source([tmp_path]).read_frames(1, 0, 1)[0, 0], pressure)


def test_contradictions_are_refused(tmp_path: Path) -> None:
    cars = car_folder(tmp_path)
    pressure = tmp_path / "data" / "001" / "press.npy"
    np.save(pressure, cars["001"][1][:-1])
    with pytest.raises(SourceError, match=r"data/001/press.npy has 149 entries, tri_mesh.ply has 54 vertices; as many"):
        open_source([tmp_path])
    np.save(pressure, np.zeros((2, 75)))
    with pytest.raises(SourceError, match=r"001/press.npy has shape \(2, 75\); one row of pressures is wanted"):
        open_source([tmp_path])
    pressure.unlink()
    with pytest.raises(SourceError, match=r"001/press.npy is not there"):
        open_source([tmp_path])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("003,001", "train.txt names '003', which is no folder in data. Did you mean '0"),
        ("../data/001", "train.txt names '../data/001', which is no folder in data"),
        ("..", r"train.txt names '\.\.', which is no folder in data"),
        ("001,001", "'001' stands twice in train.txt and test.txt"),
        ("010", "'010' stands twice in train.txt and test.txt"),
    ],
)
def test_lists_of_ids_are_checked(tmp_path: Path, ids: str, message: str) -> None:
    car_folder(tmp_path)
    (tmp_path / "train.txt").write_text(ids)
    with pytest.raises(SourceError, match=message):
        open_source([tmp_path])


def test_what_is_no_directory_of_cars_is_refused(tmp_path: Path) -> None:
    write_ply(tmp_path / "a.ply", np.zeros((3, 3)))
    with pytest.raises(UnknownFormatError, match=r"a.ply: format 'car_cfd' is one directory"):
        open_source([tmp_path / "a.ply"], "car_cfd")
    car_folder(tmp_path / "cars")
    with pytest.raises(ConfigError, match=r"options of format 'car_cfd'.*split"):
        open_source([tmp_path / "cars"], options={"split": "official"})
    for name in ("train.txt", "test.txt"):
        (tmp_path / "cars" / name).unlink()
    with pytest.raises(SourceError, match=r"cars has neither train.txt nor test.txt, which name its cars"):
        open_source([tmp_path / "cars"], "car_cfd")
