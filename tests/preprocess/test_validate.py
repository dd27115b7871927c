"""Validation: sound stores of every geometry pass, and every damage is named, also that which carries valid hashes."""

from __future__ import annotations

import hashlib
import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from preprocess.validate import CHECKS, validate
from tests.memory_source import MemorySource, wave_frames
from tests.ups_data.storage.cases import CODECS, GEOMETRIES, make_store, plane, scattered
from tests.ups_data.storage.damage import file_keys
from ups_data.errors import StoreNotFoundError
from ups_data.storage import ZarrStore


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> Path:
    """A store on a grid, pages of 8 points, 51 pages in 3 strata, several shards."""
    return Path(make_store(plane(), tmp_path_factory.mktemp("intact") / "store", page_points=8, num_strata=3).location)


@pytest.fixture(scope="module")
def intact_cloud(tmp_path_factory) -> Path:
    """A store of scattered points with padding on its last pages."""
    return Path(make_store(scattered(), tmp_path_factory.mktemp("cloud") / "store", page_points=8).location)


@pytest.fixture
def copy(intact, tmp_path) -> Path:
    return shutil.copytree(intact, tmp_path / "copy")


@pytest.fixture
def cloud_copy(intact_cloud, tmp_path) -> Path:
    return shutil.copytree(intact_cloud, tmp_path / "cloud")


def problem_of(root: Path) -> str:
    """Return all problems of a store that must have some."""
    report = validate(root)
    assert not report.ok
    assert report.problems
    assert json.loads(json.dumps(report.to_dict()))["ok"] is False
    return "\n".join(report.problems)


# -- sound stores --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GEOMETRIES)
def test_sound_stores_pass_every_check(name, tmp_path):
    for codec in CODECS if name in {"plane", "scattered_ragged"} else ("none",):
        store = make_store(GEOMETRIES[name]("float32"), tmp_path / codec, codec=codec)
        report = validate(tmp_path / codec)
        assert report.problems == ()
        assert report.ok
        assert tuple(report.checks) == CHECKS
        assert report.checks["files"] == len(store.manifest.files)
        values = sum(store.num_points(n) * store.num_frames(n) for n in range(len(store)))
        assert report.checks["values"] == values * len(store.manifest.channel_names)
        assert json.loads(json.dumps(report.to_dict()))["ok"] is True


def test_rebuilt_frames_float64_and_a_store_without_train_split_pass(tmp_path):
    make_store(plane("float64"), tmp_path / "rebuilt", dense="rebuilt")
    source = MemorySource.grid([wave_frames((9, 9), seed=seed) for seed in range(2)], splits=["valid", "test"])
    make_store(source, tmp_path / "no_train")
    assert validate(tmp_path / "rebuilt").ok
    assert validate(tmp_path / "no_train").ok


def test_progress_counts_files_and_trajectories(intact):
    calls: list[tuple[str, int, int]] = []
    validate(intact, progress=lambda what, done, total: calls.append((what, done, total)))
    files = len(file_keys(intact)) - 1
    assert ("files", 0, files) in calls
    assert ("files", files, files) in calls
    assert [call for call in calls if call[0] == "trajectories"] == [("trajectories", n, 3) for n in range(4)]


def test_memory_holds_a_frame_and_not_a_trajectory(tmp_path):
    frames = np.concatenate([wave_frames((96, 96), num_frames=5)] * 40)
    make_store(MemorySource.grid([frames]), tmp_path / "long")
    tracemalloc.start()
    try:
        assert validate(tmp_path / "long").ok
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < frames.nbytes / 2


# -- nothing there -------------------------------------------------------------------------------------------------


def test_nothing_to_validate_is_not_found(copy, tmp_path):
    with pytest.raises(StoreNotFoundError, match=r"there is no store at .*nowhere"):
        validate(tmp_path / "nowhere")
    (copy / "manifest.json").unlink()
    with pytest.raises(StoreNotFoundError, match=r"copy holds no manifest\.json"):
        validate(copy)


# -- bytes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["none", "blosc-zstd"])
def test_a_flipped_bit_in_any_file_is_named(codec, tmp_path):
    for make in (plane, scattered):
        root = Path(make_store(make(), tmp_path / make.__name__, codec=codec).location)
        random = np.random.default_rng(3)
        for key in file_keys(root):
            content = bytearray((root / key).read_bytes())
            place = int(random.integers(len(content)))
            content[place] ^= 1 << int(random.integers(8))
            (root / key).write_bytes(content)
            assert key in problem_of(root), (key, place)
            content[place : place + 1] = _other_bytes(root, key, content, place)
            (root / key).write_bytes(content)
    assert len(file_keys(root)) > 25


def _other_bytes(root: Path, key: str, content: bytearray, place: int) -> bytes:
    """Return the byte that makes the file whole again, found by the hash of the manifest."""
    original = bytearray(content)
    if key == "manifest.json":
        # No other file holds its hash: try each byte until the store is sound.
        for value in range(256):
            original[place] = value
            (root / key).write_bytes(original)
            if validate(root).ok:
                return bytes([value])
    stated = {entry.key: entry.sha256 for entry in ZarrStore.__new__(ZarrStore).manifest.files}
    for value in range(256):
        original[place] = value
        if hashlib.sha256(original).hexdigest() == stated[key]:
            return bytes([value])
    raise AssertionError(f"{key} cannot be mended")
