"""Described NumPy arrays: every value, node, time and unit as described; every contradiction refused."""

import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.arrays import ArraysSource
from ups_data.errors import ConfigError, SourceError
from ups_data.schema import ImportanceSpec

WriteArrays = Callable[..., Path]
TIMES = "times: {start: 0.0, step: 0.05, unit: s}"
SPLIT = "split: {train: 2, test: 1}"


def write_points(folder: Path, coordinates: np.ndarray, extra: str = "", axes: str = "{x: {}, y: {}}") -> Path:
    values = np.random.default_rng(0).normal(size=(3, 4, 40)).astype("float32")
    np.save(folder / "u.npy", values)
    np.save(folder / "points.npy", coordinates)
    path = folder / "cloud.yaml"
    path.write_text(
        "kind: points\ndims: [trajectory, time, point]\nfields: {u: {file: u.npy}}\n"
        f"axes: {axes}\ncoordinates: {{file: points.npy}}\ntimes: {{start: 0, step: 1}}\n{extra}"
    )
    return path


def test_a_description_with_all_of_it(write_arrays: WriteArrays, tmp_path: Path) -> None:
    source = open_source([write_arrays()])
    assert isinstance(source, ArraysSource)
    assert (source.name, source.kind, source.time_unit, source.notes) == ("made", "grid", "s", ("made by hand",))
    assert [(field.name, field.components, field.unit) for field in source.fields] == [
        ("velocity", ("x", "y"), "m/s"),
        ("permeability", ("",), None),
    ]
    assert [(axis.name, axis.lower, axis.upper, axis.periodic, axis.unit) for axis in source.axes] == [
        ("x", 0.0, 1.0, True, "m"),
        ("y", 0.0, 2.0, False, None),
    ]
    x, y = source.read_coordinates(0)
    np.testing.assert_allclose(x, np.arange(5) / 5, rtol=1e-15)
    np.testing.assert_array_equal(y, np.linspace(0.0, 1.8, 6))
    info = source.trajectories[2]
    np.testing.assert_allclose(info.times, 0.05 * np.arange(4))
    assert info.parameters == {"viscosity": 1e-3, "seedling": 3.5}
    assert [info.split for info in source.trajectories] == ["train", "train", "test"]
    assert [path.name for path in source.paths] == ["made.yaml", "velocity.npy", "rest.npz"]
    velocity, phase = np.load(tmp_path / "velocity.npy"), np.load(tmp_path / "rest.npz")["a"]
    found = source.read_frames(1, 1, 3)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, :2], velocity[1, 1:3])
    np.testing.assert_array_equal(found[:, 2], np.broadcast_to(phase[1], (2, 5, 6)))


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (1, 0, 3, 4, 2), (3, 2, 4, 0, 1)])
def test_dimensions_are_taken_as_named(write_arrays: WriteArrays, order: tuple[int, ...]) -> None:
    velocity = np.random.default_rng(3).normal(size=(3, 4, 2, 5, 6)).astype("float32")
    names = ("trajectory", "time", "component", "x", "y")
    dims = ", ".join(names[place] for place in order)
    path = write_arrays(("[trajectory, time, component, x, y]", f"[{dims}]"), velocity=velocity.transpose(order))
    np.testing.assert_array_equal(open_source([path]).read_frames(2, 0, 4)[:, :2], velocity[2])


def test_a_single_steady_field(tmp_path: Path) -> None:
    values = np.arange(12.0).reshape(3, 4)
    np.save(tmp_path / "u.npy", values)
    axes = "axes: {x: {values: [0, 1, 4]}, y: {start: -1, stop: 1}}"
    (tmp_path / "d.yaml").write_text(f"dims: [x, y]\nfields: {{u: {{file: u.npy}}}}\n{axes}\n")
    source = open_source([tmp_path / "d.yaml"])
    assert len(source.trajectories) == 1
    assert source.trajectories[0].times.tolist() == [0.0]
    assert source.read_coordinates(0)[0].tolist() == [0.0, 1.0, 4.0]
    np.testing.assert_array_equal(source.read_frames(0, 0, 1), values[None, None])


def test_times_may_differ_between_trajectories(write_arrays: WriteArrays, tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(0).random((3, 4)), axis=1)
    np.save(tmp_path / "times.npy", times)
    source = open_source([write_arrays((TIMES, "times: {file: times.npy}"))])
    for row, info in zip(times, source.trajectories, strict=True):
        np.testing.assert_array_equal(info.times, row)


