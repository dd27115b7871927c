"""The seven stages of the demo: generate, convert, validate, prove, stream, train, report."""

from __future__ import annotations

import dataclasses
import multiprocessing
import signal
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ups_data
from demo_report import PREDICTION_NAME, example_of, gather_report, open_test_split
from demo_runner import Note, Show, Stage, StageError
from demo_settings import PROVED, RECIPE, RUNS, TITLE, DemoSettings
from demo_stream import measure_stream
from preprocess.convert import ConvertSettings, convert
from preprocess.inspect import format_bytes
from preprocess.prove import prove
from preprocess.report import Command, RunName, write_report
from preprocess.sources import open_source
from preprocess.sources.generated import GenerateSettings, generate
from preprocess.sources.recipes import RECIPES
from preprocess.validate import validate
from ups_data.collate import collate_samples
from ups_data.errors import UpsDataError
from ups_data.samplers import DenseSampler, ImportanceSampler, UniformSampler
from ups_data.storage import Store
from ups_data.training import StepRecord, TrainConfig, train


def build_stages(settings: DemoSettings, commands: tuple[Command, ...]) -> tuple[Stage, ...]:
    """Return the stages in their order."""
    work = _Work(settings, commands)
    made, output = settings.generate.model_dump(mode="json"), settings.output
    streamed = {"ratio": settings.ratio, "rounds": settings.stream_rounds, "batches": settings.stream_batches}
    trained = settings.train.model_dump(mode="json")
    return (
        Stage(
            name="generate",
            purpose=f"solving {count_trajectories(settings)} simulations of {TITLE}",
            settings=made,
            needs=(),
            products=(settings.description.with_suffix(".npy"), settings.description),
            work=lambda _, show: work.generate(show),
            summary=lambda result: f"{format_bytes(result['size_bytes'])} of fields",
        ),
        Stage(
            name="convert",
            purpose="laying the points out on pages by importance, writing the store",
            settings={"splits": dict(settings.splits)},
            needs=("generate",),
            products=(settings.store,),
            work=lambda _, show: work.convert(show),
            summary=lambda result: f"{result['num_frames']} frames, {format_bytes(result['size_bytes'])}",
        ),
        Stage(
            name="validate",
            purpose="checking every byte of the store",
            settings={},
            needs=("convert",),
            products=(),
            work=lambda _, show: work.validate(show),
            summary=lambda result: f"intact, {sum(result['checks'].values()):,} things checked",
        ),
        Stage(
            name="prove",
            purpose="drawing over and over, holding the estimates against the truth",
            settings={"ratio": settings.ratio, "draws": settings.draws, "samplers": PROVED},
            needs=("convert",),
            products=(),
            work=lambda _, show: work.prove(show),
            summary=lambda result: f"no bias in {len(result['rows'])} tests",
        ),
        Stage(
            name="stream",
            purpose="counting what loaders read and ship, sparse and dense",
            settings={**streamed, "data": trained["data"]},
            needs=("convert",),
            products=(),
            work=lambda _, show: work.stream(show),
            summary=_summarise_stream,
        ),
        Stage(
            name="train",
            purpose=f"training on {settings.ratio:.0%} of the points, then on all, {settings.train.seconds:g} s each",
            settings=trained,
            needs=("convert",),
            products=(output / "runs",),
            work=lambda _, show: work.train(show),
            summary=lambda result: ", ".join(f"{name} test error {result[name]['error']:.2%}" for name in RUNS),
        ),
        Stage(
            name="report",
            purpose="drawing the pictures, writing the page",
            settings={"commands": [dataclasses.asdict(command) for command in commands]},
            needs=("generate", "convert", "validate", "prove", "stream", "train"),
            products=(settings.report,),
            work=work.report,
            summary=lambda result: f"{format_bytes(result['size_bytes'])}",
        ),
    )


def count_trajectories(settings: DemoSettings) -> int:
    """Return how many simulations are made."""
    return settings.generate.num_trajectories or RECIPES[RECIPE].num_trajectories


