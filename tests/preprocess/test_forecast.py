"""A forecast says before a conversion what the conversion then does: sizes to the byte, memory and time in bounds."""

import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import rich.console

import ups_data
from preprocess.convert import convert
from preprocess.forecast import Forecast, forecast
from preprocess.forecast.records import format_seconds
from preprocess.inspect import inspect_store
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from tests.memory_source import MemorySource, cloud, wave_frames
from tests.preprocess.sources.meshes import plane, with_data
from tests.ups_data.storage.cases import GEOMETRIES, make_store, settings_for
from ups_data.errors import ConfigError, SourceError
from ups_data.schema import BoundarySpec, ImportanceSpec


def sizes(made: Forecast) -> dict[str, int]:
    return {part.key: part.size_bytes for part in made.parts}


def planned(source: MemorySource, **settings: object) -> Forecast:
    return forecast(source, settings_for(source, **settings), sample_bytes=0)


# -- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_sizes_are_those_of_the_conversion_to_the_byte(name: str, dtype: str, tmp_path: Path) -> None:
    source = GEOMETRIES[name](dtype)
    made = planned(source)
    store = make_store(source, tmp_path / "s")
    summary = inspect_store(store)
    assert sizes(made) == summary.part_bytes
    assert (made.size_bytes, made.stored_bytes) == (summary.size_bytes, summary.size_bytes)
    shards = [entry.key for entry in store.manifest.files if "/c/" in entry.key and "trajectories" not in entry.key]
    assert made.num_shards == len(shards)
    manifest = store.manifest
    assert (made.layout, made.importance, made.splits) == (manifest.layout, manifest.importance, manifest.splits)
    assert (made.num_trajectories, made.num_frames) == (manifest.num_trajectories, manifest.num_frames)


@pytest.mark.parametrize("choices", [{"page_points": 16}, {"num_strata": 2}, {"dense": "rebuilt"}, {"shard_mib": 1}])
def test_sizes_follow_the_settings(choices: dict[str, object], tmp_path: Path) -> None:
    source = MemorySource.grid([wave_frames((96, 80), num_frames=21, num_channels=2) for _ in range(2)])
    made = planned(source, **choices)
    assert sizes(made) == inspect_store(make_store(source, tmp_path / "s", **choices)).part_bytes
    assert made.num_shards == sum(part.num_shards or 0 for part in made.parts)
    assert (made.num_shards > len([part for part in made.parts if part.num_shards])) == ("shard_mib" in choices)


def test_planning_reads_no_field_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = GEOMETRIES["plane"]("float32")
    monkeypatch.chdir(tmp_path)
    source.frames = []
    assert planned(source).size_bytes > 0
    assert list(tmp_path.iterdir()) == []


# -- why -------------------------------------------------------------------------------------------------------------


def test_choices_are_explained_and_what_is_set_is_said_to_be() -> None:
    source = GEOMETRIES["plane"]("float32")
    reasons = planned(source).reasons
    assert "408 points, the median" in reasons["page_points"]
    assert "51 pages" in reasons["num_strata"]
    assert reasons["dense"] == "all trajectories share one grid"
    assert planned(GEOMETRIES["ragged"]("float32")).reasons["dense"] == "no one grid of all trajectories"
    chosen = planned(source, page_points=8, num_strata=2, block_points=1, dense="rebuilt").reasons
    assert set(chosen.values()) == {"as set"}


# -- the sample ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_geometry_can_be_sampled_and_nothing_is_left(name: str, tmp_path: Path) -> None:
    source = GEOMETRIES[name]("float32")
    made = forecast(source, settings_for(source), scratch=tmp_path, sample_bytes=4096)
    assert made.sample is not None
    assert made.memory is not None
    assert 0 < made.sample.share <= 1
    assert 0 < made.sample.sample_seconds <= made.sample.seconds
    assert list(tmp_path.iterdir()) == []


