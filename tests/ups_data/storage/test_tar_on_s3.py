"""Tar shards on a real S3 server give the same batches bit for bit, for little more than the bytes of their points."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import ups_data
from preprocess.pack import pack
from tests.memory_source import MemorySource, wave_frames
from tests.ups_data.storage.cases import make_store
from ups_data import RemoteOptions
from ups_data.storage import TarStore, ZarrStore
from ups_data.testing.fault_server import SECRET, FaultServer, Log, forward_to, mixed, no_faults, serving
from ups_data.testing.s3_server import s3_server, upload

SIDE, TARGETS = 128, 4
PATIENT = RemoteOptions(timeout_s=10.0, deadline_s=60.0, backoff_s=0.005, max_backoff_s=0.02, allow_http=True)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> ZarrStore:
    root = tmp_path_factory.mktemp("local")
    source = MemorySource.grid([wave_frames((SIDE, SIDE), num_frames=6, seed=seed) for seed in (0, 1)], periodic=True)
    store = make_store(source, root / "zarr", splits={"train": 1.0}, page_points=64)
    pack(str(root / "zarr"), root / "tar", to="webdataset")
    return store


@pytest.fixture(scope="module")
def s3(local: ZarrStore) -> Iterator[FaultServer]:
    with s3_server() as port:
        upload(port, Path(local.location).with_name("tar"), "tar")
        with serving(forward_to(port)) as server:
            yield server


@pytest.fixture
def remote(s3: FaultServer, monkeypatch: pytest.MonkeyPatch) -> TarStore:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-to-keep")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    s3.plan, s3.log = no_faults, Log()
    store = ups_data.open_store("s3://fields/tar", remote=replace(PATIENT, endpoint=s3.url, region="us-east-1"))
    assert isinstance(store, TarStore)
    return store


def dataset_of(store: ups_data.Store) -> ups_data.QueryDataset:
    window = ups_data.Window(targets=TARGETS)
    return ups_data.QueryDataset(store, sampler=ups_data.ImportanceSampler(0.02), window=window, seed=3)


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_batches_are_those_of_the_local_zarr_store(
    share: float, remote: TarStore, s3: FaultServer, local: ZarrStore
) -> None:
    s3.plan = mixed(share, seed=1)
    found = []
    for store in (remote, local):
        loader = ups_data.build_loader(dataset_of(store), batch_size=2)
        found.append([batch.buffer.numpy().tobytes() for _ in range(3) for batch in loader])
    assert found[0] == found[1]
    assert len(found[0]) > 3


def test_a_draw_transfers_little_more_than_its_points(remote: TarStore, s3: FaultServer) -> None:
    dataset = dataset_of(remote)
    dataset.sample(0)  # reads the index
    s3.log = Log()
    sample = dataset.sample(0, epoch=1)
    points = len(sample.query_index)
    assert s3.log.num_bytes - 4 * SIDE**2 <= 1.5 * 4 * points * (TARGETS + 1)
    assert len(s3.log.requests) <= 1 + (TARGETS + 1) * 2 * remote.manifest.layout.num_strata
