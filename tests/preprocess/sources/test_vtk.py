"""Files that pyvista wrote, and those that it ships, come out as VTK reads them; what is ambiguous is refused."""

import pickle
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvista
from pyvista import examples

from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.vtk import VtkSource
from tests.preprocess.sources.meshes import SQUARE, box, plane, with_data
from ups_data.errors import ConfigError, SourceError, UnknownFormatError
from ups_data.storage import open_store

SHIPPED = Path(examples.__file__).parent


def save(grid: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.save(path)
    return path


@pytest.mark.parametrize("suffix", ["vtu", "vtk", "vtp"])
def test_node_data_come_out_as_they_are(tmp_path: Path, suffix: str) -> None:
    grid: Any = with_data(plane())
    if suffix == "vtp":
        grid = grid.extract_surface(algorithm="geometry", pass_cellid=False, pass_pointid=False)
    source = open_source([save(grid, tmp_path / f"a.{suffix}")], options={"fields": ["p", "U"]})
    assert isinstance(source, VtkSource)
    assert source.kind == "mesh"
    assert [(field.name, field.components) for field in source.fields] == [("p", ("",)), ("U", ("x", "y", "z"))]
    frames = source.read_frames(0, 0, 1)
    assert frames.dtype == np.float32
    np.testing.assert_array_equal(frames[0], np.concatenate([grid["p"][None], grid["U"].T]))
    np.testing.assert_array_equal(source.read_coordinates(0)[0], np.asarray(grid.points, dtype="f8")[:, :2])
    mesh = source.read_mesh(0)
    assert mesh is not None
    assert mesh.location == "nodes"
    cells = [set(part.tolist()) for part in np.split(mesh.connectivity, mesh.offsets[1:-1])]
    assert sorted(map(len, cells)) == [3, 4]
    places = [mesh.nodes[list(cell)].mean(axis=0).tolist() for cell in sorted(cells, key=len)]
    np.testing.assert_allclose(places, [[8 / 3, 0.5], [1.0, 0.5]], rtol=1e-6)
    measures = source.read_measures(0)
    assert measures is not None
    by_place = {
        tuple(point): share for point, share in zip(source.read_coordinates(0)[0].tolist(), measures, strict=True)
    }
    # The rectangle of area 2 gives 1/2 to each corner, the triangle of area 1 gives 1/3.
    for place, share in {(0, 0): 1 / 2, (2, 0): 5 / 6, (2, 1): 5 / 6, (0, 1): 1 / 2, (4, 0.5): 1 / 3}.items():
        assert by_place[place] == pytest.approx(share, rel=1e-6)
    assert source.notes == ("axis z left out: every point lies at z = 0.0",)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read_frames(0, 0, 1), frames)


def test_cell_data_lie_at_the_centres(tmp_path: Path) -> None:
    grid = box()
    grid.cell_data["T"] = np.arange(27.0)
    source = open_source([save(grid, tmp_path / "a.vtu")])
    mesh, measures = source.read_mesh(0), source.read_measures(0)
    assert mesh is not None
    assert measures is not None
    assert (mesh.location, mesh.num_cells, len(mesh.nodes)) == ("cells", 27, 64)
    np.testing.assert_allclose(measures, 1 / 27, rtol=1e-12)
    np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0, 0], np.arange(27.0))
    corners = mesh.nodes[mesh.connectivity.reshape(27, 8)]
    np.testing.assert_allclose(source.read_coordinates(0)[0], corners.mean(axis=1), atol=1e-12)
    assert source.trajectories[0].shape == (27,)


def test_a_file_with_both_asks_which() -> None:
    path = SHIPPED / "hexbeam.vtk"
    with pytest.raises(SourceError, match=r"nodes \(sample_point_scalars, VTKorigID\) and at its cells \(sample_cell"):
        open_source([path])
    for location, count, name in [("nodes", 99, "sample_point_scalars"), ("cells", 40, "sample_cell_scalars")]:
        source = open_source([path], options={"location": location, "fields": [name]})
        assert source.trajectories[0].shape == (count,)
        measures = source.read_measures(0)
        assert measures is not None
        assert measures.sum() == pytest.approx(5.0)
        values = source.read_frames(0, 0, 1)[0, 0]
        np.testing.assert_array_equal(values, pyvista.read(path)[name])
        assert "arrays that were not converted" in source.notes[0]


