"""Remote stores give the same numbers as local ones, whatever the network does, or a typed error in time."""

import hashlib
import multiprocessing
import pickle
import shutil
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import ups_data
from tests.hang_guard import ends_at_all
from tests.memory_source import MemorySource, wave_frames
from tests.ups_data.storage.cases import make_store, plane, scattered_ragged, truth_of
from ups_data import RemoteOptions
from ups_data.errors import ConfigError, CorruptionError, RemoteError, SchemaError, StoreError, StoreNotFoundError
from ups_data.storage import ZarrStore
from ups_data.storage.byte_store import CheckedRange
from ups_data.storage.object_store import ObjectByteStore
from ups_data.testing.fault_server import (
    SECRET,
    TRANSIENT,
    Answer,
    FaultServer,
    Log,
    always,
    every,
    forward_to,
    mixed,
    no_faults,
    serve_directory,
    serving,
)
from ups_data.testing.s3_server import s3_server, upload
from ups_data.testing.store_contract import StoreContract, StoreTruth, read_digest

# Small pauses and short timeouts, so that faults cost the tests little.
QUICK = RemoteOptions(timeout_s=0.4, deadline_s=20.0, backoff_s=0.005, max_backoff_s=0.02)
SOURCES = {"plane": (plane, "zstd"), "cloud": (scattered_ragged, "none")}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ZarrStore]:
    root = tmp_path_factory.mktemp("local")
    return {
        name: make_store(make(), root / name, codec=codec, page_points=16) for name, (make, codec) in SOURCES.items()
    }


@pytest.fixture(scope="module")
def s3_port(local: dict[str, ZarrStore]) -> Iterator[int]:
    with s3_server() as port:
        for name, store in local.items():
            upload(port, Path(store.location), f"deep/{name}")
        yield port


@pytest.fixture(scope="module")
def s3(s3_port: int) -> Iterator[FaultServer]:
    """The S3 server behind a proxy that can spoil its answers."""
    with serving(forward_to(s3_port)) as server:
        yield server


@pytest.fixture(scope="module")
def web(local: dict[str, ZarrStore]) -> Iterator[FaultServer]:
    with serving(serve_directory(Path(local["plane"].location).parent)) as server:
        yield server


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-to-keep")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def open_s3(server: FaultServer, name: str = "plane", options: RemoteOptions = QUICK) -> ups_data.Store:
    server.log = Log()
    return ups_data.open_store(
        f"s3://fields/deep/{name}", remote=replace(options, endpoint=server.url, allow_http=True)
    )


def open_web(server: FaultServer, name: str = "plane", options: RemoteOptions = QUICK) -> ups_data.Store:
    server.log = Log()
    return ups_data.open_store(f"{server.url}/{name}", remote=options)


def epoch_digest(store: ups_data.Store) -> str:
    """Return a hash of all batches of an epoch."""
    dataset = ups_data.QueryDataset(store, sampler=ups_data.ImportanceSampler(ratio=0.3), split="train", seed=5)
    digest = hashlib.sha256()
    for batch in ups_data.build_loader(dataset, batch_size=2):
        digest.update(batch.buffer.numpy().tobytes())
    return digest.hexdigest()


# -- the same numbers ----------------------------------------------------------------------------------------------


class TestOnS3(StoreContract):
    @pytest.fixture
    def store(self, s3: FaultServer) -> ups_data.Store:
        s3.plan = no_faults
        return open_s3(s3, "cloud")

    @pytest.fixture
    def truth(self, local: dict[str, ZarrStore]) -> StoreTruth:
        return truth_of(scattered_ragged(), local["cloud"])


class TestOnAWebServer(StoreContract):
    @pytest.fixture
    def store(self, web: FaultServer) -> ups_data.Store:
        web.plan = no_faults
        return open_web(web)

    @pytest.fixture
    def truth(self, local: dict[str, ZarrStore]) -> StoreTruth:
        return truth_of(plane(), local["plane"])


