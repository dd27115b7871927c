"""Conversion end to end: exact values, determinism, refusals, and what a killed or starved conversion leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

import numpy as np
import pytest

import ups_data
from preprocess.convert import ConvertSettings, convert
from preprocess.partition import Part, Partition
from preprocess.parts import commit_parts, convert_part
from preprocess.plan import plan_conversion
from tests.memory_source import MemorySource, StumblingSource, cloud, even_nodes, wave_frames
from tests.ups_data.storage.cases import GEOMETRIES, ON_POINTS, make_store, plane, settings_for
from ups_data.errors import ConfigError, SchemaError, SourceError, StoreError, StoreExistsError, StoreNotFoundError
from ups_data.schema import ImportanceSpec
from ups_data.storage.zarr_store import FIELDS, VALUES
from ups_data.testing.store_contract import read_digest

ROOT = Path(__file__).parents[2]


def file_contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GEOMETRIES)
def test_two_conversions_are_byte_identical(name, tmp_path):
    for part in ("one", "two"):
        convert(GEOMETRIES[name]("float32"), tmp_path / part, settings_for(GEOMETRIES[name]("float32"), name="same"))
    assert file_contents(tmp_path / "one") == file_contents(tmp_path / "two")


@pytest.fixture
def small_tasks(monkeypatch):
    """Shards of 1 KiB and tasks of 1 to 3 KiB, so that small sources make many of them, long trajectories included."""
    monkeypatch.setattr("preprocess.settings._MIB", 1024)
    monkeypatch.setattr("preprocess.plan._LEAST_ALIGNED_BYTES", 0)
    monkeypatch.setattr("preprocess.partition.BLOCK_BYTES", 3000)
    monkeypatch.setattr("preprocess.partition._TRAJECTORY_BYTES", 0)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_cut_into_tasks_does_not_change_a_byte(name, tmp_path, monkeypatch, small_tasks):
    """Against one task for all trajectories, which writes every shard from start to end."""
    source = GEOMETRIES[name]("float32")
    settings = settings_for(source, name="same", shard_mib=1)
    convert(source, tmp_path / "cut", settings)
    monkeypatch.setattr("preprocess.partition.BLOCK_BYTES", 2**40)
    monkeypatch.setattr("preprocess.partition._TRAJECTORY_BYTES", -(2**40))
    convert(source, tmp_path / "whole", settings)
    assert file_contents(tmp_path / "cut") == file_contents(tmp_path / "whole")
    assert left_behind(tmp_path) == ["cut", "whole"]


@pytest.mark.parametrize(
    ("name", "codec"), [("plane", "blosc-lz4"), ("ragged", "none"), ("scattered_ragged", "zstd"), ("volume", "none")]
)
def test_the_number_of_workers_does_not_change_a_byte(name, codec, tmp_path, small_tasks):
    source = GEOMETRIES[name]("float64")
    settings = settings_for(source, name="same", codec=codec, shard_mib=1)
    for workers in (1, 2, 3):
        convert(source, tmp_path / str(workers), settings, workers=workers)
    assert file_contents(tmp_path / "2") == file_contents(tmp_path / "1")
    assert file_contents(tmp_path / "3") == file_contents(tmp_path / "1")
    assert left_behind(tmp_path) == ["1", "2", "3"]


def test_trajectories_of_one_size_fill_shards(tmp_path):
    """Seven of 1.3 MiB, three a shard of 4 MiB: nothing is written in pieces, nor does it matter who writes what."""
    random = np.random.default_rng(0)
    frames = [random.standard_normal((5, 1, 256, 256)).astype(np.float32) for _ in range(7)]
    source, settings = MemorySource.grid(frames), ConvertSettings(name="same", shard_mib=4)
    plan = plan_conversion(source, settings)
    assert plan.trajectories_per_shard == 3
    partition = Partition(plan=plan, block_bytes=2**28, task_bytes=settings.shard_bytes)
    assert not {join.key for join in partition.join_tasks} & {FIELDS, VALUES}
    for workers in (1, 2):
        convert(source, tmp_path / str(workers), settings, workers=workers)
    for number in (1, 2, 3):
        convert_part(source, tmp_path / "parts", settings, Part(number=number, count=3))
    commit_parts(source, tmp_path / "parts", settings)
    assert file_contents(tmp_path / "2") == file_contents(tmp_path / "1") == file_contents(tmp_path / "parts")
    store = ups_data.open_store(tmp_path / "1")
    for trajectory, values in enumerate(frames):
        np.testing.assert_array_equal(store.read_dense(trajectory, range(5)), values.reshape(5, 1, -1))
        count = store.layout(trajectory).num_pages
        points = store.read_page_points(trajectory, np.arange(count)).index
        found = store.read_page_values(trajectory, range(5), np.arange(count), (0,))
        np.testing.assert_array_equal(found[..., 0], values.reshape(5, -1)[:, points])


def test_a_conversion_needs_a_worker(tmp_path):
    with pytest.raises(ConfigError, match="needs one worker or more, got workers=0"):
        convert(plane(), tmp_path / "s", ConvertSettings(), workers=0)


def test_the_seed_changes_the_dealing_and_nothing_else(tmp_path):
    first, second = (make_store(plane(), tmp_path / str(seed), seed=seed) for seed in (0, 1))
    pages = np.arange(first.layout(0).num_pages)
    assert (first.read_page_points(0, pages).index != second.read_page_points(0, pages).index).any()
    np.testing.assert_array_equal(first.read_dense(0, range(3)), second.read_dense(0, range(3)))
    np.testing.assert_array_equal(first.importance(0), second.importance(0))


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("float16", "float32"),
        ("float32", "float32"),
        (">f4", "float32"),
        ("float64", "float64"),
        (">f8", "float64"),
        ("bool", "float32"),
        ("uint8", "float32"),
        (">i2", "float32"),
        ("int32", "float64"),
        ("uint32", "float64"),
    ],
)
def test_values_of_any_dtype_are_stored_exactly(tmp_path, dtype, stored):
    values = np.random.default_rng(0).integers(0, 2**31, size=(2, 1, 40))
    values[0, 0, 0] = 2**24 + 1
    frames = (
        (values / 3 if np.dtype(dtype).kind == "f" else values).astype(dtype)
        if dtype != "float16"
        else (values / 2**20).astype(dtype)
    )
    store = make_store(MemorySource.grid([frames]), tmp_path / "s")
    assert store.manifest.dtype == stored
    assert (store.read_dense(0, range(2)).astype("float64") == frames.astype("float64")).all()


@pytest.mark.parametrize("dtype", ["complex64", "longdouble"])
def test_values_that_no_stored_dtype_holds_are_refused(tmp_path, dtype):
    with pytest.raises(SourceError, match="neither float32 nor float64 can hold exactly"):
        convert(MemorySource.grid([np.ones((1, 1, 4), dtype=dtype)]), tmp_path / "s", ConvertSettings())
    assert left_behind(tmp_path) == []


def test_a_source_that_gives_another_dtype_than_it_announced_is_refused(tmp_path):
    source = plane()
    source.frames = [array.astype("float64") for array in source.frames]
    with pytest.raises(SourceError, match=r"array\[0\] gives values of dtype float64, float32 was announced"):
        convert(source, tmp_path / "s", ConvertSettings())


def test_strided_transposed_and_read_only_arrays_convert(tmp_path):
    dense = wave_frames((20, 30), num_frames=6, num_channels=2)
    strided = np.asfortranarray(np.repeat(dense, 2, axis=0))[::2].transpose(0, 1, 3, 2)[..., ::-1]
    strided.flags.writeable = False
    store = make_store(MemorySource.grid([strided]), tmp_path / "s")
    np.testing.assert_array_equal(store.read_dense(0, range(6)), np.ascontiguousarray(strided).reshape(6, 2, -1))


class Reusing(MemorySource):
    """Reads every block, of two frames at most, into the same memory."""

    def read_frames(self, trajectory, start, stop):
        assert stop - start <= 2
        self.buffer = getattr(self, "buffer", np.empty_like(self.frames[trajectory][:2]))
        self.buffer[: stop - start] = super().read_frames(trajectory, start, stop)
        return self.buffer[: stop - start]


def test_a_source_may_reuse_its_buffer(tmp_path, monkeypatch):
    """A trajectory in several blocks, read twice, each block into the same memory."""
    monkeypatch.setattr("preprocess.partition.BLOCK_BYTES", 5000)
    frames = wave_frames((25, 20), num_frames=9)

    store = make_store(Reusing.grid([frames]), tmp_path / "s")
    np.testing.assert_array_equal(store.read_dense(0, range(9)), frames.reshape(9, 1, -1))
    whole = make_store(MemorySource.grid([frames]), tmp_path / "t")
    np.testing.assert_array_equal(store.importance(0), whole.importance(0))
    assert store.manifest.statistics[0].delta_rms == pytest.approx(whole.manifest.statistics[0].delta_rms, rel=1e-12)


def test_a_source_that_loses_the_frame_before_is_refused(tmp_path, monkeypatch):
    """Large frames come one by one, and are not copied."""
    monkeypatch.setattr("preprocess.partition.BLOCK_BYTES", 3000)
    frames = wave_frames((25, 20), num_frames=3)

    with pytest.raises(
        SourceError, match=r"array\[0\], frame 1 was read into the memory of frame 0: what `read_frames`"
    ):
        make_store(Reusing.grid([frames]), tmp_path / "s")
    # The same memory again is sound where it holds the same values.
    frames[...] = frames[:1]
    store = make_store(Reusing.grid([frames]), tmp_path / "s")
    np.testing.assert_array_equal(store.read_dense(0, range(3)), frames.reshape(3, 1, -1))


def test_chunks_of_frames_are_let_go(tmp_path, monkeypatch):
    """What is kept of a chunk for the next one is its last frame, not all of it."""
    monkeypatch.setattr("preprocess.partition.BLOCK_BYTES", 9000)
    frames, chunks = wave_frames((25, 20), num_frames=16), []

    class Watched(MemorySource):
        def read_frames(self, trajectory, start, stop):
            assert not [chunk for chunk in chunks[:-1] if chunk() is not None]
            own = frames[start:stop].copy()
            chunks.append(weakref.ref(own))
            return own

    make_store(Watched.grid([frames]), tmp_path / "s")
    assert len(chunks) > 6


def test_statistics_are_those_of_the_train_split(tmp_path):
    frames = [wave_frames((30, 11), num_frames=2 + seed, num_channels=2, seed=seed) + 100 for seed in range(4)]
    source = MemorySource.grid(frames, splits=["test", "train", "valid", "train"])
    manifest = make_store(source, tmp_path / "s").manifest
    assert manifest.statistics_split == "train"
    for channel, record in enumerate(manifest.statistics):
        values = np.concatenate([frames[n][:, channel].astype("float64").ravel() for n in (1, 3)])
        steps = np.concatenate([np.diff(frames[n][:, channel].astype("float64"), axis=0).ravel() for n in (1, 3)])
        assert record.count == values.size
        found = (record.mean, record.std, record.rms, record.min, record.max)
        rms = np.sqrt(np.mean(values**2))
        assert found == pytest.approx((values.mean(), values.std(), rms, values.min(), values.max()), rel=1e-12)
        changes = (record.delta_mean, record.delta_std, record.delta_rms)
        assert changes == pytest.approx((steps.mean(), steps.std(), np.sqrt(np.mean(steps**2))), rel=1e-9, abs=1e-12)
        assert (record.delta_min, record.delta_max) == (steps.min(), steps.max())


def test_statistics_of_parameters_are_those_of_the_train_split(tmp_path):
    parameters = [{"nu": value, "Re": -value} for value in (1.0, 2.0, 4.0)]
    frames = [wave_frames((8,), seed=seed) for seed in range(3)]
    source = MemorySource.grid(frames, parameters=parameters, splits=["train", "test", "train"])
    found = make_store(source, tmp_path / "s").manifest.parameters
    assert [(spec.name, spec.mean, spec.std) for spec in found] == [("nu", 2.5, 1.5), ("Re", -2.5, 1.5)]


def test_a_store_without_train_split_describes_all_of_it(tmp_path):
    frames = [wave_frames((30,), seed=seed) for seed in range(2)]
    manifest = make_store(MemorySource.grid(frames, splits=["test", "test"]), tmp_path / "s").manifest
    assert manifest.statistics_split is None
    assert manifest.statistics[0].mean == pytest.approx(np.mean(frames, dtype="float64"), rel=1e-6)


def test_single_frames_have_no_statistics_of_change(tmp_path):
    record = make_store(GEOMETRIES["steady"]("float32"), tmp_path / "s").manifest.statistics[0]
    changes = (record.delta_mean, record.delta_std, record.delta_rms, record.delta_min, record.delta_max)
    assert changes == (None,) * 5


def test_constant_fields_convert(tmp_path):
    store = make_store(MemorySource.grid([np.full((3, 2, 12, 12), -2.5, dtype="float32")]), tmp_path / "s")
    assert (store.read_dense(0, range(3)) == -2.5).all()
    assert (store.importance(0) == 1).all()
    assert store.manifest.statistics[0].std == 0


def test_denormal_and_huge_float32_values_convert_exactly(tmp_path):
    limits = np.finfo("float32")
    values = np.array([limits.max, -limits.max, limits.smallest_subnormal, 0.0, -0.0, 1.0], dtype="float32")
    store = make_store(MemorySource.grid([np.stack([values, values[::-1]])[:, None]]), tmp_path / "s")
    assert store.read_dense(0, [0]).tobytes() == values.tobytes()
    assert np.isfinite(store.importance(0)).all()


def test_many_tiny_trajectories_convert(tmp_path):
    frames = [np.full((1 + number % 3, 1, 2), number, dtype="float32") for number in range(3000)]
    store = make_store(MemorySource.grid(frames), tmp_path / "s")
    assert len(file_contents(Path(store.location))) < 48
    for number in (0, 1, 1717, 2999):
        np.testing.assert_array_equal(store.read_dense(number, range(1 + number % 3)), frames[number])


# -- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("trajectory", [0, 2])
def test_a_value_that_is_not_finite_is_named(tmp_path, value, trajectory):
    source = plane()
    source.frames[trajectory][1, 2, 5, 7] = value
    message = (
        rf"memory: array\[{trajectory}\], frame 1, channel pressure, point \(5, 7\) holds {value}; 1 of 3672 values"
    )
    with pytest.raises(SourceError, match=message):
        convert(source, tmp_path / "s", ConvertSettings())
    assert left_behind(tmp_path) == []


def test_float64_values_whose_squares_overflow_are_refused(tmp_path):
    with pytest.raises(SourceError, match=r"holds 1e\+200; 1 of 8 values of this block are not finite or over 1e\+100"):
        convert(MemorySource.grid([np.r_[1e200, np.ones(7)].reshape(1, 1, 8)]), tmp_path / "s", ConvertSettings())


def test_a_source_that_fails_in_the_middle_leaves_nothing(tmp_path):
    class Failing(MemorySource):
        def read_frames(self, trajectory, start, stop):
            if trajectory == 2:
                raise SourceError("data.h5: /tensor ends early")
            return super().read_frames(trajectory, start, stop)

    with pytest.raises(SourceError, match="ends early"):
        convert(Failing.grid(plane().frames), tmp_path / "deep" / "er" / "s", ConvertSettings())
    assert left_behind(tmp_path / "deep" / "er") == []


def test_frames_of_another_shape_than_announced_are_refused(tmp_path):
    source = plane()
    source.frames[1] = source.frames[1][:, :, :-1]
    with pytest.raises(SourceError, match=r"array\[1\] gives frames of shape \(3, 3, 23, 17\), \(3, 3, 24, 17\) was"):
        convert(source, tmp_path / "s", ConvertSettings())


def test_bad_coordinates_are_refused(tmp_path):
    frames = [wave_frames((10,))]
    for nodes, message in [
        (even_nodes(9, False), r"axes have \(9,\) nodes, the field has \(10,\)"),
        (even_nodes(10, False)[::-1].copy(), "must increase strictly"),
        (even_nodes(10, False) * 2, "outside of its extent"),
        (np.r_[even_nodes(9, False), np.nan], "not finite"),
    ]:
        with pytest.raises((SourceError, SchemaError), match=message):
            convert(MemorySource.grid(frames, nodes=[(nodes,)]), tmp_path / "s", ConvertSettings())
    with pytest.raises(SchemaError, match="repeats the one at"):
        convert(
            MemorySource.grid(frames, periodic=True, nodes=[(even_nodes(10, False),)]),
            tmp_path / "s",
            ConvertSettings(),
        )
    for points in (cloud(9, 2), np.full((10, 2), np.nan)):
        with pytest.raises(SourceError, match=r"coordinates must be finite and of shape \(10, 2\)"):
            convert(MemorySource.points(frames, [points]), tmp_path / "s", ConvertSettings(importance=ON_POINTS))
    assert left_behind(tmp_path) == []


def test_a_metric_of_grids_is_refused_on_scattered_points_with_the_way_out(tmp_path):
    chosen = ConvertSettings(importance=ImportanceSpec(metrics={"vorticity": 1.0}))
    with pytest.raises(ConfigError, match=r"memory: .* 'vorticity' is defined on grids, not on scattered points"):
        convert(GEOMETRIES["scattered"]("float32"), tmp_path / "s", chosen)
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("geometry", ["plane", "scattered", "scattered_ragged"])
def test_the_default_recipe_is_the_same_on_every_geometry(tmp_path, geometry):
    manifest = convert(GEOMETRIES[geometry]("float32"), tmp_path / "s", ConvertSettings())
    assert manifest.importance.metrics == {"gradient": 1.0, "temporal_change": 1.0}


# -- the destination -----------------------------------------------------------------------------------------------


def test_a_finished_store_is_not_overwritten_unasked(tmp_path):
    store = make_store(plane(), tmp_path / "s")
    with pytest.raises(StoreExistsError, match=r"already holds a finished store; .* pass --overwrite"):
        convert(plane(), tmp_path / "s", ConvertSettings())
    assert read_digest(ups_data.open_store(tmp_path / "s")) == read_digest(store)
    assert left_behind(tmp_path) == ["s"]


def test_a_finished_store_is_replaced_when_asked(tmp_path):
    make_store(plane(), tmp_path / "s")
    (tmp_path / ".s.retired").mkdir()
    (tmp_path / ".s.retired" / "old").write_text("left by a killed overwrite")
    convert(GEOMETRIES["line"]("float32"), tmp_path / "s", ConvertSettings(), overwrite=True)
    assert ups_data.open_store(tmp_path / "s").manifest.geometry.dims == 1
    assert left_behind(tmp_path) == ["s"]


def test_a_failing_overwrite_keeps_the_old_store(tmp_path):
    digest = read_digest(make_store(plane(), tmp_path / "s"))
    source = plane()
    source.frames[2][0, 0, 0, 0] = np.nan
    with pytest.raises(SourceError, match="holds nan"):
        convert(source, tmp_path / "s", ConvertSettings(), overwrite=True)
    assert read_digest(ups_data.open_store(tmp_path / "s")) == digest
    assert left_behind(tmp_path) == ["s"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["notes.txt", "manifest.json"])
def test_foreign_files_are_left_alone(tmp_path, overwrite, name):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / name).write_text('{"name": "of a web application"}')
    with pytest.raises(StoreExistsError, match="is no store of ours; it is left alone"):
        convert(plane(), tmp_path / "s", ConvertSettings(), overwrite=overwrite)
    assert (tmp_path / "s" / name).read_text() == '{"name": "of a web application"}'


def test_a_file_as_destination_is_left_alone(tmp_path):
    (tmp_path / "s").write_text("mine")
    with pytest.raises(StoreExistsError, match="is no store of ours"):
        convert(plane(), tmp_path / "s", ConvertSettings(), overwrite=True)
    with pytest.raises(StoreError, match="cannot write beside"):
        convert(plane(), tmp_path / "s" / "below", ConvertSettings())
    assert (tmp_path / "s").read_text() == "mine"


def test_an_empty_directory_is_taken_over(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    convert(plane(), tmp_path / "link", ConvertSettings())
    assert (tmp_path / "link").is_symlink()
    assert len(ups_data.open_store(tmp_path / "empty")) == 3
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert convert(plane(), Path(), ConvertSettings()).name == "here"
    assert left_behind(tmp_path) == ["empty", "here", "link"]


def test_two_conversions_to_one_place_exclude_each_other(tmp_path):
    class Nested(MemorySource):
        def read_frames(self, trajectory, start, stop):
            with pytest.raises(StoreExistsError, match=r"another conversion to .* is running"):
                convert(GEOMETRIES["line"]("float32"), tmp_path / "s", ConvertSettings())
            return super().read_frames(trajectory, start, stop)

    convert(Nested.grid(plane().frames), tmp_path / "s", ConvertSettings())
    assert ups_data.open_store(tmp_path / "s").manifest.geometry.dims == 2
    assert left_behind(tmp_path) == ["s"]


def test_a_store_that_appears_meanwhile_is_not_overwritten(tmp_path):
    made = make_store(GEOMETRIES["line"]("float32"), tmp_path / "other")

    class Late(MemorySource):
        def read_frames(self, trajectory, start, stop):
            if not (tmp_path / "s").exists():
                shutil.copytree(made.location, tmp_path / "s")
            return super().read_frames(trajectory, start, stop)

    with pytest.raises(StoreExistsError, match="already holds a finished store"):
        convert(Late.grid(plane().frames), tmp_path / "s", ConvertSettings())
    assert ups_data.open_store(tmp_path / "s").manifest.geometry.dims == 1
    assert left_behind(tmp_path) == ["other", "s"]


def test_progress_counts_frames(tmp_path):
    seen = []
    convert(plane(), tmp_path / "s", ConvertSettings(), progress=lambda *step: seen.append(step))
    assert seen == [("frames", 0, 9), ("frames", 9, 9)]


def test_progress_counts_what_an_earlier_conversion_did(tmp_path, small_tasks):
    frames = [wave_frames((16, 16), num_frames=5, seed=seed) for seed in range(3)]
    source = StumblingSource.grid(frames).stumble(2, tmp_path / "mended", deadly=False)
    with pytest.raises(SourceError, match="cannot be read now"):
        convert(source, tmp_path / "s", ConvertSettings(shard_mib=1))
    (tmp_path / "mended").touch()
    seen = []
    convert(source, tmp_path / "s", ConvertSettings(shard_mib=1), progress=lambda *step: seen.append(step))
    assert seen == [("frames", done, 15) for done in range(10, 16)]


# -- kills, full disks -----------------------------------------------------------------------------------------------

_CHILD = textwrap.dedent(
    """
    import os, resource, signal, sys
    from pathlib import Path
    from preprocess.convert import ConvertSettings, convert
    from tests.memory_source import MemorySource, wave_frames
    from ups_data.errors import StoreError

    dest, mode, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    files = 0

    def count_files(event, arguments):
        global files
        if event == "os.rename":
            files += 1
            if mode == "kill" and files == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count_files)
    if mode == "full":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))
    source = MemorySource.grid([wave_frames((64, 64), num_frames=4, seed=seed) for seed in range(3)])
    try:
        convert(source, dest, ConvertSettings(name="same"))
    except StoreError as error:
        print(type(error).__name__, error)
        sys.exit(3)
    print(files)
    """
)


def run_child(dest: Path, mode: str, number: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _CHILD, str(dest), mode, str(number)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)


def convert_here(dest: Path) -> None:
    """Convert what the child converts, in this process, which spares the start of another."""
    source = MemorySource.grid([wave_frames((64, 64), num_frames=4, seed=seed) for seed in range(3)])
    convert(source, dest, ConvertSettings(name="same"))


def test_a_killed_conversion_leaves_no_store_and_runs_again(tmp_path):
    """SIGKILL before several of its renames, the last one included; the same command then gives the same bytes."""
    whole = run_child(tmp_path / "whole", "run", 0)
    assert whole.returncode == 0, whole.stderr
    renames = int(whole.stdout)
    for number in (1, renames // 2, renames - 1, renames):
        child = run_child(tmp_path / "s", "kill", number)
        assert child.returncode == -signal.SIGKILL
        assert left_behind(tmp_path) == [".s.partial", "whole"]
        with pytest.raises(StoreNotFoundError, match="a conversion that did not finish: run it again"):
            ups_data.open_store(tmp_path / "s")
        convert_here(tmp_path / "s")
        assert file_contents(tmp_path / "s") == file_contents(tmp_path / "whole")
        assert left_behind(tmp_path) == ["s", "whole"]
        shutil.rmtree(tmp_path / "s")


@pytest.mark.parametrize("limit", [100, 5_000, 60_000])
def test_a_full_disk_is_told_and_leaves_nothing_that_opens(tmp_path, limit):
    """Files over the limit cannot be written; those below it are kept, and taken up once there is room."""
    child = run_child(tmp_path / "s", "full", limit)
    assert child.returncode == 3, child.stderr
    assert child.stdout.startswith("StoreError cannot write")
    assert "File too large" in child.stdout
    assert set(left_behind(tmp_path)) <= {".s.partial"}
    assert not list(tmp_path.rglob("*.staged"))
    with pytest.raises(StoreNotFoundError):
        ups_data.open_store(tmp_path / "s")
    for name in ("s", "whole"):
        convert_here(tmp_path / name)
    assert file_contents(tmp_path / "s") == file_contents(tmp_path / "whole")
    assert left_behind(tmp_path) == ["s", "whole"]


def test_a_destination_that_cannot_be_written_is_told():
    """The kernel's own file systems refuse every user, root included."""
    with pytest.raises(StoreError, match=r"cannot write beside /proc/store"):
        convert(plane(), Path("/proc/store"), ConvertSettings())
