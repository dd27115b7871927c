"""Declared rounding: dense frames and pages hold the same rounded bits, and the manifest tells what it cost."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.console
import zarr

from preprocess.convert import ConvertSettings, convert
from preprocess.inspect import inspect_store
from preprocess.parts import commit_parts, convert_part, parse_part
from preprocess.plan import plan_conversion
from preprocess.repair import repair
from preprocess.sources import open_source
from preprocess.tasks import Worker
from preprocess.validate import validate
from tests.memory_source import MemorySource, wave_frames
from ups_data.errors import ConfigError, SourceError
from ups_data.rounding import measure_errors, round_values
from ups_data.schema import RoundingRule
from ups_data.storage import open_store

FRAMES = [wave_frames((20, 14), num_frames=5, num_channels=2, seed=seed) for seed in range(5)]
RULES = [{"round_mantissa_bits": 7}, {"round_float16": True}]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def grid(frames: list[np.ndarray] = FRAMES, **settings: Any) -> MemorySource:
    return MemorySource.grid(frames, **settings)


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tasks: shards of a KiB, and trajectories that are read twice, in chunks of two frames."""
    monkeypatch.setattr("preprocess.settings._MIB", 1024)
    monkeypatch.setattr("preprocess.partition._TRAJECTORY_BYTES", 0)
    monkeypatch.setattr("preprocess.partition.BLOCK_BYTES", 2 * FRAMES[0][0].nbytes)


@pytest.mark.parametrize("choice", RULES)
@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
@pytest.mark.parametrize("twice", [False, True])
def test_all_arrays_hold_the_rounded_values(choice: dict, codec: str, twice: bool, tmp_path: Path, request) -> None:
    if twice:
        request.getfixturevalue("small_tasks")
    settings = ConvertSettings(name="same", min_compressed_bytes=1, codec=codec, **choice)
    manifest = convert(grid(), tmp_path / "s", settings)
    rule = RoundingRule(mantissa_bits=choice.get("round_mantissa_bits"))
    expected = [np.stack([round_values(frame, rule) for frame in frames]) for frames in FRAMES]
    dense = zarr.open_array(tmp_path / "s" / "fields", mode="r")[...]
    np.testing.assert_array_equal(dense, np.concatenate(expected))
    store = open_store(str(tmp_path / "s"))
    for number, frames in enumerate(expected):
        np.testing.assert_array_equal(store.read_dense(number, range(5)).reshape(frames.shape), frames)
    # Each page entry is the dense value at its point, bit for bit.
    index = zarr.open_array(tmp_path / "s" / "pages/index", mode="r")[...]
    values = zarr.open_array(tmp_path / "s" / "pages/values", mode="r")[...]
    pages = len(index) // len(FRAMES)
    values = values.reshape(len(FRAMES), 5, pages, 2, -1)
    for number, frames in enumerate(expected):
        points = index[number * pages : (number + 1) * pages]
        there = points >= 0
        gathered = frames.reshape(5, 2, -1)[:, :, points].transpose(0, 2, 1, 3)
        taken = np.broadcast_to(there[None, :, None], gathered.shape)
        np.testing.assert_array_equal(values[number][taken], gathered[taken])
    assert manifest.rounding is not None
    assert manifest.rounding.rule == rule
    flat = [np.concatenate([part[:, c].reshape(-1) for part in FRAMES]) for c in range(2)]
    absolute, relative = measure_errors(np.stack(flat), round_values(np.stack(flat), rule))
    assert [error.max_absolute for error in manifest.rounding.errors] == absolute.tolist()
    assert [error.max_relative for error in manifest.rounding.errors] == relative.tolist()
    assert absolute.min() > 0
    assert validate(tmp_path / "s").ok


def test_statistics_and_importance_are_those_of_the_rounded_values(tmp_path: Path) -> None:
    rule = RoundingRule(mantissa_bits=3)
    rounded = [np.stack([round_values(frame, rule) for frame in frames]) for frames in FRAMES]
    found = convert(grid(), tmp_path / "a", ConvertSettings(name="same", round_mantissa_bits=3))
    expected = convert(grid(rounded), tmp_path / "b", ConvertSettings(name="same"))
    assert found.statistics == expected.statistics
    of_store, of_rounded = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert of_store.keys() == of_rounded.keys()
    assert [key for key in of_store if of_store[key] != of_rounded[key]] == ["manifest.json"]


def test_nothing_is_rounded_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert convert(grid(), tmp_path / "s", ConvertSettings()).rounding is None
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "s" / "fields", mode="r")[...], np.concatenate(FRAMES))


def test_missing_values_stay_missing(tmp_path: Path) -> None:
    frames = [frame.copy() for frame in FRAMES]
    frames[1][2, 0, 3:5] = np.nan
    manifest = convert(grid(frames, missing=("u0",)), tmp_path / "s", ConvertSettings(round_mantissa_bits=5))
    dense = zarr.open_array(tmp_path / "s" / "fields", mode="r")[...]
    np.testing.assert_array_equal(np.isnan(dense), np.isnan(np.concatenate(frames)))
    assert manifest.rounding is not None
    assert max(error.max_relative for error in manifest.rounding.errors) <= 2.0**-6


