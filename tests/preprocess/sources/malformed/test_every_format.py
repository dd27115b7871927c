"""What is of no format at all, and how many cases the files of this folder hold."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import pytest

from preprocess.sources import SOURCES
from tests.preprocess.sources.malformed.spoiling import check_refused
from tests.preprocess.sources.malformed.test_hdf5 import dataset_cases
from tests.preprocess.sources.specimens import HDF5_SPECIMENS, HDF5Specimen


@pytest.mark.parametrize(
    "content", [b"\0" * 512, b"\x89HDF\r\n\x1a\n" * 20, b"PK\x03\x04" * 50, b"hello\n", b"\xff\xfe{"]
)
@pytest.mark.parametrize("format_name", SOURCES)
def test_a_file_of_something_else_is_refused_by_every_format(tmp_path: Path, format_name: str, content: bytes) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    check_refused(path, format_name, None, "a.bin")
    (tmp_path / "folder").mkdir()
    check_refused(tmp_path / "folder", format_name, None, "folder")


def num_cases(test: Any) -> int:
    """Return how often a test runs: the product of the numbers of values of its parameters."""
    return math.prod(len(mark.args[1]) for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize")


def test_there_are_more_than_a_hundred_of_them() -> None:
    """More than a hundred generated from the data sets of HDF5 alone, and over all files as many as the README says."""
    names = [path.stem for path in Path(__file__).parent.glob("test_*.py")]
    modules = [importlib.import_module(f"tests.preprocess.sources.malformed.{name}") for name in names]
    tests = [test for module in modules for name, test in vars(module).items() if name.startswith("test_")]
    assert sum(map(num_cases, tests)) > 1_400
    assert len(dataset_cases()) > 100
    assert {specimen.format for specimen in HDF5_SPECIMENS.values()} <= SOURCES.keys()
    assert isinstance(HDF5_SPECIMENS["well"], HDF5Specimen)
