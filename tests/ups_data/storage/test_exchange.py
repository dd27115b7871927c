"""Two names change places at once, or nothing changes."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from ups_data.storage.exchange import exchange_names


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    return tmp_path / "one", tmp_path / "other"


def test_names_of_full_directories_change_places(pair: tuple[Path, Path]) -> None:
    one, other = pair
    before = one.stat().st_ino, other.stat().st_ino
    assert exchange_names(one, other)
    assert [(path / "content").read_text() for path in pair] == ["other", "one"]
    assert (other.stat().st_ino, one.stat().st_ino) == before


def test_a_missing_name_is_an_error_and_changes_nothing(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No such file or directory"):
        exchange_names(pair[0], tmp_path / "nowhere")
    assert (pair[0] / "content").read_text() == "one"


def test_a_system_without_it_says_so(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    assert not exchange_names(*pair)
    assert [(path / "content").read_text() for path in pair] == ["one", "other"]