@pytest.mark.usefixtures("small_tasks")
def test_parts_and_interrupted_conversions_make_the_same_store(tmp_path: Path, monkeypatch) -> None:
    settings = ConvertSettings(name="same", shard_mib=2, round_mantissa_bits=6)
    convert(grid(), tmp_path / "whole", settings)
    for number in (3, 1, 2):
        convert_part(grid(), tmp_path / "parts", settings, parse_part(f"{number}/3"))
    commit_parts(grid(), tmp_path / "parts", settings)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    run, left = Worker.run, iter(range(4))

    def run_some(worker: Worker, task: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return run(worker, task)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "run", run_some)
        with pytest.raises(KeyboardInterrupt):
            convert(grid(), tmp_path / "resumed", settings)
    convert(grid(), tmp_path / "resumed", settings)
    assert contents(tmp_path / "resumed") == contents(tmp_path / "whole")


@pytest.mark.usefixtures("small_tasks")
@pytest.mark.parametrize(("choice", "largest"), [(RULES[0], 0), (RULES[1], 4)])
def test_several_workers_make_the_same_store_and_record_the_same_errors(
    choice: dict, largest: int, tmp_path: Path
) -> None:
    """Whichever trajectory has the largest errors, the first or the last, and so whichever worker meets them."""
    frames = [part * (8 if number == largest else 1) for number, part in enumerate(FRAMES)]
    settings = ConvertSettings(name="same", shard_mib=2, **choice)
    convert(grid(frames), tmp_path / "one", settings)
    manifest = convert(grid(frames), tmp_path / "two", settings, workers=2)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert manifest.rounding is not None
    values = np.moveaxis(frames[largest], 1, 0).reshape(2, -1)
    absolute, _ = measure_errors(values, round_values(values, manifest.rounding.rule))
    assert [error.max_absolute for error in manifest.rounding.errors] == absolute.tolist()


def test_repair_rounds_as_the_conversion_did(tmp_path: Path) -> None:
    np.save(tmp_path / "u.npy", np.stack(FRAMES)[:, :, 0])
    (tmp_path / "waves.yaml").write_text(
        "dims: [trajectory, time, x, y]\nfields: {u: {file: u.npy}}\ntimes: {start: 0, step: 1}\n"
        "axes: {x: {start: 0, stop: 1}, y: {start: 0, stop: 1}}\n"
    )
    convert(open_source([tmp_path / "waves.yaml"]), tmp_path / "s", ConvertSettings(round_mantissa_bits=9))
    before = contents(tmp_path / "s")
    for key in ("pages/values/c/0/0/0", "fields/c/0/0/0/0"):
        (tmp_path / "s" / key).unlink()
    assert len(repair(tmp_path / "s", [tmp_path / "waves.yaml"]).rebuilt) == 2
    assert contents(tmp_path / "s") == before


def test_inspect_shows_what_it_cost(tmp_path: Path) -> None:
    manifest = convert(grid(), tmp_path / "s", ConvertSettings(round_mantissa_bits=12))
    text = io.StringIO()
    rich.console.Console(width=200, file=text).print(inspect_store(open_store(str(tmp_path / "s"))).to_tables())
    assert manifest.rounding is not None
    assert "Rounded to 12 mantissa bits" in text.getvalue()
    for error in manifest.rounding.errors:
        row = rf"{error.channel} +│ +{error.max_absolute:.3g} │ +{error.max_relative:.3g}"
        assert re.search(row, text.getvalue())


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"round_mantissa_bits": 0}, "greater than or equal to 1"),
        ({"round_mantissa_bits": 52}, "less than or equal to 51"),
        ({"round_mantissa_bits": 12, "round_float16": True}, "values are rounded in one way"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        ConvertSettings(**settings)


def test_more_bits_than_there_are_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"round_mantissa_bits is 23, and the float32 of memory has 23 bits"):
        plan_conversion(grid(), ConvertSettings(round_mantissa_bits=23))
    wide = grid([frames.astype(np.float64) for frames in FRAMES])
    assert plan_conversion(wide, ConvertSettings(round_mantissa_bits=23)).rounding == RoundingRule(mantissa_bits=23)


def test_values_too_large_to_be_rounded_are_refused_with_their_place(tmp_path: Path) -> None:
    frames = [frame.copy() for frame in FRAMES]
    frames[2][1, 1, 4, 7] = 70000.0
    with pytest.raises(SourceError, match=r"frame 1, channel u1, point \(4, 7\) holds 70000\.0, which is too large"):
        convert(grid(frames), tmp_path / "s", ConvertSettings(round_float16=True))
    convert(grid(frames), tmp_path / "s", ConvertSettings(round_mantissa_bits=10))
