"""Described arrays with missing values, in every way that a description has, and in every kind of file."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
import zarr

from preprocess.sources import Source, open_source
from ups_data.errors import ConfigError, SourceError

T, X, Y = 4, 5, 6
GAPS = np.random.default_rng(1).random((3, T, X, Y)) < 0.3
LAND = np.random.default_rng(2).random((X, Y)) < 0.4


def values(dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, T, X, Y), scale=100).astype(dtype)


def write(folder: Path, u: np.ndarray, entry: dict[str, Any], kind: str = "npy", **arrays: np.ndarray) -> Path:
    """Write field `u` with what its entry says of missing values, beside a field without any."""
    for name, array in {"u": u, "v": values("float64"), **arrays}.items():
        if kind == "npy":
            np.save(folder / f"{name}.npy", array)
        elif kind == "npz":
            np.savez(folder / f"{name}.npz", **{name: array})
        elif kind == "h5":
            with h5py.File(folder / f"{name}.h5", "w") as file:
                file[name] = array
        else:
            group = zarr.open_group(folder / f"{name}.zarr", mode="w")
            group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=array.shape)[...] = array
    key = {} if kind == "npy" else {"key": "u"}
    content = {
        "dims": ["trajectory", "time", "x", "y"],
        "fields": {"u": {"file": f"u.{kind}", **key, **entry}, "v": {"file": f"v.{kind}"}},
        "axes": {"x": {"start": 0.0, "stop": 1.0}, "y": {"start": 0.0, "stop": 1.0}},
        "times": {"start": 0.0, "step": 1.0},
    }
    (folder / "made.yaml").write_text(yaml.safe_dump(content))
    return folder / "made.yaml"


def check(source: Source, u: np.ndarray, gaps: np.ndarray) -> None:
    """Hold all frames, and some of the middle, against values and gaps (trajectory, time, x, y)."""
    assert source.missing_fields == {"u"}
    expected = np.where(gaps, np.nan, u.astype(source.dtype))
    for trajectory in range(3):
        np.testing.assert_array_equal(source.read_frames(trajectory, 0, T)[:, 0], expected[trajectory])
        np.testing.assert_array_equal(source.read_frames(trajectory, 1, 3)[:, 0], expected[trajectory, 1:3])
        assert np.isfinite(source.read_frames(trajectory, 0, T)[:, 1]).all()


@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "zarr"])
def test_a_number_may_stand_for_missing_values(tmp_path: Path, kind: str) -> None:
    stored = np.where(GAPS, np.float32(-9999), values())
    check(open_source([write(tmp_path, stored, {"missing": -9999}, kind)]), stored, GAPS)


@pytest.mark.parametrize(("dtype", "sentinel"), [("int16", -32768), ("int64", -1), ("uint8", 255), ("float32", -1e34)])
def test_the_number_is_rounded_as_the_values_are(tmp_path: Path, dtype: str, sentinel: float) -> None:
    stored = np.where(GAPS, np.array(sentinel).astype(dtype), np.abs(values()).astype(dtype) % 200)
    check(open_source([write(tmp_path, stored, {"missing": sentinel})]), stored, GAPS)


def test_nan_may_be_declared(tmp_path: Path) -> None:
    stored = np.where(GAPS, np.float32(np.nan), values())
    check(open_source([write(tmp_path, stored, {"missing": "nan"})]), stored, GAPS)


@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "zarr"])
@pytest.mark.parametrize(
    ("dims", "marks"),
    [
        (["x", "y"], LAND),
        (["y", "x"], LAND.T),
        (["time", "x", "y"], GAPS[0]),
        (["trajectory", "x", "y"], GAPS[:, 0]),
        (None, GAPS),
    ],
)
def test_marks_lie_along_some_of_the_dimensions(
    tmp_path: Path, kind: str, dims: list[str] | None, marks: np.ndarray
) -> None:
    entry: dict[str, Any] = {"file": f"marks.{kind}"} | ({} if kind == "npy" else {"key": "marks"})
    entry |= {} if dims is None else {"dims": dims}
    gaps = marks.T if dims == ["y", "x"] else marks
    gaps = gaps[:, None] if dims == ["trajectory", "x", "y"] else gaps
    path = write(tmp_path, values(), {"missing": entry}, kind, marks=marks)
    check(open_source([path]), values(), np.broadcast_to(gaps, (3, T, X, Y)))


def test_marks_may_be_numbers_and_the_other_way_round(tmp_path: Path) -> None:
    stored = np.where(LAND, np.nan, values())
    entry = {"file": "sea.npy", "dims": ["x", "y"], "where": 0}
    path = write(tmp_path, stored, {"missing": entry}, sea=(~LAND).astype("float32"))
    source = open_source([path])
    check(source, stored, np.broadcast_to(LAND, stored.shape))
    assert tmp_path / "sea.npy" in source.paths


@pytest.mark.parametrize(
    ("entry", "arrays", "message"),
    [
        ({"missing": -1}, {}, r"u.npy of trajectory 0 holds nan at .*point \(.*`missing: nan` declares every NaN"),
        ({"missing": {"file": "m.npy"}}, {"m": np.zeros((3, T, X, Y))}, "holds nan at .*not declared missing"),
        ({"missing": {"file": "m.npy"}}, {"m": np.full((3, T, X, Y), 2)}, r"m.npy holds 2 at .*marks of missing"),
        ({"missing": {"file": "m.npy", "dims": ["x", "y"]}}, {"m": LAND.T}, r"m.npy has shape \(6, 5\); .*\(5, 6\)"),
        ({"missing": {"file": "m.npy"}}, {"m": LAND}, r"marks of field 'u' along .* are wanted: state their dims"),
        ({"missing": {"file": "m.npy", "dims": ["x", "y"]}}, {"m": LAND.astype(complex)}, "type complex128"),
        ({"missing": 1e39}, {}, r"u.npy holds float32, of which none can be 1e\+39"),
    ],
)
def test_what_is_refused(tmp_path: Path, entry: dict[str, Any], arrays: dict[str, np.ndarray], message: str) -> None:
    path = write(tmp_path, np.where(GAPS, np.float32(np.nan), values()), entry, **arrays)
    with pytest.raises(SourceError, match=message):
        open_source([path]).read_frames(0, 0, T)


@pytest.mark.parametrize(("dtype", "sentinel"), [("int16", 0.5), ("int16", 40000), ("uint8", -1), ("bool", 1)])
def test_a_number_that_no_value_can_be_is_refused(tmp_path: Path, dtype: str, sentinel: float) -> None:
    path = write(tmp_path, np.ones((3, T, X, Y), dtype), {"missing": sentinel})
    with pytest.raises(SourceError, match=f"holds {dtype}, of which none can be {sentinel:g}"):
        open_source([path])


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("none", "fields.u.missing"),
        ({"file": "m.npy", "dims": ["x"]}, "the marks of field 'u' must lie along x, y and others of"),
        ({"file": "m.npy", "dims": ["x", "y", "z"]}, "the marks of field 'u' must lie along x, y and others of"),
        ({"file": "m.npy", "where": 2}, "fields.u.missing"),
    ],
)
def test_descriptions_that_make_no_sense(tmp_path: Path, missing: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source([write(tmp_path, values(), {"missing": missing}, m=LAND)])


def test_angles_reach_the_poles(tmp_path: Path) -> None:
    path = write(tmp_path, values(), {})
    content = yaml.safe_load(path.read_text())
    content["axes"] = {
        "x": {"start": 0.0, "stop": 360.0, "periodic": True, "unit": "degrees", "kind": "longitude"},
        "y": {"start": -75.0, "stop": 75.0, "unit": "degrees", "kind": "latitude"},
    }
    path.write_text(yaml.safe_dump(content))
    axes = open_source([path]).axes
    assert [(axis.kind, axis.lower, axis.upper, axis.periodic) for axis in axes] == [
        ("longitude", 0.0, 360.0, True),
        ("latitude", -90.0, 90.0, False),
    ]
    del content["axes"]["y"]["unit"]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SourceError, match="axis 'y' is a latitude, so its unit must be degrees or radians, not None"):
        open_source([path])


# -- points that move ------------------------------------------------------------------------------------------------


def write_particles(folder: Path, **changes: Any) -> tuple[Path, np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    positions = random.normal(size=(2, T, 7, 2)).astype("float32")
    speeds = random.normal(size=(2, T, 7)).astype("float32")
    np.save(folder / "positions.npy", positions)
    np.save(folder / "speed.npy", speeds)
    content: dict[str, Any] = {
        "kind": "points",
        "fields": {"speed": {"file": "speed.npy", "dims": ["trajectory", "time", "point"]}},
        "axes": {"x": {"unit": "m"}, "y": {"unit": "m"}},
        "positions": {"file": "positions.npy", "dims": ["trajectory", "time", "point", "component"]},
        "times": {"start": 0.0, "step": 0.1},
    }
    path = folder / "particles.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    return path, positions, speeds


def test_moving_points_lie_where_they_start_and_their_positions_are_a_field(tmp_path: Path) -> None:
    path, positions, speeds = write_particles(tmp_path)
    source = open_source([path])
    assert [field.channel_names for field in source.fields] == [("speed",), ("position.x", "position.y")]
    assert source.fields[1].unit == "m"
    assert any("points move: each lies where it starts" in note for note in source.notes)
    for number in range(2):
        (points,) = source.read_coordinates(number)
        np.testing.assert_array_equal(points, positions[number, 0].astype("float64"))
        frames = source.read_frames(number, 1, 4)
        np.testing.assert_array_equal(frames[:, 0], speeds[number, 1:])
        np.testing.assert_array_equal(frames[:, 1:], positions[number, 1:].transpose(0, 2, 1))
    assert [axis.lower for axis in source.axes] == positions[:, 0].min(axis=(0, 1)).tolist()
    assert tmp_path / "positions.npy" in source.paths


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": {"file": "positions.npy", "dims": ["time", "point"]}}, "must name time, point and component"),
        ({"coordinates": {"file": "x.npy"}}, "those of points at rest.*give one"),
        ({"fields": {"position": {"file": "speed.npy"}}}, "field 'position' is made of `positions`"),
        ({"axes": {"x": {}, "y": {}, "z": {}}}, "names 3 components .* has 2"),
    ],
)
def test_positions_that_make_no_sense(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path, _, _ = write_particles(tmp_path, **changes)
    with pytest.raises((ConfigError, SourceError), match=message):
        open_source([path])
