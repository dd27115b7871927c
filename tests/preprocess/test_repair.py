"""Repair: what is damaged is rebuilt byte for byte and nothing else is touched, or nothing is changed at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import ups_data
from preprocess.convert import ConvertSettings, convert
from preprocess.repair import repair
from preprocess.sources import open_source
from preprocess.validate import validate
from tests.memory_source import cloud, wave_frames
from ups_data.errors import CorruptionError, SourceError, StoreError, StoreExistsError, StoreNotFoundError
from ups_data.schema import Manifest

ROOT = Path(__file__).parents[2]
GRIDS = """
dims: [trajectory, time, x, y]
fields: {u: {file: u.npy}}
axes: {x: {start: 0, stop: 1}, y: {start: 0, stop: 1}}
times: {start: 0, step: 1}
"""
CLOUDS = """
kind: points
dims: [trajectory, time, point]
fields: {u: {file: u.npy}}
axes: {x: {}, y: {}}
coordinates: {file: points.npy}
times: {start: 0, step: 1}
"""
CHOICES = {
    "grids": ConvertSettings(
        shard_mib=1, codec="zstd", min_compressed_bytes=1, splits={"train": 0.5, "valid": 0.5}, seed=3
    ),
    "clouds": ConvertSettings(shard_mib=1, num_strata=2),
    "blocks": ConvertSettings(shard_mib=1, frames_per_block=2, dense="rebuilt"),
}


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    """Shards of 1 KiB and blocks of 3 KB, so that small sources make many tasks and every trajectory is long."""
    monkeypatch.setattr("preprocess.settings._MIB", 1024)
    monkeypatch.setattr("preprocess.partition.BLOCK_BYTES", 3000)
    monkeypatch.setattr("preprocess.partition._TRAJECTORY_BYTES", 0)


def write_source(folder: Path, kind: str) -> Path:
    folder.mkdir(exist_ok=True)
    shape = (170,) if kind == "clouds" else (14, 12)
    values = np.stack([wave_frames(shape, num_frames=4, seed=seed)[:, 0] for seed in range(4)])
    np.save(folder / "u.npy", values)
    np.save(folder / "points.npy", cloud(170, 2))
    (folder / "waves.yaml").write_text(CLOUDS if kind == "clouds" else GRIDS)
    return folder / "waves.yaml"


@pytest.fixture(params=list(CHOICES))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A store, and its source."""
    return make(tmp_path, request.param)


def make(tmp_path: Path, kind: str) -> tuple[Path, Path]:
    source = write_source(tmp_path / "raw", kind)
    convert(open_source([source]), tmp_path / "s", CHOICES[kind])
    return tmp_path / "s", source


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def states(root: Path) -> dict[Path, tuple[int, int]]:
    found = (path for path in root.rglob("*") if path.is_file())
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def choose(store: Path, count: int, *, seed: int = 0) -> list[Path]:
    """Choose files of the store: of every kind one, and others."""
    keys = [entry.key for entry in Manifest.from_json((store / "manifest.json").read_text(), where="").files]
    shards = [key for key in keys if "/c/" in key and not key.startswith("trajectories/")]
    return [store / shards[int(n)] for n in np.random.default_rng(seed).choice(len(shards), count, replace=False)]


def test_damaged_shards_are_rebuilt_and_the_rest_is_not_touched(made):
    store, source = made
    before, untouched = contents(store), states(store)
    damaged = choose(store, 7)
    for number, path in enumerate(damaged):
        (flip, cut, Path.unlink)[number % 3](path)
    report = repair(store, [source])
    assert set(report.rebuilt) == {str(path.relative_to(store)) for path in damaged}
    assert len(report.problems) == 7
    assert contents(store) == before
    assert validate(store).ok
    now = states(store)
    assert {path for path in now if now[path] == untouched[path]} == now.keys() - set(damaged)
    assert sorted(path.name for path in store.parent.iterdir()) == ["raw", "s"]


def test_metadata_and_tables_are_rebuilt(made):
    store, source = made
    before = contents(store)
    for key in ("zarr.json", "pages/values/zarr.json", "trajectories/stratum_mass/c/0/0", "trajectories/zarr.json"):
        flip(store / key)
    (store / "trajectories" / "times" / "zarr.json").unlink()
    assert len(repair(store, [source], workers=2).rebuilt) == 5
    assert contents(store) == before


def test_an_intact_store_is_left_alone_and_needs_no_source(made, tmp_path):
    store, _ = made
    before = states(store)
    report = repair(store, [tmp_path / "nowhere"])
    assert (report.rebuilt, report.problems) == ((), ())
    assert states(store) == before


