"""Opening and reading damaged, foreign and hostile stores: a typed error that names the file, or the very same bits."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ups_data
from tests.ups_data.storage.cases import make_store, plane
from tests.ups_data.storage.damage import edit_manifest, file_keys, replace_file, replace_table
from ups_data.errors import CorruptionError, SchemaError, StoreError, StoreNotFoundError, UpsDataError
from ups_data.schema import Manifest
from ups_data.storage.shard import encode_shard
from ups_data.storage.zarr_store import ZarrStore, partial_path
from ups_data.testing.store_contract import read_digest


@pytest.fixture(scope="module", params=["none", "blosc-zstd"])
def intact(request, tmp_path_factory) -> Path:
    return Path(make_store(plane(), tmp_path_factory.mktemp("intact") / "store", codec=request.param).location)


@pytest.fixture
def copy(intact, tmp_path) -> Path:
    return shutil.copytree(intact, tmp_path / "copy")


@pytest.fixture
def plain(tmp_path_factory, tmp_path) -> Path:
    """A store of the default codec, to be damaged."""
    return Path(make_store(plane(), tmp_path / "store").location)


def refusal_of(root: Path, digest: str) -> str | None:
    """Return the message with which a store is refused; None where it reads as it should."""
    try:
        found = read_digest(ups_data.open_store(root))
    except (CorruptionError, SchemaError) as error:
        return str(error)
    assert found == digest, "a damaged store reads something else without a word"
    return None


# -- flipped bits ------------------------------------------------------------------------------------------------


def test_flipped_bits_are_named_or_change_nothing(intact, copy):
    """Every file, bits all over it: first and last bytes, checksums, index, payload, metadata."""
    digest = read_digest(ups_data.open_store(intact))
    random = np.random.default_rng(11)
    caught = harmless = 0
    for key in file_keys(intact):
        content = (intact / key).read_bytes()
        size = len(content)
        places = {0, size // 2, size - 1, size - 5, size - 12, *random.integers(0, size, size=3).tolist()}
        for place in sorted(place for place in places if 0 <= place < size):
            flipped = bytearray(content)
            flipped[place] ^= 1 << int(random.integers(8))
            (copy / key).write_bytes(flipped)
            error = refusal_of(copy, digest)
            assert error is None or key in error, (key, place, error)
            caught, harmless = caught + (error is not None), harmless + (error is None)
        (copy / key).write_bytes(content)
    assert read_digest(ups_data.open_store(copy)) == digest
    assert caught > 120
    # Metadata of plain groups, and shard indices that fixed-size chunks do not need.
    assert harmless < caught / 2


def test_only_files_that_are_never_read_may_flip_unseen(plain):
    digest = read_digest(ups_data.open_store(plain))
    unseen = set()
    for key in file_keys(plain):
        content = (plain / key).read_bytes()
        flipped = bytearray(content)
        flipped[0] ^= 1
        (plain / key).write_bytes(flipped)
        if refusal_of(plain, digest) is None:
            unseen.add(key)
        (plain / key).write_bytes(content)
    assert unseen == {"zarr.json", "pages/zarr.json", "trajectories/zarr.json"}


def test_every_flipped_bit_of_a_manifest_is_refused(plain):
    content, intact = (plain / "manifest.json").read_bytes(), ups_data.open_store(plain).manifest
    random = np.random.default_rng(5)
    for place in random.integers(0, len(content), size=150).tolist():
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(random.integers(8))
        (plain / "manifest.json").write_bytes(flipped)
        if says_the_same(bytes(flipped), content):
            assert ups_data.open_store(plain).manifest == intact
            continue
        with pytest.raises((SchemaError, CorruptionError), match=r"manifest\.json"):
            ups_data.open_store(plain)


def says_the_same(flipped: bytes, content: bytes) -> bool:
    """Return whether other text is the same JSON: 1E-5 for 1e-5, or a digit beyond what a float holds."""
    try:
        return bool(json.loads(flipped) == json.loads(content))
    except ValueError:
        return False


def test_the_hash_of_every_file_binds_it(copy):
    """What `validate` relies on: read_file refuses each file with one flipped bit, groups and indices included."""
    store = ups_data.open_store(copy)
    for entry in store.manifest.files:
        path = copy / entry.key
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(CorruptionError, match=f"{entry.key} is not the file that was committed"):
            ZarrStore(copy).read_file(entry) if "zarr.json" not in entry.key else store.read_file(entry)
        path.write_bytes(content)


# -- missing, truncated, emptied, swapped ---------------------------------------------------------------------------


def shard_keys(root: Path) -> list[str]:
    return [key for key in file_keys(root) if "/c/" in key]


def test_a_missing_file_is_named(copy):
    for key in set(file_keys(copy)) - {"manifest.json"}:
        content = (copy / key).read_bytes()
        (copy / key).unlink()
        with pytest.raises(CorruptionError, match=f"{key} is missing"):
            ups_data.open_store(copy)
        (copy / key).write_bytes(content)


def test_a_truncated_or_longer_shard_is_named(copy):
    for key in shard_keys(copy):
        content = (copy / key).read_bytes()
        for size in {0, 1, len(content) // 2, len(content) - 5, len(content) - 1}:
            (copy / key).write_bytes(content[:size])
            with pytest.raises(CorruptionError, match=rf"{key} has {size} bytes, {len(content)} were committed"):
                ups_data.open_store(copy)
        (copy / key).write_bytes(content + b"\0")
        with pytest.raises(CorruptionError, match=f"{key} has"):
            ups_data.open_store(copy)
        (copy / key).write_bytes(content)


def test_a_shard_cut_or_removed_while_the_store_is_open_is_named(copy):
    store = ups_data.open_store(copy)
    key = store.arrays["pages/values"].spec.shard_key(0)
    size = (copy / key).stat().st_size
    os.truncate(copy / key, size // 2)
    with pytest.raises(CorruptionError, match=key):
        read_digest(store)
    (copy / key).unlink()
    store._bytes.close()
    with pytest.raises(CorruptionError, match=f"{key} is missing"):
        store.read_page_values(0, [0], np.array([0]), (0,))


def test_swapped_tables_are_refused(plain):
    first, second = (plain / "trajectories" / name / "c" / "0" for name in ("num_frames", "num_points"))
    one, other = first.read_bytes(), second.read_bytes()
    assert len(one) == len(other)
    first.write_bytes(other)
    second.write_bytes(one)
    with pytest.raises(CorruptionError, match="is not the file that was committed"):
        ups_data.open_store(plain)


def test_swapped_shards_are_told_by_their_hashes(tmp_path):
    """Chunk checksums hold in another place too; the manifest's hashes, which `validate` compares, do not."""
    source = plane()
    many = type(source).grid([np.tile(array, (60, 1, 1, 1)) for array in source.frames], fields=source.fields)
    root = Path(make_store(many, tmp_path / "s", shard_mib=1).location)
    first, second = (root / f"fields/c/{number}/0/0/0" for number in range(2))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    store = ups_data.open_store(root)
    wrong = [entry.key for entry in store.manifest.files if entry.key.startswith("fields/c/")][:2]
    for entry in store.manifest.files:
        if entry.key in wrong:
            with pytest.raises(CorruptionError, match=f"{entry.key} is not the file that was committed"):
                store.read_file(entry)


