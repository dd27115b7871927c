"""Moving particles in groups of Zarr: points where they start, positions as a field, times told or asked for."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import ups_data
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.particles import ParticlesSource
from ups_data.errors import SourceError, UnknownFormatError


def arrays_of(seed: int = 0, count: int = 40, frames: int = 5, dims: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "positions": random.normal(size=(frames, count, dims)).astype("float32"),
        "velocities": random.normal(size=(frames, count, dims)).astype("float32"),
        "density": random.normal(size=(frames, count)).astype("float32"),
        "time": np.cumsum(random.random(frames)),
        "neighbors/indices": np.arange(6),
        "neighbors/indptr": np.arange(count + 1),
    }


def write(path: Path, arrays: dict[str, np.ndarray], zarr_format: Any = 3, **attributes: Any) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    for key, values in arrays.items():
        group.create_array(key, shape=values.shape, dtype=values.dtype, chunks=values.shape or None)[...] = values
    group.attrs.update(attributes)
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_particles_lie_where_they_start_and_their_positions_are_a_field(tmp_path: Path, zarr_format: int) -> None:
    arrays = [arrays_of(0), arrays_of(1, count=30, frames=4)]
    for number, content in enumerate(arrays):
        write(tmp_path / "runs" / f"{number}.zarr", content, zarr_format, radius=0.1 + number)
    source = open_source([tmp_path / "runs"])
    assert isinstance(source, ParticlesSource)
    names = [name for field in source.fields for name in field.channel_names]
    assert names == ["position.x", "position.y", "position.z", "density", "velocity.x", "velocity.y", "velocity.z"]
    for number, content in enumerate(arrays):
        info = source.trajectories[number]
        assert (info.shape, info.parameters) == ((len(content["density"][0]),), {"radius": 0.1 + number})
        np.testing.assert_array_equal(info.times, content["time"])
        np.testing.assert_array_equal(source.read_coordinates(number)[0], content["positions"][0].astype("f8"))
        found = source.read_frames(number, 1, 4)
        np.testing.assert_array_equal(found[:, :3], content["positions"][1:4].swapaxes(1, 2))
        np.testing.assert_array_equal(found[:, 3], content["density"][1:4])
        np.testing.assert_array_equal(found[:, 4:], content["velocities"][1:4].swapaxes(1, 2))
    assert "left out: neighbors/indices, neighbors/indptr" in source.notes
    assert any("points move" in note for note in source.notes)
    assert pickle.loads(pickle.dumps(source)).read_frames(1, 0, 1).shape == (1, 7, 30)


def test_a_store_gives_the_positions_of_every_frame_back(tmp_path: Path) -> None:
    arrays = arrays_of(dims=2)
    convert(
        open_source([write(tmp_path / "one.zarr", arrays)]), tmp_path / "store", ConvertSettings(splits={"train": 1})
    )
    store = ups_data.open_store(tmp_path / "store")
    np.testing.assert_array_equal(store.read_dense(0, range(5))[:, :2], arrays["positions"].swapaxes(1, 2))
    np.testing.assert_array_equal(store.coordinates(0), arrays["positions"][0])


def test_times_may_be_steps(tmp_path: Path) -> None:
    arrays = arrays_of()
    del arrays["time"]
    told = open_source([write(tmp_path / "told.zarr", arrays, dt=0.25)])
    np.testing.assert_array_equal(told.trajectories[0].times, [0, 0.25, 0.5, 0.75, 1])
    path = write(tmp_path / "untold.zarr", arrays)
    with pytest.raises(SourceError, match=r"untold.zarr has no array 'time'.*--option time_step=0.01"):
        open_source([path])
    asked = open_source([path], options={"time_step": 0.5})
    np.testing.assert_array_equal(asked.trajectories[0].times, [0, 0.5, 1, 1.5, 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": np.zeros((5, 40))}, r"no Zarr array|positions has shape \(5, 40\); \(T, N, D\)"),
        ({"positions": np.zeros((5, 40, 4))}, r"positions has shape \(5, 40, 4\); \(T, N, D\) with D of 1 to 3"),
        ({"positions": np.full((5, 40, 3), np.nan)}, r"positions holds nan at \(0, 0, 0\)"),
        ({"velocities": np.zeros((5, 39, 3))}, r"velocities has shape \(5, 39, 3\), positions has \(5, 40, 3\)"),
        ({"time": np.zeros(5)}, "time must increase strictly"),
        ({"time": np.arange(4.0)}, "time has 4 entries, positions has 5 frames"),
        ({"density": np.zeros((5, 40), dtype="complex64")}, "density holds complex64 where real numbers must stand"),
        ({"radius": np.zeros(2)}, "radius is .*; one finite number is wanted"),
    ],
)
def test_what_is_refused(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source([write(tmp_path / "bad.zarr", {**arrays_of(), **changes})], "particles")


def test_runs_that_differ_are_refused(tmp_path: Path) -> None:
    less = arrays_of()
    del less["density"]
    paths = [write(tmp_path / "a.zarr", arrays_of()), write(tmp_path / "b.zarr", less)]
    with pytest.raises(SourceError, match=r"b.zarr holds .*a.zarr holds .*; convert them one by one"):
        open_source(paths)
    shutil.rmtree(paths[0] / "positions")
    with pytest.raises(UnknownFormatError, match=r"a.zarr holds no Zarr group with an array 'positions'"):
        open_source([paths[0]], "particles")
    with pytest.raises(SourceError, match="one tells 'radius', the other does not"):
        open_source([write(tmp_path / "c.zarr", less, radius=0.1), paths[1]])