def test_a_file_for_each_kind_of_source_is_refused_by_name(made):
    """Another source: same names with other content or size, fewer files, or files that were not there."""
    store, source = made
    choose(store, 1)[0].unlink()
    before = states(store)
    values = np.load(source.with_name("u.npy"))
    np.save(source.with_name("u.npy"), values + 1)
    with pytest.raises(SourceError, match=r"was not made from these files: u\.npy has other content; nothing was"):
        repair(store, [source])
    np.save(source.with_name("u.npy"), values[:3])
    with pytest.raises(SourceError, match=r"u\.npy has \d+ bytes, it had \d+; nothing was changed"):
        repair(store, [source])
    np.save(source.with_name("u.npy"), values)
    other = source.with_name("renamed.yaml")
    source.rename(other)
    with pytest.raises(SourceError, match=r"renamed\.yaml is not one of them; waves\.yaml is not given"):
        repair(store, [other])
    assert states(store) == before


def test_nothing_is_changed_where_it_cannot_be_made_identical(made, monkeypatch):
    store, source = made
    for path in choose(store, 3):
        flip(path)
    before = states(store)
    # As another version would that deals pages in another way.
    monkeypatch.setattr("preprocess.tasks.worker.build_pages", _deal_otherwise(monkeypatch))
    with pytest.raises(StoreError, match=r"of 3 files that were rebuilt are not what was committed, .* Nothing was"):
        repair(store, [source])
    assert states(store) == before
    assert sorted(path.name for path in store.parent.iterdir()) == ["raw", "s"]


def _deal_otherwise(monkeypatch):
    from preprocess.tasks.worker import build_pages

    def deal(*arguments, seed, **others):
        return build_pages(*arguments, seed=seed + 1, **others)

    return deal


def test_a_damaged_manifest_cannot_be_repaired(tmp_path):
    store, source = make(tmp_path, "grids")
    flip(store / "manifest.json")
    with pytest.raises(CorruptionError, match=r"Without its manifest .* cannot be repaired: convert again with"):
        repair(store, [source])
    with pytest.raises(StoreNotFoundError, match="there is no store at"):
        repair(tmp_path / "nowhere", [source])


def test_a_store_that_does_not_tell_its_settings_cannot_be_repaired(tmp_path):
    store, source = make(tmp_path, "grids")
    choose(store, 1)[0].unlink()
    manifest = Manifest.from_json((store / "manifest.json").read_text(), where="")
    (store / "manifest.json").write_text(manifest.model_copy(update={"settings": {}}).to_json())
    with pytest.raises(StoreError, match="does not tell the settings of its conversion"):
        repair(store, [source])


def test_a_store_that_is_about_to_be_replaced_is_not_repaired(tmp_path):
    store, source = make(tmp_path, "grids")
    choose(store, 1)[0].unlink()
    (tmp_path / ".s.partial").mkdir()
    (tmp_path / ".s.partial" / "begun.json").write_text(json.dumps({"writer": "somebody"}))
    with pytest.raises(StoreExistsError, match=r"holds a conversion that was to replace this store and did not finish"):
        repair(store, [source])
    assert (tmp_path / ".s.partial" / "begun.json").exists()


def test_options_of_the_source_are_recorded_and_used_again(tmp_path, write_hdf5):
    path = write_hdf5(
        "mine.h5",
        {
            "tensor": wave_frames((16,), num_frames=4).transpose(1, 0, 2),
            "x-coordinate": np.arange(16.0),
            "t-coordinate": np.arange(5.0),
        },
    )
    convert(open_source([path], options={"periodic": True}), tmp_path / "s", CHOICES["clouds"])
    assert ups_data.open_store(tmp_path / "s").manifest.source.options == {"periodic": True}
    before = contents(tmp_path / "s")
    for damaged in choose(tmp_path / "s", 2):
        cut(damaged)
    repair(tmp_path / "s", [path])
    assert contents(tmp_path / "s") == before


_KILLED = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    import preprocess.partition, preprocess.settings
    from preprocess.repair import repair

    preprocess.settings._MIB, preprocess.partition.BLOCK_BYTES, preprocess.partition._TRAJECTORY_BYTES = 1024, 3000, 0
    moved = 0

    def watch(event, arguments):
        global moved
        if event == "os.rename" and "/.s.partial/" not in str(arguments[1]):
            moved += 1
            if moved == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    repair(Path(sys.argv[1]), [Path(sys.argv[2])])
    """
)


def test_a_repair_that_was_killed_on_the_way_is_done_by_the_same_command(tmp_path):
    store, source = make(tmp_path, "grids")
    before, damaged = contents(store), choose(store, 4)
    for path in damaged:
        path.unlink()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _KILLED, str(store), str(source)]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(repair(store, [source]).rebuilt) == 3
    assert contents(store) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "s"]