def test_units_reach_the_manifest(write_arrays: WriteArrays, tmp_path: Path) -> None:
    manifest = convert(open_source([write_arrays()]), tmp_path / "s", ConvertSettings())
    assert [(record.name, record.unit) for record in manifest.parameters] == [("viscosity", "m2/s"), ("seedling", None)]
    assert (manifest.fields[0].unit, manifest.geometry.axes[0].unit, manifest.time_unit) == ("m/s", "m", "s")
    assert [file.name for file in manifest.source.files] == ["made.yaml", "velocity.npy", "rest.npz"]


def test_stock_zarr_reads_what_was_described(write_arrays: WriteArrays, tmp_path: Path) -> None:
    convert(open_source([write_arrays()]), tmp_path / "s", ConvertSettings())
    fields = zarr.open_group(tmp_path / "s", mode="r")["fields"][:].reshape(3, 4, 3, 5, 6)
    np.testing.assert_array_equal(fields[:, :, :2], np.load(tmp_path / "velocity.npy"))
    phase = np.load(tmp_path / "rest.npz")["a"]
    np.testing.assert_array_equal(fields[:, :, 2], np.repeat(phase[:, None], 4, axis=1))


# -- point clouds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
def test_point_clouds(tmp_path: Path, shared: bool) -> None:
    points = np.random.default_rng(1).random((40, 2) if shared else (3, 40, 2)).astype("float32")
    source = open_source([write_points(tmp_path, points)])
    assert (source.kind, source.trajectories[0].shape) == ("points", (40,))
    (found,) = source.read_coordinates(2)
    wanted = points if shared else points[2]
    np.testing.assert_array_equal(found, wanted.astype("float64"))
    assert source.axes[1].lower == points[..., 1].min()
    np.testing.assert_array_equal(source.read_frames(2, 1, 2)[0, 0], np.load(tmp_path / "u.npy")[2, 1])


def test_a_cloud_becomes_a_store(tmp_path: Path) -> None:
    points = np.random.default_rng(1).random((3, 40, 2))
    recipe = ImportanceSpec(metrics={"temporal_change": 1.0})
    source = open_source([write_points(tmp_path, points)])
    convert(source, tmp_path / "s", ConvertSettings(importance=recipe, splits={"train": 1.0}))
    store = zarr.open_group(tmp_path / "s", mode="r")
    index, coordinates = store["pages/index"][:], store["pages/coordinates"][:]
    assert len(index) == 15
    for page, row in enumerate(index):
        trajectory = page // 5
        np.testing.assert_array_equal(coordinates[page].T[row >= 0], points[trajectory][row[row >= 0]])
        assert np.isnan(coordinates[page].T[row < 0]).all()


@pytest.mark.parametrize(
    ("points", "axes", "message"),
    [
        (np.zeros((40, 3)), "{x: {}, y: {}}", r"points.npy has shape \(40, 3\) and type float64; coordinates of"),
        (np.zeros((2, 40, 2)), "{x: {}, y: {}}", r"numbers of shape \(40, 2\) or \(3, 40, 2\)"),
        (np.full((40, 2), np.nan), "{x: {}, y: {}}", r"points.npy holds nan at \(0, 0\); it must be finite"),
        (np.zeros((40, 2)), "{x: {}, y: {}}", "the extent of axis 'x' is .0.0, 0.0.; it must have a length"),
        (np.ones((40, 2)), "{x: {extent: [2, 3]}, y: {}}", "run from 1.0 to 1.0, outside of .2.0, 3.0."),
    ],
)
def test_bad_clouds_are_refused(tmp_path: Path, points: np.ndarray, axes: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source([write_points(tmp_path, points, axes=axes)])


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dims: [trajectory, time, component, x, y]", "", "field 'velocity' needs `dims`"),
        ("component, x, y]", "component, x, z]", "unknown dimension 'z'"),
        ("component, x, y]", "component, x, x]", "must name every one of x, y, and nothing twice"),
        ("[trajectory, time, component, x, y]", "[trajectory, time, x, y]", "has 5 dimensions, .* its dims name 4"),
        ("components: [x, y]", "components: [x]", "names 1 components .*, velocity.npy has 2"),
        ("file: velocity.npy", "file: velocty.npy", "velocty.npy is not there"),
        ("key: a,", "key: b,", r"has no array 'b'\. Valid names: a, y"),
        ("x: {start: 0.0, stop: 1.0", "x: {values: [0, 1, 2]", "axes.x has 3 nodes, the fields have 5 along 'x'"),
        ("extent: [0.0, 2.0]", "extent: [0.0, 1.0]", "run from 0.0 to 1.8, outside of"),
        (TIMES, "", "must state `times`: the fields have 4 frames"),
        (TIMES, "times: {values: [0, 1]}", r"times has shape \(1, 2\); 4 times are wanted, for all 3"),
        (TIMES, "times: {start: 0, step: -1}", "times must increase strictly"),
        ("[1, 2, 3.5]", "[1, 2]", "parameters.seedling has 2 values for 3 trajectories"),
        (SPLIT, "split: {train: 2}", "split names 2 trajectories, the fields have 3"),
        (SPLIT, "splits: {train: 3}", "has the unknown key 'splits'. Did you mean 'split'"),
        ("unit: m/s", "uint: m/s", r"in fields.velocity, has the unknown key 'uint'"),
        ("fields:", "format: pdebench\nfields:", "format: Input should be 'arrays'"),
    ],
)
def test_contradictions_are_refused(write_arrays: WriteArrays, old: str, new: str, message: str) -> None:
    with pytest.raises((SourceError, ConfigError), match=message):
        open_source([write_arrays((old, new))])


