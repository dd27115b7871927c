"""What the benchmarks of training share: data made on the spot, and a training run that is taken step by step."""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import rich.console
import rich.table
import torch

import ups_data
from machine import machine_line
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.generated import GenerateSettings, generate
from ups_data.collate import SparseBatch
from ups_data.dataset import QueryDataset
from ups_data.loader import build_loader
from ups_data.models import NeuralOperator, OperatorConfig, ProblemSpec
from ups_data.samplers import DenseSampler, ImportanceSampler
from ups_data.storage import Store
from ups_data.training import LossConfig, compute_operator_loss_bundle
from ups_data.transfer import DeviceLoader

Result = TypeVar("Result")

Column = Callable[[dict[str, Any], dict[str, Any]], str]
"""The text of a row, given the row and the first one."""

DOES_NOT_FIT = "does not fit"

RATIOS = (1.0, 0.5, 0.3, 0.1, 0.05, 0.02)
"""1.0 is dense training; the others are importance draws."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Data and a model for them.

    Attributes:
        recipe, made: what is generated.
        batch_size: samples of a batch.
        model: settings of the model, as in a configuration.
        what: for people.
    """

    recipe: str
    batch_size: int
    what: str
    made: dict[str, int] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)


_GRID = {"grid_encoder": {"patch": 8}, "residual": True}
CASES: dict[str, Case] = {
    "small-plane": Case(
        recipe="burgers",
        made={"num_trajectories": 2, "num_frames": 3, "resolution": 64},
        batch_size=2,
        model=_GRID,
        what="2-D Burgers, 64 x 64, batches of 2: a first look",
    ),
    "plane": Case(
        recipe="burgers",
        made={"num_trajectories": 4, "num_frames": 9},
        batch_size=2,
        model=_GRID,
        what="2-D Burgers, 256 x 256, batches of 2",
    ),
    "many-planes": Case(
        recipe="burgers",
        made={"num_trajectories": 16, "num_frames": 17},
        batch_size=32,
        model=_GRID,
        what="2-D Burgers, 256 x 256, batches of 32: work enough for a GPU",
    ),
    "large-plane": Case(
        recipe="turbulence",
        made={"num_trajectories": 2, "num_frames": 5, "resolution": 512},
        batch_size=2,
        model=_GRID,
        what="2-D turbulence, 512 x 512, batches of 2",
    ),
    "volume": Case(
        recipe="burgers_3d",
        made={"num_trajectories": 1, "num_frames": 3, "resolution": 128},
        batch_size=1,
        model=_GRID,
        what="3-D Burgers, 128 x 128 x 128, batches of 1",
    ),
    "cloud": Case(
        recipe="beltrami_points",
        made={"num_trajectories": 1, "num_frames": 3, "num_points": 10**6},
        batch_size=1,
        what="3-D Beltrami flow on 10^6 scattered points, batches of 1",
    ),
}


def make_store(case: Case, folder: Path) -> Path:
    """Generate the data of a case and convert them, in a process that may keep the solver's memory and threads.

    Data that are there already are taken. All of them are for training: nothing is evaluated.
    """
    path = folder / case.recipe
    if not path.exists():
        call_apart(_make_store, case, folder, path)
    return path


def _make_store(case: Case, folder: Path, path: Path) -> None:
    settings = GenerateSettings.model_validate(case.made)
    description = generate(case.recipe, folder / "raw", settings, overwrite=True)
    convert(open_source([description]), path, ConvertSettings(splits={"train": 1.0}))