def test_a_file_url_is_a_local_directory(local: dict[str, ZarrStore]) -> None:
    path = Path(local["plane"].location)
    assert read_digest(ups_data.open_store(path.as_uri())) == read_digest(local["plane"])
    with pytest.raises(StoreError, match="names the host elsewhere: file URLs are local"):
        ups_data.open_store("file://elsewhere/data/burgers")


# -- faults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", TRANSIENT)
def test_an_epoch_is_the_same_through_faults_that_pass(
    fault: str, s3: FaultServer, local: dict[str, ZarrStore]
) -> None:
    takes_timeouts = fault in {"stall", "reset"}
    s3.plan = every(16 if takes_timeouts else 4, fault)
    # On a busy machine sound answers take long too: only faults that take a timeout each have a short one.
    store = open_s3(s3, options=QUICK if takes_timeouts else replace(QUICK, timeout_s=30.0, deadline_s=120.0))
    assert epoch_digest(store) == epoch_digest(local["plane"])
    assert s3.log.num_faults >= 3
    retries = store.read_count.num_retries
    assert retries >= 1 or fault == "slow"
    assert takes_timeouts or retries <= (0 if fault == "slow" else 2 * s3.log.num_faults)
    assert store.read_count.num_ranges <= len(s3.log.requests)


@pytest.mark.parametrize("seed", [0, 1])
def test_an_epoch_is_the_same_through_a_mix_of_faults(seed: int, s3: FaultServer, local: dict[str, ZarrStore]) -> None:
    s3.plan = mixed(0.05, seed=seed)
    store = open_s3(s3)
    expected = epoch_digest(local["plane"])
    for _ in range(36):
        assert epoch_digest(store) == expected
    assert s3.log.num_faults > 5
    assert store.read_count.num_retries <= 50 + 0.5 * store.read_count.num_ranges


PERMANENT = {
    "e500": (RemoteError, "the server answered 500"),
    "e503": (RemoteError, "the server answered 503"),
    "e429": (RemoteError, "the server answered 429"),
    "reset": (RemoteError, "no answer in time|broke off|no connection"),
    "hang": (RemoteError, "no answer"),
    "stall": (RemoteError, "no answer in time|no answer within"),
    "short": (RemoteError, "the answer broke off"),
    "whole": (RemoteError, "answers a request for a range with the whole file; use one that knows ranges"),
    "other_range": (RemoteError, "another range than was asked for"),
    "flip": (CorruptionError, "checksum mismatch"),
    "shifted": (CorruptionError, "checksum mismatch"),
}


@pytest.mark.parametrize("fault", PERMANENT)
def test_a_fault_that_stays_is_a_typed_error_after_no_more_attempts_than_allowed(
    fault: str, s3: FaultServer, local: dict[str, ZarrStore]
) -> None:
    s3.plan = no_faults
    options = replace(QUICK, deadline_s=1.5)
    store = open_s3(s3, "cloud", options)
    s3.plan, s3.log = always(fault), Log()
    kind, message = PERMANENT[fault]
    with ends_at_all(), pytest.raises(kind, match=f"^s3://fields/deep/cloud.*(?:{message})") as caught:
        store.read_page_values(0, [0], np.arange(3), (0,))
    attempts = Counter((path, asked) for _, path, asked, _ in s3.log.requests)
    assert 1 <= max(attempts.values()) <= options.max_attempts
    assert "pages/values" in str(caught.value)
    s3.plan = no_faults
    np.testing.assert_array_equal(
        store.read_page_values(0, [0], np.arange(3), (0,)),
        local["cloud"].read_page_values(0, [0], np.arange(3), (0,)),
    )


