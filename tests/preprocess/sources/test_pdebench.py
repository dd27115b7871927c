"""Files in every layout of PDEBench, written by h5py, come out value for value, axis for axis."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.pdebench import PDEBenchSource
from tests.preprocess.sources.specimens import incompressible_specimen, random
from ups_data.errors import ConfigError, SourceError, UnknownFormatError

WriteHDF5 = Callable[..., Path]

DIFF_REACT_CONFIG = "sim: {Du: 1e-3, Dv: 5e-3, k: 5e-3, seed: 7, xdim: 6, ydim: 5}\nname: diff-react\n"
DAM_CONFIG = "sim: {dam_radius: 0.5, inflow: 2.0, xdim: 6, ydim: 5, T_end: 1.0}\n"


def centres(count: int, lower: float = 0.0, upper: float = 1.0) -> np.ndarray:
    return (lower + (np.arange(count) + 0.5) / count * (upper - lower)).astype("float32")


def scalar_file(write: WriteHDF5, name: str = "1D_Burgers_Sols_Nu0.01.hdf5", **changes: Any) -> Path:
    datasets = {"tensor": random(10, 4, 8), "x-coordinate": centres(8), "t-coordinate": np.linspace(0, 2, 5)}
    attributes = changes.pop("attributes", {"Nu": 0.01})
    datasets = {key: value for key, value in {**datasets, **changes}.items() if value is not None}
    return write(name, datasets, attributes)


def flow_file(write: WriteHDF5, space: tuple[int, ...], name: str) -> tuple[Path, dict[str, np.ndarray]]:
    names = ("density", "pressure", "Vx", "Vy", "Vz")[: 2 + len(space)]
    fields = {key: random(2, 3, *space, seed=number) for number, key in enumerate(names)}
    axes = {f"{axis}-coordinate": centres(size) for axis, size in zip("xyz", space, strict=False)}
    path = write(name, {**fields, **axes, "t-coordinate": np.arange(4.0)}, {"eta": 0.01, "zeta": 0.02, "M": 0.1})
    return path, fields


def grouped_file(
    write: WriteHDF5, name: str, order: str, config: str | None, sizes: dict[str, int], channels: int = 1
) -> tuple[Path, list[np.ndarray]]:
    """Three groups; `order` tells how the space dimensions of `data` are stored."""
    shape = (4, *(sizes[axis] for axis in order), channels)
    blocks = [random(*shape, seed=seed) for seed in range(3)]
    datasets: dict[str, Any] = {}
    for number, block in enumerate(blocks):
        group = f"{number:04d}"
        datasets[f"{group}/data"] = block
        datasets[f"{group}/grid/t"] = np.linspace(0, 1, 4)
        for axis in sorted(order):
            datasets[f"{group}/grid/{axis}"] = centres(sizes[axis], -1.0, 1.0)
    attributes = {} if config is None else {f"{number:04d}": {"config": config} for number in range(3)}
    return write(name, datasets, group_attributes=attributes), blocks


# -- scalar equations ----------------------------------------------------------------------------------------------


def test_scalar_files_come_out_as_they_are(write_hdf5: WriteHDF5) -> None:
    path = scalar_file(write_hdf5)
    source = open_source([path])
    assert isinstance(source, PDEBenchSource)
    assert source.name == "burgers"
    assert [field.name for field in source.fields] == ["u"]
    assert len(source.trajectories) == 10
    info = source.trajectories[3]
    assert (info.item, info.shape, info.parameters) == (f"{path.name}: tensor[3]", (8,), {"Nu": 0.01})
    assert info.times.tolist() == [0.0, 0.5, 1.0, 1.5]
    (axis,) = source.axes
    assert (axis.lower, axis.periodic) == (0.0625, True)
    assert axis.upper == pytest.approx(1.0625)
    np.testing.assert_array_equal(source.read_coordinates(3)[0], centres(8).astype("float64"))
    np.testing.assert_array_equal(source.read_frames(3, 1, 3), random(10, 4, 8)[3, 1:3, None])
    assert "t-coordinate has 5 times for 4 frames; the last one was left out" in " ".join(source.notes)


def test_self_made_files_with_a_leading_axis_of_one(write_hdf5: WriteHDF5) -> None:
    path = scalar_file(write_hdf5, tensor=random(10, 4, 8)[None])
    source = open_source([path])
    assert len(source.trajectories) == 10
    assert source.trajectories[2].item.endswith("tensor[0, 2]")
    np.testing.assert_array_equal(source.read_frames(2, 0, 4), random(10, 4, 8)[2, :, None])


@pytest.mark.parametrize("name", ["f.hdf5", "1D_Advection_Sols_beta0.1.hdf5", "ReacDiff_Nu0.5_Rho1.0.hdf5"])
@pytest.mark.parametrize(
    ("attributes", "problem"),
    [({"beta": 0.1}, "advection"), ({"Nu": 0.5}, "burgers"), ({"Nu": 0.5, "rho": 1.0}, "reaction_diffusion")],
)
def test_equations_are_told_by_name_else_by_attributes(
    write_hdf5: WriteHDF5, name: str, attributes: dict[str, float], problem: str
) -> None:
    by_name = {"f.hdf5": problem, "1D_Adv": "advection", "ReacDif": "reaction_diffusion"}
    source = open_source([scalar_file(write_hdf5, name, attributes=attributes)])
    assert source.name == next(known for start, known in by_name.items() if name.startswith(start))
    assert source.axes[0].periodic
    assert dict(source.trajectories[0].parameters) == attributes


def test_an_unknown_equation_is_not_periodic_unless_told(write_hdf5: WriteHDF5) -> None:
    path = scalar_file(write_hdf5, "mine.hdf5", attributes={"made": "by hand"})
    source = open_source([path])
    assert not source.axes[0].periodic
    assert any("does not tell whether its domain is periodic" in note for note in source.notes)
    assert any("attribute made: by hand" in note for note in source.notes)
    assert open_source([path], options={"periodic": True}).axes[0].periodic


def test_a_known_period_is_not_argued_away(write_hdf5: WriteHDF5) -> None:
    with pytest.raises(ConfigError, match="option periodic=False contradicts what is known of burgers: True"):
        open_source([scalar_file(write_hdf5)], options={"periodic": False})


def test_the_official_split_is_the_first_tenth(write_hdf5: WriteHDF5) -> None:
    source = open_source([scalar_file(write_hdf5)], options={"split": "official"})
    assert [info.split for info in source.trajectories] == ["test"] + ["train"] * 9


def test_files_of_several_parameters_make_one_data_set(write_hdf5: WriteHDF5) -> None:
    paths = [
        scalar_file(write_hdf5, f"1D_Burgers_Sols_Nu{nu}.hdf5", attributes={"Nu": nu}, tensor=random(2, 4, 8, seed=i))
        for i, nu in enumerate((0.01, 0.1))
    ]
    source = open_source(paths)
    assert [info.parameters["Nu"] for info in source.trajectories] == [0.01, 0.01, 0.1, 0.1]
    np.testing.assert_array_equal(source.read_frames(3, 0, 4), random(2, 4, 8, seed=1)[1, :, None])
    assert [path.name for path in source.paths] == [file.name for file in source.fingerprints()]


def test_files_of_different_problems_are_refused(write_hdf5: WriteHDF5) -> None:
    flow, _ = flow_file(write_hdf5, (8,), "1D_CFD_Rand_Eta0.01_Zeta0.01_periodic_Train.hdf5")
    with pytest.raises(SourceError, match="hold different problems; convert them one by one"):
        open_source([scalar_file(write_hdf5), flow])


# -- Darcy ---------------------------------------------------------------------------------------------------------


def test_darcy_has_coefficient_and_solution_and_no_time(write_hdf5: WriteHDF5) -> None:
    tensor, nu = random(3, 1, 6, 5), random(3, 6, 5, seed=1)
    axes = {"x-coordinate": centres(6), "y-coordinate": centres(5)}
    path = write_hdf5("2D_DarcyFlow_beta1.0_Train.hdf5", {"tensor": tensor, "nu": nu, **axes}, {"beta": 1.0})
    source = open_source([path])
    assert [field.name for field in source.fields] == ["permeability", "pressure"]
    assert source.trajectories[1].times.tolist() == [0.0]
    assert [axis.periodic for axis in source.axes] == [False, False]
    np.testing.assert_array_equal(source.read_frames(1, 0, 1), np.stack([nu[1], tensor[1, 0]])[None])


def test_darcy_of_the_wrong_shape_is_refused(write_hdf5: WriteHDF5) -> None:
    axes = {"x-coordinate": centres(6), "y-coordinate": centres(5)}
    path = write_hdf5("darcy.hdf5", {"tensor": random(3, 6, 5), "nu": random(3, 6, 5), **axes})
    with pytest.raises(SourceError, match=r"tensor \(3, 6, 5\); \(B, X, Y\) and \(B, 1, X, Y\) are wanted"):
        open_source([path])


# -- compressible flow -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [(8,), (6, 5), (4, 3, 5)])
@pytest.mark.parametrize("boundary", ["periodic", "trans"])
def test_flow_files_of_one_to_three_dimensions(write_hdf5: WriteHDF5, space: tuple[int, ...], boundary: str) -> None:
    path, fields = flow_file(write_hdf5, space, f"{len(space)}D_CFD_Rand_M0.1_Eta0.01_Zeta0.01_{boundary}_Train.hdf5")
    source = open_source([path])
    assert [field.name for field in source.fields] == ["density", "pressure", "velocity"]
    assert source.fields[2].components == ("x", "y", "z")[: len(space)]
    assert [axis.name for axis in source.axes] == list("xyz"[: len(space)])
    assert {axis.periodic for axis in source.axes} == {boundary == "periodic"}
    assert source.trajectories[1].parameters == {"eta": 0.01, "zeta": 0.02, "M": 0.1}
    found = source.read_frames(1, 0, 3)
    np.testing.assert_array_equal(found, np.stack([values[1] for values in fields.values()], axis=1))


def test_flow_with_a_component_of_another_shape_is_refused(write_hdf5: WriteHDF5) -> None:
    path, _ = flow_file(write_hdf5, (6, 5), "2D_CFD_periodic.hdf5")
    with h5py.File(path, "r+") as file:
        del file["Vy"]
        file["Vy"] = random(2, 3, 6, 4)
    with pytest.raises(SourceError, match=r"Vy has shape \(2, 3, 6, 4\), density has \(2, 3, 6, 5\)"):
        open_source([path])


# -- incompressible flow ---------------------------------------------------------------------------------------------


def test_incompressible_flow_comes_out_as_it_is(tmp_path: Path) -> None:
    specimen = incompressible_specimen()
    source = open_source([specimen.write(tmp_path)])
    assert (source.name, len(source.trajectories)) == ("incompressible_flow", 2)
    names = [name for field in source.fields for name in field.channel_names]
    assert names == ["velocity.x", "velocity.y", "particles", "force.x", "force.y"]
    velocity, particles, force, times = specimen.datasets.values()
    for row in range(2):
        still = np.broadcast_to(np.moveaxis(force[row], -1, 0), (4, 2, 6, 5))
        moving = [np.moveaxis(values[row], -1, 1) for values in (velocity, particles)]
        np.testing.assert_array_equal(source.read_frames(row, 0, 4), np.concatenate([*moving, still], axis=1))
        np.testing.assert_array_equal(source.read_frames(row, 2, 3), np.concatenate([*moving, still], axis=1)[2:3])
        np.testing.assert_array_equal(source.trajectories[row].times, times[row])
    assert source.trajectories[1].parameters == {"NU": 0.01}
    assert [axis.periodic for axis in source.axes] == [False, False]
    x, y = source.read_coordinates(0)
    np.testing.assert_allclose(x, (np.arange(6) + 0.5) / 3, rtol=1e-15)
    np.testing.assert_allclose(y, (np.arange(5) + 0.5) / 5, rtol=1e-15)


def test_an_incompressible_flow_of_unknown_domain_is_asked_for_it(tmp_path: Path) -> None:
    specimen = incompressible_specimen()
    del specimen.attributes["/"]["config"]
    path = specimen.write(tmp_path)
    with pytest.raises(SourceError, match=r"tells no domain_size, .*; state it: --option domain_size=\[1,1\] "):
        open_source([path])
    x, _ = open_source([path], options={"domain_size": [3, 1]}).read_coordinates(0)
    np.testing.assert_allclose(x, (np.arange(6) + 0.5) / 2, rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("velocity", (2, 4, 6, 5, 3), r"velocity has shape \(2, 4, 6, 5, 3\); \(B, T, X, Y, 2\) is wanted"),
        ("particles", (2, 4, 6, 5), r"particles has shape \(2, 4, 6, 5\); \(2, 4, 6, 5, 1\) belongs to velocity"),
        ("force", (2, 4, 6, 5, 2), r"force has shape .*; \(2, 6, 5, 2\) belongs to velocity"),
        ("t", (4,), r"t has shape \(4,\); \(2, 4\) belongs to velocity"),
    ],
)
def test_incompressible_flow_of_other_shapes_is_refused(
    tmp_path: Path, name: str, shape: tuple[int, ...], message: str
) -> None:
    specimen = incompressible_specimen()
    specimen.datasets[name] = random(*shape)
    with pytest.raises(SourceError, match=message):
        open_source([specimen.write(tmp_path)])


# -- one group a trajectory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [{"x": 6, "y": 5}, {"x": 6, "y": 6}])
def test_diffusion_reaction_is_stored_t_y_x_c(write_hdf5: WriteHDF5, sizes: dict[str, int]) -> None:
    path, blocks = grouped_file(write_hdf5, "2D_diff-react_NA_NA.h5", "yx", DIFF_REACT_CONFIG, sizes, channels=2)
    source = open_source([path])
    assert source.name == "diffusion_reaction"
    assert [field.name for field in source.fields] == ["activator", "inhibitor"]
    info = source.trajectories[1]
    assert (info.item, info.shape) == (f"{path.name}: 0001/data", (6, sizes["y"]))
    assert info.parameters == {"Du": 1e-3, "Dv": 5e-3, "k": 5e-3}
    np.testing.assert_array_equal(source.read_frames(1, 0, 4), blocks[1].transpose(0, 3, 2, 1))
    assert any("[time, y, x, component]" in note for note in source.notes)


@pytest.mark.parametrize("sizes", [{"x": 6, "y": 5}, {"x": 6, "y": 6}])
@pytest.mark.parametrize(("name", "config"), [("2D_rdb_NA_NA.h5", None), ("mine.h5", DAM_CONFIG)])
def test_radial_dam_break_is_stored_t_x_y_c(
    write_hdf5: WriteHDF5, sizes: dict[str, int], name: str, config: str | None
) -> None:
    path, blocks = grouped_file(write_hdf5, name, "xy", config, sizes)
    source = open_source([path])
    assert source.name == "radial_dam_break"
    assert source.trajectories[0].shape == (6, sizes["y"])
    assert [axis.periodic for axis in source.axes] == [False, False]
    np.testing.assert_array_equal(source.read_frames(2, 1, 3), blocks[2].transpose(0, 3, 1, 2)[1:3])


def test_diffusion_sorption_has_one_space_dimension(write_hdf5: WriteHDF5) -> None:
    path, blocks = grouped_file(write_hdf5, "1D_diff-sorp_NA_NA.h5", "x", None, {"x": 7})
    source = open_source([path])
    assert (source.name, source.fields[0].name) == ("diffusion_sorption", "concentration")
    np.testing.assert_array_equal(source.read_frames(0, 0, 4), blocks[0].transpose(0, 2, 1))


def test_an_order_that_nothing_tells_is_asked_for(write_hdf5: WriteHDF5) -> None:
    path, blocks = grouped_file(write_hdf5, "mine.h5", "xy", None, {"x": 6, "y": 6})
    with pytest.raises(SourceError, match=r"may be \[t, x, y, c\] .* or \[t, y, x, c\] .*; say --option axes=xy or"):
        open_source([path])
    told = open_source([path], options={"axes": "yx"})
    np.testing.assert_array_equal(told.read_frames(0, 0, 4), blocks[0].transpose(0, 3, 2, 1))


def test_an_order_that_the_lengths_deny_is_refused(write_hdf5: WriteHDF5) -> None:
    path, _ = grouped_file(write_hdf5, "mine.h5", "xy", None, {"x": 6, "y": 5})
    assert open_source([path]).trajectories[0].shape == (6, 5)
    with pytest.raises(SourceError, match="axes=yx was told, but the grid lengths say xy"):
        open_source([path], options={"axes": "yx"})


def test_groups_that_differ_are_refused(write_hdf5: WriteHDF5) -> None:
    path, _ = grouped_file(write_hdf5, "2D_diff-react_NA_NA.h5", "yx", None, {"x": 6, "y": 5}, channels=2)
    with h5py.File(path, "r+") as file:
        del file["0002/data"]
        file["0002/data"] = random(4, 5, 6, 3)
    with pytest.raises(SourceError, match=r"0002/data has 3 channels of float32, 0000/data has 2 of float32"):
        open_source([path])


def test_a_missing_grid_names_what_is_there(write_hdf5: WriteHDF5) -> None:
    path, _ = grouped_file(write_hdf5, "2D_rdb_NA_NA.h5", "xy", None, {"x": 6, "y": 5})
    with h5py.File(path, "r+") as file:
        del file["0001/grid/t"]
    with pytest.raises(SourceError, match="has no data set '0001/grid/t'"):
        open_source([path])


# -- damage and refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["x-coordinate", "t-coordinate"])
def test_a_missing_data_set_is_named(write_hdf5: WriteHDF5, missing: str) -> None:
    with pytest.raises(SourceError, match=f"has no data set '{missing}'. Did you mean '.-coordinate'"):
        open_source([scalar_file(write_hdf5, **{missing: None})])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x-coordinate": centres(7)}, "x-coordinate has 7 nodes, tensor has 8 along x"),
        ({"x-coordinate": centres(8)[::-1]}, "x-coordinate must increase strictly"),
        ({"t-coordinate": np.arange(3.0)}, "t-coordinate has 3 times for 4 frames"),
        ({"t-coordinate": np.arange(6.0)}, "t-coordinate has 6 times for 4 frames"),
        ({"tensor": random(10, 4)}, r"tensor has shape \(10, 4\); \(B, T, X\) and"),
        ({"tensor": np.zeros((0, 4, 8))}, r"tensor has shape \(0, 4, 8\) and holds nothing"),
        ({"tensor": np.zeros((2, 4, 8), dtype="complex64")}, "tensor holds complex64 where real numbers must stand"),
        ({"attributes": {"Nu": "thin"}}, "attribute Nu is 'thin'; one finite number is wanted"),
    ],
)
def test_contradictions_in_a_file_are_refused(write_hdf5: WriteHDF5, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source([scalar_file(write_hdf5, **changes)])


def test_options_are_checked(write_hdf5: WriteHDF5) -> None:
    path = scalar_file(write_hdf5)
    with pytest.raises(ConfigError, match=r"has the unknown key 'axis'. Did you mean 'axes'\?"):
        open_source([path], options={"axis": "xy"})
    with pytest.raises(ConfigError, match="periodic: Input should be a valid boolean, got 'yes'"):
        open_source([path], options={"periodic": "yes"})


def test_a_file_of_no_layout_says_what_it_holds(write_hdf5: WriteHDF5) -> None:
    path = write_hdf5("other.h5", {"density": random(2, 3, 4), "Vx": random(2, 3, 4)})
    assert not PDEBenchSource.recognises(path)
    with pytest.raises(UnknownFormatError, match="is in no format that is known here"):
        open_source([path])
    with pytest.raises(UnknownFormatError, match=r"none of PDEBench's layouts .*; it holds Vx, density"):
        open_source([path], "pdebench")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_file_cut_short_is_refused_when_opened(write_hdf5: WriteHDF5, share: float) -> None:
    path = scalar_file(write_hdf5)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert not PDEBenchSource.recognises(path)
    with pytest.raises(SourceError, match="is no HDF5 file, damaged or cut short"):
        open_source([path])


def test_damage_inside_of_a_data_set_is_refused_when_read(tmp_path: Path) -> None:
    path = tmp_path / "1D_Burgers_Sols_Nu0.01.hdf5"
    with h5py.File(path, "w") as file:
        tensor = file.create_dataset("tensor", data=random(4, 4, 8), compression="gzip", fletcher32=True)
        file["x-coordinate"], file["t-coordinate"] = centres(8), np.arange(4.0)
        place = tensor.id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 20] ^= 0xFF
    path.write_bytes(content)
    source = open_source([path])
    with pytest.raises(SourceError, match="tensor cannot be read; the file is damaged or cut short"):
        source.read_frames(0, 0, 4)


def test_a_source_is_picklable_after_reading(write_hdf5: WriteHDF5) -> None:
    source = open_source([scalar_file(write_hdf5)])
    values = source.read_frames(0, 0, 4)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read_frames(0, 0, 4), values)


# -- to a store ------------------------------------------------------------------------------------------------------


def test_stock_zarr_reads_the_values_of_the_file(write_hdf5: WriteHDF5, tmp_path: Path) -> None:
    """Diffusion-reaction is the layout whose axes are turned around on the way."""
    sizes = {"x": 12, "y": 10}
    path, blocks = grouped_file(write_hdf5, "2D_diff-react_NA_NA.h5", "yx", DIFF_REACT_CONFIG, sizes, channels=2)
    convert(open_source([path]), tmp_path / "s", ConvertSettings(splits={"train": 1.0}))
    store = zarr.open_group(tmp_path / "s", mode="r")
    dense = np.concatenate([block.transpose(0, 3, 2, 1) for block in blocks])
    np.testing.assert_array_equal(store["fields"][:], dense)
    index, values = store["pages/index"][:], store["pages/values"][:]
    pages = len(index) // 3
    for trajectory in range(3):
        points = index[trajectory * pages : (trajectory + 1) * pages]
        for frame in range(4):
            row = (trajectory * 4 + frame) * pages
            found = values[row : row + pages].transpose(1, 0, 2)[:, points >= 0]
            wanted = dense[trajectory * 4 + frame].reshape(2, -1)[:, points[points >= 0]]
            np.testing.assert_array_equal(found, wanted)
