"""A source made of another one tells what that one tells, and is never opened from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from preprocess.forecast.sample import _Cut, _CutSource
from preprocess.sources import Source
from preprocess.sources.off_grid import OffGridSource
from preprocess.sources.wrapped import WrappedSource
from tests.memory_source import MemorySource, wave_frames
from ups_data.errors import UnknownFormatError
from ups_data.schema import BoundarySpec, OffGridSpec

# What a source of grids sets, but where its files lie and what its trajectories are.
TOLD = ("fields", "axes", "time_unit", "parameter_units", "boundaries", "missing_fields", "dtype")


def make_source() -> MemorySource:
    """Return a source of which nothing is as it is by default."""
    frames = [wave_frames((12, 10), num_frames=3, num_channels=2, seed=seed) for seed in range(2)]
    parameters = [{"nu": 0.1}, {"nu": 0.2}]
    source = MemorySource.grid(frames, periodic=(True, False), parameters=parameters, missing=["u1"])
    source.time_unit, source.parameter_units = "s", {"nu": "m2/s"}
    source.boundaries = (BoundarySpec(name="wall", kind="wall", axes=("y",)),)
    return source


def wrap(kind: str, source: Source) -> WrappedSource:
    if kind == "off_grid":
        return OffGridSource(source, OffGridSpec(points=7, scheme="linear", seed=1))
    return _CutSource(source, _Cut(trajectories=(1,), num_frames=2))


@pytest.mark.parametrize("kind", ["off_grid", "sample"])
def test_what_the_other_source_tells_is_told(kind: str) -> None:
    source = make_source()
    wrapped = wrap(kind, source)
    for name in TOLD:
        assert getattr(wrapped, name) == getattr(source, name), name
        assert getattr(source, name) != getattr(Source, name, None), f"{name} is as it is by default"
    assert wrapped.subject == source.subject
    np.testing.assert_array_equal(wrapped.may_miss, [False, True])
    assert wrapped.trajectories[-1].parameters == {"nu": 0.2}


@pytest.mark.parametrize(("kind", "what"), [("off_grid", "points between the nodes"), ("sample", "a part")])
def test_it_has_no_file(kind: str, what: str, tmp_path: Path) -> None:
    wrapped = wrap(kind, make_source())
    assert not wrapped.recognises(tmp_path)
    with pytest.raises(UnknownFormatError, match=rf"{what} of another source has no file of its own"):
        type(wrapped).open([tmp_path], {})


def test_a_sample_of_points_between_nodes_is_off_the_grid_too() -> None:
    between = wrap("off_grid", make_source())
    sample = wrap("sample", between)
    assert (sample.off_grid, sample.has_measures, sample.kind) == (between.off_grid, True, "points")
    assert wrap("sample", make_source()).off_grid is None