def test_a_pipe_or_directory_in_place_of_a_file_is_refused_and_does_not_hang(plain):
    key = shard_keys(plain)[0]
    (plain / key).unlink()
    os.mkfifo(plain / key)
    with pytest.raises(CorruptionError, match=f"{key} is no regular file"):
        ups_data.open_store(plain)
    (plain / key).unlink()
    (plain / key).mkdir()
    with pytest.raises(CorruptionError, match=f"{key} is no regular file"):
        ups_data.open_store(plain)


# -- what is no store ------------------------------------------------------------------------------------------------


def test_a_path_without_store_is_not_found(tmp_path):
    with pytest.raises(StoreNotFoundError, match=r"there is no store at .*nowhere$"):
        ups_data.open_store(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        ups_data.open_store(str(tmp_path / "nowhere"))


def test_an_unfinished_conversion_is_hinted_at(tmp_path):
    partial_path(tmp_path / "store").mkdir()
    with pytest.raises(
        StoreNotFoundError, match=r"\.store\.partial holds a conversion that did not finish: run it again"
    ):
        ups_data.open_store(tmp_path / "store")


def test_a_foreign_directory_is_no_store(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreNotFoundError, match=r"holds no manifest\.json, so it is no finished store"):
        ups_data.open_store(tmp_path)


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "data.h5").write_bytes(b"\x89HDF")
    with pytest.raises(StoreNotFoundError, match=r"data\.h5 is a file, and a store is a directory"):
        ups_data.open_store(tmp_path / "data.h5")


