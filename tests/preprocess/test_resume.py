"""Taking up an unfinished conversion: what counts, what is done again, what is refused by name."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest

import ups_data
from preprocess.convert import ConvertSettings, convert
from preprocess.ledger import Ledger
from tests.memory_source import MemorySource, StumblingSource, cloud, wave_frames
from ups_data.errors import SourceError, StoreError, StoreExistsError, StoreNotFoundError

SETTINGS = ConvertSettings(name="same", shard_mib=1)


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    """Shards of 1 KiB, so that small sources make many tasks; the second trajectory is longer than a block."""
    monkeypatch.setattr("preprocess.settings._MIB", 1024)
    monkeypatch.setattr("preprocess.partition.BLOCK_BYTES", 5000)
    monkeypatch.setattr("preprocess.partition._TRAJECTORY_BYTES", 0)


def make_source(tmp_path: Path, *, at: int = 3, seed: int = 0) -> StumblingSource:
    frames = [wave_frames((14, 12), num_frames=count, seed=seed + count) for count in (3, 11, 4, 2)]
    return StumblingSource.grid(frames).stumble(at, tmp_path / "mended", deadly=False)


def make_cloud(tmp_path: Path) -> StumblingSource:
    frames = [wave_frames((170,), num_frames=count, seed=count) for count in (3, 11, 4, 2)]
    points = [cloud(170, 2, seed=seed) for seed in range(4)]
    return StumblingSource.points(frames, points).stumble(3, tmp_path / "mended", deadly=False)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def stop_half_way(source: StumblingSource, dest: Path) -> Path:
    """Convert until the source stumbles, and return the folder that is left; mend the source."""
    with pytest.raises(SourceError, match="cannot be read now"):
        convert(source, dest, SETTINGS)
    source.until.touch()
    with pytest.raises(StoreNotFoundError, match="a conversion that did not finish"):
        ups_data.open_store(dest)
    return dest.with_name(f".{dest.name}.partial")


@pytest.mark.parametrize("make", [make_source, make_cloud])
def test_committed_work_is_not_done_again(tmp_path, make):
    source = make(tmp_path)
    partial = stop_half_way(source, tmp_path / "s")
    kept = {path: path.stat().st_mtime_ns for path in partial.glob("store/**/c/**/*") if path.is_file()}
    assert len(kept) > 5
    read = []

    class Watched(type(source)):  # type: ignore[misc]  # of a type known when it runs
        def read_frames(self, trajectory, start, stop):
            read.append((trajectory, start))
            return super().read_frames(trajectory, start, stop)

    source.__class__ = Watched
    convert(source, tmp_path / "s", SETTINGS)
    assert read == [(3, 0)]
    for path, written in kept.items():
        assert (tmp_path / "s" / path.relative_to(partial / "store")).stat().st_mtime_ns == written
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mended", "s", "whole"]


def damage_nothing(path: Path) -> None:
    pass


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = [
    (pattern, damage)
    for pattern, damages in {
        "pieces/*/*/*/*": (flip_a_bit, cut_short, Path.unlink),
        "laid/*": (flip_a_bit, Path.unlink),
        "tables/*": (flip_a_bit, Path.unlink),
        "store/pages/*/c/*/0*": (cut_short, Path.unlink),
        "store/fields/c/*/0/*/0": (cut_short, Path.unlink),
        "ledger.jsonl": (cut_short, flip_a_bit, Path.unlink),
        "begun.json": (cut_short, Path.unlink),
    }.items()
    for damage in damages
]


@pytest.mark.parametrize(("pattern", "damage"), DAMAGES)
def test_what_was_lost_or_damaged_is_done_again(tmp_path, pattern, damage):
    """As after a power cut. Shards are synced before they are noted: of them, only what is missing is looked for."""
    source = make_source(tmp_path)
    partial = stop_half_way(source, tmp_path / "s")
    found = [path for path in sorted(partial.glob(pattern)) if path.is_file()]
    assert found, sorted(map(str, partial.rglob("*")))
    for path in found[:: max(1, len(found) // 3)]:
        damage(path)
    convert(source, tmp_path / "s", SETTINGS)
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_files_that_were_never_noted_are_removed(tmp_path):
    source = make_source(tmp_path)
    partial = stop_half_way(source, tmp_path / "s")
    (partial / "store" / "pages" / "values" / "c" / ".0.77.staged").write_bytes(b"half")
    (partial / "store" / "stray").write_bytes(b"never noted")
    (partial / "store" / "manifest.json").write_bytes(b"never noted")
    convert(source, tmp_path / "s", SETTINGS)
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_a_ledger_forgotten_in_part_costs_work_and_nothing_else(tmp_path):
    source = make_source(tmp_path)
    partial = stop_half_way(source, tmp_path / "s")
    convert(source, tmp_path / "whole", SETTINGS)
    saved = tmp_path / "saved"
    partial.rename(saved)
    lines = (saved / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    dice = random.Random(0)
    for _ in range(8):
        shutil.copytree(saved, partial)
        (partial / "ledger.jsonl").write_bytes(b"".join(line for line in lines if dice.random() < 0.7))
        convert(source, tmp_path / "s", SETTINGS)
        assert contents(tmp_path / "s") == contents(tmp_path / "whole")
        shutil.rmtree(tmp_path / "s")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "zstd"}, r"another settings\.codec: 'none', now 'zstd'"),
        ({"seed": 7}, r"another settings\.seed: 0, now 7"),
        ({"page_points": 4}, r"another settings\.page_points: None, now 4"),
        ({"splits": {"train": 1.0}}, r"another settings\.splits: None, now \{'train': 1\.0\}"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, settings, message):
    source = make_source(tmp_path)
    partial = stop_half_way(source, tmp_path / "s")
    before = contents(partial)
    with pytest.raises(StoreExistsError, match=message + r"\. Go on with what it was begun with, or pass --overwrite"):
        convert(source, tmp_path / "s", ConvertSettings(**{**SETTINGS.model_dump(), **settings}))
    assert contents(partial) == before
    assert convert(source, tmp_path / "s", SETTINGS).codec == "none"


def test_another_source_is_refused_by_name(tmp_path):
    stop_half_way(make_source(tmp_path), tmp_path / "s")
    other = MemorySource.grid([wave_frames((14, 12), num_frames=3), wave_frames((14, 12), num_frames=2)])
    with pytest.raises(StoreExistsError, match=r"another source\.num_trajectories: 4, now 2"):
        convert(other, tmp_path / "s", SETTINGS)
    later = make_source(tmp_path)
    later.trajectories[1].times[:] += 1
    with pytest.raises(StoreExistsError, match=r"another source\.trajectories_sha256"):
        convert(later, tmp_path / "s", SETTINGS)


def test_overwrite_starts_afresh_where_something_differs_and_goes_on_where_not(tmp_path):
    source = make_source(tmp_path)
    partial = stop_half_way(source, tmp_path / "s")
    shard = partial / "store" / "pages" / "values" / "c" / "0" / "0" / "0"
    written = shard.stat().st_mtime_ns
    other = ConvertSettings(name="same", shard_mib=1, codec="zstd")
    assert convert(source, tmp_path / "s", other, overwrite=True).codec == "zstd"
    source.until.unlink()
    shutil.rmtree(tmp_path / "s")
    partial = stop_half_way(source, tmp_path / "s")
    written = shard.stat().st_mtime_ns
    convert(source, tmp_path / "s", SETTINGS, overwrite=True)
    assert (tmp_path / "s" / "pages" / "values" / "c" / "0" / "0" / "0").stat().st_mtime_ns == written


def test_what_is_left_of_a_finished_conversion_is_cleared(tmp_path):
    """Killed between its last rename and its end, a conversion leaves its folder beside its store."""
    source = make_source(tmp_path)
    source.until.touch()
    convert(source, tmp_path / "s", SETTINGS)
    (tmp_path / ".s.partial").mkdir()
    Ledger(tmp_path / ".s.partial").add_task("lay-0")
    with pytest.raises(StoreExistsError, match="already holds a finished store"):
        convert(source, tmp_path / "s", SETTINGS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mended", "s"]


def test_a_source_that_changes_meanwhile_is_refused(tmp_path):
    (tmp_path / "raw").write_bytes(b"first")

    class Changing(MemorySource):
        def read_frames(self, trajectory, start, stop):
            (tmp_path / "raw").write_bytes(b"other")
            return super().read_frames(trajectory, start, stop)

    source = Changing.grid([wave_frames((9,))])
    source.paths = (tmp_path / "raw",)
    with pytest.raises(SourceError, match="its files changed while they were converted"):
        convert(source, tmp_path / "s", SETTINGS)
    assert not (tmp_path / "s").exists()


@pytest.fixture
def own_folder():
    """A folder of an unprivileged user, whom the test is while it runs: permissions do not hold root back."""
    with tempfile.TemporaryDirectory() as name:
        user = os.geteuid()
        if user == 0:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            os.seteuid(user)


def test_permission_denied_on_the_way_is_told_and_goes_on(own_folder):
    source = make_source(own_folder)
    partial = stop_half_way(source, own_folder / "s")
    before = len(Ledger(partial).read().files)
    (partial / "store" / "pages" / "values" / "c").chmod(0o500)
    with pytest.raises(StoreError, match=r"cannot write .*: Permission denied; nothing at .* was changed"):
        convert(source, own_folder / "s", SETTINGS)
    with pytest.raises(StoreNotFoundError):
        ups_data.open_store(own_folder / "s")
    assert len(Ledger(partial).read().files) >= before
    (partial / "store" / "pages" / "values" / "c").chmod(0o700)
    convert(source, own_folder / "s", SETTINGS)
    convert(source, own_folder / "whole", SETTINGS)
    assert contents(own_folder / "s") == contents(own_folder / "whole")


def test_something_in_the_way_of_a_shard_is_told_and_goes_on(tmp_path):
    source = make_source(tmp_path)
    values = tmp_path / ".s.partial" / "store" / "pages" / "values" / "c"

    class Blocking(type(source)):  # type: ignore[misc]  # of a type known when it runs
        def read_frames(self, trajectory, start, stop):
            if trajectory == 3:
                (values / "12").write_bytes(b"in the way")
            return MemorySource.read_frames(self, trajectory, start, stop)

    source.__class__ = Blocking
    with pytest.raises(StoreError, match="cannot write"):
        convert(source, tmp_path / "s", SETTINGS)
    source.__class__ = StumblingSource
    source.until.touch()
    convert(source, tmp_path / "s", SETTINGS)
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