def test_a_manifest_that_was_damaged_on_its_way_is_read_again(web: FaultServer, local: dict[str, ZarrStore]) -> None:
    for fault in ("flip", "shifted"):
        web.plan = lambda number, fault=fault: fault if len(web.log.requests) < 2 else None
        assert read_digest(open_web(web)) == read_digest(local["plane"])
        assert [path for _, path, _, _ in web.log.requests][:3] == ["/plane/manifest.json"] * 3
    web.plan = always("flip")
    with pytest.raises((SchemaError, CorruptionError), match=r"manifest\.json"):
        open_web(web)
    assert len(web.log.requests) == QUICK.max_attempts


def test_the_deadline_ends_what_attempts_do_not(s3: FaultServer) -> None:
    s3.plan = no_faults
    options = replace(QUICK, timeout_s=600.0, deadline_s=0.5)
    store = open_s3(s3, "plane", options)
    s3.plan = always("hang")
    with ends_at_all(), pytest.raises(RemoteError, match=r"no answer within deadline_s=0\.5 \(attempt 1\)"):
        store.read_dense(0, [0])


def test_retries_end_with_the_budget(web: FaultServer) -> None:
    """However many requests fail, they are repeated 50 times and no more where none ever succeeds."""
    web.plan = no_faults
    store = open_web(web, "plane", replace(QUICK, retry_share=0.0, max_attempts=1000))
    web.plan, web.log = always("e503"), Log()
    with pytest.raises(RemoteError, match=r"the server answered 503 \(tried \d+ times; retry_share=0 ended it\)"):
        store.read_dense(0, [0])
    assert store.read_count.num_retries == 50
    assert len(web.log.requests) <= 50 + QUICK.max_in_flight


def test_a_server_without_ranges_is_refused_when_a_store_is_opened(local: dict[str, ZarrStore]) -> None:
    message = r"plane/manifest\.json: the server answers a request for a range with the whole file"
    with (
        serving(serve_directory(Path(local["plane"].location).parent, ranges=False)) as server,
        pytest.raises(RemoteError, match=message),
    ):
        open_web(server)


def test_a_server_that_is_gone_is_named(local: dict[str, ZarrStore]) -> None:
    with serving(serve_directory(Path(local["plane"].location).parent)) as server:
        url = server.url
    with pytest.raises(RemoteError, match=rf"^{url}/plane/manifest\.json: no connection|no answer"):
        ups_data.open_store(f"{url}/plane", remote=replace(QUICK, max_attempts=2))


def test_nothing_is_there(s3: FaultServer, web: FaultServer) -> None:
    s3.plan = web.plan = no_faults
    with pytest.raises(StoreNotFoundError, match=r"s3://fields/deep/nowhere/manifest\.json: there is no such file"):
        open_s3(s3, "nowhere")
    with pytest.raises(StoreNotFoundError, match=r"/nowhere/manifest\.json: there is no such file"):
        open_web(web, "nowhere")


@pytest.mark.parametrize("fault", ["e403", "e401"])
def test_no_access_is_said_at_once_and_without_what_the_service_said(fault: str, s3: FaultServer) -> None:
    s3.plan = always(fault)
    with pytest.raises(RemoteError, match="access is denied; set the credentials in the environment") as caught:
        open_s3(s3)
    assert len(s3.log.requests) == 1
    text = "".join(traceback.format_exception(caught.value))
    assert SECRET not in text


def test_no_secret_is_kept_or_told(s3: FaultServer) -> None:
    s3.plan = no_faults
    store = open_s3(s3)
    assert isinstance(store, ZarrStore)
    told = [repr(store), str(vars(store)), store.manifest.to_json(), repr(QUICK), pickle.dumps(store).decode("latin-1")]
    s3.plan = always("e503")
    with pytest.raises(RemoteError, match="503") as caught:
        store.read_dense(0, [0])
    told.append("".join(traceback.format_exception(caught.value)))
    for text in told:
        assert SECRET not in text
        assert "a-secret-to-keep" not in text


# -- damage at the far end -----------------------------------------------------------------------------------------


