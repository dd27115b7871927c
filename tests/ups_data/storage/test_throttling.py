"""A server that asks for patience: what of it reaches us, and that limits hold all the same."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ups_data.storage.cases import make_store, plane
from ups_data import RemoteOptions, open_store
from ups_data.errors import RemoteError
from ups_data.storage import ZarrStore
from ups_data.storage.object_client import client_errors, make_client
from ups_data.testing.fault_server import FaultServer, Log, always, no_faults, serve_directory, serving
from ups_data.testing.store_contract import read_digest

QUICK = RemoteOptions(timeout_s=2.0, deadline_s=20.0, backoff_s=0.005, max_backoff_s=0.02)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> ZarrStore:
    return make_store(plane(), tmp_path_factory.mktemp("local") / "plane", page_points=16)


@pytest.fixture
def server(local: ZarrStore) -> Iterator[FaultServer]:
    with serving(serve_directory(Path(local.location))) as server:
        yield server


def test_the_client_hands_on_no_header_of_a_refused_request(server: FaultServer) -> None:
    """If this fails, the client tells more than it did: let pauses follow what the server asks for."""
    import obstore

    server.plan = always("e429")
    client = make_client(server.url, QUICK)

    async def ask() -> None:
        await obstore.get_async(client, "manifest.json")

    with pytest.raises(client_errors()) as caught:
        asyncio.run(ask())
    error = caught.value
    told = f"{error!r} {error.args} {vars(error)}".lower()
    assert "429" in told
    assert "retry-after" not in told
    assert "retry_after" not in told


def test_pauses_are_our_own_and_the_store_is_the_same(server: FaultServer, local: ZarrStore) -> None:
    server.plan = lambda number: "e429" if number % 5 == 4 else None
    store = open_store(server.url, remote=QUICK)
    assert read_digest(store) == read_digest(local)
    refused = server.log.num_faults
    assert refused >= 10
    assert store.read_count.num_retries == refused


def test_deadline_attempts_and_budget_hold_against_a_server_that_throttles_for_ever(server: FaultServer) -> None:
    server.plan = no_faults
    store = open_store(server.url, remote=replace(QUICK, deadline_s=0.5, max_attempts=10**6, retry_share=10**6))
    server.plan, server.log = always("e429"), Log()
    with pytest.raises(RemoteError, match=r"the server answered 429 \(tried \d+ times; deadline_s=0\.5 ended it\)"):
        store.read_dense(0, [0])
    server.plan = no_faults
    store = open_store(server.url, remote=replace(QUICK, retry_share=0.0, max_attempts=10**6))
    server.plan, server.log = always("e429"), Log()
    with pytest.raises(RemoteError, match=r"the server answered 429 \(tried \d+ times; retry_share=0 ended it\)"):
        store.read_dense(0, [0])
    assert store.read_count.num_retries == 50