def test_a_mesh_of_others_becomes_a_store(tmp_path: Path) -> None:
    path = SHIPPED / "globe.vtk"
    with pytest.raises(SourceError, match=r"globe.vtk has 9 of 980 cells without extent"):
        open_source([path])
    names = {"Texture Coordinates": "texture"}
    source = open_source([path], options={"drop_faulty": True, "names": names})
    manifest = convert(source, tmp_path / "store", ConvertSettings())
    assert (manifest.geometry.kind, manifest.geometry.dims) == ("mesh", 3)
    assert manifest.source.notes[0] == "globe.vtk: 9 of 980 cells without extent were left out"
    store, globe = open_store(tmp_path / "store"), pyvista.read(path)
    wanted = [np.asarray(globe.point_data[name]).reshape(globe.n_points, -1).T for name in list(globe.point_data)]
    np.testing.assert_array_equal(store.read_dense(0, [0])[0], np.concatenate(wanted))
    np.testing.assert_array_equal(store.coordinates(0), np.asarray(globe.points, dtype="f8"))
    measures = source.read_measures(0)
    assert measures is not None
    assert measures.sum() == pytest.approx(globe.area, rel=1e-6)


def test_a_surface_in_space_keeps_its_three_axes(tmp_path: Path) -> None:
    sphere = pyvista.Sphere()
    sphere.clear_data()
    sphere.cell_data["p"] = np.arange(sphere.n_cells, dtype="f4")
    source = open_source([save(sphere, tmp_path / "a.vtp")])
    measures = source.read_measures(0)
    assert measures is not None
    assert measures.sum() == pytest.approx(sphere.area, rel=1e-6)
    assert len(source.axes) == 3


def test_cells_turned_inside_out_have_the_measure_of_others(tmp_path: Path) -> None:
    nodes = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    for corners in ([0, 1, 2, 3], [0, 2, 1, 3]):
        grid = with_data(pyvista.UnstructuredGrid({10: np.array([corners])}, nodes))
        measures = open_source([save(grid, tmp_path / "a.vtu")]).read_measures(0)
        assert measures is not None
        np.testing.assert_allclose(measures, 1 / 24)


def test_nodes_alone_are_a_cloud(tmp_path: Path) -> None:
    cloud = pyvista.PolyData(np.random.default_rng(0).normal(size=(20, 3)))
    cloud["q"] = np.arange(20.0)
    source = open_source([save(cloud, tmp_path / "a.vtp")])
    assert source.kind == "points"
    assert source.read_mesh(0) is None
    assert source.read_measures(0) is None
    np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0, 0], np.arange(20.0))


def test_a_numbered_series_asks_what_it_is(tmp_path: Path) -> None:
    paths = [save(with_data(plane(), seed=i, time=0.5 * i), tmp_path / f"case_{i:04}.vtu") for i in (10, 9, 8)]
    with pytest.raises(
        SourceError, match=r"case_0008.vtu, case_0009.vtu, case_0010.vtu may be steps of one trajectory"
    ):
        open_source(paths)
    steps = open_source(paths, options={"series": "time"})
    assert [info.item for info in steps.trajectories] == ["case_0008.vtu to case_0010.vtu"]
    np.testing.assert_array_equal(steps.trajectories[0].times, [4.0, 4.5, 5.0])
    cases = open_source(paths, options={"series": "trajectories"})
    assert [info.item for info in cases.trajectories] == ["case_0008.vtu", "case_0009.vtu", "case_0010.vtu"]
    for number in range(3):
        wanted = with_data(plane(), seed=8 + number)["p"]
        np.testing.assert_array_equal(steps.read_frames(0, number, number + 1)[0, 0], wanted)
        np.testing.assert_array_equal(cases.read_frames(number, 0, 1)[0, 0], wanted)
    assert len(steps.fingerprints()) == 3


def test_times_by_number(tmp_path: Path) -> None:
    paths = [save(with_data(plane()), tmp_path / f"case{i}.vtu") for i in (0, 5, 10)]
    with pytest.raises(SourceError, match=r"case0.vtu does not tell its time \(TimeValue\)"):
        open_source(paths, options={"series": "time"})
    source = open_source(paths, options={"series": "time", "time_step": 0.2})
    np.testing.assert_allclose(source.trajectories[0].times, [0.0, 1.0, 2.0])