def test_a_store_without_manifest_is_no_store(plain):
    (plain / "manifest.json").unlink()
    with pytest.raises(StoreNotFoundError, match=r"holds no manifest\.json"):
        ups_data.open_store(plain)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"name": "a web application"}'])
def test_a_foreign_manifest_is_refused(plain, content):
    (plain / "manifest.json").write_bytes(content)
    with pytest.raises((SchemaError, CorruptionError), match=r"manifest\.json"):
        ups_data.open_store(plain)


def test_a_store_that_was_replaced_does_not_unpickle(plain):
    packed = pickle.dumps(ups_data.open_store(plain))
    edit_manifest(plain, lambda manifest: manifest.update(name="another"))
    with pytest.raises(CorruptionError, match="was replaced by another store"):
        pickle.loads(packed)


# -- tampered manifests and tables -----------------------------------------------------------------------------------


def test_a_manifest_that_was_edited_is_refused(plain):
    edit_manifest(plain, lambda manifest: manifest.update(name="edited"), sign=False)
    with pytest.raises(SchemaError, match="was changed after it was written"):
        ups_data.open_store(plain)


def test_a_manifest_with_reordered_keys_is_refused(plain):
    """Split codes count in the order of `splits`: sorting the keys would exchange train and test."""
    path = plain / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True, indent=2))
    with pytest.raises(SchemaError, match="was changed after it was written"):
        ups_data.open_store(plain)


def test_a_manifest_that_was_only_indented_anew_opens(plain):
    path = plain / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4))
    assert len(ups_data.open_store(plain)) == 3


@pytest.mark.parametrize(
    "key",
    [
        "../outside",
        "/etc/passwd",
        "pages/../../outside",
        "pages//values",
        "./pages",
        "pages\\values",
        "pages/\0",
        "%2e%2e/outside",
        "",
        "pages/",
        "file:///etc/passwd",
    ],
)
def test_file_keys_that_leave_the_store_are_refused_before_anything_is_opened(plain, key):
    edit_manifest(plain, lambda manifest: manifest["files"][0].update(key=key))
    opened: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and watching:
            opened.append(str(arguments[0]))

    watching = True
    sys.addaudithook(watch)
    try:
        with pytest.raises(SchemaError, match=r"files\.0\.key"):
            ups_data.open_store(plain)
    finally:
        watching = False
    assert {Path(path).name for path in opened} <= {"manifest.json"}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(extra=1), "at extra"),
        (lambda m: m["layout"].update(extra=1), r"at layout\.extra"),
        (lambda m: m.pop("codec"), "at codec"),
        (lambda m: m.update(codec="gzip"), "at codec"),
        (lambda m: m.update(num_frames="9"), "at num_frames"),
        (lambda m: m.update(num_frames=2**70), "at num_frames"),
        (lambda m: m.update(num_points=-1), "at num_points"),
        (lambda m: m["files"][0].update(size_bytes=-1), r"at files\.0\.size_bytes"),
        (lambda m: m["files"][0].update(sha256="zz"), r"at files\.0\.sha256"),
        (lambda m: m["files"].append(m["files"][0]), "listed once"),
        (lambda m: m["splits"].update(extra=1), "must add up"),
        (lambda m: m["geometry"]["axes"][0].update(upper=-1.0), "must be less than"),
        (lambda m: m.update(version=3), "version 3; this release reads 'ups-data' version 1 and 2"),
        (lambda m: m.update(version=2), "off_grid stands in manifests of version 2"),
        (lambda m: m.update(off_grid=None), "at off_grid: the key is left out"),
        (lambda m: m.update(format="other"), "declares format 'other'"),
    ],
)
def test_a_signed_manifest_that_breaks_the_schema_is_refused(plain, edit, message):
    edit_manifest(plain, edit)
    with pytest.raises(SchemaError, match=message):
        ups_data.open_store(plain)


