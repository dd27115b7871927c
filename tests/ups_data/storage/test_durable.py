"""Files that are whole or not there: the order of syncs and names, and what a failure leaves."""

import os
from pathlib import Path

import pytest

from ups_data.errors import StoreError
from ups_data.storage import durable


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was synced and named, in order: `file`, `folder`, `name`."""
    noted: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        noted.append("folder" if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() else "file")
        fsync(descriptor)

    def note_name(path: Path, target: Path) -> Path:
        noted.append("name")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_name)
    return noted


def test_small_files_are_all_synced_before_one_is_named(tmp_path: Path, calls: list[str]) -> None:
    files = {tmp_path / "a" / "c" / "0": b"0", tmp_path / "a" / "zarr.json": b"{}", tmp_path / "b" / "zarr.json": b"[]"}
    durable.write_all_durably(files, dest=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    # The directories: the one that holds a and b, a, c and b.
    assert calls == ["file"] * 3 + ["name"] * 3 + ["folder"] * 4


def test_one_file_is_synced_named_and_its_folder_synced(tmp_path: Path, calls: list[str]) -> None:
    durable.write_durably(tmp_path / "a", b"0", dest=tmp_path)
    assert calls == ["file", "name", "folder"]


def test_new_directories_are_synced_with_the_name(tmp_path: Path, calls: list[str]) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    with durable.StagedFile(tmp_path / "c" / "0" / "0", dest=tmp_path, staging=staging) as file:
        file.write(b"0")
        file.write(memoryview(b"123"))
        assert [path.parent for path in tmp_path.rglob("*") if path.is_file()] == [staging]
        file.finish()
    # The directories: that of the file, and those that hold the new ones.
    assert calls == ["file", "name"] + ["folder"] * 3
    assert (tmp_path / "c" / "0" / "0").read_bytes() == b"0123"
    assert not list(staging.iterdir())


def test_scratch_is_named_and_not_synced(tmp_path: Path, calls: list[str]) -> None:
    with durable.StagedFile(tmp_path / "c" / "0", dest=tmp_path, sync=False) as file:
        file.write(b"0")
        file.finish()
    assert calls == ["name"]
    assert (tmp_path / "c" / "0").read_bytes() == b"0"


def test_a_file_that_is_not_finished_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"before")
    with durable.StagedFile(tmp_path / "a", dest=tmp_path) as file:
        file.write(b"0")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_a_staging_directory_that_is_gone_is_told_and_nothing_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot write .*c/0: No such file.*; nothing at .* was changed"):
        durable.StagedFile(tmp_path / "c" / "0", dest=tmp_path, staging=tmp_path / "gone")
    staging = tmp_path / "staging"
    staging.mkdir()
    with durable.StagedFile(tmp_path / "c" / "0", dest=tmp_path, staging=staging) as file:
        file.write(b"0")
        (staging / next(staging.iterdir()).name).unlink()
        staging.rmdir()
        with pytest.raises(StoreError, match=r"cannot write .*c/0: No such file"):
            file.finish()
    assert not list(tmp_path.iterdir())


def test_of_files_that_cannot_be_written_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"no folder")
    files = {tmp_path / "a" / "0": b"0", tmp_path / "b" / "0": b"0"}
    with pytest.raises(StoreError, match=r"cannot write .*b/0: .*; nothing at .* was changed"):
        durable.write_all_durably(files, dest=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "b"]
