"""Tar shards hold the same rows: read page by page by their index, on disk or far away, and never trusted."""

import hashlib
import io
import json
import os
import pickle
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

import ups_data
from preprocess.pack import pack
from tests.memory_source import MemorySource, wave_frames
from tests.ups_data.storage.cases import GEOMETRIES, make_store, plane, truth_of
from ups_data import RemoteOptions
from ups_data.errors import CorruptionError, SchemaError, StoreNotFoundError
from ups_data.storage import TarStore, ZarrStore
from ups_data.storage.byte_store import LocalByteStore
from ups_data.storage.tar_format import INDEX_DTYPE, NO_ARRAY, groups_of, npy_header, parse_group_name
from ups_data.storage.tar_writer import packed_specs, write_tar_store
from ups_data.testing.fault_server import serve_directory, serving
from ups_data.testing.store_contract import StoreContract, StoreTruth, check_processes, read_digest

QUICK = RemoteOptions(timeout_s=5.0, deadline_s=10.0, backoff_s=0.005, max_backoff_s=0.02, max_attempts=2)


def pack_small(source: Path, dest: Path, shard_bytes: int) -> TarStore:
    """Pack into tar files that are smaller than the command line allows."""
    store = ups_data.open_store(source)
    assert isinstance(store, ZarrStore)
    write_tar_store(store, dest, writer="tests", shard_bytes=shard_bytes, overwrite=False, progress=lambda *_: None)
    packed = ups_data.open_store(dest)
    assert isinstance(packed, TarStore)
    return packed


@pytest.fixture(scope="module")
def zarr_store(tmp_path_factory: pytest.TempPathFactory) -> ZarrStore:
    return make_store(plane(), tmp_path_factory.mktemp("zarr") / "s", codec="zstd", page_points=16)


@pytest.fixture(scope="module")
def packed(zarr_store: ZarrStore, tmp_path_factory: pytest.TempPathFactory) -> TarStore:
    """Three trajectories in two tar files."""
    return pack_small(Path(zarr_store.location), tmp_path_factory.mktemp("tar") / "s", 60_000)


@pytest.fixture
def copied(packed: TarStore, tmp_path: Path) -> Path:
    shutil.copytree(packed.location, tmp_path / "copy")
    return tmp_path / "copy"


# -- the same numbers ----------------------------------------------------------------------------------------------


class TestTarOnDisk(StoreContract):
    @pytest.fixture
    def store(self, packed: TarStore) -> ups_data.Store:
        return ups_data.open_store(packed.location)

    @pytest.fixture
    def truth(self, zarr_store: ZarrStore) -> StoreTruth:
        return truth_of(plane(), zarr_store)


class TestTarOnAWebServer(StoreContract):
    @pytest.fixture
    def store(self, packed: TarStore) -> Iterator[ups_data.Store]:
        with serving(serve_directory(Path(packed.location))) as server:
            yield ups_data.open_store(server.url, remote=QUICK)

    @pytest.fixture
    def truth(self, zarr_store: ZarrStore) -> StoreTruth:
        return truth_of(plane(), zarr_store)


@pytest.mark.parametrize("name", ["ragged", "scattered_ragged", "long", "ocean", "single_point"])
def test_any_store_goes_there_and_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    store = make_store(GEOMETRIES[name]("float32"), tmp_path / "s", codec="blosc-zstd", page_points=8)
    packed = pack_small(tmp_path / "s", tmp_path / "tar", 20_000)
    assert read_digest(packed) == read_digest(store)
    assert packed.manifest == store.manifest
    report = pack(str(tmp_path / "tar"), tmp_path / "back", to="zarr")
    assert report.identical
    assert files_below(tmp_path / "back") == files_below(tmp_path / "s")
    rows = {key: set() for key in packed_specs(store)}
    specs = packed_specs(store)
    for trajectory in range(len(store)):
        for group in groups_of(specs, store.tables, trajectory):
            assert parse_group_name(group.name) == (group.trajectory, group.block, group.frame)
            for span in group.spans:
                assert not rows[span.key] & set(range(span.start, span.stop))
                rows[span.key] |= set(range(span.start, span.stop))
    assert {key: len(found) for key, found in rows.items()} == {key: spec.num_rows for key, spec in specs.items()}