@pytest.fixture
def damaged(local: dict[str, ZarrStore], tmp_path: Path) -> Iterator[tuple[FaultServer, Path]]:
    root = tmp_path / "served" / "plane"
    shutil.copytree(local["plane"].location, root)
    with serving(serve_directory(root.parent)) as server:
        yield server, root


def test_a_file_of_another_size_or_missing_is_found_when_it_is_read(damaged: tuple[FaultServer, Path]) -> None:
    server, root = damaged
    store = open_web(server, options=replace(QUICK, max_attempts=2))
    (shard,) = sorted((root / "pages/values/c/0").rglob("0"))[-1:]
    content = shard.read_bytes()
    shard.write_bytes(content + b"more")
    pages = np.arange(2)
    with pytest.raises(CorruptionError, match=r"pages/values/c/0/0/0: the file has \d+ bytes, \d+ were committed"):
        store.read_page_values(0, [0], pages, (0,))
    shard.unlink()
    with pytest.raises(CorruptionError, match="pages/values/c/0/0/0: there is no such file; restore the file"):
        store.read_page_values(0, [0], pages, (0,))


def test_a_file_that_was_replaced_while_it_was_read_is_refused(damaged: tuple[FaultServer, Path]) -> None:
    """Also where its size and every checksum in it are right."""
    server, root = damaged
    store = open_web(server, options=replace(QUICK, max_attempts=2))
    shard = root / "pages/values/c/0/0/0"
    store.read_page_values(0, [0], np.arange(2), (0,))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\0")  # a byte of the index, which is in the cache already
    with pytest.raises(CorruptionError, match="the file was replaced while it was being read; open the store again"):
        store.read_page_values(0, [0], np.arange(2), (0,))


@pytest.mark.parametrize("change", ["missing", "longer"])
def test_a_listing_finds_what_is_missing_when_a_store_is_opened(
    change: str, s3_port: int, s3: FaultServer, local: dict[str, ZarrStore], tmp_path: Path
) -> None:
    root = tmp_path / "plane"
    shutil.copytree(local["plane"].location, root)
    shard = root / "pages/index/c/0/0"
    shard.unlink() if change == "missing" else shard.write_bytes(shard.read_bytes() + b"!")
    upload(s3_port, root, f"deep/{change}")
    s3.plan = no_faults
    with pytest.raises(CorruptionError, match=r"pages/index/c/0/0 (?:is missing|has \d+ bytes, \d+ were committed)"):
        open_s3(s3, change)