def test_a_file_that_the_manifest_leaves_out_is_refused(plain):
    for key in ("pages/values/zarr.json", "pages/values/c/0/0/0", "trajectories/times/c/0"):
        content = (plain / "manifest.json").read_text()
        edit_manifest(plain, lambda m, key=key: m.update(files=[e for e in m["files"] if e["key"] != key]))
        with pytest.raises(CorruptionError, match="manifest"):
            ups_data.open_store(plain)
        (plain / "manifest.json").write_text(content)


def test_totals_that_disagree_with_the_tables_are_refused(plain):
    edit_manifest(plain, lambda manifest: manifest.update(num_frames=10))
    with pytest.raises(CorruptionError, match=r"hold \(3, 9, 1224\) trajectories, frames and points"):
        ups_data.open_store(plain)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("num_frames", lambda v: v * 0 + [10, -2, 1], "num_frames is not positive"),
        ("num_points", lambda v: v * 0 + [2**40, 408, 408], "hold"),
        ("split", lambda v: (v * 0).astype("uint8"), "split holds"),
        ("split", lambda v: (v * 0 + 255).astype("uint8"), "split holds"),
        ("stratum_pages", lambda v: v + 1, "stratum_pages does not add up"),
        ("stratum_pages", lambda v: -v, "stratum_pages does not add up"),
        ("geometry", lambda v: v + 7, "geometry and geometry_shape do not fit"),
        ("geometry", lambda v: v - 1, "geometry and geometry_shape do not fit"),
        ("geometry_shape", lambda v: v[:, ::-1] * 2, "does not add up to the axis_nodes"),
        ("geometry_shape", lambda v: v * [[0, 1]], "geometry_shape is not positive"),
    ],
)
def test_signed_tables_that_make_no_store_are_refused(plain, name, change, message):
    table = getattr(ups_data.open_store(plain).tables, name)
    replace_table(plain, name, change(table).astype(table.dtype))
    with pytest.raises(CorruptionError, match=message):
        ups_data.open_store(plain)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2**32, 2**32]},
        {"shape": [3, 1, 1]},
        {"shape": "three"},
        {"shape": [-3]},
        {"shape": [3.0]},
        {"shape": [4]},
        {"shape": [2**62]},
        {"data_type": "object"},
        {"data_type": "float64"},
        {"data_type": "string"},
    ],
    ids=str,
)
def test_signed_table_metadata_that_lie_are_refused(plain, change):
    content = json.loads((plain / "trajectories/num_frames/zarr.json").read_text())
    replace_file(plain, "trajectories/num_frames/zarr.json", json.dumps({**content, **change}).encode())
    with pytest.raises(CorruptionError, match="trajectories/num_frames"):
        ups_data.open_store(plain)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000], ids=["empty", "list", "cut", "deep"])
def test_signed_metadata_that_are_no_object_are_refused(plain, text):
    replace_file(plain, "pages/values/zarr.json", text.encode())
    with pytest.raises(CorruptionError, match=r"pages/values/zarr\.json"):
        ups_data.open_store(plain)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2**62, 3, 8]},
        {"shape": [0, 3, 8]},
        {"shape": None},
        {"data_type": "|O"},
        {"data_type": "string"},
        {"data_type": "float16"},
        {"codecs": []},
        {"codecs": [{"name": "vlen-utf8", "configuration": {}}]},
        {"node_type": "group"},
        {"zarr_format": 2},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**34, 3, 8]}}},
        {"dimension_names": None},
    ],
    ids=str,
)
def test_signed_array_metadata_that_lie_are_refused(plain, change):
    content = json.loads((plain / "pages/values/zarr.json").read_text())
    replace_file(plain, "pages/values/zarr.json", json.dumps({**content, **change}).encode())
    with pytest.raises(CorruptionError, match="pages/values"):
        ups_data.open_store(plain)


def test_a_page_index_that_points_nowhere_is_refused(plain):
    """A page index is data; a writer's mistake in it must not become a read of the wrong point."""
    store = ups_data.open_store(plain)
    spec = store.arrays["pages/index"].spec
    rows = store.arrays["pages/index"].read_rows(np.arange(spec.num_rows)).copy()
    rows[0, 0] = 408
    replace_file(plain, spec.shard_key(0), encode_shard(spec, rows))
    with pytest.raises(UpsDataError, match=r"pages/index"):
        ups_data.open_store(plain).read_page_points(0, np.array([0]))


def test_store_errors_are_operating_system_errors():
    assert issubclass(StoreError, OSError)
    assert Manifest.model_config["frozen"]
