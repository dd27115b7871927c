"""Scripts as modules, and a store to run them on."""

import importlib
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
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("scripts") / "store"
    frames = [wave_frames((16, 12), num_frames=4, seed=seed) for seed in range(4)]
    source = MemorySource.grid(frames, splits=["train", "train", "train", "test"])
    convert(source, path, ConvertSettings(page_points=8, num_strata=2))
    return path