def test_a_prefix_that_holds_much_else_is_no_store(s3: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.plan = no_faults
    monkeypatch.setattr("ups_data.storage.object_store._MAX_OTHERS", -60)
    with pytest.raises(CorruptionError, match=r"more than \d+ files lie there, and the manifest lists \d+"):
        open_s3(s3)


def test_a_store_that_was_replaced_is_found_by_its_copies(damaged: tuple[FaultServer, Path]) -> None:
    server, root = damaged
    pickled = pickle.dumps(open_web(server))
    assert len(pickle.loads(pickled)) == 3
    shutil.rmtree(root)
    make_store(plane("float64"), root)
    with pytest.raises(CorruptionError, match="was replaced by another store since it was opened"):
        pickle.loads(pickled)


# -- requests and bytes --------------------------------------------------------------------------------------------


def test_opening_takes_a_request_for_each_small_file_and_one_for_all_sizes(
    s3: FaultServer, web: FaultServer, local: dict[str, ZarrStore]
) -> None:
    keys = [entry.key for entry in local["plane"].manifest.files]
    small = [key for key in keys if key.startswith("trajectories/") and key.count("/") > 1]  # without the group's own
    needed = len(small) + len(local["plane"].arrays)
    s3.plan = web.plan = no_faults
    open_s3(s3)
    assert len(s3.log.requests) == 1 + 1 + needed
    open_web(web)
    assert len(web.log.requests) == 1 + needed


def test_a_draw_transfers_little_more_than_its_points(tmp_path: Path) -> None:
    """2 % of 256 x 256 points in 4 target frames: bytes of points and ids, and little between."""
    side, targets = 256, 4
    source = MemorySource.grid([wave_frames((side, side), num_frames=6)], periodic=True)
    make_store(source, tmp_path / "plane", splits={"train": 1.0})
    with serving(serve_directory(tmp_path)) as server:
        store = open_web(server, options=replace(QUICK, timeout_s=10.0))
        dataset = ups_data.QueryDataset(
            store, sampler=ups_data.ImportanceSampler(0.02), window=ups_data.Window(targets=targets)
        )
        dataset.sample(0)
        server.log = Log()
        sample = dataset.sample(0, epoch=1)
        points = len(sample.query_index)
        assert server.log.num_bytes - 4 * side**2 <= 1.5 * 4 * points * (targets + 1)
        # The input frame, and for each target frame and for the ids a range a stratum, two where it wraps around.
        assert len(server.log.requests) <= 1 + (targets + 1) * 2 * store.manifest.layout.num_strata


def test_requests_are_made_at_once_but_not_more_than_allowed(tmp_path: Path) -> None:
    """Each is answered only once eight are there: with fewer at once this would hang, a ninth would be counted."""
    (tmp_path / "file").write_bytes(bytes(400))
    files, eight, lock = serve_directory(tmp_path), threading.Barrier(8, timeout=60), threading.Lock()
    inside, most = 0, 0

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        eight.wait()
        time.sleep(0.1)  # room for a ninth to come
        with lock:
            inside -= 1
        return files(method, path, headers)

    with serving(answer) as server:
        source = ObjectByteStore(
            server.url, replace(QUICK, timeout_s=60.0, deadline_s=120.0, max_in_flight=8, max_waste=0)
        )
        parts = source.read_ranges("file", [(10 * number, 4) for number in range(40)])
        assert len(parts) == len(server.log.requests) == 40
    assert most == 8


def test_a_long_range_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ups_data.storage.ranges._REQUEST_BYTES", 1000)
    content = np.random.default_rng(0).bytes(4321)
    (tmp_path / "file").write_bytes(content)
    with serving(serve_directory(tmp_path)) as server:
        source = ObjectByteStore(server.url, QUICK)
        assert source.read_ranges("file", [(5, 4000), (0, 4321), (7, 0)]) == [content[5:4005], content, b""]
        assert source.size("file") == 4321
        assert len(server.log.requests) == 6


def test_only_what_was_refused_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(100)))
    seen: list[bytes] = []

    def accept(data: bytes) -> None:
        seen.append(data)
        if len(seen) == 2:
            raise CorruptionError("not that")

    with serving(serve_directory(tmp_path)) as server:
        source = ObjectByteStore(server.url, QUICK)
        source.read_checked([CheckedRange(key="file", offset=k, length=10, accept=accept) for k in (0, 10, 20)])
        assert [len(part) for part in seen] == [10] * 4
        assert seen[3] == seen[1]
        assert [asked for _, _, asked, _ in server.log.requests] == ["bytes=0-29", "bytes=10-19"]


def test_an_answer_that_spoils_hundreds_of_ranges_is_read_again_as_one(tmp_path: Path) -> None:
    """Each by itself, they would use up all that may be repeated."""
    content = np.random.default_rng(0).bytes(4000)
    (tmp_path / "file").write_bytes(content)
    found: dict[int, bytes] = {}

    def accept(number: int, data: bytes) -> None:
        if data != content[10 * number : 10 * number + 10]:
            raise CorruptionError("not that")
        found[number] = data

    with serving(serve_directory(tmp_path)) as server:
        server.plan = lambda number: "shifted" if number == 0 else None
        source = ObjectByteStore(server.url, replace(QUICK, retry_share=0.0))
        source.read_checked(
            [CheckedRange(key="file", offset=10 * k, length=10, accept=partial(accept, k)) for k in range(400)]
        )
        assert b"".join(found[k] for k in range(400)) == content
        assert len(server.log.requests) == 2
        assert source.count.num_retries == 1


