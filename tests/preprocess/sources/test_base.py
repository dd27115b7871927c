"""What every source says of a trajectory and of its files."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from preprocess.sources.base import TrajectoryInfo, fingerprint_file
from ups_data.errors import SourceError

MIB = 2**20


def test_sizes_follow_from_shape_and_times() -> None:
    info = TrajectoryInfo(item="u[0]", shape=(3, 4), times=np.arange(5.0))
    assert (info.num_frames, info.num_points) == (5, 12)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_a_trajectory_without_points_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SourceError, match=r"u\[0\]: shape .* holds no point"):
        TrajectoryInfo(item="u[0]", shape=shape, times=np.zeros(1))


@pytest.mark.parametrize("times", [[], [0.0, 0.0], [1.0, 0.0], [0.0, np.nan], [np.inf]])
def test_times_must_increase(times: list[float]) -> None:
    with pytest.raises(SourceError, match=r"u\[0\]: times must be finite and strictly increasing"):
        TrajectoryInfo(item="u[0]", shape=(2,), times=np.array(times, dtype=np.float64))


@pytest.mark.parametrize("size", [0, 5, MIB, MIB + 1, 3 * MIB])
def test_a_fingerprint_covers_both_ends(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(0).bytes(size)
    (tmp_path / "a").write_bytes(content)
    found = fingerprint_file(tmp_path / "a")
    assert (found.name, found.size_bytes) == ("a", size)
    assert found.sha256_ends == hashlib.sha256(content[:MIB] + content[max(0, size - MIB) :]).hexdigest()


def test_a_fingerprint_of_a_directory_covers_names_sizes_and_metadata(tmp_path: Path) -> None:
    (tmp_path / "a.zarr" / "c").mkdir(parents=True)
    (tmp_path / "a.zarr" / "zarr.json").write_bytes(b"{}")
    (tmp_path / "a.zarr" / "c" / "0").write_bytes(bytes(5))
    found = fingerprint_file(tmp_path / "a.zarr")
    assert (found.name, found.size_bytes) == ("a.zarr", 7)
    assert found.sha256_ends == hashlib.sha256(b"c/0\x005\x00zarr.json\x002\x00{}").hexdigest()
    (tmp_path / "a.zarr" / "zarr.json").write_bytes(b"[]")
    assert fingerprint_file(tmp_path / "a.zarr") != found
