"""Random damage to files of VTK: typed errors or valid meshes, whatever VTK's own readers do."""

from pathlib import Path

import numpy as np


def test_damaged_files_give_errors_or_meshes(import_script, tmp_path: Path) -> None:
    soak = import_script("soak_vtk")
    outcomes, _ = soak.soak(tmp_path, count=120, seed=1)
    assert sum(outcomes.values()) == 120
    assert {outcome for _, outcome in outcomes} >= {"refused", "read"}
    assert not any(outcome in {"hung", "killed"} for _, outcome in outcomes)


def test_damage_follows_the_seed(import_script) -> None:
    soak = import_script("soak_vtk")
    content = bytes(200)
    first, again, other = (soak.damage(content, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first == again
    assert len({content, first, other}) == 3
