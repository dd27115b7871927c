#!/usr/bin/env python
"""Kill a parallel conversion at random times, take it up each time, and hold its store against an uninterrupted one.

Each kill is a SIGKILL to one of: the command alone, one of its workers, or all of its processes at once. After each of
them, there must be nothing at the destination or the whole store; a command that lost a worker must say so and exit by
itself. When a conversion comes to its end, its store must be the same bytes as the uninterrupted one, and nothing else
may lie beside it. Exit status 1 where any of it does not hold.

Example: scripts/soak_convert.py --kills 50 --workers 2 --output soak_convert.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ups_data.errors import StoreNotFoundError
from ups_data.storage import open_store

_DESCRIPTION = """
dims: [trajectory, time, x, y]
fields: {u: {file: u.npy}}
axes: {x: {start: 0, stop: 1}, y: {start: 0, stop: 1}}
times: {start: 0, step: 1}
"""
MISUSE = 2
VICTIMS = ("command", "worker", "all")


@dataclass(kw_only=True)
class SoakReport:
    """What happened.

    Attributes:
        kills: kills of each kind that met a conversion at work.
        conversions: conversions that came to their end.
        most_kills: kills that one of them survived.
        uninterrupted_s: seconds that the uninterrupted conversion took.
        total_s: seconds of all.
        store_bytes: size of the store.
        faults: what did not hold.
    """

    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VICTIMS, 0))
    conversions: int = 0
    most_kills: int = 0
    uninterrupted_s: float = 0.0
    total_s: float = 0.0
    store_bytes: int = 0
    faults: list[str] = field(default_factory=list)


def main() -> int:
    """Run the soak and print what happened."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        report = soak(
            Path(folder),
            kills=arguments.kills,
            workers=arguments.workers,
            trajectories=arguments.trajectories,
            seed=arguments.seed,
        )
    text = json.dumps({"settings": {**vars(arguments), "output": None}, **asdict(report)}, indent=1)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    return 1 if report.faults else 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills that must meet a conversion at work (50)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the conversion (2)")
    parser.add_argument("--trajectories", type=int, default=60, help="of 4 frames of 256 x 256 points (60)")
    parser.add_argument("--seed", type=int, default=0, help="of fields, times and victims (0)")
    parser.add_argument("--output", type=Path, help="write what happened as JSON")
    return parser.parse_args()


def soak(folder: Path, *, kills: int, workers: int, trajectories: int, seed: int) -> SoakReport:
    """Convert, kill and take up in `folder` until `kills` kills are done and the last conversion came to its end."""
    report, started = SoakReport(), time.monotonic()
    source = write_source(folder, trajectories, seed)
    dest, whole = folder / "store", folder / "whole"
    status, _ = wait_for(begin(source, whole, workers))
    report.uninterrupted_s = round(time.monotonic() - started, 2)
    if status != 0:
        report.faults.append(f"the uninterrupted conversion ended with {status}")
        return report
    expected = hash_files(whole)
    report.store_bytes = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    dice, survived = random.Random(seed), 0
    while not report.faults and (sum(report.kills.values()) < kills or dest.exists() or survived):
        process = begin(source, dest, workers)
        killing = sum(report.kills.values()) < kills
        # Work that is committed is not done again, so later kills must come earlier to meet it at work.
        delay = dice.uniform(0.3, 0.6 * report.uninterrupted_s)
        if killing and (victim := kill_after(process, delay, dice)):
            report.kills[victim] += 1
            survived += 1
            report.faults += check_killed(process, dest, victim)
            if not dest.exists():
                continue
            # Killed right after its store took its name. The same command refuses, and clears up.
            process = begin(source, dest, workers)
            report.faults += [] if wait_for(process)[0] == MISUSE else ["a finished store was not refused"]
        elif (status_errors := wait_for(process))[0] != 0:
            report.faults.append(f"a conversion ended with {status_errors}")
        report.faults += check_finished(dest, expected)
        report.conversions += 1
        report.most_kills = max(report.most_kills, survived)
        survived = 0
        shutil.rmtree(dest, ignore_errors=True)
    report.total_s = round(time.monotonic() - started, 2)
    return report


def write_source(folder: Path, trajectories: int, seed: int) -> Path:
    """Write fields and their description."""
    random_ = np.random.default_rng(seed)
    x = np.linspace(0, 2 * np.pi, 256)
    waves = np.sin(random_.integers(1, 9, size=(trajectories, 4, 1, 1)) * x[:, None] + np.cos(x))
    noise = 1e-3 * random_.standard_normal((trajectories, 4, 256, 256))
    np.save(folder / "u.npy", (waves + noise).astype(np.float32))
    (folder / "waves.yaml").write_text(_DESCRIPTION, encoding="utf-8")
    return folder / "waves.yaml"


def begin(source: Path, dest: Path, workers: int) -> subprocess.Popen[str]:
    """Begin a conversion in a process group of its own."""
    # Small shards: many of them are worth more here than large ones.
    settings = source.with_name("settings.yaml")
    settings.write_text("{name: same, shard_mib: 2, codec: blosc-lz4, min_compressed_bytes: 1}\n", encoding="utf-8")
    command = [sys.executable, "-m", "preprocess", "convert", str(source), str(dest), "--config", str(settings)]
    return subprocess.Popen(
        [*command, "--workers", str(workers)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return exit status and messages."""
    _, errors = process.communicate(timeout=600)
    return process.returncode, errors


def kill_after(process: subprocess.Popen[str], delay: float, dice: random.Random) -> str | None:
    """Kill someone after `delay` seconds; return whom, None where the conversion was done before."""
    try:
        process.wait(timeout=delay)
    except subprocess.TimeoutExpired:
        victim = dice.choice(VICTIMS)
        workers = find_workers(process.pid)
        if victim == "worker" and not workers:
            victim = "command"
        if victim == "all":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(process.pid if victim == "command" else dice.choice(workers), signal.SIGKILL)
        return victim
    return None


def find_workers(parent: int) -> list[int]:
    """Return the spawned processes of a conversion, without Python's own resource tracker."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="utf-8").split()
    return [
        int(child)
        for child in children
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8", errors="replace")
    ]


def check_killed(process: subprocess.Popen[str], dest: Path, victim: str) -> list[str]:
    """Return what does not hold after a kill."""
    status, errors = wait_for(process)
    faults = []
    if victim == "worker" and status not in {0, 1}:
        faults.append(f"a conversion that lost a worker ended with {status}: {errors!r}")
    if victim == "worker" and status == 1 and "a worker process of the conversion died" not in errors:
        faults.append(f"a lost worker was not told: {errors!r}")
    if not dest.exists():
        try:
            open_store(str(dest))
            faults.append("a store opened where there is none")
        except StoreNotFoundError:
            pass
    return faults


def check_finished(dest: Path, expected: dict[str, str]) -> list[str]:
    """Return what does not hold where a store lies."""
    found = hash_files(dest)
    faults = [f"{key} differs from the uninterrupted one" for key in expected if found.get(key) != expected[key]]
    faults += [f"{key} is left in the store" for key in found.keys() - expected.keys()]
    beside = {path.name for path in dest.parent.iterdir()} - {"u.npy", "waves.yaml", "settings.yaml", "store", "whole"}
    return faults + [f"{name} is left beside the store" for name in sorted(beside)]


def hash_files(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below `root`."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


if __name__ == "__main__":
    raise SystemExit(main())