def test_a_collection_is_a_trajectory_in_time(tmp_path: Path) -> None:
    for i in range(3):
        save(with_data(plane(), seed=i), tmp_path / "parts" / f"a{i}.vtu")
    entries = "".join(f'<DataSet timestep="{2 - i}" part="0" file="parts/a{i}.vtu"/>' for i in range(3))
    path = tmp_path / "a.pvd"
    path.write_text(f'<VTKFile type="Collection" version="0.1"><Collection>{entries}</Collection></VTKFile>')
    source = open_source([path])
    np.testing.assert_array_equal(source.trajectories[0].times, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0, 0], with_data(plane(), seed=2)["p"])
    assert {entry.name for entry in source.fingerprints()} == {"a.pvd", "a0.vtu", "a1.vtu", "a2.vtu"}
    path.write_text(path.read_text().replace('timestep="1"', 'timestep="2"'))
    with pytest.raises(SourceError, match=r"a.pvd lists several parts at time 2.0"):
        open_source([path])
    (tmp_path / "parts" / "a1.vtu").unlink()
    path.write_text(path.read_text().replace('timestep="2"', 'timestep="3"', 1))
    with pytest.raises(SourceError, match=r"a.pvd names .*a1.vtu, which is not there"):
        open_source([path])


def test_steps_share_their_mesh(tmp_path: Path) -> None:
    moved = with_data(plane())
    moved.points[0, 0] = -0.5
    paths = [save(with_data(plane(), time=0.0), tmp_path / "a0.vtu"), save(moved, tmp_path / "a1.vtu")]
    with pytest.raises(
        SourceError, match=r"a1.vtu has other nodes or cells than .*a0.vtu; the steps of one trajectory"
    ):
        open_source(paths, options={"series": "time", "time_step": 1.0})
    assert len(open_source(paths, options={"series": "trajectories"}).trajectories) == 2


def test_numbers_of_a_file_are_parameters(tmp_path: Path) -> None:
    paths = []
    for i, name in enumerate(("wing", "body")):
        grid = with_data(plane())
        grid.field_data["speed"] = np.array([10.0 + i])
        if not i:
            grid.field_data["angle"] = np.array([3.0])
        paths.append(save(grid, tmp_path / name / "flow.vtu"))
    source = open_source(paths)
    assert [dict(info.parameters) for info in source.trajectories] == [{"speed": 10.0}, {"speed": 11.0}]
    assert [info.item for info in source.trajectories] == ["wing/flow.vtu", "body/flow.vtu"]
    assert "numbers that not every trajectory has were not converted: angle" in source.notes


def test_cells_of_several_kinds_ask_which_count(tmp_path: Path) -> None:
    cells = {5: np.array([[0, 1, 2], [0, 2, 3]]), 3: np.array([[1, 4], [4, 2]])}
    grid = pyvista.UnstructuredGrid(cells, SQUARE.copy())
    grid.cell_data["q"] = np.arange(4.0)
    path = save(grid, tmp_path / "a.vtu")
    with pytest.raises(SourceError, match="cells of lines and surface; say which count: --option cells=surface"):
        open_source([path])
    with pytest.raises(SourceError, match=r"no cells of kind 'volume'. Valid names: lines, surface"):
        open_source([path], options={"cells": "volume"})
    for kind, number in (("surface", 5), ("lines", 3)):
        source = open_source([path], options={"cells": kind})
        np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0, 0], grid["q"][grid.celltypes == number])


def test_blocks_are_chosen_by_name(tmp_path: Path) -> None:
    blocks = pyvista.MultiBlock({"wing": with_data(plane()), "air": with_data(box(), seed=1)})
    path = save(blocks, tmp_path / "a.vtm")
    with pytest.raises(SourceError, match="holds 2 blocks: wing, air; say which: --option block=NAME"):
        open_source([path])
    with pytest.raises(SourceError, match=r"no block 'wings'. Did you mean 'wing'\?"):
        open_source([path], options={"block": "wings"})
    source = open_source([path], options={"block": "air"})
    np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0, 0], with_data(box(), seed=1)["p"])
    with pytest.raises(SourceError, match="has no blocks, so option block=wing fits nothing"):
        open_source([save(with_data(plane()), tmp_path / "b.vtu")], options={"block": "wing"})


def test_names_that_no_store_holds_are_given_anew(tmp_path: Path) -> None:
    grid = plane()
    grid.point_data["Wall shear [Pa]"] = np.arange(5.0)
    path = save(grid, tmp_path / "a.vtu")
    with pytest.raises(SourceError, match=r"array 'Wall shear \[Pa\]' \(--option 'names=\{Wall shear \[Pa\]: NEW\}'"):
        open_source([path])
    source = open_source([path], options={"names": {"Wall shear [Pa]": "wall_shear"}})
    assert source.fields[0].name == "wall_shear"
    np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0, 0], np.arange(5.0))


