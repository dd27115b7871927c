"""The soak of `scripts/soak_stream.py` in small, and what it says of a run that grows or differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def soak(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("soak_stream")


@pytest.mark.slow
def test_an_epoch_through_faults_is_that_of_the_files(soak: ModuleType, tmp_path: Path) -> None:
    plan = soak.Plan(batches=1, batch_size=8, trajectories=72, workers=1, share=0.1, every=24)
    report = soak.soak(tmp_path, plan)
    assert report.wrong == []
    assert (report.epochs, report.batches) == (1, 144)
    assert report.faults > 0
    assert report.requests > report.faults
    assert [sample.batches for sample in report.samples] == [24, 48, 72, 96, 120, 144]
    assert all(len(sample.memory_mib) == 2 for sample in report.samples)  # this process and its worker
    assert 0 < report.p50_ms <= report.p99_ms
    soak.find_rises(report)
    assert "1 epochs" in soak.describe(report)


def grown(soak: ModuleType, **rises: float) -> object:
    """Return the report of a run whose use rises by so much in 10,000 batches."""
    samples = [
        soak.Sample(
            batches=1000 * number,
            seconds=1.0,
            memory_mib=(300.0, 200.0 + rises.get("memory_mib", 0.0) * number / 10),
            handles=(20, 30 + round(rises.get("handles", 0.0) * number / 10)),
            threads=(9, 12),
            shared_mib=(0.0, 0.0),
            cache_mib=4.0 + rises.get("cache", 0.0) * number / 10,
        )
        for number in range(1, 101)
    ]
    return soak.SoakReport(batches=100_000, cache_limit_mib=4.0, samples=samples)


@pytest.mark.parametrize(
    ("rises", "wrong"),
    [
        ({}, []),
        ({"memory_mib": 0.9, "handles": 1.5}, []),
        ({"memory_mib": 1.2}, ["memory_mib rises by 1.20 in 10,000 batches, more than 1"]),
        ({"handles": 3.0}, ["handles rises by 3.00 in 10,000 batches, more than 2"]),
        ({"cache": 2.0}, ["the cache grew to 24.0 MiB, more than 14.0"]),
    ],
)
def test_what_grows_is_told(rises: dict[str, float], wrong: list[str], soak: ModuleType) -> None:
    assert soak.find_rises(grown(soak, **rises)) == wrong


def test_too_few_notes_tell_nothing(soak: ModuleType) -> None:
    assert soak.find_rises(soak.SoakReport(batches=10)) == ["too few notes to tell whether anything grows"]
