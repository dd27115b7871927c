"""A format is recognised by content, or the message says what is missing."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray

from preprocess.sources import SOURCES, open_source
from tests.preprocess.sources.meshes import plane, with_data
from tests.preprocess.sources.specimens import (
    CORNERS,
    car_folder,
    crash_arrays,
    smoke_specimen,
    weather,
    well_specimen,
    write_crash,
    write_curator,
    write_physicsnemo,
)
from tests.preprocess.sources.test_anemoi import write as write_anemoi
from tests.preprocess.sources.test_particles import arrays_of
from tests.preprocess.sources.test_particles import write as write_particles
from tests.preprocess.sources.test_pdearena_shallow_water import write_run
from ups_data.errors import SourceError, UnknownFormatError

WriteArrays = Callable[..., Path]
WriteHDF5 = Callable[..., Path]


def burgers_file(write: WriteHDF5, name: str) -> Path:
    content = {"tensor": np.ones((2, 3, 4)), "x-coordinate": np.arange(4.0), "t-coordinate": np.arange(3.0)}
    return write(name, content, {"Nu": 0.1})


def darcy_file(path: Path) -> Path:
    torch.save({"x": torch.ones(2, 4, 4, dtype=torch.bool), "y": torch.ones(2, 4, 4)}, path)
    return path


def test_formats_go_by_content_and_not_by_name(
    tmp_path: Path, write_arrays: WriteArrays, write_hdf5: WriteHDF5
) -> None:
    files = {
        "arrays": write_arrays().rename(tmp_path / "one.h5"),
        "pdebench": burgers_file(write_hdf5, "two.pt"),
        "neuraloperator": darcy_file(tmp_path / "three.yaml"),
        "car_cfd": tmp_path / "seven.zarr",
        "pdearena": smoke_specimen("five.hdf").write(tmp_path),
        "the_well": well_specimen("four.npy").write(tmp_path),
        "xarray": tmp_path / "six.pt",
        "particles": write_particles(tmp_path / "eleven.vtu", arrays_of()),
        "anemoi": tmp_path / "twelve.nc",
        "pdearena_shallow_water": tmp_path / "ten.nc",
        "vtk": tmp_path / "eight.vtu",
        "curator": write_curator(tmp_path / "curator", "npz").rename(tmp_path / "nine.npy"),
    }
    files["physicsnemo_mesh"] = write_physicsnemo(tmp_path / "ten.h5", {"points": CORNERS, "point_data/p": np.ones(5)})
    files["crash_mesh"] = write_crash(tmp_path / "eleven.npz", crash_arrays())
    assert files.keys() == SOURCES.keys()
    car_folder(files["car_cfd"])
    weather().to_netcdf(files["xarray"])
    with xarray.open_dataset(write_run(tmp_path / "run", 1), decode_times=False) as run:
        run.to_zarr(files["pdearena_shallow_water"], zarr_format=2)
    write_anemoi(files["anemoi"])
    with_data(plane()).save(files["vtk"])
    for name, path in files.items():
        options = {"time_step": 1.0} if name == "crash_mesh" else {}
        assert open_source([path], options=options).format == name
        recognising = {known for known, source in SOURCES.items() if source.recognises(path)}
        assert recognising - {name} <= {known for known, source in SOURCES.items() if source.is_general}
        assert name in recognising


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 100, b"hello\n", b"PK\x03\x04", b"\x93NUMPY", b"fields\xff:\n"])
def test_recognising_never_raises(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    found = [name for name, source in SOURCES.items() if source.recognises(tmp_path / "a")]
    assert found == (["arrays"] if content.startswith(b"\x93NUMPY") else [])


@pytest.mark.parametrize(
    ("name", "hint"),
    [("a.dat", ""), ("a.pt", " Its name looks like 'neuraloperator': --format neuraloperator tells what is missing.")],
)
def test_an_unknown_file_is_told_what_is_known(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / name).write_text("hello")
    with pytest.raises(UnknownFormatError) as raised:
        open_source([tmp_path / name])
    assert f"{name} is in no format that is known here.{hint} Supported are arrays: NumPy" in str(raised.value)
    assert "pdebench: PDEBench .hdf5/.h5 files" in str(raised.value)


def test_an_unknown_hdf5_file_is_told_the_nearest_format(write_hdf5: WriteHDF5) -> None:
    for datasets, attributes, nearest in [
        ({"tensors": np.ones(3), "x_coordinate": np.ones(3)}, {}, "pdebench"),
        ({"dimension/x": np.ones(3), "t0_field/u": np.ones(3)}, {"grid_type": "cartesian"}, "the_well"),
        ({"training/u": np.ones(3), "train/vz": np.ones(3)}, {}, "pdearena"),
    ]:
        path = write_hdf5("unknown.h5", datasets, attributes)
        with pytest.raises(UnknownFormatError, match=f"It holds .*Nearest is '{nearest}': --format {nearest} tells"):
            open_source([path])
    path = write_hdf5("unknown.h5", {"q": np.ones(3)})
    with pytest.raises(UnknownFormatError, match=r"known here. It holds q. Supported are arrays"):
        open_source([path])


def test_a_file_of_two_formats_lists_both(write_hdf5: WriteHDF5) -> None:
    path = burgers_file(write_hdf5, "both.h5")
    with h5py.File(path, "r+") as file:
        for name in ("u", "vx", "vy"):
            file[f"train/{name}"] = np.ones((1, 2, 3, 4))
    with pytest.raises(UnknownFormatError, match="may be pdearena or pdebench; say which with --format"):
        open_source([path])
    assert open_source([path], "pdebench").format == "pdebench"


def test_paths_are_checked_first(tmp_path: Path, write_arrays: WriteArrays) -> None:
    path = write_arrays()
    for paths, message in [
        ([], "no source was given"),
        ([tmp_path], "is a directory, and no format's data set; name the files in it"),
        ([tmp_path / "mad.yaml"], "mad.yaml is not there. Did you mean 'made.yaml'"),
        ([tmp_path / "nowhere" / "made.yaml"], "made.yaml is not there$"),
        ([path, path], "every file can be given once"),
    ]:
        with pytest.raises(SourceError, match=message):
            open_source(paths)
    path.write_text("")
    with pytest.raises(SourceError, match=r"made.yaml is empty"):
        open_source([path])


def test_formats_are_not_mixed(tmp_path: Path, write_hdf5: WriteHDF5) -> None:
    paths = [burgers_file(write_hdf5, "a.h5"), darcy_file(tmp_path / "b.pt")]
    with pytest.raises(UnknownFormatError, match=r"one format: a.h5 is pdebench, b.pt is neuraloperator"):
        open_source(paths)


def test_an_unknown_format_names_the_nearest(write_arrays: WriteArrays) -> None:
    with pytest.raises(UnknownFormatError, match=r"there is no format 'arays'. Did you mean 'arrays'\?"):
        open_source([write_arrays()], "arays")