def test_fields_must_agree(write_arrays: WriteArrays) -> None:
    with pytest.raises(
        SourceError, match=r"rest.npz: a of field 'permeability' has 4 along 'x', velocity.npy of field"
    ):
        open_source([write_arrays(a=np.zeros((3, 4, 6)))])
    with pytest.raises(SourceError, match=r"velocity.npy of field 'velocity' has no entry along 'time'"):
        open_source([write_arrays(velocity=np.zeros((3, 0, 2, 5, 6)))])


def test_values_that_no_float_holds_are_refused(write_arrays: WriteArrays) -> None:
    with pytest.raises(SourceError, match="holds complex64 where real numbers must stand"):
        open_source([write_arrays(velocity=np.zeros((3, 4, 2, 5, 6), dtype="complex64"))])
    large = np.zeros((3, 4, 2, 5, 6), dtype="int64")
    large[1, 2, 0, 3, 4] = 2**53 + 1
    source = open_source([write_arrays(velocity=large)])
    assert source.dtype == np.float64
    with pytest.raises(SourceError, match="trajectory 1 holds the integer 9007199254740993"):
        source.read_frames(1, 0, 4)


def test_an_array_given_alone_is_answered_with_a_description_to_fill_in(
    write_arrays: WriteArrays, tmp_path: Path
) -> None:
    write_arrays()
    with pytest.raises(SourceError, match=r"(?s)does not say what .* velocity.yaml.*field0: \{file: velocity.npy\}"):
        open_source([tmp_path / "velocity.npy"])
    with pytest.raises(SourceError, match=r"(?s)a: \{file: rest.npz, key: a\}    # shape \(3, 5, 6\)"):
        open_source([tmp_path / "rest.npz"])


def test_options_and_several_files_are_refused(write_arrays: WriteArrays, tmp_path: Path) -> None:
    path = write_arrays()
    with pytest.raises(ConfigError, match="format 'arrays' has no option 'axes'"):
        open_source([path], options={"axes": "xy"})
    other = tmp_path / "other.yaml"
    other.write_text(path.read_text())
    with pytest.raises(SourceError, match="2 files were given for format 'arrays'; give the one description"):
        open_source([path, other])


def test_a_description_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_bytes(b"fields: \xff\xfe")
    with pytest.raises(SourceError, match="is no text, so no description of arrays"):
        open_source([tmp_path / "d.yaml"], "arrays")


@pytest.mark.parametrize("name", ["velocity.npy", "rest.npz"])
def test_an_array_cut_short_is_refused(write_arrays: WriteArrays, tmp_path: Path, name: str) -> None:
    path = write_arrays()
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match=f"{name} is (cut short|a damaged or cut-short archive)"):
        open_source([path])


def test_a_source_is_picklable_after_reading(write_arrays: WriteArrays) -> None:
    source = open_source([write_arrays()])
    values = source.read_frames(0, 0, 4)
    text = pickle.dumps(source)
    assert len(text) < values.nbytes + 10_000
    np.testing.assert_array_equal(pickle.loads(text).read_frames(0, 0, 4), values)


# -- HDF5 and Zarr ---------------------------------------------------------------------------------------------------


