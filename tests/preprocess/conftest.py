"""Source files, written in the layouts of their formats, and the command line in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

WriteArrays = Callable[..., Path]
WriteHDF5 = Callable[..., Path]
RunCommand = Callable[..., subprocess.CompletedProcess[str]]

DESCRIPTION = """
dims: [trajectory, time, component, x, y]
fields:
  velocity: {file: velocity.npy, components: [x, y], unit: m/s}
  permeability: {file: rest.npz, key: a, dims: [trajectory, x, y]}
axes:
  x: {start: 0.0, stop: 1.0, periodic: true, unit: m}
  y: {file: rest.npz, key: y, extent: [0.0, 2.0]}
times: {start: 0.0, step: 0.05, unit: s}
parameters: {viscosity: {value: 1e-3, unit: m2/s}, seedling: {values: [1, 2, 3.5]}}
split: {train: 2, test: 1}
notes: [made by hand]
"""


@pytest.fixture
def write_arrays(tmp_path: Path) -> WriteArrays:
    """Writes three trajectories of four frames on a 5 x 6 grid, and a description; pairs of text are replaced in it."""

    def write(*replacements: tuple[str, str], **arrays: np.ndarray) -> Path:
        random = np.random.default_rng(0)
        velocity = random.normal(size=(3, 4, 2, 5, 6)).astype("float32")
        rest = {"a": random.random((3, 5, 6)) > 0.5, "y": np.linspace(0.0, 1.8, 6)}
        np.save(tmp_path / "velocity.npy", arrays.pop("velocity", velocity))
        np.savez(tmp_path / "rest.npz", **{**rest, **arrays})
        text = DESCRIPTION
        for old, new in replacements:
            assert old in text, f"nothing to replace: {old!r}"
            text = text.replace(old, new)
        path = tmp_path / "made.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def write_hdf5(tmp_path: Path) -> WriteHDF5:
    """Writes data sets by full name, with attributes of the file, and of groups by name."""

    def write(
        name: str,
        datasets: Mapping[str, Any],
        attributes: Mapping[str, Any] | None = None,
        group_attributes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Path:
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            for key, values in datasets.items():
                options = {"compression": "lzf"} if np.ndim(values) else {}
                file.create_dataset(key, data=values, **options)
            file.attrs.update(attributes or {})
            for group, content in (group_attributes or {}).items():
                file[group].attrs.update(content)
        return path

    return write


@pytest.fixture
def run_command(tmp_path: Path) -> RunCommand:
    """Runs `python -m preprocess` from an empty folder and returns what it said."""

    def run(*arguments: object, code: str | None = None) -> subprocess.CompletedProcess[str]:
        program = ["-m", "preprocess"] if code is None else ["-c", code]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "JAX_PLATFORMS": "cpu"}
        return subprocess.run(
            [sys.executable, *program, *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )

    return run
