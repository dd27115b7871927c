"""A few of the starts that `scripts/soak_starts.py` tries, on files and over HTTP; what it says of one that hangs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from ups_data.testing.fault_server import serve_directory, serving


@pytest.fixture
def soak(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("soak_starts")


@pytest.mark.slow
def test_files_and_urls_give_the_same_batches_or_are_refused(soak: ModuleType, store_path: Path) -> None:
    with serving(serve_directory(store_path)) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        outcomes = [
            soak.try_apart(soak.Start(store=store, method=method, parent_has_read=True, persistent=True), limit_s=120)
            for store, method in ((str(store_path), "fork"), (url, "fork"), (url, "forkserver"))
        ]
    assert [found.result for found in outcomes] == ["finished", "refused", "finished"], outcomes
    assert "connections to it hang in forked workers" in outcomes[1].detail
    assert soak.is_well(outcomes)


def test_other_batches_and_hanging_are_not_well(soak: ModuleType, store_path: Path) -> None:
    start = soak.Start(store=str(store_path), method="spawn", parent_has_read=False, persistent=False)
    hung = soak.try_apart(start, limit_s=0.05)
    assert hung.result == "hung"
    one, other = (soak.Outcome(start=start, result="finished", detail=text, seconds=1.0) for text in ("a", "b"))
    assert soak.is_well([one, one])
    assert not soak.is_well([one, other])
    assert not soak.is_well([one, hung])