# -- processes -----------------------------------------------------------------------------------------------------


INHERITED: list[ups_data.Store] = []


def read_inherited() -> str:
    return read_digest(INHERITED[0])


def test_a_process_that_was_forked_after_a_read_is_refused_at_once(web: FaultServer) -> None:
    """The client's threads do not live on in it, so it would wait for ever."""
    web.plan = no_faults
    store = open_web(web)
    assert not store.survives_fork
    INHERITED.append(store)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        # Neither the store that came with the fork nor one that the child opens.
        for call, arguments in ((read_inherited, ()), (ups_data.open_store, (store.location,))):
            with pytest.raises(StoreError, match=r"was forked from process .* would hang at its first request"):
                pool.apply_async(call, arguments).get(timeout=20)
    INHERITED.clear()


def test_workers_that_are_not_forked_read_the_same(web: FaultServer, local: dict[str, ZarrStore]) -> None:
    web.plan = no_faults
    found = []
    for store, workers in ((open_web(web, options=replace(QUICK, timeout_s=10.0)), 1), (local["plane"], 0)):
        dataset = ups_data.QueryDataset(store, sampler=ups_data.BalancedSampler(0.5))
        context = {"multiprocessing_context": "spawn"} if workers else {}
        loader = ups_data.build_loader(dataset, batch_size=2, num_workers=workers, **context)
        found.append([batch.buffer.numpy().tobytes() for batch in loader])
    assert found[0] == found[1]


# -- what is refused before anything is asked ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/data", r"ftp://host/data has no scheme that is read here.*Valid names: gs, http, https, s3"),
        ("s4://bucket/data", r"Did you mean 's3'\?"),
        ("s3:///data", "names no bucket"),
        ("http:///data", "names no host"),
        ("https://me:hidden@host/data", "carries credentials, a query or a fragment"),
        ("https://host/data?X-Amz-Signature=hidden", "the https URL of host host carries credentials, a query"),
        ("s3://bucket/data#hidden", "carries credentials, a query or a fragment"),
    ],
)
def test_other_urls_are_refused(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        ups_data.open_store(url)
    assert "hidden" not in str(caught.value)


def test_a_pipe_is_a_path_that_does_not_exist(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(StoreNotFoundError, match="there is no store at pipe:touch"):
        ups_data.open_store(f"pipe:touch {marker}")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout_s": 0.0}, "timeout_s of a remote store must be positive, got 0.0"),
        ({"max_attempts": 0}, "max_attempts of a remote store must be positive"),
        ({"deadline_s": float("nan")}, "deadline_s of a remote store must be positive, got nan"),
        ({"max_waste": -0.1}, "max_waste of a remote store must not be negative"),
        ({"endpoint": "http://me:hidden@host"}, "carries credentials"),
        ({"endpoint": "host:9000"}, "has no scheme that is read here"),
    ],
)
def test_limits_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises((ConfigError, StoreError), match=message):
        RemoteOptions(**options)


def test_google_urls_are_read_by_the_same_rules(tmp_path: Path, local: dict[str, ZarrStore]) -> None:
    """A server that answers as Google's does where listing is not allowed: objects below the name of the bucket."""
    shutil.copytree(local["plane"].location, tmp_path / "bucket" / "plane")
    with serving(serve_directory(tmp_path)) as server:
        server.plan = lambda number: "e403" if "list-type" in server.path_of(number) else None
        options = replace(QUICK, endpoint=server.url, anonymous=True, allow_http=True)
        store = ups_data.open_store("gs://bucket/plane", remote=options)
        assert read_digest(store) == read_digest(local["plane"])
        assert any("list-type" in path for _, path, _, _ in server.log.requests)
