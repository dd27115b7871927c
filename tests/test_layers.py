"""The layers of the project hold: import contracts, and torch stays out of everything below the dataset."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation

from ups_data.pages.curve import cloud_order

ROOT = Path(__file__).resolve().parents[1]

BELOW_DATASET = [
    "ups_data",
    "ups_data.errors",
    "ups_data.schema",
    "ups_data.random",
    "ups_data.coordinates",
    "ups_data.importance",
    "ups_data.statistics",
    "ups_data.pages",
    "ups_data.storage",
    "ups_data.samplers",
    "preprocess",
]

# Imports packages and every module in them, in a Python of its own; prints which watched modules came along.
IMPORT_ALL = """
import importlib, pkgutil, sys

watched, packages = sys.argv[1].split(","), sys.argv[2:]
for package in packages:
    module = importlib.import_module(package)
    # the top level is asked for itself alone: the layers above the dataset may import torch
    path = [] if package == "ups_data" else getattr(module, "__path__", [])
    for found in pkgutil.walk_packages(path, package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
print(*sorted(set(watched) & set(sys.modules)))
"""


def modules_that_come_along(watched: list[str], packages: list[str]) -> list[str]:
    command = [sys.executable, "-c", IMPORT_ALL, ",".join(watched), *packages]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


# The current directory goes first, so that the tree under test is analysed and not the installed one.
CHECK_CONTRACTS = """
import sys
sys.path.insert(0, ".")
from importlinter.cli import lint_imports
sys.exit(lint_imports(no_cache=True, no_logo=True))
"""


def check_contracts(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHECK_CONTRACTS]
    return subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)


@pytest.fixture
def copied_tree(tmp_path: Path) -> Path:
    for name in ("ups_data", "preprocess"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_hold() -> None:
    result = check_contracts(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        (
            "ups_data/errors.py",
            "import ups_data.schema\nimport ups_data.pages",
            "The data side reads in one direction",
        ),
        ("ups_data/storage/__init__.py", "import ups_data.samplers", "The data side reads in one direction"),
        ("ups_data/schema/base.py", "import preprocess.sources", "preprocess imports ups_data, never the reverse"),
        (
            "preprocess/sources/base.py",
            "import ups_data.models",
            "Conversion imports no model, no training, no inference",
        ),
    ],
)
def test_contracts_catch_an_upward_import(copied_tree: Path, module: str, line: str, contract: str) -> None:
    with (copied_tree / module).open("a") as file:
        file.write(f"\n{line}\n")
    result = check_contracts(copied_tree)
    assert result.returncode == 1, result.stdout + result.stderr
    assert any(text.startswith(contract) and text.endswith("BROKEN") for text in result.stdout.splitlines())


def test_contracts_catch_a_module_without_a_layer(copied_tree: Path) -> None:
    (copied_tree / "ups_data" / "newcomer.py").write_text('"""A module that no layer names."""\n')
    result = check_contracts(copied_tree)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "ups_data.newcomer" in result.stdout


@pytest.mark.parametrize("package", BELOW_DATASET)
def test_torch_stays_out_below_the_dataset(package: str) -> None:
    assert modules_that_come_along(["torch"], [package]) == []


def test_the_watch_sees_torch_where_it_belongs() -> None:
    assert modules_that_come_along(["torch"], ["ups_data.models"]) == ["torch"]


def test_optional_packages_are_imported_only_when_used() -> None:
    optional = ["exponax", "jax", "h5py", "matplotlib", "tensorstore", "zarrs", "hypothesis", "pytest"]
    assert modules_that_come_along(optional, BELOW_DATASET) == []


def test_shapes_in_annotations_are_executed() -> None:
    with pytest.raises(BeartypeCallHintViolation, match="cloud_order"):
        cloud_order(np.zeros(4), curve="hilbert")
