#!/usr/bin/env python
r"""Train sparse against dense: dense test error by equal steps and by equal time, on three data sets.

time: how long a sparse run takes to the last dense test error of the dense run, over the time of that run;
steps: the gap at equal steps on resolved fields, 256 x 256;
resolution: that gap from 32 x 32 to 256 x 256, the same fields on coarser grids;
longer: the first part again, with dense runs of as many steps as its sparse ones, and sparse ones of twice as many;
matrix: four ratios by four samplers, with and without a curriculum, at equal steps.

A finished run is a line of the output file: settings, and a curve of steps, CPU seconds, wall-clock seconds and dense
test errors. The same command goes on where it was stopped. Tables and the picture are made from that file alone.
Training runs in one thread; its CPU seconds depend far less on what else the machine does than wall-clock seconds do
(neighbours still share caches and memory). Evaluations count in neither.

The winds are a file of Debian's package ferret-datasets (apt-get download ferret-datasets; dpkg-deb -x ...). The other
fields are generated, which needs exponax: pip install "ups-data[demo,netcdf]".

Example: scripts/study_accuracy.py --data study --winds monthly_navy_winds.cdf \
             --output docs/accuracy.jsonl --report docs/accuracy.md
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import rich.console

from accuracy_cases import CASES, PARTS, Arm, Job, list_jobs
from accuracy_outcomes import Outcome, Point, read_outcomes
from accuracy_report import write_report
from machine import machine_line
from ups_data.errors import ConfigError
from ups_data.training import StepRecord, TrainConfig, loop, train
from ups_data.training.metrics import evaluate

WARM_UP = 3  # steps whose time counts nowhere: the first ones of a process load libraries
CONSOLE = rich.console.Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Make the runs that are missing, then the report."""
    arguments = parse_arguments()
    finished = {outcome.key: outcome for outcome in read_outcomes(arguments.output)}
    jobs = list_jobs(arguments.parts, [CASES[name] for name in arguments.cases], arguments.seeds)
    missing = [job for job in jobs if not is_finished(job, finished, arguments.output)]
    CONSOLE.print(f"{len(jobs) - len(missing)} of {len(jobs)} runs are in {arguments.output}")
    until = time.monotonic() + 60 * arguments.minutes
    for number, job in enumerate(missing):
        if time.monotonic() > until:
            CONSOLE.print(f"stopped after {arguments.minutes:g} minutes; the same command goes on")
            break
        job.case.prepare(arguments.data, arguments.winds)
        if number == 0:
            run(job, arguments.data, steps=WARM_UP)
        outcome = run(job, arguments.data)
        with arguments.output.open("a", encoding="utf-8") as lines:
            lines.write(outcome.to_line())
        last = outcome.curve[-1]
        CONSOLE.print(f"{job.name}: {last.error:.4f} after {last.step} steps, {last.cpu:.1f} s of CPU")
    if arguments.report is not None:
        write_report(read_outcomes(arguments.output), arguments.report, clock=arguments.clock)
        CONSOLE.print(f"{arguments.report} tells {arguments.output}")
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="parts to run, in this order (all)")
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=tuple(CASES), help="data sets (all)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind (3)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so many (no limit)")
    parser.add_argument("--data", type=Path, required=True, help="folder of fields and stores, made or taken")
    parser.add_argument("--winds", type=Path, help="monthly_navy_winds.cdf")
    parser.add_argument("--output", type=Path, required=True, help="file of finished runs, a line each")
    parser.add_argument("--report", type=Path, help="write tables here (.md), and the picture beside them (.svg)")
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu", help="seconds of the report (cpu)")
    return parser.parse_args()


def is_finished(job: Job, finished: Mapping[tuple[str, Arm, int], Outcome], path: Path) -> bool:
    """Return whether a run is there.

    Raises:
        ConfigError: it is there with other settings.
    """
    outcome = finished.get(job.key)
    if outcome is not None and outcome.settings != settings_of(job.configure()):
        raise ConfigError(f"{path} holds {job.name} with other settings: name another --output, or delete its line")
    return outcome is not None


def settings_of(config: TrainConfig) -> dict[str, Any]:
    """Return the keys of a configuration that are set, as JSON knows them."""
    return json.loads(config.model_dump_json(exclude_unset=True))


def run(job: Job, folder: Path, *, steps: int | None = None) -> Outcome:
    """Train once; for other steps than the job's where some are given."""
    config, curve = job.configure(), []
    if steps is not None:
        config = config.with_changes(steps=steps, evaluations=1)
    with measure_evaluations() as evaluating:
        began = time.process_time()

        def note(record: StepRecord) -> None:
            if record.relative_l2 is not None:
                cpu = time.process_time() - began - sum(evaluating)
                seconds = {"cpu": round(cpu, 3), "wall": round(record.seconds, 3)}
                curve.append(Point(step=record.step, **seconds, error=round(record.relative_l2, 6)))

        train(config.with_changes(data={"store": str(folder / job.case.name)}), report=note)
    return Outcome(
        case=job.case.name,
        arm=job.arm,
        seed=job.seed,
        machine=machine_line(),
        settings=settings_of(config),
        curve=tuple(curve),
    )


@contextlib.contextmanager
def measure_evaluations() -> Iterator[list[float]]:
    """Yield a list to which the CPU seconds of every dense evaluation are added."""
    spent: list[float] = []

    def measured(*arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        errors = evaluate(*arguments, **options)
        spent.append(time.process_time() - began)
        return errors

    with mock.patch.object(loop, "evaluate", measured):
        yield spent


if __name__ == "__main__":
    sys.exit(main())
