"""Sources of every geometry that a store can hold, small and awkward, and what a store of them must answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ups_data
from preprocess.convert import ConvertSettings, convert
from tests.memory_source import MemorySource, cloud, even_nodes, wave_frames
from ups_data.coordinates import grid_coordinates
from ups_data.schema import FieldSpec, ImportanceSpec
from ups_data.storage import ZarrStore
from ups_data.testing.store_contract import StoreTruth

ON_POINTS = ImportanceSpec(metrics={"temporal_change": 1.0})
CODECS = ("none", "zstd", "blosc-lz4", "blosc-zstd")


def line(dtype: str = "float32") -> MemorySource:
    """1-D, periodic, parameters and splits of its own."""
    frames = [wave_frames((97,), num_frames=4, seed=seed, dtype=dtype) for seed in range(3)]
    parameters = [{"nu": 0.1 * seed, "Re": 10.0 - seed} for seed in range(3)]
    return MemorySource.grid(frames, periodic=True, parameters=parameters, splits=["test", "train", "train"])


def plane(dtype: str = "float32") -> MemorySource:
    """2-D, one axis periodic, a vector and a scalar."""
    frames = [wave_frames((24, 17), num_channels=3, seed=seed, dtype=dtype) for seed in range(3)]
    fields = (FieldSpec(name="velocity", components=("x", "y"), unit="m/s"), FieldSpec(name="pressure"))
    return MemorySource.grid(frames, periodic=(True, False), fields=fields)


def volume(dtype: str = "float32") -> MemorySource:
    """3-D."""
    frames = [wave_frames((9, 8, 7), num_frames=2, num_channels=2, seed=seed, dtype=dtype) for seed in range(2)]
    return MemorySource.grid(frames, periodic=(False, True, True))


def rectilinear(dtype: str = "float32") -> MemorySource:
    """2-D on uneven nodes that differ between trajectories."""
    frames = [wave_frames((15, 12), seed=seed, dtype=dtype) for seed in range(3)]
    nodes = [(even_nodes(15, False) ** (1 + seed), even_nodes(12, False)) for seed in range(3)]
    return MemorySource.grid(frames, nodes=nodes)


def ragged(dtype: str = "float32") -> MemorySource:
    """2-D, another shape and another number of frames in every trajectory."""
    shapes = [(12, 9), (3, 40), (1, 1), (25, 2), (12, 9)]
    frames = [
        wave_frames(shape, num_frames=1 + seed, num_channels=2, seed=seed, dtype=dtype)
        for seed, shape in enumerate(shapes)
    ]
    times = [np.linspace(1.0, 2.0 + seed, 1 + seed) for seed in range(len(shapes))]
    return MemorySource.grid(frames, times=times)


def flat_axis(dtype: str = "float32") -> MemorySource:
    """3-D with axes of length 1, one of them periodic."""
    frames = [wave_frames((1, 30, 1), seed=seed, dtype=dtype) for seed in range(2)]
    return MemorySource.grid(frames, periodic=(True, False, False))


def single_point(dtype: str = "float32") -> MemorySource:
    """One point, one frame, one trajectory."""
    return MemorySource.grid([np.full((1, 1, 1), 3.5, dtype=dtype)])


def steady(dtype: str = "float32") -> MemorySource:
    """2-D, single frames, as for Darcy flow; fewer points than a page holds."""
    return MemorySource.grid(
        [wave_frames((2, 3), num_frames=1, num_channels=2, seed=seed, dtype=dtype) for seed in range(4)]
    )


def scattered(dtype: str = "float32") -> MemorySource:
    """Points in the plane."""
    frames = [wave_frames((150,), num_channels=2, seed=seed, dtype=dtype) for seed in range(3)]
    return MemorySource.points(frames, [cloud(150, 2, seed=seed) for seed in range(3)])


def scattered_ragged(dtype: str = "float32") -> MemorySource:
    """Points in space, another number of them and of frames in every trajectory."""
    counts = (70, 1, 33, 128)
    frames = [wave_frames((count,), num_frames=1 + seed, seed=seed, dtype=dtype) for seed, count in enumerate(counts)]
    return MemorySource.points(frames, [cloud(count, 3, seed=seed) for seed, count in enumerate(counts)])


GEOMETRIES: dict[str, Callable[[str], MemorySource]] = {
    make.__name__: make
    for make in (
        line,
        plane,
        volume,
        rectilinear,
        ragged,
        flat_axis,
        single_point,
        steady,
        scattered,
        scattered_ragged,
    )
}


def settings_for(source: MemorySource, **settings: Any) -> ConvertSettings:
    """Return settings with an importance that the geometry allows."""
    recipe = {} if source.kind == "grid" else {"importance": ON_POINTS}
    return ConvertSettings(**{**recipe, **settings})


def make_store(source: MemorySource, dest: Path, **settings: Any) -> ZarrStore:
    """Convert a source and open the store."""
    convert(source, dest, settings_for(source, **settings))
    store = ups_data.open_store(dest)
    assert isinstance(store, ZarrStore)
    return store


def truth_of(source: MemorySource, store: ZarrStore) -> StoreTruth:
    """Return what the store of a source must answer, worked out without the code under test where that is possible."""
    drawn = {int(number): name for name, members in store.splits.items() for number in members}
    on_grid = source.kind == "grid"
    return StoreTruth(
        frames=[array.reshape(*array.shape[:2], -1) for array in source.frames],
        coordinates=[grid_coordinates(parts) if on_grid else parts[0] for parts in source.coordinates],
        times=[info.times for info in source.trajectories],
        parameters=[np.array(list(info.parameters.values())) for info in source.trajectories],
        splits=[info.split or drawn[number] for number, info in enumerate(source.trajectories)],
    )
