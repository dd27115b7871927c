"""Validation: sound stores of every geometry pass, and every damage is named, also that which carries valid hashes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from preprocess.validate import CHECKS, validate
from tests.memory_source import MemorySource, wave_frames
from tests.ups_data.storage.cases import CODECS, GEOMETRIES, make_store, plane, scattered
from tests.ups_data.storage.damage import edit_manifest, file_keys, replace_file, replace_table, rewrite_rows
from ups_data.errors import StoreNotFoundError
from ups_data.storage import ZarrStore


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> Path:
    """A store on a grid with padding on its last pages: 408 points on 26 pages of 16, in 3 strata."""
    return Path(make_store(plane(), tmp_path_factory.mktemp("intact") / "store", page_points=16, num_strata=3).location)


@pytest.fixture(scope="module")
def intact_cloud(tmp_path_factory) -> Path:
    """A store of scattered points with padding on its last pages: 150 points on 10 pages of 16, in one stratum."""
    return Path(make_store(scattered(), tmp_path_factory.mktemp("cloud") / "store", page_points=16).location)


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
        frames = [sum(len(store.block_frames(n, b)) for b in range(store.num_blocks(n))) for n in range(len(store))]
        values = sum(store.num_points(n) * count for n, count in enumerate(frames))
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
    make_store(MemorySource.grid([frames]), tmp_path / "long", page_points=256)
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
@pytest.mark.parametrize("make", [plane, scattered])
def test_a_flipped_bit_in_any_file_is_named(make, codec, tmp_path):
    root = Path(make_store(make(), tmp_path / "store", codec=codec).location)
    random = np.random.default_rng(3)
    keys = file_keys(root)
    for key in keys:
        content = (root / key).read_bytes()
        for place in (0, len(content) - 1, int(random.integers(len(content)))):
            flipped = bytearray(content)
            flipped[place] ^= 1 << int(random.integers(8))
            (root / key).write_bytes(flipped)
            assert key in problem_of(root), (key, place)
        (root / key).write_bytes(content)
    assert len(keys) > 25
    assert validate(root).ok


def test_a_missing_a_truncated_and_a_longer_file_are_named(copy):
    for key in set(file_keys(copy)) - {"manifest.json"}:
        content = (copy / key).read_bytes()
        for size in {0, len(content) // 2, len(content) - 1}:
            (copy / key).write_bytes(content[:size])
            assert f"{key} has {size} bytes, {len(content)} were committed" in problem_of(copy)
        (copy / key).write_bytes(content + b"\0")
        assert f"{key} has {len(content) + 1} bytes" in problem_of(copy)
        (copy / key).unlink()
        assert f"{key} is missing" in problem_of(copy)
        (copy / key).write_bytes(content)


def test_all_damaged_files_are_named_at_once(copy):
    damaged = [key for key in file_keys(copy) if "/c/" in key][:6]
    for key in damaged:
        (copy / key).unlink()
    problems = problem_of(copy)
    assert all(f"{key} is missing" in problems for key in damaged)
    assert "the store does not open, so its arrays were not looked at" in problems


def test_many_problems_are_counted_and_not_listed(copy):
    for number in range(50):
        (copy / f"note{number}.txt").touch()
    report = validate(copy)
    assert len(report.problems) == 21
    assert report.problems[-1] == "files: and 30 more problems like these"


def test_swapped_shards_are_named(tmp_path):
    """Each chunk's checksum holds in the other file too; only the manifest binds content to name."""
    frames = [np.tile(wave_frames((64, 64), seed=seed), (60, 1, 1, 1)) for seed in range(2)]
    frames = [array * (1 + 0.01 * np.arange(len(array), dtype="float32")[:, None, None, None]) for array in frames]
    root = Path(make_store(MemorySource.grid(frames), tmp_path / "store", shard_mib=1).location)
    first, second = (root / f"fields/c/{number}/0/0/0" for number in range(2))
    assert first.stat().st_size == second.stat().st_size
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    problems = problem_of(root)
    assert "fields/c/0/0/0/0 is not the file that was committed" in problems
    assert "fields/c/1/0/0/0 is not the file that was committed" in problems
    assert "pages/values holds" in problems


@pytest.mark.parametrize("place", ["notes.txt", "pages/values/c/9", ".hidden/x", "pages/values/c/0/0/.0.staged"])
def test_a_foreign_file_is_named(copy, place):
    (copy / place).parent.mkdir(parents=True, exist_ok=True)
    (copy / place).write_text("mine")
    assert f"{place} does not belong to the store" in problem_of(copy)


