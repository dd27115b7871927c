"""The cache never serves what failed its check, stays within its limit, and costs nothing but bytes when it fails."""

import hashlib
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ups_data
from tests.ups_data.storage.cases import make_store, plane, truth_of
from ups_data import CacheOptions, RemoteOptions
from ups_data.errors import ConfigError, CorruptionError
from ups_data.schema import FileEntry
from ups_data.storage import ZarrStore
from ups_data.storage.byte_store import CheckedRange, LocalByteStore
from ups_data.storage.cached_store import CachedByteStore
from ups_data.storage.range_cache import KeptRange, RangeCache, database_bytes
from ups_data.testing.fault_server import FaultServer, Log, serve_directory, serving
from ups_data.testing.store_contract import StoreContract, StoreTruth, read_digest

QUICK = RemoteOptions(timeout_s=2.0, deadline_s=10.0, backoff_s=0.005, max_backoff_s=0.02, max_attempts=3)
MIB = 2**20


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> ZarrStore:
    return make_store(plane(), tmp_path_factory.mktemp("local") / "plane", codec="zstd", page_points=16)


@pytest.fixture
def root(local: ZarrStore, tmp_path: Path) -> Path:
    copy = tmp_path / "served" / "plane"
    shutil.copytree(local.location, copy)
    return copy


@pytest.fixture
def server(root: Path) -> Iterator[FaultServer]:
    with serving(serve_directory(root.parent)) as running:
        yield running


def open_cached(server: FaultServer, path: Path, **options: object) -> ups_data.Store:
    server.log = Log()
    cache = CacheOptions(**{"path": path, "max_bytes": 8 * MIB, **options})
    return ups_data.open_store(f"{server.url}/plane", remote=QUICK, cache=cache)


class TestWithACache(StoreContract):
    @pytest.fixture(params=[False, True], ids=["ranges", "whole files"])
    def store(self, server: FaultServer, tmp_path: Path, request: pytest.FixtureRequest) -> ups_data.Store:
        return open_cached(server, tmp_path / "cache", whole_files=request.param)

    @pytest.fixture
    def truth(self, local: ZarrStore) -> StoreTruth:
        return truth_of(plane(), local)

    def test_a_copy_reads_the_same_and_counts_for_itself(self, store: ups_data.Store) -> None:
        """Here a copy finds in the cache what the first one read."""
        before = read_digest(store)
        asked = store.read_count.num_bytes
        copy = pickle.loads(pickle.dumps(store))
        assert read_digest(copy) == before
        assert copy.read_count.num_cached_bytes > 0
        assert store.read_count.num_bytes == asked


@pytest.mark.parametrize("whole_files", [False, True])
def test_what_was_read_is_not_asked_for_again(
    whole_files: bool, server: FaultServer, local: ZarrStore, tmp_path: Path
) -> None:
    first = open_cached(server, tmp_path / "cache", whole_files=whole_files)
    assert read_digest(first) == read_digest(local)
    size = sum(entry.size_bytes for entry in local.manifest.files)
    assert first.read_count.num_bytes <= size + 2**16
    again = open_cached(server, tmp_path / "cache", whole_files=whole_files)
    assert read_digest(again) == read_digest(local)
    assert [path for _, path, _, _ in server.log.requests] == ["/plane/manifest.json"]
    assert again.read_count.num_cached_bytes > size / 2


