"""Conversion on a real dask.distributed cluster of processes: the same bytes, also when a worker is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest

import ups_data
from preprocess.cluster import DaskExecutor, _examine, _versions, check_address
from preprocess.convert import ConvertSettings, convert
from preprocess.ledger import read_ledgers
from preprocess.partition import Part, Partition
from preprocess.parts import commit_parts, convert_part
from preprocess.plan import plan_conversion
from preprocess.tasks import Workbench, Worker
from tests.hang_guard import ends_at_all
from tests.memory_source import MemorySource, StumblingSource, wave_frames
from tests.ups_data.models.cases import SMALL
from ups_data.errors import ConfigError, SourceError, WorkerError
from ups_data.schema import ImportanceSpec
from ups_data.training import TrainConfig, train
from ups_data.yaml_records import parse_record

ROOT = Path(__file__).parents[2]
SETTINGS = ConvertSettings(name="same", shard_mib=1)
COUNTS = (3, 11, 4, 2, 9, 1, 5)


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    """Shards of 1 KiB, so that small sources make many tasks; two trajectories are longer than a block."""
    monkeypatch.setattr("preprocess.settings._MIB", 1024)
    monkeypatch.setattr("preprocess.partition.BLOCK_BYTES", 5000)
    monkeypatch.setattr("preprocess.partition._TRAJECTORY_BYTES", 0)


@dataclass(frozen=True)
class Process:
    """A process, and what it says on standard error."""

    process: subprocess.Popen[str]
    said: TextIO

    def wait_for_line(self, text: str) -> str:
        """Return the first line that holds `text`."""
        while True:
            ended = self.process.poll()
            self.said.seek(0)
            lines = self.said.readlines()
            for line in lines:
                if text in line and line.endswith("\n"):
                    return line
            assert ended is None, f"the process ended with {ended}: {''.join(lines)}"
            time.sleep(0.02)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.said.close()


@dataclass(frozen=True)
class Cluster:
    """A scheduler and its workers, processes of this test."""

    address: str
    scheduler: Process
    workers: list[Process]

    def add_worker(self, *, threads: int = 1, path: Path = ROOT) -> None:
        command = ["-m", "distributed.cli.dask_worker", self.address, "--nthreads", str(threads), "--no-nanny"]
        process = begin([*command, "--no-dashboard", "--memory-limit", "0"], path)
        self.workers.append(process)
        process.wait_for_line("Registered to")


def begin(command: list[str], path: Path = ROOT) -> Process:
    environment = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process
    started = subprocess.Popen(
        [sys.executable, *command], cwd=path, env=environment, stdout=subprocess.DEVNULL, stderr=said, text=True
    )
    return Process(started, said)


def make_cluster() -> Cluster:
    scheduler = begin(["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"])
    address = scheduler.wait_for_line("Scheduler at").split()[-1]
    return Cluster(address, scheduler, [])


def end(cluster: Cluster) -> None:
    for process in [*cluster.workers, cluster.scheduler]:
        process.end()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two workers of one thread each."""
    made = make_cluster()
    try:
        made.add_worker()
        made.add_worker()
        yield made
    finally:
        end(made)


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A cluster without workers, of one test alone."""
    made = make_cluster()
    try:
        yield made
    finally:
        end(made)


def make_source() -> MemorySource:
    return MemorySource.grid([wave_frames((14, 12), num_frames=count, seed=count) for count in COUNTS])


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


class KillingSource(MemorySource):
    """Kills the process that reads trajectory 4 for the first time, and says which one it was."""

    mark: Path

    def read_frames(self, trajectory, start, stop):
        if trajectory == 4:
            try:
                self.mark.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                self.mark.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
        return super().read_frames(trajectory, start, stop)


# -- the store ---------------------------------------------------------------------------------------------------------


def test_a_cluster_writes_the_same_bytes(tmp_path, cluster):
    source = make_source()
    convert(source, tmp_path / "s", SETTINGS, dask=cluster.address)
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "whole"]
    # Workers forget a conversion once another one comes.
    convert(source, tmp_path / "t", ConvertSettings(name="same", shard_mib=1, seed=1), dask=cluster.address)
    assert ups_data.open_store(tmp_path / "t").manifest.layout.seed == 1


def test_a_cluster_rounds_and_records_the_same_errors(tmp_path, cluster):
    settings = ConvertSettings(name="same", shard_mib=1, round_mantissa_bits=5)
    made = convert(make_source(), tmp_path / "s", settings, dask=cluster.address)
    assert made.rounding.errors[0].max_absolute > 0
    convert(make_source(), tmp_path / "whole", settings)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Weights of a small model, a few steps old."""
    folder = tmp_path_factory.mktemp("run")
    convert(make_long_source(), folder / "store", ConvertSettings())
    content = {
        "data": {"store": str(folder / "store"), "batch_size": 2},
        "sampler": {"kind": "uniform", "ratio": 0.25},
        "model": SMALL.model_dump(mode="json"),
        "steps": 3,
        "evaluations": 1,
        "threads": 1,
    }
    train(parse_record(TrainConfig, content, where="test"), output=folder / "out")
    return folder / "out" / "last.safetensors"