def test_a_foreign_link_is_named_and_not_followed(copy, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (copy / "link").symlink_to(tmp_path / "elsewhere")
    problems = problem_of(copy)
    assert "link does not belong to the store" in problems
    assert "elsewhere" not in problems


def test_a_pipe_is_refused_and_does_not_hang(copy):
    key = "pages/index/c/0/0"
    (copy / key).unlink()
    os.mkfifo(copy / key)
    assert f"{key} is no regular file" in problem_of(copy)


def test_a_chunk_whose_file_has_a_valid_hash_is_checked_all_the_same(copy):
    for key in ("pages/values/c/0/0/0", "pages/index/c/0/0", "pages/importance/c/0/0", "fields/c/0/0/0/0"):
        content = (copy / key).read_bytes()
        replace_file(copy, key, bytes([content[0] ^ 1]) + content[1:])
        assert f"{key} row 0: checksum mismatch" in problem_of(copy)
        replace_file(copy, key, content)
    assert validate(copy).ok


def test_a_shard_index_that_is_never_read_is_checked_all_the_same(copy):
    """Chunks of fixed size are found without their index, other readers of Zarr need it."""
    key = "pages/values/c/0/0/0"
    content = bytearray((copy / key).read_bytes())
    content[-20] ^= 1
    replace_file(copy, key, bytes(content))
    assert f"{key}: checksum of the shard index does not match" in problem_of(copy)


# -- manifest and tables -------------------------------------------------------------------------------------------


def test_an_edited_manifest_is_named(copy):
    edit_manifest(copy, lambda manifest: manifest.update(name="edited"), sign=False)
    assert "manifest.json was changed after it was written" in problem_of(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"format": "other"}'])
def test_a_manifest_that_is_none_is_named(copy, content):
    (copy / "manifest.json").write_bytes(content)
    report = validate(copy)
    assert "manifest.json" in report.problems[0]
    assert tuple(report.checks) == ("manifest",)


def test_a_listed_file_that_belongs_to_no_array_is_named(copy):
    (copy / "payload.bin").write_bytes(b"x")
    entry = {"key": "payload.bin", "size_bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    edit_manifest(copy, lambda manifest: manifest["files"].append(entry))
    assert "payload.bin is listed by the manifest, but belongs to no array of the store" in problem_of(copy)


def test_a_file_that_the_manifest_leaves_out_is_named(copy):
    edit_manifest(copy, lambda m: m.update(files=[e for e in m["files"] if e["key"] != "pages/zarr.json"]))
    problems = problem_of(copy)
    assert "pages/zarr.json does not belong to the store" in problems
    assert "pages/zarr.json belongs to the store, but the manifest does not list it" in problems


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(num_frames=8), "frames and points, its manifest"),
        (lambda m: m["geometry"].update(shape=[17, 24]), "does not open"),
        (lambda m: m["layout"].update(page_points=8), "does not open"),
        (lambda m: m["geometry"]["axes"][0].update(upper=0.5), "axis 'x' runs from"),
        (lambda m: m["splits"].update(train=1, valid=1, test=1), None),
        (lambda m: m.update(splits={"test": 1, "valid": 1, "train": 1}), "statistics: min of channel"),
        (lambda m: m.update(statistics_split=None), "statistics_split is None, the splits are train, valid, test"),
        (lambda m: m["parameters"].append({"name": "nu"}), "0 parameters stand in the tables, the manifest names 1"),
    ],
)
def test_a_manifest_that_lies_with_a_valid_fingerprint_is_found_out(copy, edit, message):
    edit_manifest(copy, edit)
    if message is None:
        assert validate(copy).ok
    else:
        assert message in problem_of(copy)


@pytest.mark.parametrize(
    ("key", "factor"),
    [("mean", 1 + 1e-6), ("std", 1 + 1e-8), ("rms", 1 + 1e-8), ("min", 1 + 1e-7), ("max", 1 + 1e-7)]
    + [(f"delta_{name}", 1 + 1e-4) for name in ("mean", "std", "rms", "min", "max")],
)
def test_statistics_that_lie_are_found_out(copy, key, factor):
    edit_manifest(copy, lambda m: m["statistics"][1].update({key: m["statistics"][1][key] * factor}))
    assert f"statistics: {key} of channel velocity.y is" in problem_of(copy)


def test_statistics_of_another_number_of_values_and_without_changes_are_found_out(copy):
    edit_manifest(copy, lambda m: m["statistics"][0].update(count=7, delta_rms=None))
    problems = problem_of(copy)
    assert "count of channel velocity.x is" in problems
    assert "delta_rms of channel velocity.x is" in problems


def test_statistics_of_parameters_that_lie_are_found_out(tmp_path):
    frames = [wave_frames((9, 9), seed=seed) for seed in range(2)]
    make_store(MemorySource.grid(frames, parameters=[{"nu": 0.1}, {"nu": 0.3}]), tmp_path / "store")
    assert validate(tmp_path / "store").ok
    edit_manifest(tmp_path / "store", lambda m: m["parameters"][0].update(mean=0.15))
    assert "mean of parameter nu is" in problem_of(tmp_path / "store")


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("times", lambda values: values[::-1].copy(), "times of trajectory 0 are not finite and strictly increasing"),
        ("axis_nodes", lambda values: values[::-1].copy(), "axis 'x' must increase strictly"),
        ("num_points", lambda values: values + 1, "the store does not open"),
        ("split", lambda values: np.roll(values, 1), "statistics: mean of channel velocity.x is"),
        ("stratum_mass", lambda values: values[:, ::-1].copy(), "strata have shares"),
    ],
)
def test_tables_that_lie_with_valid_hashes_are_found_out(copy, name, edit, message):
    replace_table(copy, name, edit(getattr(ZarrStore(copy).tables, name)))
    assert message in problem_of(copy)


