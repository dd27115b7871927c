"""Files of The Well's layout, written by h5py: every field as it is, axes, boundaries, splits and statistics."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import zarr

from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.the_well import WellSource
from tests.preprocess.sources.specimens import HDF5Specimen, random, well_specimen
from ups_data.coordinates import grid_measures
from ups_data.errors import ConfigError, SourceError, UnknownFormatError

CHANNELS = ["density", "gravity", "depth", "velocity.x", "velocity.y", "stress.xx", "stress.xy", "stress.yx"]


def dense_of(specimen: HDF5Specimen, row: int) -> np.ndarray:
    """All channels of a trajectory (T, C, X, Y), as the layout defines them."""
    data = specimen.datasets
    frames = len(data["dimensions/time"])
    blocks = [
        data["t0_fields/density"][row][:, None],
        np.broadcast_to(data["t0_fields/gravity"], (frames, 1, 6, 5)),
        np.broadcast_to(data["t0_fields/depth"][row], (frames, 1, 6, 5)),
        np.moveaxis(data["t1_fields/velocity"][row], -1, 1),
        np.moveaxis(data["t2_fields/stress"][row].reshape(frames, 6, 5, 4), -1, 1),
        np.broadcast_to(data["scalars/forcing"][:, None, None, None], (frames, 1, 6, 5)),
    ]
    return np.concatenate(blocks, axis=1)


def well_folder(root: Path, **splits: int) -> dict[str, HDF5Specimen]:
    specimens = {}
    for number, (split, count) in enumerate(splits.items()):
        specimens[split] = well_specimen(f"data/{split}/made.hdf5", seed=100 * number, count=count)
        specimens[split].write(root)
    return specimens


def moments_of(root: Path, train: HDF5Specimen) -> dict[str, Any]:
    """Statistics as stats.yaml has them, by NumPy in float64."""
    fields: dict[str, dict[str, Any]] = {name: {} for name in ("mean", "std", "rms", "mean_delta", "std_delta")}
    for name in ("t0_fields/density", "t1_fields/velocity", "t2_fields/stress"):
        values = train.datasets[name].astype("f8")
        for kind, array in (("", values), ("_delta", np.diff(values, axis=1))):
            axes = (0, 1, 2, 3)
            key = name.split("/")[1]
            fields["mean" + kind][key] = array.mean(axis=axes).tolist()
            fields["std" + kind][key] = array.std(axis=axes).tolist()
        fields["rms"][key] = np.sqrt(np.square(values).mean(axis=axes)).tolist()
    return fields


def test_every_kind_of_field_comes_out_as_it_is(tmp_path: Path) -> None:
    specimen = well_specimen()
    source = open_source([specimen.write(tmp_path)])
    assert isinstance(source, WellSource)
    assert (source.name, source.kind, len(source.trajectories)) == ("made", "grid", 3)
    assert [name for field in source.fields for name in field.channel_names] == [*CHANNELS, "stress.yy", "forcing"]
    for row in range(3):
        np.testing.assert_array_equal(source.read_frames(row, 0, 4), dense_of(specimen, row))
        np.testing.assert_array_equal(source.read_frames(row, 1, 3), dense_of(specimen, row)[1:3])
    info = source.trajectories[2]
    assert (info.item, info.shape, info.split) == ("made.hdf5: trajectory 2", (6, 5), None)
    assert info.parameters == {"viscosity": 0.01, "speed": specimen.datasets["scalars/speed"][2]}
    np.testing.assert_array_equal(info.times, [0.0, 0.5, 1.0, 1.5])
    assert any("forcing is the scalar of that name, which changes in time" in note for note in source.notes)


def test_axes_and_boundaries(tmp_path: Path) -> None:
    path = well_specimen().write(tmp_path)
    source = open_source([path])
    assert [(axis.name, axis.periodic) for axis in source.axes] == [("x", True), ("y", False)]
    assert source.axes[0].upper == pytest.approx(1.0)
    assert (source.axes[1].lower, source.axes[1].upper) == (-1.0, 1.0)
    found = [(bound.name, bound.kind, bound.axes, bound.sides) for bound in source.boundaries]
    both = ("lower", "upper")
    assert found == [("x_periodic", "periodic", ("x",), both), ("y_wall", "wall", ("y",), both)]
    manifest = convert(source, tmp_path / "s", ConvertSettings(splits={"train": 1.0}))
    assert manifest.boundaries == source.boundaries


@pytest.mark.parametrize("stored", [(5,), (1, 5)])
def test_an_axis_that_a_field_does_not_vary_along_is_absent_or_of_one_entry(
    tmp_path: Path, stored: tuple[int, ...]
) -> None:
    specimen = well_specimen()
    specimen.datasets["t0_fields/gravity"] = random(*stored, seed=4)
    source = open_source([specimen.write(tmp_path)])
    wanted = np.broadcast_to(random(5, seed=4), (4, 6, 5))
    np.testing.assert_array_equal(source.read_frames(0, 0, 4)[:, 1], wanted)


def test_a_vector_that_varies_along_nothing(tmp_path: Path) -> None:
    specimen = well_specimen()
    specimen.datasets["t1_fields/velocity"] = random(3, 4, 2)
    specimen.attributes["t1_fields/velocity"]["dim_varying"] = [False, False]
    found = open_source([specimen.write(tmp_path)]).read_frames(1, 0, 4)[:, 3:5]
    np.testing.assert_array_equal(found, np.broadcast_to(random(3, 4, 2)[1][:, :, None, None], (4, 2, 6, 5)))


def test_times_and_nodes_may_be_of_each_trajectory(tmp_path: Path) -> None:
    specimen = well_specimen()
    specimen.datasets["dimensions/time"] = np.cumsum(np.random.default_rng(0).random((3, 4)), axis=1)
    specimen.datasets["dimensions/y"] = np.cumsum(np.random.default_rng(1).random((3, 5)), axis=1)
    for name in ("time", "y"):
        specimen.attributes[f"dimensions/{name}"]["sample_varying"] = True
    source = open_source([specimen.write(tmp_path)])
    for row in range(3):
        np.testing.assert_array_equal(source.trajectories[row].times, specimen.datasets["dimensions/time"][row])
        np.testing.assert_array_equal(source.read_coordinates(row)[1], specimen.datasets["dimensions/y"][row])


def test_a_wall_inside_of_the_domain_is_kept_as_a_field(tmp_path: Path) -> None:
    specimen = well_specimen()
    mask = np.random.default_rng(0).random((5, 6)) > 0.5
    specimen.datasets["boundary_conditions/stairs/mask"] = mask
    specimen.attributes["boundary_conditions/stairs"] = {
        **specimen.attributes["boundary_conditions/y_wall"],
        "associated_dims": ["y", "x"],
    }
    source = open_source([specimen.write(tmp_path)])
    assert source.fields[-1].name == "stairs_mask"
    np.testing.assert_array_equal(source.read_frames(2, 0, 2)[1, -1], mask.T)
    (stairs,) = [bound for bound in source.boundaries if bound.name == "stairs"]
    assert (stairs.axes, stairs.sides) == (("y", "x"), ())


def test_one_and_three_dimensions(tmp_path: Path) -> None:
    for axes, shape in ((["x"], (6,)), (["x", "y", "z"], (6, 5, 4))):
        specimen = well_specimen(f"{len(axes)}d.hdf5")
        keep = {"dimensions/time", *(f"dimensions/{axis}" for axis in axes)}
        specimen.datasets["dimensions/z"] = np.arange(4.0)
        specimen.datasets = {key: value for key, value in specimen.datasets.items() if key in keep}
        density, velocity = random(3, 4, *shape), random(3, 4, *shape, len(axes), seed=1)
        specimen.datasets |= {"t0_fields/density": density, "t1_fields/velocity": velocity}
        specimen.attributes["/"]["n_spatial_dims"] = len(axes)
        specimen.attributes["/"]["simulation_parameters"] = []
        specimen.attributes["dimensions"]["spatial_dims"] = axes
        flags = {"sample_varying": True, "time_varying": True, "dim_varying": [True] * len(axes)}
        specimen.attributes["t0_fields"]["field_names"] = ["density"]
        specimen.attributes = {key: specimen.attributes[key] for key in ("/", "dimensions", "t0_fields", "t1_fields")}
        specimen.attributes |= {"t0_fields/density": flags, "t1_fields/velocity": flags}
        source = open_source([specimen.write(tmp_path)])
        assert source.fields[1].components == tuple(axes)
        wanted = np.concatenate([density[1][:, None], np.moveaxis(velocity[1], -1, 1)], axis=1)
        np.testing.assert_array_equal(source.read_frames(1, 0, 4), wanted)


# -- directories -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["", "data"])
def test_a_directory_becomes_one_store_with_its_splits(tmp_path: Path, inner: str) -> None:
    specimens = well_folder(tmp_path / "made", train=4, valid=1, test=2)
    source = open_source([tmp_path / "made" / inner])
    manifest = convert(source, tmp_path / "s", ConvertSettings())
    assert (manifest.splits, manifest.split_provenance) == ({"train": 4, "valid": 1, "test": 2}, "source")
    fields = zarr.open_group(tmp_path / "s", mode="r")["fields"][:]
    wanted = [dense_of(specimens[split], row) for split, count in manifest.splits.items() for row in range(count)]
    np.testing.assert_array_equal(fields, np.concatenate(wanted))


def test_one_split_of_a_directory(tmp_path: Path) -> None:
    well_folder(tmp_path / "made", train=2, test=1)
    source = open_source([tmp_path / "made" / "data" / "test"])
    assert [info.split for info in source.trajectories] == ["test"]


def test_files_of_different_data_sets_are_refused(tmp_path: Path) -> None:
    other = well_specimen("other.hdf5")
    other.attributes["t0_fields"]["field_names"] = ["density", "gravity"]
    with pytest.raises(SourceError, match=r"other.hdf5 and made.hdf5 have different fields; convert them one by one"):
        open_source([well_specimen().write(tmp_path), other.write(tmp_path)])


def test_a_directory_without_files_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "data" / "train").mkdir(parents=True)
    with pytest.raises(UnknownFormatError, match="is a directory, and no format's data set; name the files in it"):
        open_source([tmp_path])
    with pytest.raises(UnknownFormatError, match=r"holds no .hdf5 or .h5 file in data/train, data/valid or data/test"):
        open_source([tmp_path], "the_well")


# -- stats.yaml ------------------------------------------------------------------------------------------------------


def test_statistics_that_agree_are_noted(tmp_path: Path) -> None:
    train = well_folder(tmp_path / "made", train=3, test=1)["train"]
    (tmp_path / "made" / "stats.yaml").write_text(yaml.safe_dump(moments_of(tmp_path, train)))
    manifest = convert(open_source([tmp_path / "made"]), tmp_path / "s", ConvertSettings())
    # Five kinds of seven channels: density, two of velocity, four of stress.
    assert manifest.source.notes[-1] == "stats.yaml agrees with the statistics here: 35 figures compared"
    assert manifest.source.files[-1].name == "stats.yaml"


def test_statistics_that_differ_are_noted_with_figures(tmp_path: Path) -> None:
    train = well_folder(tmp_path / "made", train=3, test=1)["train"]
    stats = moments_of(tmp_path, train)
    stats["mean"]["velocity"][1] += 0.5
    stats["std"]["density"] = [1.0, 2.0]
    del stats["std_delta"]
    (tmp_path / "made" / "stats.yaml").write_text(yaml.safe_dump(stats))
    manifest = convert(open_source([tmp_path / "made"]), tmp_path / "s", ConvertSettings())
    ours = next(record for record in manifest.statistics if record.channel == "velocity.y").mean
    noted = [note for note in manifest.source.notes if note.startswith("stats.yaml")]
    assert noted == [
        "stats.yaml: std of density has another shape than the field: [1.0, 2.0]",
        f"stats.yaml: mean of velocity.y is {ours + 0.5:.6g}, here it is {ours:.6g}",
    ]


@pytest.mark.parametrize("text", ["mean: [1", "- 1", "mean: &a 1\nstd: *a"])
def test_statistics_that_cannot_be_read_are_refused(tmp_path: Path, text: str) -> None:
    well_folder(tmp_path / "made", train=2)
    (tmp_path / "made" / "stats.yaml").write_text(text)
    with pytest.raises(SourceError, match=r"stats.yaml .*mend it, or take it away"):
        open_source([tmp_path / "made"])


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "attribute", "value", "message"),
    [
        ("/", "grid_type", "equiangular", "grid_type is 'equiangular' with the axes x, y; only 'cartesian'"),
        ("/", "n_spatial_dims", 3, "names x, y, n_spatial_dims is 3; as many distinct names"),
        ("/", "n_trajectories", 2, r"t0_fields/density has shape \(3, 4, 6, 5\); \(trajectory 2, time 4, x 6, y 5\)"),
        ("/", "viscosity", 0.02, "scalars/viscosity is 0.01, attribute viscosity is 0.02; they must agree"),
        ("/", "simulation_parameters", ["mach"], "names 'mach', which is neither an attribute of the file nor a"),
        ("dimensions/x", "time_varying", True, "dimensions/x is time_varying; grids that move in time are not read"),
        ("t0_fields/density", "dim_varying", [True], "attribute dim_varying is .*; one true or false for each of x, y"),
        ("t0_fields/density", "time_varying", "yes", "attribute time_varying is .*; true or false is wanted"),
        ("t0_fields", "field_names", ["densiti"], r"has no data set 't0_fields/densiti'. Did you mean 't0_fields/d"),
        ("boundary_conditions/y_wall", "associated_dims", ["z"], "attribute associated_dims names 'z'. Valid names: x"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, item: str, attribute: str, value: Any, message: str) -> None:
    specimen = well_specimen()
    specimen.attributes[item][attribute] = value
    with pytest.raises(SourceError, match=message):
        open_source([specimen.write(tmp_path)])


def test_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="format 'the_well' has no option 'split'"):
        open_source([well_specimen().write(tmp_path)], options={"split": "official"})


def test_a_source_is_picklable_after_reading(tmp_path: Path) -> None:
    source = open_source([well_specimen().write(tmp_path)])
    values = source.read_frames(0, 0, 4)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read_frames(0, 0, 4), values)


def with_boundary(specimen: HDF5Specimen, name: str, axes: list[str], **datasets: np.ndarray) -> HDF5Specimen:
    """Add a wall with a mask, and values perhaps."""
    flags = {"sample_varying": False, "time_varying": False, "associated_fields": ["density"]}
    specimen.attributes[f"boundary_conditions/{name}"] = {"bc_type": "WALL", "associated_dims": axes, **flags}
    for key, array in datasets.items():
        specimen.datasets[f"boundary_conditions/{name}/{key}"] = array
    return specimen


def test_the_values_of_a_wall_stand_where_the_wall_is(tmp_path: Path) -> None:
    mask = np.zeros((6, 5), dtype=bool)
    mask[2:4, 1:4] = True
    values = random(6, seed=9)
    specimen = with_boundary(well_specimen(), "obstacle", ["x", "y"], mask=mask, values=values)
    source = open_source([specimen.write(tmp_path)])
    names = [name for field in source.fields for name in field.channel_names]
    assert names[-2:] == ["obstacle_mask", "obstacle_values"]
    wanted = np.zeros((6, 5), dtype="float32")
    wanted[mask] = values
    for row, frames in ((0, (0, 4)), (2, (1, 2))):
        found = source.read_frames(row, *frames)
        np.testing.assert_array_equal(found[:, -2], np.broadcast_to(mask, (len(found), 6, 5)))
        np.testing.assert_array_equal(found[:, -1], np.broadcast_to(wanted, (len(found), 6, 5)))
    assert next(bound for bound in source.boundaries if bound.name == "obstacle").fields == ("density",)


@pytest.mark.parametrize("varying", [(), ("time",), ("sample",), ("sample", "time")])
def test_values_at_the_ends_of_an_axis_may_vary(tmp_path: Path, varying: tuple[str, ...]) -> None:
    sizes = {"sample": 3, "time": 4}
    values = random(*(sizes[dim] for dim in varying), 2, seed=9)
    mask = np.array([True, False, False, False, True])
    specimen = with_boundary(well_specimen(), "lid", ["y"], mask=mask, values=values)
    for dim in varying:
        specimen.attributes["boundary_conditions/lid"][f"{dim}_varying"] = True
    source = open_source([specimen.write(tmp_path)])
    # The mask marks the ends alone, which the boundary's sides tell.
    assert [field.name for field in source.fields][-1] == "lid_values"
    assert "lid_mask" not in {field.name for field in source.fields}
    assert source.boundaries[0].sides == ("lower", "upper")
    full = np.broadcast_to(values.reshape([*(sizes[dim] if dim in varying else 1 for dim in sizes), 2]), (3, 4, 2))
    for row in range(3):
        found = source.read_frames(row, 1, 4)[:, -1]
        assert not found[:, :, 1:-1].any()
        for node, column in ((0, 0), (-1, 1)):
            np.testing.assert_array_equal(found[:, :, node], np.repeat(full[row, 1:, column, None], 6, axis=1))


def test_a_mask_along_one_axis_that_is_not_its_end_is_a_field(tmp_path: Path) -> None:
    mask = np.array([False, False, True, False, False])
    source = open_source([with_boundary(well_specimen(), "plate", ["y"], mask=mask).write(tmp_path)])
    assert source.fields[-1].name == "plate_mask"
    np.testing.assert_array_equal(source.read_frames(0, 0, 1)[0, -1], np.broadcast_to(mask, (6, 5)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(3), r"boundary_conditions/lid/values has shape \(3,\); \(2,\) is wanted: one value for each true"),
        (np.zeros((4, 2)), r"lid/values has shape \(4, 2\); \(2,\) is wanted"),
    ],
)
def test_values_that_do_not_fit_the_mask_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    mask = np.array([True, False, False, False, True])
    with pytest.raises(SourceError, match=message):
        open_source([with_boundary(well_specimen(), "lid", ["y"], mask=mask, values=values).write(tmp_path)])


def test_values_on_a_boundary_that_moves_are_refused(tmp_path: Path) -> None:
    specimen = with_boundary(well_specimen(), "lid", ["y"], mask=np.ones((4, 5), dtype=bool), values=np.zeros(5))
    specimen.attributes["boundary_conditions/lid"]["time_varying"] = True
    with pytest.raises(SourceError, match="lid/values belongs to a mask that varies"):
        open_source([specimen.write(tmp_path)])


def sphere_specimen() -> HDF5Specimen:
    """The same fields on a sphere: six colatitudes between the poles, five longitudes."""
    specimen = well_specimen()
    for old, new in (("x", "theta"), ("y", "phi")):
        specimen.datasets[f"dimensions/{new}"] = specimen.datasets.pop(f"dimensions/{old}")
        specimen.attributes[f"dimensions/{new}"] = specimen.attributes.pop(f"dimensions/{old}")
    specimen.datasets["dimensions/theta"] = (np.arange(6, dtype="f4") + 0.5) * np.float32(np.pi / 6)
    specimen.datasets["dimensions/phi"] = np.arange(5, dtype="f4") * np.float32(2 * np.pi / 5)
    specimen.attributes["dimensions"]["spatial_dims"] = ["theta", "phi"]
    specimen.attributes["/"]["grid_type"] = "equiangular"
    for name in ("x_periodic", "y_wall"):
        del specimen.datasets[f"boundary_conditions/{name}/mask"]
        del specimen.attributes[f"boundary_conditions/{name}"]
    flags = {"sample_varying": False, "time_varying": False, "associated_fields": []}
    specimen.attributes["boundary_conditions/around"] = {"bc_type": "PERIODIC", "associated_dims": ["phi"], **flags}
    return specimen


def test_a_sphere_has_angles_for_axes(tmp_path: Path) -> None:
    source = open_source([sphere_specimen().write(tmp_path)])
    assert [(axis.kind, axis.unit, axis.periodic) for axis in source.axes] == [
        ("colatitude", "radians", False),
        ("longitude", "radians", True),
    ]
    assert (source.axes[0].lower, source.axes[0].upper) == (pytest.approx(0.0, abs=1e-6), pytest.approx(np.pi))
    area = grid_measures(source.read_coordinates(0), source.axes)
    assert area.sum() == pytest.approx(4 * np.pi, rel=1e-6)
    assert any("theta is the colatitude, phi is the longitude, in radians" in note for note in source.notes)


def test_angles_that_are_not_radians_are_refused(tmp_path: Path) -> None:
    specimen = sphere_specimen()
    specimen.datasets["dimensions/theta"] = np.linspace(5, 175, 6, dtype="f4")
    with pytest.raises(SourceError, match="theta runs from 5 to 175; as a colatitude in radians it lies between 0 and"):
        open_source([specimen.write(tmp_path)])
