"""What sources of HDF5 files have in common: only the frames asked for are read, files of one data set agree."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from preprocess.sources import open_source
from tests.preprocess.sources.specimens import HDF5Specimen, kuramoto_specimen, smoke_specimen, well_specimen
from ups_data.errors import SourceError


def damage_last_chunk(specimen: HDF5Specimen, item: str, folder: Path) -> Path:
    """Write a data set with a chunk and a checksum a frame, and spoil the one of the last frame."""
    path = specimen.write(folder)
    values = specimen.datasets[item]
    with h5py.File(path, "r+") as file:
        attributes = dict(file[item].attrs)
        del file[item]
        dataset = file.create_dataset(item, data=values, chunks=(1, 1, *values.shape[2:]), fletcher32=True)
        dataset.attrs.update(attributes)
        place = dataset.id.get_chunk_info(dataset.id.get_num_chunks() - 1).byte_offset
    with path.open("r+b") as raw:
        raw.seek(place)
        raw.write(b"\x11" * 8)
    return path


@pytest.mark.parametrize(
    ("specimen", "item"),
    [
        (smoke_specimen(), "train/vx"),
        (kuramoto_specimen(), "train/pde_4-8"),
        (well_specimen(), "t1_fields/velocity"),
    ],
    ids=["smoke", "kuramoto", "well"],
)
def test_only_the_frames_asked_for_are_read(tmp_path: Path, specimen: HDF5Specimen, item: str) -> None:
    sound = open_source([specimen.write(tmp_path / "sound")])
    source = open_source([damage_last_chunk(specimen, item, tmp_path)])
    for trajectory in range(2):
        np.testing.assert_array_equal(source.read_frames(trajectory, 0, 4), sound.read_frames(trajectory, 0, 4))
    np.testing.assert_array_equal(source.read_frames(2, 0, 3), sound.read_frames(2, 0, 3))
    with pytest.raises(SourceError, match=rf"{specimen.name}: {item} cannot be read; the file is damaged or cut short"):
        source.read_frames(2, 2, 4)


def test_files_of_different_problems_are_refused(tmp_path: Path) -> None:
    paths = [specimen.write(tmp_path) for specimen in (smoke_specimen(), kuramoto_specimen())]
    with pytest.raises(
        SourceError, match=r"KS_train.h5 and NavierStokes2D.* hold different problems; convert them one"
    ):
        open_source(paths)


def test_integers_that_no_float_holds_are_refused_where_they_stand(tmp_path: Path) -> None:
    specimen = kuramoto_specimen()
    values = np.zeros((3, 4, 8), dtype="int64")
    values[1, 2, 3] = 2**53 + 1
    specimen.datasets["train/pde_4-8"] = values
    source = open_source([specimen.write(tmp_path)])
    assert source.dtype == np.float64
    with pytest.raises(SourceError, match=r"train/pde_4-8 holds the integer 9007199254740993 at .* beyond 2\*\*53"):
        source.read_frames(1, 0, 4)
