"""From what the stages left behind to the records of the report."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

import ups_data
from demo_runner import Note
from demo_settings import RUNS, TITLE, DemoSettings
from machine import describe_machine
from preprocess.report import (
    Command,
    DrawExample,
    DrawnPoints,
    Prediction,
    Problem,
    Report,
    Run,
    RunName,
    Stream,
    StreamRow,
    summarise_proof,
)
from ups_data.dataset import QueryDataset
from ups_data.samplers import DenseSampler, ImportanceSampler, Sampler, UniformSampler
from ups_data.storage import Store
from ups_data.training import StepRecord, TrainConfig
from ups_data.training.journal import LOG_NAME

PREDICTION_NAME = "prediction.npy"


def open_test_split(config: TrainConfig, store: Store) -> QueryDataset:
    """Return the test samples with every point."""
    return config.data.build(store, DenseSampler(), split=config.data.test_split)


def example_of(dataset: QueryDataset) -> int:
    """Return the test sample that is shown: of the first trajectory, at three tenths, where fronts are sharp."""
    store = dataset.store
    trajectory, _ = dataset.locate(0)
    return (store.num_frames(trajectory) - dataset.window.span + 1) * 3 // 10


def gather_report(settings: DemoSettings, notes: Mapping[str, Note], commands: tuple[Command, ...]) -> Report:
    """Return the report of a finished demo."""
    store = ups_data.open_store(settings.store)
    dataset = open_test_split(settings.train, store)
    sparse, dense = (_read_run(settings, name, len(dataset)) for name in RUNS)
    return Report(
        problem=_describe_problem(store, dataset),
        example=_draw_example(settings, store, dataset),
        proof=summarise_proof(notes["prove"].result),
        stream=_read_stream(notes["stream"].result),
        sparse=sparse,
        dense=dense,
        prediction=_read_prediction(settings, store, dataset),
        machine=describe_machine(),
        settings=_describe_settings(settings, store),
        stage_seconds={name: note.seconds for name, note in notes.items()},
        commands=commands,
        created=dt.datetime.now(dt.UTC).strftime("%-d %B %Y"),
    )


def _describe_problem(store: Store, dataset: QueryDataset) -> Problem:
    manifest = store.manifest
    field, axes = dataset.target_fields[0], manifest.geometry.axes
    times = store.times(0)
    window = dataset.window
    return Problem(
        title=TITLE,
        equation=manifest.source.notes[0].partition(": ")[2],
        field=field.name,
        unit=field.unit or "",
        axes=(axes[0].name, axes[1].name),
        time_unit=manifest.time_unit or "",
        shape=_shape(store, 0),
        num_frames=manifest.num_frames,
        splits=manifest.splits,
        lead=float(times[window.target_frames(0)[0]] - times[window.input_frames(0)[-1]]),
    )


def _draw_example(settings: DemoSettings, store: Store, dataset: QueryDataset) -> DrawExample:
    number = example_of(dataset)
    trajectory, frame = dataset.locate(number)
    shape = _shape(store, trajectory)
    samplers: tuple[Sampler, ...] = (ImportanceSampler(ratio=settings.ratio), UniformSampler(ratio=settings.ratio))
    axes = store.manifest.geometry.axes
    return DrawExample(
        trajectory=trajectory,
        frame=frame,
        time=float(store.times(trajectory)[frame]),
        values=_field(store, trajectory, frame),
        importance=store.importance(trajectory).astype(np.float64).reshape(shape),
        extent=((axes[0].lower, axes[0].upper), (axes[1].lower, axes[1].upper)),
        draws=tuple(_draw(settings, store, sampler, number) for sampler in samplers),
    )


def _draw(settings: DemoSettings, store: Store, sampler: Sampler, number: int) -> DrawnPoints:
    dataset = settings.train.data.build(store, sampler, split=settings.train.data.test_split)
    sample = dataset[number]
    weights = sample.query_weights.numpy().astype(np.float64)
    return DrawnPoints(
        sampler=sampler.name,
        coordinates=sample.query_coords.numpy().astype(np.float64),
        # Five digits are what float32 weights hold of a ratio of whole pages.
        stands_for=np.round(weights * store.num_points(sample.trajectory), 4),
    )


def _read_stream(result: Mapping[str, Any]) -> Stream:
    return Stream(**{**result, "rows": tuple(StreamRow(**row) for row in result["rows"])})


def _read_run(settings: DemoSettings, name: RunName, num_samples: int) -> Run:
    lines = (settings.run_folder(name) / LOG_NAME).read_text(encoding="utf-8").splitlines()
    records = [StepRecord(**json.loads(line)) for line in lines]
    evaluated = [record for record in records if record.relative_l2 is not None]
    sampler = settings.run_config(name).sampler
    is_dense = sampler.kind == "dense"
    return Run(
        name=name,
        sampler="every point" if is_dense else f"{100 * settings.ratio:g} % of the points, by {sampler.kind}",
        ratio=1.0 if is_dense else settings.ratio,
        seconds=np.array([record.seconds for record in records]),
        losses=np.array([record.loss for record in records]),
        waited=records[-1].waited,
        eval_steps=np.array([record.step for record in evaluated]),
        eval_seconds=np.array([record.seconds for record in evaluated]),
        eval_errors=np.array([record.relative_l2 for record in evaluated], dtype=np.float64),
        eval_samples=min(settings.train.data.test_samples or num_samples, num_samples),
    )


def _read_prediction(settings: DemoSettings, store: Store, dataset: QueryDataset) -> Prediction:
    trajectory, first = dataset.locate(example_of(dataset))
    source, target = dataset.window.input_frames(first)[-1], dataset.window.target_frames(first)[0]
    times, shape = store.times(trajectory), _shape(store, trajectory)
    return Prediction(
        trajectory=trajectory,
        input_frame=source,
        target_frame=target,
        input_time=float(times[source]),
        target_time=float(times[target]),
        input=_field(store, trajectory, source),
        target=_field(store, trajectory, target),
        predicted={name: np.load(settings.run_folder(name) / PREDICTION_NAME).reshape(shape) for name in RUNS},
    )


def _field(store: Store, trajectory: int, frame: int) -> Any:
    return store.read_dense(trajectory, [frame])[0, 0].reshape(_shape(store, trajectory))


def _shape(store: Store, trajectory: int) -> tuple[int, int]:
    rows, columns = store.shape(trajectory)
    return rows, columns


def _describe_settings(settings: DemoSettings, store: Store) -> dict[str, str]:
    layout, importance, train = store.manifest.layout, store.manifest.importance, settings.train
    metrics = " + ".join(f"{weight:g} x {name.replace('_', ' ')}" for name, weight in importance.metrics.items())
    options = train.optimizer
    return {
        "importance": f"{metrics}; exponent {importance.exponent:g}, floor {importance.floor:g}",
        "pages": f"{layout.page_points} points each, {layout.num_strata} bands of importance, {layout.curve} curve",
        "store": f"{store.manifest.dtype}, codec {store.manifest.codec}",
        "batch": f"{train.data.batch_size} samples, {train.data.num_workers} loader workers",
        "model": ", ".join(_flatten(train.model.model_dump(exclude_unset=True))) or "as it comes",
        "loss": ", ".join(_flatten(train.loss.model_dump())),
        "optimiser": f"AdamW, learning rate {options.learning_rate:g}, weight average {options.ema_decay:g}",
        "bound": f"{settings.seconds:g} s of training a run, seed {train.seed}",
    }


def _flatten(content: Mapping[str, Any], prefix: str = "") -> list[str]:
    words: list[str] = []
    for key, value in content.items():
        name = key.replace("_", " ")
        shown = ("yes" if value else "no") if isinstance(value, bool) else value
        words += _flatten(value, f"{prefix}{name} ") if isinstance(value, dict) else [f"{prefix}{name} {shown}"]
    return words
