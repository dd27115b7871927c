"""Data to convert by the command line, and a store of them."""

from pathlib import Path

import numpy as np
import pytest

from tests.memory_source import wave_frames
from tests.preprocess.cli.command_line import run

DESCRIPTION = """
dims: [trajectory, time, x, y]
fields: {u: {file: u.npy}}
axes: {x: {start: 0, stop: 1}, y: {start: 0, stop: 1}}
times: {start: 0, step: 1}
"""


@pytest.fixture
def waves(tmp_path: Path) -> Path:
    """A description of five trajectories of three frames on 32 x 24 nodes."""
    folder = tmp_path / "raw"
    folder.mkdir()
    values = np.stack([wave_frames((32, 24), seed=seed)[:, 0] for seed in range(5)])
    np.save(folder / "u.npy", values)
    (folder / "waves.yaml").write_text(DESCRIPTION)
    return folder / "waves.yaml"


@pytest.fixture
def store(waves: Path, tmp_path: Path) -> Path:
    assert run("convert", waves, tmp_path / "s").exit_code == 0
    return tmp_path / "s"