def files_below(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_packing_twice_gives_the_same_bytes(packed: TarStore, tmp_path: Path) -> None:
    again = pack_small(Path(packed.location), tmp_path / "again", 60_000)
    assert files_below(tmp_path / "again") == files_below(Path(packed.location))
    assert len(again.shards.manifest.shards) == 2


def test_batches_are_the_same(packed: TarStore, zarr_store: ZarrStore) -> None:
    found = []
    for store in (packed, zarr_store):
        dataset = ups_data.QueryDataset(store, sampler=ups_data.ImportanceSampler(0.3), seed=1)
        loader = ups_data.build_loader(dataset, batch_size=1)
        found.append([batch.buffer.numpy().tobytes() for _ in range(2) for batch in loader])
    assert found[0] == found[1]
    assert len(found[0]) > 2


def test_a_state_saved_on_zarr_is_taken_up_on_tar(packed: TarStore, zarr_store: ZarrStore) -> None:
    loaders = [
        ups_data.build_loader(
            ups_data.QueryDataset(store, sampler=ups_data.ImportanceSampler(0.3), seed=1), batch_size=1
        )
        for store in (zarr_store, packed)
    ]
    batches = iter(loaders[0])
    next(batches)
    loaders[1].load_state_dict(loaders[0].state_dict())
    rest = [batch.buffer.numpy().tobytes() for batch in batches]
    assert rest
    assert [batch.buffer.numpy().tobytes() for batch in loaders[1]] == rest


def test_other_processes_read_the_same(packed: TarStore) -> None:
    check_processes(packed)


def test_members_are_plain_files_that_numpy_reads(packed: TarStore) -> None:
    index = packed.read_page_points(0, np.arange(packed.layout(0).num_pages)).index
    with tarfile.open(Path(packed.location) / "shards/000000.tar") as tar:
        names = tar.getnames()
        assert {name.rsplit(".", 1)[1] for name in names} == {"npy", "json"}
        assert all(member.isreg() and "/" not in member.name for member in tar.getmembers())
        content = tar.extractfile("t000000000-b000000.pages_index.npy")
        assert content is not None
        stored = np.load(io.BytesIO(content.read()), allow_pickle=False)
        np.testing.assert_array_equal(stored["values"].reshape(-1)[: index.size], index)
        described = tar.extractfile("t000000000-b000000-f000000001.json")
        assert described is not None
        told = json.loads(described.read())
        assert (told["trajectory"], told["block"], told["frame"]) == (0, 0, 1)
        assert told["store"] == packed.manifest.fingerprint


def test_the_index_tells_where_every_member_lies(packed: TarStore) -> None:
    for shard in packed.shards.manifest.shards:
        members = np.load(Path(packed.location) / shard.index, allow_pickle=False)
        with tarfile.open(Path(packed.location) / shard.key) as tar:
            found = [(info.offset_data, info.size) for info in tar.getmembers()]
        assert [(int(one["offset"]), int(one["size_bytes"])) for one in members] == found
        assert set(members["array"].tolist()) == {*range(len(packed.arrays)), NO_ARRAY}


def test_a_reader_from_the_page_alone(packed: TarStore) -> None:
    """What section 12 of docs/format.md tells is enough: no code of ours but to compare with."""
    root = Path(packed.location)
    manifest = json.loads((root / "webdataset.json").read_text())
    zarr_manifest = json.loads((root / "zarr/manifest.json").read_text())
    assert manifest["store"] == zarr_manifest["fingerprint"]
    channels, points = 3, zarr_manifest["layout"]["page_points"]
    number, size = manifest["arrays"].index("pages/values"), channels * points * 4 + 4
    values = packed.read_page_values(1, [2], np.arange(5), (0, 1, 2))[0].reshape(5, points, channels)
    for page in range(5):
        row = int(packed.tables.value_offsets[1] + 2 * packed.tables.block_pages[1] + page)
        (shard,) = [one for one in manifest["shards"] if one["rows"][number][0] <= row < one["rows"][number][1]]
        members = np.load(root / shard["index"], allow_pickle=False)
        within = (members["array"] == number) & (members["first_row"] <= row)
        member = members[within & (row < members["first_row"] + members["num_rows"])][0]
        start = int(member["rows_offset"]) + (row - int(member["first_row"])) * size
        content = (root / shard["key"]).read_bytes()[start : start + size]
        assert google_crc32c.value(content[:-4]) == int.from_bytes(content[-4:], "little")
        np.testing.assert_array_equal(np.frombuffer(content[:-4], "<f4").reshape(channels, points).T, values[page])


# -- bytes ---------------------------------------------------------------------------------------------------------


def test_a_draw_reads_little_more_than_its_points(tmp_path: Path) -> None:
    side, targets = 256, 4
    source = MemorySource.grid([wave_frames((side, side), num_frames=6)], periodic=True)
    make_store(source, tmp_path / "s", splits={"train": 1.0})
    pack(str(tmp_path / "s"), tmp_path / "tar", to="webdataset")
    with serving(serve_directory(tmp_path / "tar")) as server:
        store = ups_data.open_store(server.url, remote=QUICK)
        dataset = ups_data.QueryDataset(
            store, sampler=ups_data.ImportanceSampler(0.02), window=ups_data.Window(targets=targets)
        )
        dataset.sample(0)
        before, requests = server.log.num_bytes, len(server.log.requests)
        sample = dataset.sample(0, epoch=1)
        points = len(sample.query_index)
        assert server.log.num_bytes - before - 4 * side**2 <= 1.5 * 4 * points * (targets + 1)
        assert len(server.log.requests) - requests <= 1 + (targets + 1) * 2 * store.manifest.layout.num_strata


# -- damage --------------------------------------------------------------------------------------------------------


def rewrite(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest of the tar shards as somebody would who knows how its fingerprint is made."""
    file = root / "webdataset.json"
    content = json.loads(file.read_text())
    change(content)
    content.pop("fingerprint")
    text = json.dumps(content, separators=(",", ":"))
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    file.write_text(json.dumps({"fingerprint": fingerprint, **content}))


def relist(root: Path, key: str) -> None:
    """Let the manifest list a file as it is now."""
    content = (root / key).read_bytes()

    def change(manifest: dict[str, Any]) -> None:
        (entry,) = [entry for entry in manifest["files"] if entry["key"] == key]
        entry.update(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    rewrite(root, change)


def test_flipped_bits_are_named_or_change_nothing(packed: TarStore, copied: Path) -> None:
    """In rows they are found; in headers, padding and JSON, which random reads pass over, they change nothing."""
    draw, expected, refused = np.random.default_rng(0), read_digest(packed), 0
    files = [path for path in copied.rglob("*") if path.is_file()]
    sizes = np.array([path.stat().st_size for path in files], dtype=float)
    for _ in range(60):
        file = files[int(draw.choice(len(files), p=np.sqrt(sizes) / np.sqrt(sizes).sum()))]
        content = file.read_bytes()
        place = int(draw.integers(len(content)))
        file.write_bytes(
            content[:place] + bytes([content[place] ^ (1 << int(draw.integers(8)))]) + content[place + 1 :]
        )
        try:
            assert read_digest(ups_data.open_store(copied)) == expected
        except (CorruptionError, SchemaError):
            refused += 1
        file.write_bytes(content)
    assert refused > 25


@pytest.mark.parametrize("key", ["shards/000001.tar", "shards/000000.index.npy", "zarr/manifest.json"])
@pytest.mark.parametrize("change", ["missing", "short", "empty"])
def test_a_file_that_is_not_whole_is_found_when_a_store_is_opened(key: str, change: str, copied: Path) -> None:
    file = copied / key
    content = file.read_bytes()
    file.unlink()
    if change != "missing":
        file.write_bytes(content[:-1] if change == "short" else b"")
    with pytest.raises(CorruptionError, match=rf"{key} (?:is missing|has \d+ bytes, \d+ were committed)"):
        ups_data.open_store(copied)


def test_without_its_manifest_it_is_no_store(copied: Path) -> None:
    (copied / "webdataset.json").unlink()
    with pytest.raises(StoreNotFoundError, match=r"holds no manifest\.json, so it is no finished store"):
        ups_data.open_store(copied)


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], None], type[Exception], str]] = {
    "traversal": (lambda m: m["shards"][0].update(key="../../etc/passwd"), SchemaError, "shards name .*passwd"),
    "listed traversal": (
        lambda m: m["files"][0].update(key="../zarr/manifest.json"),
        SchemaError,
        "must be a plain relative path",
    ),
    "absolute": (lambda m: m["files"][0].update(key="/etc/passwd"), SchemaError, "must be a plain relative path"),
    "negative rows": (lambda m: m["shards"][0]["rows"].__setitem__(0, [-1, 5]), SchemaError, "greater than or equal"),
    "huge rows": (lambda m: m["shards"][1]["rows"].__setitem__(0, [0, 2**63]), SchemaError, "breaks the schema"),
    "overlapping rows": (lambda m: m["shards"][1]["rows"].__setitem__(0, [0, 5]), SchemaError, "do not go on where"),
    "fewer rows": (
        lambda m: m["shards"][1]["rows"][0].__setitem__(1, m["shards"][1]["rows"][0][0]),
        CorruptionError,
        r"lists \d+ rows of pages/values, which has \d+",
    ),
    "another array": (lambda m: m["arrays"].__setitem__(0, "pages/others"), CorruptionError, "does not list the array"),
    "another store": (lambda m: m.update(store="0" * 64), CorruptionError, "was written for another store"),
    "trajectories": (lambda m: m["shards"][1].update(first_trajectory=0), SchemaError, "must begin at trajectory 0"),
    "version": (lambda m: m.update(version=2), SchemaError, "declares format 'ups-data-webdataset' version 2"),
    "unknown key": (lambda m: m.update(more=1), SchemaError, "breaks the schema at more"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_was_forged_is_refused(name: str, copied: Path) -> None:
    change, kind, message = MANIFESTS[name]
    rewrite(copied, change)
    opened: list[str] = []
    outside = audit_opens(opened)
    with pytest.raises(kind, match=message):
        read_digest(ups_data.open_store(copied))
    outside.append("end")
    assert not [path for path in opened if "passwd" in path]


def audit_opens(opened: list[str]) -> list[str]:
    """Note every file that is opened from here on, until the returned list gets an entry; hooks cannot be removed."""
    ended: list[str] = []

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and not ended:
            opened.append(os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes)) else str(arguments[0]))

    sys.addaudithook(note)
    return ended


INDICES: dict[str, tuple[Callable[[np.ndarray], None], str]] = {
    "beyond the tar": (lambda m: m["offset"].__setitem__(slice(None), 2**40), "points outside of its tar file"),
    "negative": (lambda m: m["rows_offset"].__setitem__(0, -5), "points outside of its tar file"),
    "overflow": (lambda m: m["size_bytes"].__setitem__(0, 2**62), "points outside of its tar file"),
    "rows missing": (lambda m: m["num_rows"].__setitem__(m["array"] == 0, 0), "does not list all rows"),
    "rows elsewhere": (lambda m: m["first_row"].__setitem__(m["array"] == 0, 7), "does not list all rows"),
    "out of the member": (lambda m: m["rows_offset"].__setitem__(slice(None), 0), "outside of their member"),
    "shifted": (
        lambda m: m["rows_offset"].__setitem__(slice(None), m["rows_offset"] - 4),
        "checksum mismatch|outside of their member",
    ),
}


@pytest.mark.parametrize("name", INDICES)
def test_an_index_that_was_forged_is_refused(name: str, copied: Path) -> None:
    change, message = INDICES[name]
    key = "shards/000000.index.npy"
    members = np.load(copied / key, allow_pickle=False).copy()
    change(members)
    np.save(copied / key, members)
    relist(copied, key)
    with pytest.raises(CorruptionError, match=message):
        read_digest(ups_data.open_store(copied))


@pytest.mark.parametrize("content", ["empty", "pickle", "other dtype", "short", "other header"])
def test_an_index_of_another_kind_is_refused_unread(content: str, copied: Path) -> None:
    key = "shards/000000.index.npy"
    sound = (copied / key).read_bytes()
    if content == "pickle":
        np.save(copied / key, np.array([print], dtype=object), allow_pickle=True)
    elif content == "other dtype":
        np.save(copied / key, np.zeros(100))
    elif content == "other header":
        (copied / key).write_bytes(sound.replace(b"'<u4'", b"'|O4'", 1))
    else:
        (copied / key).write_bytes(b"" if content == "empty" else sound[:-3])
    relist(copied, key)
    message = "is no index of this format" if content == "other header" else r"is listed with \d+ bytes where \d+ tell"
    with pytest.raises(CorruptionError, match=message):
        read_digest(ups_data.open_store(copied))


def test_a_store_that_was_replaced_is_found_by_its_copies(copied: Path) -> None:
    pickled = pickle.dumps(ups_data.open_store(copied))
    rewrite(copied, lambda manifest: manifest.update(writer="another"))
    with pytest.raises(CorruptionError, match="was replaced by another store since it was opened"):
        pickle.loads(pickled)


def test_headers_follow_from_dtype_and_length() -> None:
    assert len(npy_header(INDEX_DTYPE, 0)) == len(npy_header(INDEX_DTYPE, 10**9))
    assert LocalByteStore(Path()).survives_fork
