"""`convert`: what it writes and says, and what it must refuse and leave nothing of that opens; parts, clusters."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zarr

import ups_data
from tests.preprocess.cli.command_line import names_in, parsed, refused, run, told

RunCommand = Callable[..., subprocess.CompletedProcess[str]]


def test_convert_writes_a_store_and_says_so(waves: Path, tmp_path: Path) -> None:
    result = run("convert", waves, tmp_path / "s")
    assert result.exit_code == 0
    assert "5 trajectories (train 3, valid 1, test 1), 15 frames" in result.stdout
    assert "frames: 15 of 15" in result.stderr
    fields = zarr.open_group(tmp_path / "s", mode="r")["fields"][:]
    np.testing.assert_array_equal(fields.reshape(5, 3, 32, 24), np.load(waves.parent / "u.npy"))


def test_convert_for_machines(waves: Path, tmp_path: Path) -> None:
    content = parsed(run("convert", waves, tmp_path / "s", "--json"))
    manifest = ups_data.open_store(tmp_path / "s").manifest
    assert content["ok"] is True
    assert content["fingerprint"] == manifest.fingerprint
    assert (content["num_trajectories"], content["splits"]) == (5, {"train": 3, "valid": 1, "test": 1})
    assert content["size_bytes"] == sum(entry.size_bytes for entry in manifest.files)


def test_train_and_test_files_in_one_command(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("test", 2)):
        content = {"x": torch.ones(count, 16, 16, dtype=torch.bool), "y": torch.rand(count, 16, 16)}
        torch.save(content, tmp_path / f"darcy_{split}_16.pt")
    result = run("convert", *sorted(tmp_path.glob("*.pt"), reverse=True), tmp_path / "s")
    assert "6 trajectories (train 4, test 2), 6 frames" in result.stdout


@pytest.mark.parametrize("suffix", [".npy", ".h5", ".pt"])
def test_a_truncated_file_is_refused(tmp_path: Path, waves: Path, suffix: str) -> None:
    path = tmp_path / f"darcy_train_16{suffix}"
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["tensor"], file["x-coordinate"] = np.ones((9, 4, 64)), np.arange(64.0)
            file["t-coordinate"] = np.arange(5.0)
    elif suffix == ".pt":
        torch.save({"x": torch.ones(9, 16, 16, dtype=torch.bool), "y": torch.ones(9, 16, 16)}, path)
    else:
        path = waves.parent / "u.npy"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    given = waves if suffix == ".npy" else path
    # A torch archive cut short is no archive any more: which format it has cannot be told.
    message = refused(run("convert", given, tmp_path / "s"), 2 if suffix == ".pt" else 1, tmp_path / "s")
    assert path.name in message


def test_a_truncated_file_of_a_named_format_is_bad_data(tmp_path: Path) -> None:
    (tmp_path / "darcy_train_16.pt").write_bytes(b"PK\x03\x04 and no more")
    result = run("convert", tmp_path / "darcy_train_16.pt", tmp_path / "s", "--format", "neuraloperator")
    assert "is no torch file, damaged or cut short" in refused(result, 1, tmp_path / "s")


def test_a_missing_data_set_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["tensor"], file["t-coordinate"] = np.ones((9, 4, 64)), np.arange(5.0)
    message = refused(run("convert", tmp_path / "a.h5", tmp_path / "s"), 1, tmp_path / "s")
    assert "has no data set 'x-coordinate'. Did you mean 't-coordinate'?" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused(waves: Path, tmp_path: Path, value: float) -> None:
    values = np.load(waves.parent / "u.npy")
    values[3, 2, 30, 7] = value
    np.save(waves.parent / "u.npy", values)
    message = refused(run("convert", waves, tmp_path / "s"), 1, tmp_path / "s")
    assert f"waves.yaml: trajectory 3, frame 2, channel u, point (30, 7) holds {value}" in message
    assert "missing values are never filled" in message


def test_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["something"] = np.ones((9, 4))
    message = refused(run("convert", tmp_path / "a.h5", tmp_path / "s"), 2, tmp_path / "s")
    assert "a.h5 is in no format that is known here. It holds something." in message


@pytest.mark.parametrize("part", [[], ["--overwrite"]])
def test_foreign_files_are_left_alone(waves: Path, tmp_path: Path, part: list[str]) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.tex").write_text("years of work")
    message = told(run("convert", waves, tmp_path / "s", *part), 2)
    assert "exists and is no store of ours; it is left alone" in message
    assert (tmp_path / "s" / "thesis.tex").read_text() == "years of work"
    assert names_in(tmp_path) == {"raw", "s"}


def test_a_finished_store_is_replaced_only_when_asked(store: Path, waves: Path) -> None:
    before = (store / "manifest.json").read_bytes()
    message = told(run("convert", waves, store, "--seed", 1), 2)
    assert "already holds a finished store; choose another destination or pass --overwrite" in message
    assert (store / "manifest.json").read_bytes() == before
    assert run("validate", store).exit_code == 0
    assert run("convert", waves, store, "--seed", 1, "--overwrite").exit_code == 0
    assert ups_data.open_store(store).manifest.layout.seed == 1


def test_metrics_of_grids_are_misuse_on_scattered_points(tmp_path: Path) -> None:
    np.save(tmp_path / "u.npy", np.zeros((2, 3, 40), dtype="float32"))
    np.save(tmp_path / "points.npy", np.random.default_rng(0).random((40, 2)))
    (tmp_path / "cloud.yaml").write_text(
        "kind: points\ndims: [trajectory, time, point]\nfields: {u: {file: u.npy}}\naxes: {x: {}, y: {}}\n"
        "coordinates: {file: points.npy}\ntimes: {start: 0, step: 1}\n"
    )
    chosen = ["--importance", "vorticity=1"]
    message = refused(run("convert", tmp_path / "cloud.yaml", tmp_path / "s", *chosen), 2, tmp_path / "s")
    assert "'vorticity' is defined on grids, not on scattered points; use 'gradient' or 'temporal_change'" in message
    assert run("convert", tmp_path / "cloud.yaml", tmp_path / "s").exit_code == 0


def test_parts_by_the_command_line(waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preprocess.settings._MIB", 256)
    monkeypatch.setattr("preprocess.partition._TRAJECTORY_BYTES", 0)
    command = ["convert", waves, tmp_path / "s", "--name", "same"]
    content = parsed(run(*command, "--part", "2/2", "--json"))
    assert (content["part"], content["num_parts"], content["parts_left"]) == (2, 2, [1])
    message = told(run(*command, "--commit"), 2)
    assert "cannot be committed before all parts are done; run part 1/2 (not begun), then commit again" in message
    assert "parts left" not in run(*command, "--part", "1/2").stdout
    assert "5 trajectories (train 3, valid 1, test 1)" in run(*command, "--commit").stdout
    assert run("convert", waves, tmp_path / "whole", "--name", "same").exit_code == 0
    left, right = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "s", tmp_path / "whole")
    )
    assert left == right
    assert names_in(tmp_path) == {"raw", "s", "whole"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--part", "3"], "a part is NUMBER/COUNT, 1/8 to 8/8, got '3'"),
        (["--part", "9/8"], "a part must be one of 1/8 to 8/8, got 9/8"),
        (["--part", "1/2", "--commit"], "--part does one part and --commit puts all of them together"),
        (["--commit"], "was begun, so there is nothing to commit"),
        (["--dask", "localhost"], "--dask takes the address of a scheduler, tcp://HOST:PORT"),
        (["--dask", "tcp://127.0.0.1:9", "--workers", 2], "a cluster has workers of its own"),
    ],
)
def test_what_is_asked_of_parts_and_clusters_is_checked(
    waves: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert message in refused(run("convert", waves, tmp_path / "s", *arguments), 2, tmp_path / "s")


def test_a_cluster_without_dask_names_the_extra(run_command: RunCommand, waves: Path) -> None:
    code = "import sys; sys.modules['distributed'] = None\nfrom preprocess.cli import main\nmain()"
    result = run_command("convert", waves, "s", "--dask", "tcp://127.0.0.1:9", code=code)
    assert (result.returncode, result.stdout) == (2, "")
    assert 'dask.distributed is not installed: pip install "ups-data[dask]"' in result.stderr
