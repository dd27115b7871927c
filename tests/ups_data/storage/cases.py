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
from ups_data.schema import AxisSpec, FieldSpec, ImportanceSpec
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


def long(dtype: str = "float32") -> MemorySource:
    """1-D, more frames than a block, each trajectory another number of them."""
    counts = (11, 4, 1, 9)
    frames = [wave_frames((60,), num_frames=count, num_channels=2, seed=count, dtype=dtype) for count in counts]
    return MemorySource.grid(frames, settings={"frames_per_block": 4, "target_span": 2})


def ocean(dtype: str = "float32") -> MemorySource:
    """Latitudes and longitudes; one variable lacks land, one has gaps that move, one is everywhere; integrals."""
    frames = [wave_frames((14, 20), num_frames=4, num_channels=3, seed=seed, dtype=dtype) for seed in range(3)]
    for seed, values in enumerate(frames):
        land = np.zeros((14, 20), dtype=bool)
        land[3:9, 2 + seed : 11] = True
        values[:, :, land] = np.nan
        values[:, 0, 10:, 15:] = np.nan
        for frame in range(4):
            values[frame, 1, :, 3 * frame : 3 * frame + 4] = np.nan
    axes = (
        AxisSpec(name="latitude", lower=-90.0, upper=90.0, unit="degrees_north", kind="latitude"),
        AxisSpec(name="longitude", lower=0.0, upper=360.0, periodic=True, unit="degrees_east", kind="longitude"),
    )
    nodes = [(np.linspace(-84.0, 84.0, 14), np.arange(20) * 18.0)] * 3
    missing = ("u0", "u1", "u2")
    return MemorySource.grid(frames, axes=axes, nodes=nodes, missing=missing, settings={"estimand": "integral"})


def sensors(dtype: str = "float32") -> MemorySource:
    """Points with areas of their own, some of which never report and others now and then; blocks of frames."""
    counts = (90, 40)
    frames = [wave_frames((count,), num_frames=7, num_channels=2, seed=count, dtype=dtype) for count in counts]
    for values in frames:
        random = np.random.default_rng(values.shape[2])
        values[:, 0, ::7] = np.nan
        values[:, 1][random.random(values[:, 1].shape) < 0.3] = np.nan
        values[:3, 1, ::7] = np.nan
    measures = [np.random.default_rng(count).gamma(2.0, size=count) for count in counts]
    settings = {"frames_per_block": 3, "target_span": 3}
    places = [cloud(count, 2, seed=count) for count in counts]
    return MemorySource.points(frames, places, missing=("u0", "u1"), measures=measures, settings=settings)


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
        long,
        ocean,
        sensors,
    )
}


def settings_for(source: MemorySource, **settings: Any) -> ConvertSettings:
    """Return settings with an importance that the geometry allows, and a codec for all rows, however short."""
    recipe = {} if source.kind == "grid" else {"importance": ON_POINTS}
    return ConvertSettings(**{"min_compressed_bytes": 1, **recipe, **source.settings, **settings})


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
