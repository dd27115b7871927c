"""Stores of points between nodes: the same bytes whoever makes them, whole, proven, packed, repaired and told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer.testing

import ups_data
from preprocess.cli import app
from preprocess.convert import ConvertSettings, convert
from preprocess.forecast import forecast
from preprocess.inspect import inspect_store
from preprocess.pack import pack
from preprocess.partition import Part
from preprocess.parts import commit_parts, convert_part
from preprocess.prove import prove
from preprocess.prove.layouts import recommend_layout
from preprocess.repair import repair
from preprocess.sources import open_source
from preprocess.sources.off_grid import OffGridSource
from preprocess.validate import validate
from tests.memory_source import MemorySource, StumblingSource, wave_frames
from ups_data.errors import ConfigError, SchemaError, SourceError
from ups_data.schema import ImportanceSpec, Manifest, OffGridSpec

CUBIC = OffGridSpec(scheme="cubic", ratio=1.5, seed=2)
SETTINGS = ConvertSettings(name="same", shard_mib=1, page_points=8, num_strata=2)
GRIDS = """
dims: [trajectory, time, x, y]
fields: {u: {file: u.npy}}
axes: {x: {start: 0, stop: 1, periodic: true}, y: {start: 0, stop: 1}}
times: {start: 0, step: 1}
"""


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 1 KiB and blocks of 5 KB, so that small sources make many tasks; two trajectories are long."""
    monkeypatch.setattr("preprocess.settings._MIB", 1024)
    monkeypatch.setattr("preprocess.partition.BLOCK_BYTES", 5000)
    monkeypatch.setattr("preprocess.partition._TRAJECTORY_BYTES", 0)


def grids(make: type[MemorySource] = MemorySource) -> MemorySource:
    frames = [wave_frames((12, 11), num_frames=count, num_channels=2, seed=count) for count in (2, 5, 1, 6)]
    return make.grid(frames, periodic=(True, False))


def ocean() -> MemorySource:
    """A coast that does not move, and a field that is missing here and there."""
    frames = [wave_frames((20, 18), num_frames=4, num_channels=2, seed=seed) for seed in range(3)]
    for values in frames:
        values[:, :, 3:9, 4:8] = np.nan
        values[1, 1, 15, ::2] = np.nan
    return MemorySource.grid(frames, periodic=(True, False), missing=("u0", "u1"))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# -- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [grids, ocean])
def test_what_stands_on_pages_is_what_the_source_interpolates(make, tmp_path: Path) -> None:
    source = OffGridSource(make(), CUBIC)
    manifest = convert(source, tmp_path / "s", SETTINGS)
    assert validate(tmp_path / "s").problems == ()
    store = ups_data.open_store(tmp_path / "s")
    assert (manifest.version, manifest.geometry.kind, manifest.layout.dense) == (2, "points", "rebuilt")
    for trajectory, info in enumerate(source.trajectories):
        np.testing.assert_array_equal(
            store.read_dense(trajectory, range(info.num_frames)), source.read_frames(trajectory, 0, info.num_frames)
        )
        np.testing.assert_array_equal(store.coordinates(trajectory), source.read_coordinates(trajectory)[0])
        np.testing.assert_array_equal(store.measures(trajectory), source.read_measures(trajectory))


def test_points_beside_a_coast_that_does_not_move_are_never_drawn(tmp_path: Path) -> None:
    source = OffGridSource(ocean(), CUBIC)
    convert(source, tmp_path / "s", SETTINGS)
    store = ups_data.open_store(tmp_path / "s")
    for trajectory in range(3):
        seen = np.isfinite(source.read_frames(trajectory, 0, 4)).any(axis=(0, 1))
        assert 0.5 < seen.mean() < 0.95
        np.testing.assert_array_equal(store.drawn_points(trajectory), np.flatnonzero(seen))


def test_the_manifest_tells_how_far_values_are_off(tmp_path: Path) -> None:
    source = OffGridSource(grids(), CUBIC)
    told = convert(source, tmp_path / "s", SETTINGS).off_grid
    assert told is not None
    assert (told.scheme, told.ratio, told.points, told.seed) == ("cubic", 1.5, None, 2)
    arrays = []
    for trajectory, info in enumerate(source.trajectories):
        survey = source.survey(trajectory, [(0, info.num_frames)], ImportanceSpec(metrics={"gradient": 1.0}))
        survey.measure_block(0)
        arrays.append(survey.deviations())
    for channel, record in enumerate(told.deviations):
        counts, squares, largest = np.stack(arrays)[:, :, channel].T
        assert record.count == counts.sum() == 14 * 6 * 5
        assert record.rms == pytest.approx(np.sqrt(squares.sum() / counts.sum()))
        assert record.max == largest.max()