# -- pages and values, rewritten with valid hashes -------------------------------------------------------------------


def padded_entry(root: Path) -> tuple[int, int]:
    """Return a page of the first trajectory whose last entry is padding, and its first padding entry."""
    store = ZarrStore(root)
    index = store.read_page_points(0, np.arange(store.layout(0).num_pages)).index.reshape(-1, 16)
    page = int(np.argmax(index[:, -1] < 0))
    assert index[page, -1] == -1
    return page, int(np.argmax(index[page] < 0))


def test_a_point_that_stands_twice_is_named(copy):
    index = ZarrStore(copy).arrays["pages/index"].read_rows(np.arange(2))
    kept, lost = index[0, 3], index[1, 2]
    rewrite_rows(copy, "pages/index", lambda rows: rows.__setitem__((1, 2), kept))
    problems = problem_of(copy)
    assert f"trajectory 0: point {kept} stands 2 times (page 0 entry 3, page 1 entry 2)" in problems
    assert f"point {lost} stands on no page" in problems


def test_exchanged_points_differ_from_the_dense_frames(copy):
    def exchange(rows):
        rows[[0, 20], 0] = rows[[20, 0], 0]

    rewrite_rows(copy, "pages/index", exchange)
    problems = problem_of(copy)
    assert "values: trajectory 0, frame 0, channel" in problems
    assert "and 5 other values differ" in problems


def test_a_point_id_out_of_range_is_named(copy):
    rewrite_rows(copy, "pages/index", lambda rows: rows.__setitem__((0, 0), 24 * 17))
    assert re.search(r"pages/index names points -?\d+ to 408 of trajectory 0, which has 408", problem_of(copy))


@pytest.mark.parametrize("name", ["copy", "cloud_copy"])
def test_padding_before_a_point_is_named(name, request):
    root = request.getfixturevalue(name)
    page, _ = padded_entry(root)
    rewrite_rows(root, "pages/index", lambda rows: rows.__setitem__(page, rows[page, ::-1].copy()))
    assert f"trajectory 0: page {page} has padding before a point" in problem_of(root)


def test_padding_in_a_full_stratum_is_named(copy):
    page, hole = padded_entry(copy)

    def move_a_point(rows):
        rows[page, hole], rows[0, -1] = rows[0, -1], -1

    rewrite_rows(copy, "pages/index", move_a_point)
    assert "trajectory 0: stratum 0 holds" in problem_of(copy)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pages/values", np.nan, "channel velocity.x, point .* holds nan"),
        ("pages/values", np.inf, "channel velocity.x, point .* holds inf"),
        ("pages/values", 1e-3, "channel velocity.x, point .*: pages/values holds 0.001"),
        ("fields", 1e-3, "channel velocity.x, point 0: pages/values holds .*, fields holds 0.001"),
        ("fields", np.nan, "channel velocity.x, point 0: pages/values holds .*, fields holds nan"),
        ("pages/importance", -1.0, "page 0 entry 0 holds -1.0, not finite or negative"),
        ("pages/importance", np.inf, "page 0 entry 0 holds inf, not finite or negative"),
        ("pages/importance", 1e6, "strata have shares"),
        ("pages/coordinates", 7.0, "entry 0 lies at .*, outside of"),
        ("pages/coordinates", np.nan, "entry 0 lies at .*, outside of"),
    ],
)
def test_a_value_changed_with_valid_hashes_is_named(copy, cloud_copy, key, value, message):
    root = cloud_copy if key == "pages/coordinates" else copy
    rewrite_rows(root, key, lambda rows: rows.reshape(-1).__setitem__(0, value))
    problems = problem_of(root)
    assert re.search(message, problems), problems


@pytest.mark.parametrize("key", ["pages/values", "pages/importance", "pages/coordinates"])
def test_padding_that_holds_something_is_named(cloud_copy, key):
    page, _ = padded_entry(cloud_copy)
    rewrite_rows(cloud_copy, key, lambda rows: rows[page].reshape(-1).__setitem__(-1, 0.5))
    assert re.search("padding (of pages/values )?has", problem_of(cloud_copy))


def test_a_sign_of_zero_is_a_difference(tmp_path):
    zeros = MemorySource.grid([np.zeros((2, 1, 8, 8), dtype="float32"), wave_frames((8, 8), num_frames=2)])
    make_store(zeros, tmp_path / "store")
    assert validate(tmp_path / "store").ok
    rewrite_rows(tmp_path / "store", "fields", lambda rows: rows[0].__setitem__(..., -0.0))
    assert "and 63 other values differ" in problem_of(tmp_path / "store")