def make_long_source() -> MemorySource:
    frames = [wave_frames((16,), num_frames=9, num_channels=2, seed=seed) for seed in range(4)]
    return MemorySource.grid(frames, periodic=True, splits=["train", "train", "train", "test"])


def test_a_cluster_measures_the_errors_of_a_checkpoint_to_the_last_bit(tmp_path, cluster, checkpoint):
    importance = ImportanceSpec(metrics={f"error:{checkpoint}": 1.0}, exponent=1.0, floor=0.0)
    blocks = {"frames_per_block": 4, "target_span": 2}
    settings = ConvertSettings(name="same", shard_mib=1, page_points=4, num_strata=2, importance=importance, **blocks)
    convert(make_long_source(), tmp_path / "s", settings, dask=cluster.address)
    convert(make_long_source(), tmp_path / "whole", settings)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    store = ups_data.open_store(tmp_path / "s")
    maps = [store.importance(number, block) for number in range(4) for block in range(2)]
    assert min(map(np.ptp, maps)) > 0
    assert len({values.tobytes() for values in maps}) == len(maps)


def test_parts_and_their_commit_may_use_a_cluster(tmp_path, cluster):
    source = make_source()
    for number in (2, 1):
        convert_part(source, tmp_path / "s", SETTINGS, Part(number=number, count=2), dask=cluster.address)
    commit_parts(source, tmp_path / "s", SETTINGS, dask=cluster.address)
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_what_fails_in_a_worker_of_a_cluster_is_told_and_the_work_goes_on(tmp_path, cluster):
    source = StumblingSource.grid(make_source().frames).stumble(4, tmp_path / "mended", deadly=False)
    with pytest.raises(SourceError, match=r"array\[4\] cannot be read now"):
        convert(source, tmp_path / "s", SETTINGS, dask=cluster.address)
    assert read_ledgers(tmp_path / ".s.partial").tasks
    source.until.touch()
    convert(source, tmp_path / "s", SETTINGS, dask=cluster.address)
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_a_killed_worker_changes_nothing(tmp_path, own_cluster):
    own_cluster.add_worker()
    own_cluster.add_worker(threads=3)
    source = KillingSource.grid(make_source().frames)
    source.mark = tmp_path / "killed"
    convert(source, tmp_path / "s", SETTINGS, dask=own_cluster.address)
    victim = int(source.mark.read_text())
    dead = [worker.process for worker in own_cluster.workers if worker.process.pid == victim]
    assert [process.wait(10) for process in dead] == [-signal.SIGKILL]
    convert(make_source(), tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "s", "whole"]


# -- twice the same task -----------------------------------------------------------------------------------------------


def make_bench(folder: Path) -> Workbench:
    source = make_source()
    plan = plan_conversion(source, SETTINGS)
    partition = Partition(plan=plan, block_bytes=5000, task_bytes=SETTINGS.shard_bytes)
    staging = folder / "staged"
    staging.mkdir(parents=True)
    counted = np.ones(len(COUNTS), dtype=bool)
    return Workbench(
        source=source,
        partition=partition,
        counted=counted,
        folder=folder,
        staging=staging,
        ledger="ledger.jsonl",
        dest=folder / "s",
    )


def test_tasks_carried_out_by_two_workers_at_once_are_harmless(tmp_path):
    """Every task by two workers side by side, as where one is thought lost and is not."""
    benches = [make_bench(tmp_path / name) for name in ("twice", "once")]
    pairs = [Worker(benches[0]), Worker(benches[0])]
    alone = Worker(benches[1])
    with ThreadPoolExecutor(2) as threads:
        for task in (*benches[0].partition.row_tasks, *benches[0].partition.join_tasks):
            results = list(threads.map(lambda worker, task=task: worker.run(task), pairs))
            expected = alone.run(task)
            for result in results:
                files = {file.path: file for file in result.files if file.path.startswith("store/")}
                assert files == {file.path: file for file in expected.files if file.path.startswith("store/")}
    assert contents(tmp_path / "twice" / "store") == contents(tmp_path / "once" / "store")
    assert list((tmp_path / "twice" / "staged").iterdir()) == []


