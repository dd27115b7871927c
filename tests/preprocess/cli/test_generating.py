"""`generate`, and the conversion of what it made."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.preprocess.cli.command_line import run, told

RunCommand = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["burger"], "there is no recipe 'burger'. Did you mean 'burgers'?"),
        (["burgers", "--frames", "1"], "num_frames: Input should be greater than or equal to 2, got 1"),
        (["burgers", "--resolution", "4"], "resolution: Input should be greater than or equal to 8, got 4"),
        (["burgers", "--viscosity", "-1"], "viscosity: Input should be greater than 0, got -1"),
        (["burgers", "--trajectories", "0"], "num_trajectories: Input should be greater than or equal to 1, got 0"),
    ],
)
def test_what_generate_is_asked_is_checked(tmp_path: Path, arguments: list[str], message: str) -> None:
    recipe, *options = arguments
    assert message in told(run("generate", recipe, tmp_path / "raw", *options), 2)
    assert not (tmp_path / "raw").exists()


def test_generate_convert_validate(run_command: RunCommand, tmp_path: Path) -> None:
    sizes = ["--trajectories", 3, "--frames", 3, "--resolution", 32]
    made = run_command("generate", "burgers", "raw", *sizes, "--json")
    assert made.returncode == 0, made.stderr
    content = json.loads(made.stdout)
    assert content["size_bytes"] == (tmp_path / "raw" / "burgers.npy").stat().st_size
    assert run_command("convert", content["description"], "s").returncode == 0
    assert run_command("validate", "s").returncode == 0
    fields = zarr.open_group(tmp_path / "s", mode="r")["fields"][:].reshape(3, 3, 32, 32)
    np.testing.assert_array_equal(fields, np.load(tmp_path / "raw" / "burgers.npy"))
    again = run_command("generate", "burgers", "raw", *sizes)
    assert again.returncode == 2
    assert "is there already; choose another folder or name, or pass --overwrite" in again.stderr