def test_faults_are_refused_or_left_out(tmp_path: Path) -> None:
    nodes = np.concatenate([SQUARE, [[9, 9, 0]]])
    cells = np.array([[0, 1, 2], [0, 2, 3], [2, 1, 0], [1, 1, 4], [1, 4, 2]])
    grid = with_data(pyvista.UnstructuredGrid({5: cells}, nodes))
    path = save(grid, tmp_path / "a.vtu")
    with pytest.raises(
        SourceError, match=r"a.vtu has 1 of 5 cells without extent, the first is number 3; say --option"
    ):
        open_source([path])
    source = open_source([path], options={"drop_faulty": True})
    assert source.notes[:3] == (
        "a.vtu: 1 of 5 cells without extent were left out",
        "a.vtu: 1 of 5 cells that stand there twice were left out",
        "a.vtu: 1 of 6 nodes that belong to no cell were left out",
    )
    measures = source.read_measures(0)
    assert measures is not None
    assert measures.sum() == pytest.approx(3.0)
    np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0, 0], grid["p"][:5])


def test_coordinates_are_finite(tmp_path: Path) -> None:
    grid = with_data(plane())
    grid.points[3, 1] = np.nan
    with pytest.raises(SourceError, match=r"a.vtu: coordinate 1 of node 3 is nan, and 1 are not finite"):
        open_source([save(grid, tmp_path / "a.vtu")])


def test_ghost_cells_are_refused(tmp_path: Path) -> None:
    grid = with_data(plane())
    grid.cell_data["vtkGhostType"] = np.array([0, 1], dtype="uint8")
    with pytest.raises(SourceError, match="has 1 ghost cells, copies of those of other pieces"):
        open_source([save(grid, tmp_path / "a.vtu")])


def test_a_surface_without_data_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds a mesh and no data at its nodes or cells"):
        open_source([save(plane(), tmp_path / "a.vtu")])
    for binary in (True, False):
        path = tmp_path / "car.stl"
        pyvista.Sphere().save(path, binary=binary)
        with pytest.raises(
            SourceError, match=r"car.stl holds a surface and no data, as every STL file does"
        ) as refused:
            open_source([path])
        # What the message says to write works.
        (tmp_path / "car.yaml").write_text(textwrap.dedent(str(refused.value).partition("\n")[2]))
        np.save(tmp_path / "pressure.npy", np.arange(pyvista.Sphere().n_cells, dtype="f4"))
        assert open_source([tmp_path / "car.yaml"]).trajectories[0].shape == (pyvista.Sphere().n_cells,)


def test_options_and_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = save(with_data(plane()), tmp_path / "a.vtu")
    for options, kind, message in [
        ({"locations": "nodes"}, ConfigError, "Did you mean 'location'"),
        ({"location": "cells"}, SourceError, r"no data at its cells; at nodes \['p', 'U'\], at cells none"),
        ({"fields": ["q"]}, SourceError, "no array 'q' at its nodes. Valid names: U, p"),
        ({"time_step": -1.0}, ConfigError, "time_step"),
    ]:
        with pytest.raises(kind, match=message):
            open_source([path], options=options)
    other = with_data(plane())
    del other.point_data["U"]
    with pytest.raises(SourceError, match=r"b.vtu has no array 'U' at its nodes"):
        open_source([path, save(other, tmp_path / "b.vtu")])
    other.point_data["U"] = np.ones((5, 2))
    with pytest.raises(SourceError, match="U has 2 components, elsewhere 3"):
        open_source([path, save(other, tmp_path / "b.vtu")]).read_frames(1, 0, 1)
    with pytest.raises(UnknownFormatError, match="holds what VTK writes, which its name must tell too"):
        open_source([path.rename(tmp_path / "a.dat")])


def test_polyhedra_are_refused_or_keep_all_but_their_faces(tmp_path: Path) -> None:
    corners = np.array([[x, y, z] for x in (0.0, 2.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
    faces = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    stream = [len(faces), *(number for face in faces for number in (len(face), *face))]
    grid = pyvista.UnstructuredGrid(np.array([len(stream), *stream]), np.array([42]), corners)
    grid.cell_data["p"] = np.array([3.0])
    grid.save(tmp_path / "a.vtu")
    with pytest.raises(SourceError, match=r"a.vtu has 1 polyhedra of 1 cells, whose faces a store cannot hold; say"):
        open_source([tmp_path / "a.vtu"])
    source = open_source([tmp_path / "a.vtu"], options={"polyhedra": "nodes"})
    np.testing.assert_allclose(source.read_measures(0), [2.0])
    np.testing.assert_allclose(source.read_coordinates(0)[0], [[1.0, 0.5, 0.5]])
    assert source.read_mesh(0).types.tolist() == [42]
    assert source.notes == ("a.vtu: faces of 1 polyhedra were not kept",)