def test_a_sample_is_small_and_said_to_be(tmp_path: Path) -> None:
    frames = [wave_frames((64, 64), num_frames=10, seed=seed) for seed in range(20)]
    source = MemorySource.grid(frames)
    one = 10 * 64 * 64 * 4
    made = [forecast(source, ConvertSettings(), scratch=tmp_path, sample_bytes=size) for size in (one // 2, 3 * one)]
    samples = [part.sample for part in made if part.sample is not None]
    assert [(len(sample.trajectories), sample.num_frames) for sample in samples] == [(1, 5), (3, 30)]
    assert [sample.share for sample in samples] == pytest.approx([5 / 200, 30 / 200])
    assert samples[1].trajectories == (5, 10, 14)


def test_a_sample_of_everything_takes_no_longer_than_it_says(tmp_path: Path) -> None:
    source = GEOMETRIES["single_point"]("float32")
    sample = forecast(source, ConvertSettings(), scratch=tmp_path).sample
    assert sample is not None
    assert sample.share == 1
    assert sample.seconds == pytest.approx(sample.sample_seconds)


def test_compression_is_taken_from_the_sample(tmp_path: Path) -> None:
    frames = [np.round(wave_frames((64, 64), num_frames=8, seed=seed), 1) for seed in range(8)]
    source, settings = (
        MemorySource.grid(frames),
        ConvertSettings(codec="blosc-zstd", min_compressed_bytes=1, page_points=256),
    )
    made = forecast(source, settings, scratch=tmp_path)
    convert(source, tmp_path / "s", settings)
    found = inspect_store(ups_data.open_store(tmp_path / "s"))
    assert made.stored_bytes == pytest.approx(found.size_bytes, rel=0.1)
    assert found.size_bytes < 0.8 * made.size_bytes
    assert forecast(source, settings, sample_bytes=0).stored_bytes is None


SHAPES = {
    "many frames": lambda: MemorySource.grid([wave_frames((64, 64), num_frames=80)]),
    "large frames": lambda: MemorySource.grid([wave_frames((512, 512), num_frames=4) for _ in range(2)]),
    "channels": lambda: MemorySource.grid([wave_frames((128, 96), num_frames=6, num_channels=4)]),
    "cloud": lambda: MemorySource.points(
        [wave_frames((count,), num_frames=6) for count in (5_000, 40_000)],
        [cloud(count, 3) for count in (5_000, 40_000)],
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_memory_that_is_told_suffices_and_is_not_far_off(name: str, tmp_path: Path) -> None:
    source = SHAPES[name]()
    made = forecast(source, settings_for(source), scratch=tmp_path, sample_bytes=2**20)
    assert made.memory is not None
    tracemalloc.start()
    try:
        convert(source, tmp_path / "s", settings_for(source))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= made.memory.data_bytes <= 5 * peak
    assert made.memory.total_bytes > made.memory.base_bytes + made.memory.data_bytes


def test_bad_values_in_the_sample_are_refused_as_by_the_conversion(tmp_path: Path) -> None:
    frames = wave_frames((16, 16))
    frames[0, 0, 3, 4] = np.nan
    with pytest.raises(SourceError, match=r"frame 0, channel u0, point \(3, 4\) holds nan"):
        forecast(MemorySource.grid([frames]), ConvertSettings(), scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere is no folder"):
        forecast(GEOMETRIES["line"]("float32"), ConvertSettings(), scratch=tmp_path / "nowhere")


# -- what is shown ---------------------------------------------------------------------------------------------------


def printed(made: Forecast) -> str:
    text = io.StringIO()
    rich.console.Console(width=200, file=text).print(made.to_tables())
    return text.getvalue()


def test_the_record_is_json_and_the_tables_tell_it(tmp_path: Path) -> None:
    source = GEOMETRIES["plane"]("float32")
    made = forecast(source, ConvertSettings(codec="zstd", min_compressed_bytes=1), scratch=tmp_path, sample_bytes=4096)
    content = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert content["size_bytes"] == sum(part["size_bytes"] for part in content["parts"])
    assert content["memory"]["total_bytes"] > 0
    assert content["layout"] == made.layout.model_dump(mode="json")
    text = printed(made)
    for part in made.parts:
        assert f"{part.size_bytes:,}" in text
    for words in (
        "24 x 17",
        "velocity.x, velocity.y, pressure",
        "pages/values",
        "size with zstd: about",
        "time: about",
    ):
        assert words in text
    assert "1 trajectories, 2 frames" in text
    without = printed(forecast(source, ConvertSettings(), sample_bytes=0))
    assert "no sample was converted" in without
    assert "Memory" not in without


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.96, "10.0 s"), (38.2, "38 s"), (720.0, "12 min"), (19800.0, "5.5 h")]
)
def test_format_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_samples_know_the_boundaries_and_meshes_of_the_whole(tmp_path: Path) -> None:
    grid = with_data(plane())
    grid.save(tmp_path / "a.vtu")
    mesh = open_source([tmp_path / "a.vtu"], options={"fields": ["p"]})
    walled = MemorySource.grid([wave_frames((32,))])
    walled.boundaries = (BoundarySpec(name="inlet", kind="wall", axes=("x",), sides=("lower",)),)
    for source, metric in ((mesh, "distance:edges"), (walled, "distance:inlet")):
        settings = ConvertSettings(importance=ImportanceSpec(metrics={metric: 1.0}), page_points=1, num_strata=1)
        made = forecast(source, settings, scratch=tmp_path, sample_bytes=1)
        assert made.sample is not None
        assert made.sample.num_values > 0


def told(made: Forecast) -> str:
    text = io.StringIO()
    rich.console.Console(file=text, width=400).print(made.to_tables())
    return text.getvalue()


def test_a_plan_says_what_dense_frames_cost_and_which_layout_is_worth_most(tmp_path: Path) -> None:
    source = MemorySource.grid([wave_frames((24, 24), num_frames=4, seed=seed) for seed in range(2)], periodic=True)
    settings = ConvertSettings(page_points=8)
    made = forecast(source, settings, scratch=tmp_path, layouts_ratio=0.3)
    assert made.frame_reads is not None
    assert made.frame_reads.stored_seconds is not None
    room = next(part.size_bytes for part in made.parts if part.key == "fields")
    text = told(made)
    assert f"{room / made.size_bytes:.0%} of the store, which dense: rebuilt saves" in text
    assert "chunk" in text
    assert "a page of all channels, what a draw reads at once; a shard holds" in text
    # What the sample says is what `prove` would say of a store of the same trajectories.
    assert made.layouts is not None
    assert made.layouts.best is not None
    assert f"on the sample: {next(made.layouts.lines())}" in text
    assert json.loads(json.dumps(made.to_dict()))["layouts"]["ratio"] == 0.3
    rebuilt = forecast(source, settings.model_copy(update={"dense": "rebuilt"}), scratch=tmp_path)
    assert rebuilt.frame_reads is not None
    assert (rebuilt.frame_reads.stored_seconds, rebuilt.layouts) == (None, None)
    assert "a frame of the sample is read from its pages in" in told(rebuilt)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="layouts are compared on a sample"):
        forecast(source, settings, sample_bytes=0, layouts_ratio=0.3)