@pytest.mark.parametrize("noted", [False, True])
def test_a_task_that_another_worker_died_in_is_noted_whole(tmp_path, noted):
    """Whoever died between a file and its line in the ledger leaves a file that must still reach the manifest."""
    bench = make_bench(tmp_path / "work")
    first = [Worker(bench).run(task) for task in bench.partition.row_tasks]
    joins = [Worker(bench).run(task) for task in bench.partition.join_tasks]
    for result in [*first, *joins]:
        for file in result.files:
            assert (bench.folder / file.path).exists() == (not file.path.startswith("pieces/"))
    if not noted:
        (bench.folder / "ledger.jsonl").unlink()
    before = {path: path.read_bytes() for path in (bench.folder / "store").rglob("*") if path.is_file()}
    again = [Worker(bench).run(task) for task in (*bench.partition.row_tasks, *bench.partition.join_tasks)]
    names = {file.path for result in again for file in result.files if file.path.startswith("store/")}
    assert names == {str(path.relative_to(bench.folder)) for path in before}
    assert {path: path.read_bytes() for path in before} == before
    assert names <= read_ledgers(bench.folder).files.keys()


def test_a_worker_that_outlives_its_conversion_puts_nothing_in_place(tmp_path):
    bench = make_bench(tmp_path / "work")
    worker = Worker(bench)
    tasks = bench.partition.row_tasks
    worker.run(tasks[0])
    shutil.rmtree(bench.folder)
    with pytest.raises(OSError, match="No such file or directory"):
        worker.run(tasks[1])
    assert not bench.folder.exists()


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["http://a:8786", "localhost:8786", "tcp://", "tcp://host", "tcp://h:99999", "inproc://x", ""]
)
def test_what_is_no_address_of_a_scheduler_is_refused(tmp_path, address):
    with pytest.raises(ConfigError, match=r"--dask takes the address of a scheduler, tcp://HOST:PORT or tls://"):
        check_address(address)
    with pytest.raises(ConfigError, match="--dask takes the address"):
        convert(make_source(), tmp_path / "s", SETTINGS, dask=address)
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_has_workers_of_its_own(tmp_path):
    with pytest.raises(ConfigError, match="a cluster has workers of its own: leave out --workers 3"):
        convert(make_source(), tmp_path / "s", SETTINGS, dask="tcp://127.0.0.1:8786", workers=3)


def test_nobody_at_the_address_is_told_in_time(tmp_path):
    with ends_at_all(), pytest.raises(ConfigError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9 within 1 s"):
        DaskExecutor(make_bench(tmp_path / "work"), address="tcp://127.0.0.1:9", connect_s=1)


def test_a_cluster_without_workers_is_told_in_time(tmp_path, own_cluster):
    with pytest.raises(ConfigError, match=r"has no workers: start one with `dask worker tcp://"):
        DaskExecutor(make_bench(tmp_path / "work"), address=own_cluster.address, connect_s=1)


def test_a_worker_of_another_version_is_refused(tmp_path, own_cluster):
    other = tmp_path / "other"
    for package in ("ups_data", "preprocess", "tests"):
        shutil.copytree(ROOT / package, other / package, ignore=shutil.ignore_patterns("__pycache__"))
    init = other / "ups_data" / "__init__.py"
    text = init.read_text()
    assert f'"{ups_data.__version__}"' in text
    init.write_text(text.replace(f'"{ups_data.__version__}"', '"9.9"'))
    own_cluster.add_worker(path=other)
    message = rf"1 of 1 workers of .*: it has ups_data 9\.9, the command has {ups_data.__version__}: install the same"
    with pytest.raises(ConfigError, match=message):
        convert(make_source(), tmp_path / "s", SETTINGS, dask=own_cluster.address)
    assert not (tmp_path / "s").exists()


def test_a_worker_that_sees_other_files_is_refused(tmp_path):
    bench = make_bench(tmp_path / "work")
    assert _examine(bench, _versions()) is None
    elsewhere = replace(bench, staging=tmp_path / "elsewhere")
    assert "all workers need the file system of the destination" in str(_examine(elsewhere, _versions()))
    bench.source.paths = (tmp_path / "raw.h5",)
    assert "it does not see the source" in str(_examine(bench, _versions()))
    assert "it has numpy" in str(_examine(bench, {**_versions(), "numpy": "1.0"}))
    assert list(bench.staging.iterdir()) == []


@pytest.mark.parametrize("victim", ["scheduler", "workers"])
def test_a_cluster_that_is_lost_is_told_in_time(tmp_path, own_cluster, monkeypatch, victim):
    monkeypatch.setattr("preprocess.convert._CHECK_SECONDS", 0.2)
    monkeypatch.setattr("preprocess.cluster.LOST_SECONDS", 1.0)
    own_cluster.add_worker()

    def kill() -> None:
        while not list(tmp_path.glob(".s.partial/store/pages/values/c/*")):
            time.sleep(0.01)
        for process in [own_cluster.scheduler] if victim == "scheduler" else own_cluster.workers:
            process.process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    source = MemorySource.grid([wave_frames((14, 12), num_frames=9, seed=seed) for seed in range(12)])
    with ends_at_all(600), pytest.raises(WorkerError, match=r"was lost: .*the same command goes on from there"):
        convert(source, tmp_path / "s", SETTINGS, dask=own_cluster.address)
    killer.join()
    convert(source, tmp_path / "s", SETTINGS)
    convert(source, tmp_path / "whole", SETTINGS)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