def move_arrays(folder: Path, kind: str) -> list[tuple[str, str]]:
    """Write what `write_arrays` writes into one HDF5 file or Zarr group; return what to replace in the description."""
    values = {"velocity": np.load(folder / "velocity.npy"), **np.load(folder / "rest.npz")}
    if kind == "h5":
        with h5py.File(folder / "all.h5", "w") as file:
            for name, array in values.items():
                file.create_dataset(f"in/{name}", data=array, chunks=(1, *array.shape[1:]), fletcher32=True)
    else:
        group = zarr.open_group(folder / "all.zarr", mode="w", zarr_format=2 if kind == "zarr2" else 3)
        for name, array in values.items():
            stored = group.create_array(
                f"in/{name}", shape=array.shape, chunks=(1, *array.shape[1:]), dtype=array.dtype
            )
            stored[...] = array
    file_name = "all.h5" if kind == "h5" else "all.zarr"
    return [
        ("file: velocity.npy", f"file: {file_name}, key: in/velocity"),
        ("file: rest.npz, key: a", f"file: {file_name}, key: in/a"),
        ("file: rest.npz, key: y", f"file: {file_name}, key: in/y"),
    ]


@pytest.mark.parametrize("kind", ["h5", "zarr2", "zarr3"])
def test_hdf5_and_zarr_are_described_as_numpy_is(write_arrays: WriteArrays, tmp_path: Path, kind: str) -> None:
    wanted = convert(open_source([write_arrays()]), tmp_path / "a", ConvertSettings(name="s"))
    source = open_source([write_arrays(*move_arrays(tmp_path, kind))])
    found = convert(pickle.loads(pickle.dumps(source)), tmp_path / "b", ConvertSettings(name="s"))
    assert found.files == wanted.files
    assert found.geometry == wanted.geometry
    assert [file.name for file in found.source.files] == ["made.yaml", "all.h5" if kind == "h5" else "all.zarr"]


@pytest.mark.parametrize("kind", ["h5", "zarr2", "zarr3"])
def test_only_the_frames_asked_for_are_read(write_arrays: WriteArrays, tmp_path: Path, kind: str) -> None:
    """Damage in the last trajectory is met when it is read, and not before."""
    write_arrays()
    source = open_source([write_arrays(*move_arrays(tmp_path, kind))])
    # Once it is described: the headers of Blosc's chunks are looked at before.
    if kind == "h5":
        with h5py.File(tmp_path / "all.h5", "r") as file:
            place = file["in/velocity"].id.get_chunk_info(2).byte_offset
        with (tmp_path / "all.h5").open("r+b") as raw:
            raw.seek(place)
            raw.write(b"\xff" * 8)
    else:
        name = "2.0.0.0.0" if kind == "zarr2" else "c/2/0/0/0/0"
        (tmp_path / "all.zarr" / "in" / "velocity" / name).write_bytes(b"damaged")
    np.testing.assert_array_equal(source.read_frames(1, 0, 4)[:, :2], np.load(tmp_path / "velocity.npy")[1])
    with pytest.raises(SourceError, match=r"all.(h5|zarr): in/velocity cannot be read; .* damaged or cut short"):
        source.read_frames(2, 0, 4)


@pytest.mark.parametrize("kind", ["h5", "zarr3"])
def test_names_that_are_not_there_are_told(write_arrays: WriteArrays, tmp_path: Path, kind: str) -> None:
    write_arrays()
    replacements = [(old, new.replace("in/a", "in/b")) for old, new in move_arrays(tmp_path, kind)]
    with pytest.raises(SourceError, match=r"all.* has no (Zarr )?array 'in/b'. .*in/a, in/velocity, in/y"):
        open_source([write_arrays(*replacements)])


@pytest.mark.parametrize("kind", ["h5", "zarr3"])
def test_a_file_of_arrays_given_alone_is_asked_to_be_described(
    write_arrays: WriteArrays, tmp_path: Path, kind: str
) -> None:
    write_arrays()
    move_arrays(tmp_path, kind)
    path = tmp_path / ("all.h5" if kind == "h5" else "all.zarr")
    with pytest.raises(SourceError, match=rf"(?s)all.yaml.* velocity: \{{file: {path.name}, key: in/velocity\}}  "):
        open_source([path], "arrays")


def test_a_cloud_in_hdf5_is_read_trajectory_by_trajectory(tmp_path: Path) -> None:
    points = np.random.default_rng(1).random((3, 40, 2))
    path = write_points(tmp_path, points)
    with h5py.File(tmp_path / "points.h5", "w") as file:
        file["p"] = points
    path.write_text(path.read_text().replace("points.npy", "points.h5"))
    source = open_source([path])
    for row in range(3):
        np.testing.assert_array_equal(source.read_coordinates(row)[0], points[row])
    assert source.axes[0].upper == points[..., 0].max()