def test_of_a_range_that_is_kept_in_part_only_the_rest_is_fetched(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(1000)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_bytes(content)
    source = bound(tmp_path)
    for start, stop, fetched in ((100, 200, 100), (300, 400, 100), (50, 450, 200), (0, 1000, 600), (0, 1000, 0)):
        before = source.count.num_bytes
        assert read(source, start, stop) == content[start:stop]
        assert source.count.num_bytes - before == fetched


def bound(tmp_path: Path, **options: object) -> CachedByteStore:
    inner = LocalByteStore(tmp_path / "files")
    source = CachedByteStore(inner, CacheOptions(**{"path": tmp_path / "cache", "max_bytes": MIB, **options}))
    source.bind(entries_of(tmp_path / "files"))
    return source


def entries_of(root: Path) -> list[FileEntry]:
    return [
        FileEntry(key=file.name, size_bytes=file.stat().st_size, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
        for file in sorted(root.iterdir())
    ]


def read(source: CachedByteStore, start: int, stop: int, key: str = "a") -> bytes:
    found: list[bytes] = []
    source.read_checked([CheckedRange(key=key, offset=start, length=stop - start, accept=found.append)])
    return found[-1]


# -- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole_files", [False, True])
def test_a_cache_is_not_poisoned_by_a_remote_that_was_damaged(
    whole_files: bool, server: FaultServer, root: Path, local: ZarrStore, tmp_path: Path
) -> None:
    """Run 1 fails; run 2, with the same cache, must not serve what run 1 met; run 3 needs no cleaning."""
    shard = root / "pages/values/c/0/0/0"
    sound = shard.read_bytes()
    spoiled = bytearray(sound)
    spoiled[len(sound) // 3] ^= 16
    shard.write_bytes(spoiled)
    for _ in range(2):
        store = open_cached(server, tmp_path / "cache", whole_files=whole_files)
        with pytest.raises(CorruptionError, match=r"checksum mismatch|SHA-256 differs"):
            read_digest(store)
    shard.write_bytes(sound)
    assert read_digest(open_cached(server, tmp_path / "cache", whole_files=whole_files)) == read_digest(local)


def test_four_processes_share_a_cache_of_a_remote_that_is_repaired(
    server: FaultServer, root: Path, local: ZarrStore, tmp_path: Path
) -> None:
    shard = root / "pages/values/c/0/0/0"
    sound = shard.read_bytes()
    shard.write_bytes(sound[:-300] + bytes(10) + sound[-290:])
    with multiprocessing.get_context("forkserver").Pool(4) as pool:
        arguments = [(f"{server.url}/plane", str(tmp_path / "cache"))] * 4
        assert set(pool.starmap(digest_or_error, arguments, chunksize=1)) == {"CorruptionError"}
        shard.write_bytes(sound)
        assert set(pool.starmap(digest_or_error, arguments, chunksize=1)) == {read_digest(local)}


def digest_or_error(url: str, cache: str) -> str:
    options = CacheOptions(path=cache, max_bytes=8 * MIB)
    try:
        return read_digest(ups_data.open_store(url, remote=QUICK, cache=options))
    except CorruptionError as error:
        return type(error).__name__


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_cache_costs_bytes_and_nothing_else(
    seed: int, server: FaultServer, local: ZarrStore, tmp_path: Path
) -> None:
    draw = np.random.default_rng(seed)
    store = open_cached(server, tmp_path / "cache")
    read_digest(store)
    close(store)
    for file in (tmp_path / "cache").iterdir():
        content = bytearray(file.read_bytes())
        for place in draw.integers(0, len(content), size=1 + 40 * (seed % 3)):
            content[place] ^= 1 << int(draw.integers(8))
        file.write_bytes(content[: len(content) // 2] if seed == 11 else content)
    for _ in range(2):
        again = open_cached(server, tmp_path / "cache")
        assert read_digest(again) == read_digest(local)
    assert again.read_count.num_cached_bytes > 0


def close(store: ups_data.Store) -> None:
    assert isinstance(store, ZarrStore)
    assert isinstance(store._bytes, CachedByteStore)
    store._bytes.close()


def test_a_range_is_never_served_for_another_place(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, MIB)
    cache.put(b"f" * 32, [KeptRange(start=0, data=b"first"), KeptRange(start=100, data=b"other")])
    cache.close()
    with sqlite3.connect(tmp_path / "ranges-0.sqlite") as database:
        database.execute("UPDATE ranges SET start = 5, stop = 10 WHERE start = 100")
    database.close()
    assert cache.find(b"f" * 32, 0, 200) == [KeptRange(start=0, data=b"first")]
    assert cache.find(b"f" * 32, 5, 10) == []
    cache.close()


def test_a_store_that_was_replaced_meets_nothing_of_the_old_one(
    server: FaultServer, root: Path, tmp_path: Path
) -> None:
    read_digest(open_cached(server, tmp_path / "cache"))
    shutil.rmtree(root)
    other = make_store(plane("float64"), root, codec="zstd", page_points=16)
    assert read_digest(open_cached(server, tmp_path / "cache")) == read_digest(other)


# -- limits --------------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3 * MIB), st.integers(1, 400_000)), max_size=40))
def test_it_stays_within_its_limit_and_returns_what_was_put(puts: list[tuple[int, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = RangeCache(Path(folder), 2 * MIB)
        content = np.random.default_rng(0).bytes(4 * MIB)
        for file, start, length in puts:
            cache.put(bytes([file]) * 32, [KeptRange(start=start, data=content[start : start + length])])
            for kept in cache.find(bytes([file]) * 32, start - 1000, start + length):
                assert kept.data == content[kept.start : kept.stop]
            assert Path(folder, "ranges-0.sqlite").stat().st_size <= 2 * MIB
        cache.close()
        assert database_bytes(Path(folder)) <= 2 * MIB + 10 * MIB


def test_what_was_used_least_recently_goes_first(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 4 * MIB)
    part = np.random.default_rng(0).bytes(MIB // 4)
    cache.put(b"a" * 32, [KeptRange(start=0, data=part)])
    for number in range(40):
        assert cache.find(b"a" * 32, 0, 10), f"lost after {number} others"
        cache.put(b"b" * 32, [KeptRange(start=number * len(part), data=part)])
    kept = [bool(cache.find(b"b" * 32, number * len(part), number * len(part) + 1)) for number in range(40)]
    assert kept == sorted(kept)
    assert 8 <= sum(kept) <= 16
    cache.close()


@pytest.mark.parametrize("size", [0, MIB - 1])
def test_a_limit_that_holds_nothing_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=f"max_bytes of a cache must be at least {MIB}, got {size}"):
        CacheOptions(path="cache", max_bytes=size)


def test_a_large_file_is_kept_by_ranges(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_bytes(bytes(MIB))
    (tmp_path / "files" / "b").write_bytes(bytes(1000))
    source = bound(tmp_path, whole_files=True)
    read(source, 10, 20)
    assert source.count.num_bytes == 10
    read(source, 10, 20, key="b")
    assert source.count.num_bytes == 1010
    read(source, 500, 900, key="b")
    assert source.count.num_bytes == 1010


# -- disks and kills -----------------------------------------------------------------------------------------------


def test_a_full_disk_makes_it_stream(server: FaultServer, local: ZarrStore, tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk that is full: SQLite gets the same kind of error from writing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    expected = read_digest(local)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
        with pytest.warns(UserWarning, match="the cache in .* cannot be used .*; reading goes on without it"):
            assert read_digest(open_cached(server, tmp_path / "cache")) == expected
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    store = open_cached(server, tmp_path / "cache")
    assert read_digest(store) == expected
    assert read_digest(store) == expected
    assert store.read_count.num_cached_bytes > 0


def test_a_place_that_cannot_be_written_makes_it_stream(server: FaultServer, local: ZarrStore, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.warns(UserWarning, match="the cache in .*taken cannot be used"):
        assert read_digest(open_cached(server, tmp_path / "taken")) == read_digest(local)


WRITER = """
import sys
from pathlib import Path
from ups_data.storage.range_cache import KeptRange, RangeCache
cache = RangeCache(Path(sys.argv[1]), 8 * 2**20)
print("begun", flush=True)
number = 0
while True:
    cache.put(b"f" * 32, [KeptRange(start=number % 400 * 65536, data=bytes([number % 400 % 256]) * 65536)])
    number += 1
"""


def test_kills_leave_a_cache_that_works(tmp_path: Path) -> None:
    for kill in range(4):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        time.sleep(0.05 + 0.07 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        cache = RangeCache(tmp_path, 8 * MIB)
        kept = cache.find(b"f" * 32, 0, 400 * 65536)
        for found in kept:
            assert found.data == bytes([found.start // 65536 % 256]) * 65536
        cache.put(b"g" * 32, [KeptRange(start=0, data=b"after")])
        assert cache.find(b"g" * 32, 0, 5) == [KeptRange(start=0, data=b"after")]
        cache.close()
    assert len(list(tmp_path.glob("ranges-*.sqlite"))) == 1


def test_it_is_used_again_in_a_forked_process(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_bytes(bytes(range(256)))
    source = bound(tmp_path)
    assert source.survives_fork
    read(source, 0, 100)
    SOURCES.append(source)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(read_in_child, range(8)) == [(bytes(range(100)), 0)] * 8
    assert read(source, 0, 100) == bytes(range(100))
    SOURCES.clear()


SOURCES: list[CachedByteStore] = []


def read_in_child(number: int) -> tuple[bytes, int]:
    before = SOURCES[0].count.num_bytes
    return read(SOURCES[0], 0, 100), SOURCES[0].count.num_bytes - before
