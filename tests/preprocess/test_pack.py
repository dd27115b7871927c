"""`pack` writes a store in the other layout, and `validate` proves tar shards as it proves Zarr."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.testing

import ups_data
from preprocess.cli import app
from preprocess.pack import pack
from preprocess.validate import CHECKS, validate
from tests.ups_data.storage.cases import GEOMETRIES, make_store, plane
from tests.ups_data.storage.test_tar_store import files_below, relist, rewrite
from ups_data.errors import ConfigError, StoreError, StoreExistsError, StoreNotFoundError
from ups_data.schema import MANIFEST_NAME
from ups_data.storage import TarStore
from ups_data.testing.store_contract import read_digest


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "s"
    make_store(plane(), path, codec="zstd")
    return path


@pytest.fixture
def packed(source: Path, tmp_path: Path) -> Path:
    pack(str(source), tmp_path / "tar", to="webdataset")
    return tmp_path / "tar"


def run(*arguments: object) -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})


def test_the_verb_goes_there_and_back(source: Path, tmp_path: Path) -> None:
    there = run("pack", source, tmp_path / "tar", "--to", "webdataset", "--shard-mib", 1, "--json")
    assert there.exit_code == 0, there.output
    told = json.loads(there.stdout)
    assert told["ok"]
    assert told["num_bytes"] == sum(map(len, files_below(tmp_path / "tar").values())) - (
        (tmp_path / "tar/webdataset.json").stat().st_size
    )
    assert run("validate", tmp_path / "tar").exit_code == 0
    assert run("inspect", tmp_path / "tar").exit_code == 0
    back = run("pack", tmp_path / "tar", tmp_path / "back", "--to", "zarr")
    assert back.exit_code == 0
    assert "back: " in back.stdout
    assert files_below(tmp_path / "back") == files_below(source)


def test_a_misused_verb_says_how_it_is_meant(source: Path, packed: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((source, tmp_path / "x", "--to", "tar"), "there is no layout 'tar'. Did you mean 'zarr'?"),
        ((tmp_path / "none", tmp_path / "x", "--to", "zarr"), "there is no store at"),
        ((source, packed, "--to", "webdataset"), "already holds a finished store"),
    ):
        result = run("pack", *arguments)
        assert result.exit_code == 2
        assert message in " ".join(result.stderr.replace("│", " ").split())


def test_errors_of_the_call(source: Path, packed: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no layout 'zip'"):
        pack(str(source), tmp_path / "x", to="zip")
    with pytest.raises(ConfigError, match="tar files need at least 1 MiB, got 0"):
        pack(str(source), tmp_path / "x", to="webdataset", shard_mib=0)
    with pytest.raises(StoreNotFoundError, match="there is no store at"):
        pack(str(tmp_path / "none"), tmp_path / "x", to="webdataset")
    with pytest.raises(StoreExistsError, match="already holds a finished store"):
        pack(str(source), packed, to="webdataset")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "webdataset.json").write_text('{"of": "another tool"}')
    with pytest.raises(StoreExistsError, match="exists and is no store of ours"):
        pack(str(source), tmp_path / "theirs", to="webdataset", overwrite=True)


def test_tar_shards_may_be_overwritten_by_either_layout(source: Path, packed: Path) -> None:
    pack(str(source), packed, to="webdataset", overwrite=True)
    assert isinstance(ups_data.open_store(packed), TarStore)
    pack(str(source), packed, to="zarr", overwrite=True)
    assert files_below(packed) == files_below(source)


def test_other_bytes_of_a_compressor_are_told(
    source: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another level stands for another release of the compressor: same values, other bytes."""
    monkeypatch.setattr("ups_data.storage.codec._LEVEL", -100)
    report = pack(str(packed), tmp_path / "back", to="zarr")
    assert not report.identical
    assert report.fingerprint != ups_data.open_store(source).manifest.fingerprint
    back = ups_data.open_store(tmp_path / "back")
    np.testing.assert_array_equal(back.read_dense(0, [0, 1]), ups_data.open_store(source).read_dense(0, [0, 1]))
    assert validate(tmp_path / "back").ok


def test_a_damaged_source_leaves_nothing(source: Path, packed: Path, tmp_path: Path) -> None:
    tar = packed / "shards/000000.tar"
    content = bytearray(tar.read_bytes())
    with tarfile.open(tar) as opened:
        content[opened.getmember("t000000001-b000000-f000000000.pages_values.npy").offset_data + 300] ^= 1
    tar.write_bytes(content)
    with pytest.raises(StoreError, match=r"shards/000000\.tar: pages/values row \d+: checksum mismatch"):
        pack(str(packed), tmp_path / "back", to="zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["tar"]


def test_a_killed_packing_leaves_no_store_and_runs_again(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "preprocess", "pack", str(source), str(tmp_path / "t"), "--to", "webdataset"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".t.partial/store/*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not (tmp_path / "t").exists():
        with pytest.raises(StoreNotFoundError, match="there is no store at"):
            ups_data.open_store(tmp_path / "t")
    pack(str(source), tmp_path / "t", to="webdataset", overwrite=True)
    assert read_digest(ups_data.open_store(tmp_path / "t")) == read_digest(ups_data.open_store(source))
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


# -- validate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["long", "ocean", "scattered_ragged"])
def test_sound_tar_shards_pass_every_check(name: str, tmp_path: Path) -> None:
    make_store(GEOMETRIES[name]("float32"), tmp_path / "s")
    pack(str(tmp_path / "s"), tmp_path / "tar", to="webdataset")
    report = validate(tmp_path / "tar")
    assert report.problems == ()
    assert set(report.checks) == set(CHECKS)


def test_every_flipped_bit_of_a_tar_is_a_problem(packed: Path) -> None:
    draw = np.random.default_rng(1)
    files = sorted(path for path in packed.rglob("*") if path.is_file())
    for file in [*files[::6], packed / "shards/000000.tar", packed / "shards/000000.index.npy"]:
        content = bytearray(file.read_bytes())
        place = int(draw.integers(len(content)))
        content[place] ^= 1 << int(draw.integers(8))
        sound = file.read_bytes()
        file.write_bytes(content)
        assert not validate(packed).ok, f"byte {place} of {file}"
        file.write_bytes(sound)
    assert validate(packed).ok


def test_a_tar_that_was_written_otherwise_is_a_problem(packed: Path) -> None:
    """All hashes hold, all rows read; only a pipeline that streams would meet the member that has another name."""
    tar = packed / "shards/000000.tar"
    content = tar.read_bytes()
    name = b"t000000000-b000000-f000000001.pages_values.npy"
    assert content.count(name) == 1
    tar.write_bytes(content.replace(name, b"../000000-b000000-f000000001.pages_values.npy\0"))
    relist(packed, "shards/000000.tar")
    (problem,) = validate(packed).problems
    assert "shards/000000.tar is not what its rows make; pack again" in problem


def test_files_that_nobody_knows_are_problems(packed: Path) -> None:
    (packed / "extra").write_text("what is this")
    assert any("extra does not belong to the store" in problem for problem in validate(packed).problems)

    def list_it(manifest: dict[str, Any]) -> None:
        manifest["files"].append(
            {"key": "extra", "size_bytes": 12, "sha256": hashlib.sha256(b"what is this").hexdigest()}
        )

    rewrite(packed, list_it)
    assert any("extra is listed, but is not what" in problem for problem in validate(packed).problems)
    assert (packed / "zarr" / MANIFEST_NAME).is_file()