def test_metrics_of_grids_alone_serve_points_between_their_nodes(tmp_path: Path) -> None:
    """`vorticity` and `curvature` are measured on the nodes."""
    settings = SETTINGS.model_copy(update={"importance": ImportanceSpec(metrics={"curvature": 1.0, "variance": 1.0})})
    convert(OffGridSource(grids(), CUBIC), tmp_path / "s", settings)
    importance = ups_data.open_store(tmp_path / "s").importance(1)
    assert importance.mean() == pytest.approx(1.0, rel=1e-5)
    assert importance.std() > 0.1


def test_sizes_are_planned_to_the_byte(tmp_path: Path) -> None:
    source = OffGridSource(ocean(), CUBIC)
    made = forecast(source, SETTINGS, sample_bytes=0)
    convert(source, tmp_path / "s", SETTINGS)
    summary = inspect_store(ups_data.open_store(tmp_path / "s"))
    assert {part.key: part.size_bytes for part in made.parts} == summary.part_bytes
    sampled = forecast(source, SETTINGS, scratch=tmp_path, sample_bytes=4096)
    assert sampled.sample is not None


# -- who makes it ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_tasks")
@pytest.mark.parametrize("blocks", [None, 3])
def test_parts_and_resumed_conversions_write_the_same_bytes(blocks: int | None, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"frames_per_block": blocks, "target_span": blocks and 2})
    source = OffGridSource(grids(), CUBIC)
    convert(source, tmp_path / "whole", settings)
    wanted = contents(tmp_path / "whole")
    for number in (2, 1):
        convert_part(source, tmp_path / "parts", settings, Part(number=number, count=2))
    commit_parts(source, tmp_path / "parts", settings)
    assert contents(tmp_path / "parts") == wanted
    stumbling = OffGridSource(grids(StumblingSource).stumble(3, tmp_path / "go", deadly=False), CUBIC)
    with pytest.raises(SourceError, match="cannot be read now"):
        convert(stumbling, tmp_path / "resumed", settings)
    (tmp_path / "go").touch()
    convert(stumbling, tmp_path / "resumed", settings)
    assert contents(tmp_path / "resumed") == wanted
    assert validate(tmp_path / "resumed").ok


def test_workers_write_the_same_bytes(tmp_path: Path) -> None:
    source = OffGridSource(grids(), CUBIC)
    for workers in (1, 2):
        convert(source, tmp_path / f"{workers}", SETTINGS, workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@pytest.mark.usefixtures("small_tasks")
def test_another_spec_is_another_conversion(tmp_path: Path) -> None:
    stumbling = grids(StumblingSource).stumble(3, tmp_path / "go", deadly=False)
    with pytest.raises(SourceError):
        convert(OffGridSource(stumbling, CUBIC), tmp_path / "s", SETTINGS)
    (tmp_path / "go").touch()
    other = OffGridSource(stumbling, CUBIC.model_copy(update={"seed": 3}))
    with pytest.raises(ups_data.UpsDataError, match="begun with another"):
        convert(other, tmp_path / "s", SETTINGS)


@pytest.fixture
def description(tmp_path: Path) -> Path:
    np.save(tmp_path / "u.npy", np.stack([wave_frames((12, 11), seed=seed)[:, 0] for seed in range(4)]))
    (tmp_path / "made.yaml").write_text(GRIDS)
    return tmp_path / "made.yaml"


def test_a_damaged_file_is_rebuilt_from_the_grids(description: Path, tmp_path: Path) -> None:
    convert(OffGridSource(open_source([description]), CUBIC), tmp_path / "s", SETTINGS)
    wanted = contents(tmp_path / "s")
    for key in ("pages/values/c/0/0/0", "pages/coordinates/c/0/0/0", "trajectories/stratum_mass/c/0/0"):
        (tmp_path / "s" / key).unlink()
    assert len(repair(tmp_path / "s", [description]).rebuilt) == 3
    assert contents(tmp_path / "s") == wanted


# -- what is done with it --------------------------------------------------------------------------------------------


def test_it_is_packed_and_unpacked(tmp_path: Path) -> None:
    convert(OffGridSource(ocean(), CUBIC), tmp_path / "s", SETTINGS)
    pack(str(tmp_path / "s"), tmp_path / "tar", to="webdataset")
    assert validate(tmp_path / "tar").ok
    assert pack(str(tmp_path / "tar"), tmp_path / "back", to="zarr").identical
    assert contents(tmp_path / "back") == contents(tmp_path / "s")


@pytest.mark.parametrize("estimand", ["mean", "integral"])
def test_draws_of_it_are_proven_unbiased(estimand: str, tmp_path: Path) -> None:
    convert(OffGridSource(ocean(), CUBIC), tmp_path / "s", SETTINGS.model_copy(update={"estimand": estimand}))
    report = prove(ups_data.open_store(tmp_path / "s"), ratio=0.2, draws=200, num_trajectories=1)
    assert report.ok
    assert report.samplers == ("dense", "uniform", "stratified", "balanced", "importance")


def test_layouts_are_looked_for_on_the_grid(tmp_path: Path) -> None:
    convert(OffGridSource(grids(), CUBIC), tmp_path / "s", SETTINGS)
    with pytest.raises(ConfigError, match="find the layout of the grid's own store"):
        recommend_layout(ups_data.open_store(tmp_path / "s"), trajectories=[0], ratio=0.1)


def run(*arguments: object) -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})


