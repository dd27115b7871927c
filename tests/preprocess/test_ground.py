"""Trajectories that lie on one cloud share its order and what metrics make of it; the store does not show it."""

import numpy as np
import pytest

import preprocess.tasks.ground
import ups_data.importance.base
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from tests.memory_source import MemorySource, cloud
from ups_data.importance.least_squares import CloudGradient
from ups_data.pages import cloud_order


class OneBuffer(MemorySource):
    """Reads all coordinates into the same memory."""

    buffer = np.empty((90, 2))

    def read_coordinates(self, trajectory):
        self.buffer[...] = self.coordinates[trajectory][0]
        return (self.buffer,)


def make_source(kind: type[MemorySource]) -> MemorySource:
    places = [cloud(90, 2, seed=seed) for seed in (0, 0, 1, 0, 0)]
    for place in places:
        place[0, 0] = 0.0
    places[1][0, 0] = -0.0
    waves = [np.sin(9 * place[:, 0] + np.arange(6)[:, None]) for place in places]
    return kind.points([wave[:, None] for wave in waves], places)


@pytest.mark.parametrize("kind", [MemorySource, OneBuffer])
def test_a_shared_cloud_does_not_show(kind, tmp_path, monkeypatch):
    settings = ConvertSettings(name="same", page_points=8, frames_per_block=3)
    ordered, prepared = [], []
    prepare = CloudGradient._prepare

    def note_order(coordinates, **options):
        ordered.append(len(coordinates))
        return cloud_order(coordinates, **options)

    def note_run(self, number):
        prepared.append(number)
        return prepare(self, number)

    monkeypatch.setattr(preprocess.tasks.ground, "cloud_order", note_order)
    monkeypatch.setattr(CloudGradient, "_prepare", note_run)
    convert(make_source(kind), tmp_path / "shared", settings)
    counts = len(ordered), len(prepared)
    for module in (preprocess.tasks.ground, ups_data.importance.base):
        monkeypatch.setattr(module, "SHARED_POINTS", 0)
    convert(make_source(MemorySource), tmp_path / "apart", settings)
    # Three clouds, one after another; apart, each block of each trajectory has its own.
    assert counts == (3, 3)
    assert (len(ordered) - 3, len(prepared) - 3) == (5, 10)
    files = [
        {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (tmp_path / "shared", tmp_path / "apart")
    ]
    assert files[0] == files[1]