def call_apart(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a process of its own, in which no other call has left memory or threads."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a training step took, in seconds.

    Attributes:
        total: from asking for the batch to the end of the optimiser's step, the device waited for.
        waited: of it, waiting for the batch and bringing it to the device.
        cpu: processor time of this process, all of its threads; that of workers is not in it. On a machine that others
            use too it is steadier than the clock.
        batch_bytes: bytes of the batch.
    """

    total: float
    waited: float
    cpu: float
    batch_bytes: int


class Training:
    """A training run of one ratio.

    Args:
        case: data and model.
        store: an open store of them.
        ratio: drawn points / points; 1.0 takes every point.
        device: where the model lies.
        num_workers: processes that build batches.
        loss: terms of the loss.
    """

    def __init__(
        self,
        case: Case,
        store: Store,
        ratio: float,
        *,
        device: torch.device,
        num_workers: int = 0,
        loss: LossConfig | None = None,
    ) -> None:
        torch.manual_seed(0)
        sampler = DenseSampler() if ratio == 1 else ImportanceSampler(ratio)
        dataset = QueryDataset(store, sampler=sampler, window=ups_data.Window())
        loader = build_loader(
            dataset, batch_size=case.batch_size, num_workers=num_workers, pin_memory=device.type == "cuda"
        )
        self.device, self._loss = device, loss or LossConfig()
        self._loader = DeviceLoader(loader, device)
        config = OperatorConfig.model_validate(case.model)
        self.model = NeuralOperator(config, ProblemSpec.of(dataset)).to(device)
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self._batches = self._repeat()

    def _repeat(self) -> Iterator[SparseBatch]:
        for _ in itertools.count():
            yield from self._loader

    def next_batch(self) -> SparseBatch:
        """Return the next batch, on the device."""
        return next(self._batches)

    def step(self) -> Taken:
        """Take one step."""
        began, cpu = time.perf_counter(), time.process_time()
        batch = self.next_batch()
        arrived = time.perf_counter()
        self._optimizer.zero_grad(set_to_none=True)
        compute_operator_loss_bundle(self.model, batch, self._loss).total.backward()
        self._optimizer.step()
        self.wait_for_device()
        return Taken(
            total=time.perf_counter() - began,
            waited=arrived - began,
            cpu=time.process_time() - cpu,
            batch_bytes=batch.num_bytes,
        )

    def wait_for_device(self) -> None:
        """Wait until the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def add_memory_limit(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark be told what `call_limited` takes."""
    help_text = "what a process may have resident (what the machine has available, less 1 GiB)"
    parser.add_argument("--memory-gib", type=float, help=help_text)


def call_limited(gib: float | None, function: Callable[..., Result], *arguments: object) -> Result | None:
    """Call a function in a process of its own; None if it asks for more memory than it may have.

    On a processor the process is ended as soon as it has more than `gib` resident, before the system would end it or
    others; a GPU has a limit of its own.

    Raises:
        RuntimeError: the function failed; its process has printed why.
    """
    limit = int(gib * 2**30) if gib is not None else memory_figure("meminfo", "MemAvailable") - 2**30
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, function, arguments))
    process.start()
    there.close()
    try:
        while not here.poll(_LOOK_SECONDS):
            if memory_figure(f"{process.pid}/status", "VmRSS") > limit:
                return None
        answer: Result | None = here.recv()
        return answer
    except EOFError as error:
        process.join()
        raise RuntimeError(f"{function.__name__} ended with exit status {process.exitcode}") from error
    finally:
        process.kill()
        process.join()


_LOOK_SECONDS = 0.005


def _answer(pipe: Connection, function: Callable[..., object], arguments: Sequence[object]) -> None:
    try:
        pipe.send(function(*arguments))
    except torch.OutOfMemoryError:
        pipe.send(None)


def memory_figure(place: str, name: str) -> int:
    """Return a figure that Linux keeps in kB in a file below /proc, as bytes; 0 where it has none."""
    content = (Path("/proc") / place).read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB", content, re.MULTILINE)
    return 1024 * int(found.group(1)) if found else 0


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what all benchmarks can be told."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=sorted(CASES), default="plane", help="data and model (plane)")
    parser.add_argument("--ratios", type=float, nargs="+", default=list(RATIOS), help="drawn points / points")
    parser.add_argument("--device", default="auto", help="as torch names it (the GPU where there is one)")
    parser.add_argument("--data", type=Path, help="keep the data in this folder, or take them from it")
    parser.add_argument("--output", type=Path, help="write what was measured as JSON")
    return parser


def publish(arguments: argparse.Namespace, rows: list[dict[str, Any]], columns: Mapping[str, Column]) -> None:
    """Print what was measured as a table, and write it where that was asked for.

    Args:
        arguments: of the command line.
        rows: a row a ratio, the first one that which the others are held against; of those that do not fit into memory,
            `fits` is False.
        columns: by heading.
    """
    case, device = CASES[arguments.case], device_line(choose_device(arguments.device))
    table = rich.table.Table()
    for heading in ("ratio", *columns):
        table.add_column(heading, justify="right")
    for row in rows:
        ratio = "dense" if row["ratio"] == 1 else f"{row['ratio']:g}"
        cells = [text(row, rows[0]) for text in columns.values()] if row["fits"] else [DOES_NOT_FIT]
        table.add_row(ratio, *cells)
    console = rich.console.Console(width=None if sys.stdout.isatty() else 120)
    console.print(f"{case.what}; {device}; {machine_line()}", table)
    if arguments.output is not None:
        content = {"case": arguments.case, "device": device, "machine": machine_line(), "rows": rows}
        arguments.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is the GPU where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def device_line(device: torch.device) -> str:
    """Return the device in words."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def saving(name: str) -> Column:
    """Return a column: what share of a figure of the dense run is saved."""
    return lambda row, dense: f"{1 - row[name] / dense[name]:.0%}" if dense["fits"] else "-"


def take_in_turns(runs: Sequence[Training], *, rounds: int, steps: int) -> list[list[Taken]]:
    """Take steps of all runs in turns, after one step of each that is not counted; return them by run."""
    for run in runs:
        run.step()
    taken: list[list[Taken]] = [[] for _ in runs]
    for _ in range(rounds):
        for number, run in enumerate(runs):
            taken[number] += [run.step() for _ in range(steps)]
    return taken
