"""A frame that is cut into slabs has the maps of the whole frame, to the bit."""

import numpy as np
import pytest

from tests.memory_source import wave_frames
from ups_data.importance import GridGeometry, ImportanceMap, Subject, differences, temporal_change
from ups_data.schema import FieldSpec, ImportanceSpec

FIELDS = (FieldSpec(name="velocity", components=("x", "y")),)


def map_of(frames: np.ndarray, geometry: GridGeometry, metric: str) -> np.ndarray:
    subject = Subject(kind="grid", axes=("x", "y"), fields=FIELDS)
    importance = ImportanceMap(ImportanceSpec(metrics={metric: 1.0}), geometry, subject)
    for frame in frames:
        importance.update(frame)
    return importance.result()


@pytest.mark.parametrize("metric", ["gradient", "curvature", "vorticity", "temporal_change"])
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("gap", [None, 0, 1])
@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 13])
@pytest.mark.parametrize("even", [True, False])
def test_slabs_change_no_bit(metric: str, periodic: bool, gap: int | None, nodes: int, even: bool, monkeypatch) -> None:
    frames = wave_frames((nodes, 9), num_channels=2)
    if gap is not None:  # the first of them in one channel
        frames[1, gap, nodes // 2, 2:5] = np.nan
        frames[2:, :, 0, 8] = np.nan
    axes = (np.linspace(0, 1, nodes + periodic)[:nodes] ** (1 if even else 1.5), np.linspace(0, 1, 9))
    geometry = GridGeometry(axes=axes, periods=((1.0 if even else 1.1) if periodic else None, None))
    assert (geometry.spacings[0] is not None) == (nodes > 1 if even else nodes == 2 and not periodic)
    whole = map_of(frames, geometry, metric)
    for values in (18, 36, 54):  # one, two or three nodes of the first axis at once
        for module in (differences, temporal_change):
            monkeypatch.setattr(module, "_SLAB_VALUES", values)
        np.testing.assert_array_equal(map_of(frames, geometry, metric), whole)
