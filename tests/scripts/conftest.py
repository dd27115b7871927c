"""Scripts as modules, and a store to run them on."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from tests.memory_source import MemorySource, wave_frames

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def import_script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a script by name; processes that it starts import the packages from here."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return importlib.import_module


@pytest.fixture(scope="session")
def run_script() -> Callable[..., str]:
    """Run a script by name, in a process of its own: solvers in JAX run threads, and other tests fork."""

    def run(name: str, *arguments: str | Path, folder: Path) -> str:
        result = subprocess.run(
            [sys.executable, ROOT / "scripts" / name, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
            check=False,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("scripts") / "store"
    frames = [wave_frames((16, 12), num_frames=4, seed=seed) for seed in range(4)]
    source = MemorySource.grid(frames, splits=["train", "train", "train", "test"])
    convert(source, path, ConvertSettings(page_points=8, num_strata=2))
    return path