def test_the_command_line_makes_and_shows_one(description: Path, tmp_path: Path) -> None:
    choices = ("--off-grid", "linear", "--off-grid-points", 90, "--seed", 5, "--json")
    made = run("convert", description, tmp_path / "s", *choices)
    assert made.exit_code == 0, made.output
    shown = run("inspect", tmp_path / "s")
    assert "Values between nodes, linear" in shown.stdout
    assert "points between the nodes, 90 a trajectory, seed 5; values by linear interpolation" in shown.stdout
    told = json.loads(run("inspect", tmp_path / "s", "--json").stdout)["manifest"]["off_grid"]
    assert (told["scheme"], told["points"], told["ratio"], told["seed"]) == ("linear", 90, None, 5)
    assert told["deviations"][0]["count"] == 12 * 6 * 5
    assert run("validate", tmp_path / "s").exit_code == 0
    planned = run("plan", description, *choices)
    assert json.loads(planned.stdout)["size_bytes"] == json.loads(made.stdout)["size_bytes"]


def test_a_configuration_file_and_the_command_line_go_together(description: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("off_grid: {scheme: cubic, ratio: 0.5}\n")
    made = run(
        "convert", description, tmp_path / "s", "--config", tmp_path / "c.yaml", "--off-grid", "linear", "--json"
    )
    assert made.exit_code == 0, made.output
    told = ups_data.open_store(tmp_path / "s").manifest.off_grid
    assert told is not None
    assert (told.scheme, told.ratio) == ("linear", 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--off-grid-ratio", "0.5"), "scheme"),
        (
            ("--off-grid", "cubic", "--off-grid-ratio", "0.5", "--off-grid-points", "9"),
            "give ratio or points, not both",
        ),
        (("--off-grid", "spline"), "'spline' is not one of"),
        (("--off-grid", "cubic", "--off-grid-ratio", "0"), "greater than 0"),
    ],
)
def test_misuse_is_told(description: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    result = run("convert", description, tmp_path / "s", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


# -- the manifest ----------------------------------------------------------------------------------------------------


def test_other_stores_have_no_such_key_and_the_version_they_had(tmp_path: Path) -> None:
    convert(grids(), tmp_path / "s", SETTINGS)
    content = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert content["version"] == 1
    assert "off_grid" not in content
    assert "off_grid" not in content["settings"]


def test_a_manifest_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    manifest = convert(OffGridSource(grids(), CUBIC), tmp_path / "s", SETTINGS)
    assert manifest.off_grid is not None
    few = manifest.off_grid.model_copy(update={"deviations": manifest.off_grid.deviations[:1]})
    for change, message in (
        ({"version": 1}, "off_grid stands in manifests of version 2"),
        ({"off_grid": few}, r"off_grid\.deviations must list the channels"),
        ({"off_grid": manifest.off_grid.model_copy(update={"points": 3})}, "ratio or points, one of them"),
        (
            {"geometry": manifest.geometry.model_copy(update={"kind": "mesh"})},
            "points between nodes are of kind 'points', not 'mesh'",
        ),
    ):
        with pytest.raises(SchemaError, match=message):
            Manifest.from_json(manifest.model_copy(update=change).to_json(), where="m")