class _Work:
    """What the stages do."""

    def __init__(self, settings: DemoSettings, commands: tuple[Command, ...]) -> None:
        self._settings, self._commands = settings, commands

    def generate(self, show: Show) -> Mapping[str, Any]:
        """Solve the equation in a process of its own, so that JAX with its threads and memory is gone afterwards."""
        show("trajectories", 0, count_trajectories(self._settings))
        _generate_apart(self._settings.description.parent, self._settings.generate, show)
        return {"size_bytes": self._settings.description.with_suffix(".npy").stat().st_size}

    def convert(self, show: Show) -> Mapping[str, Any]:
        """Convert the arrays to a store."""
        settings = ConvertSettings(name=RECIPE, splits=dict(self._settings.splits))
        source = open_source([self._settings.description], None, {})
        manifest = convert(source, self._settings.store, settings, overwrite=True, progress=show)
        size = sum(entry.size_bytes for entry in manifest.files)
        return {"num_frames": manifest.num_frames, "size_bytes": size, "splits": dict(manifest.splits)}

    def validate(self, show: Show) -> Mapping[str, Any]:
        """Check the store; a problem ends the demo."""
        report = validate(self._settings.store, progress=show)
        if not report.ok:
            raise StageError("\n".join(["the store is damaged:", *report.problems]))
        return report.to_dict()

    def prove(self, show: Show) -> Mapping[str, Any]:
        """Prove the draws; a bias ends the demo."""
        report = prove(
            self._open_store(),
            samplers=PROVED,
            ratio=self._settings.ratio,
            draws=self._settings.draws,
            split="test",
            progress=show,
        )
        if not report.ok:
            raise StageError("\n".join(["the draws do not hold:", *report.problems]))
        return report.to_dict()

    def stream(self, show: Show) -> Mapping[str, Any]:
        """Measure the loaders of three samplers against each other."""
        settings = self._settings
        samplers = {
            "pages of points": ImportanceSampler(ratio=settings.ratio),
            "random points of whole frames": UniformSampler(ratio=settings.ratio),
            "every point": DenseSampler(),
        }
        stream = measure_stream(
            settings.train.data,
            samplers,
            num_batches=settings.stream_batches,
            num_rounds=settings.stream_rounds,
            show=show,
        )
        return dataclasses.asdict(stream)

    def train(self, show: Show) -> Mapping[str, Any]:
        """Train both runs, each from its checkpoint if it was begun before, and predict one sample with each."""
        show(f"{RUNS[0]} run, seconds: warming up", 0, round(self._settings.seconds))
        self._warm_up()
        return {name: self._train_run(name, show) for name in RUNS}

    def _warm_up(self) -> None:
        """Take one step that is thrown away: what torch sets up at its first one is not to count against a run."""
        train(self._settings.train.with_changes(steps=1, seconds=None, evaluations=1, data={"test_samples": 1}))

    def _train_run(self, name: RunName, show: Show) -> Mapping[str, Any]:
        config, folder = self._settings.run_config(name), self._settings.run_folder(name)
        shown = _ShownRun(name, config, show)
        result = train(config, output=folder, resume=True, report=shown)
        # A run that was done before has nothing to report.
        shown(result.records[-1])
        dataset = open_test_split(config, self._open_store())
        batch = collate_samples([dataset[example_of(dataset)]]).to(result.model.device)
        result.model.eval()
        with torch.no_grad():
            predicted = batch.denormalize(result.model.predict(batch))[0, 0, :, 0]
        np.save(folder / PREDICTION_NAME, predicted.cpu().numpy())
        return {"error": result.errors.relative_l2, "steps": len(result.records)}

    def report(self, notes: Mapping[str, Note], show: Show) -> Mapping[str, Any]:
        """Write the page."""
        show("pages", 0, 1)
        write_report(gather_report(self._settings, notes, self._commands), self._settings.report)
        show("pages", 1, 1)
        return {"size_bytes": self._settings.report.stat().st_size}

    def _open_store(self) -> Store:
        return ups_data.open_store(self._settings.store)


class _ShownRun:
    """Shows the records of a run as they are made."""

    def __init__(self, name: RunName, config: TrainConfig, show: Show) -> None:
        self._name, self._show = name, show
        self._total = round(config.seconds or 0)
        self._error = ""

    def __call__(self, record: StepRecord) -> None:
        if record.relative_l2 is not None:
            self._error = f", test error {record.relative_l2:.2%}"
        words = f"{self._name} run, seconds: step {record.step}, loss {record.loss:.2e}{self._error}"
        # Rounded down: only the last step is all of it.
        self._show(words, int(record.progress * self._total), self._total)


def _summarise_stream(result: Mapping[str, Any]) -> str:
    first, *_, last = result["rows"]
    return (
        f"a sample ships {format_bytes(round(first['shipped_bytes']))} instead of "
        f"{format_bytes(round(last['shipped_bytes']))}, {first['samples_per_s']:.0f} samples/s instead of "
        f"{last['samples_per_s']:.0f}"
    )


def _generate_apart(folder: Path, settings: GenerateSettings, show: Show) -> None:
    """Generate in a process that is started anew, and show its progress.

    Raises:
        UpsDataError: what it raised.
        StageError: it was killed.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_generate, args=(folder, settings, there), daemon=True)
    # Ctrl-C on a terminal goes to all processes. The mask is inherited: the new one leaves it to this one.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    there.close()
    try:
        _follow(here, show)
    finally:
        process.terminate()
        process.join()


def _follow(messages: Connection, show: Show) -> None:
    """Show progress until the other end says that it is done."""
    while True:
        try:
            message = messages.recv()
        except EOFError as error:
            raise StageError("the process that generates the fields was killed; is there enough memory?") from error
        if message is None:
            return
        if isinstance(message, Exception):
            raise message
        show(*message)


def _generate(folder: Path, settings: GenerateSettings, messages: Connection) -> None:
    """Generate, and send progress, then None or the error."""
    try:
        generate(RECIPE, folder, settings, overwrite=True, progress=lambda *progress: messages.send(progress))
        messages.send(None)
    except (UpsDataError, OSError, MemoryError) as error:
        messages.send(error)
