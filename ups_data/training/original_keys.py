"""The configuration keys of the research that this project starts from, taken by their names and put into ours.

A section `training` holds them. What it says becomes, before a configuration is checked:

* `query_sampling` (`num_queries`, `strategy`, `curriculum`): `sampler.kind`, `sampler.num_queries`
* `query_sampling` (`sample_ratio`, `mode`, `schedule`, `final_ratio`, `warmup_epochs`): `sampler.kind`, `sampler.ratio`
* `query_sample_ratio`, `query_sampling_mode`, `query_sampling_schedule`, `query_sample_start_ratio`,
  `query_sample_end_ratio`, `query_sample_start_epoch`: the same
* `importance_metric: error`, `importance_window`: `sampler.kind: adaptive`, whose budgets change once an epoch and
  forget at 1 / window a change; until then draws are by the store's maps, which may be errors of an earlier run
  (`error:CHECKPOINT`); other metrics: nothing, they must be among those that the store was converted with
* `lambda_*`, `inverse_loss_max_weight`: `loss`, by the same names
* `inverse_loss_warmup_epochs`: `loss.inverse_loss_warmup_steps`
* `use_inverse_losses: false`: weights of 0 for the inverse terms
* `batch_size`, `num_workers`: `data`, by the same names
* `time_stride`, `rollout_horizon`: `data.window.stride`, `data.window.targets`

Modes `random` and `uniform` are the sampler `uniform`. Schedules stay at their start for the epochs of `warmup_epochs`
or `query_sample_start_epoch`, and reach their end with the end of the run. Epochs become steps by the batches that one
pass over the store's training split has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import pydantic

import ups_data
from ups_data.errors import ConfigError
from ups_data.schema import Record
from ups_data.training.config import TrainConfig, merge_sections
from ups_data.training.run_data import RunData
from ups_data.yaml_records import parse_record

SECTION = "training"

_WITHOUT_COUNTERPART = {
    "pin_memory": "batches on their way to a GPU always lie in page-locked memory",
    "prefetch_factor": "workers are two batches ahead",
    "use_parallel_encoding": "fields are encoded in the training step; set data.num_workers",
    "latent_cache_dir": "fields are encoded in the training step, no tokens are kept",
    "latent_cache_dtype": "fields are encoded in the training step, no tokens are kept",
    "inverse_loss_frequency": "inverse terms are sparse, and computed in every step",
}

_OF_A_SCHEDULE = ("query_sample_start_ratio", "query_sample_end_ratio", "query_sample_start_epoch")

_Share = Annotated[float, pydantic.Field(gt=0, le=1)]
_Count = Annotated[int, pydantic.Field(ge=1)]
_Epochs = Annotated[int, pydantic.Field(ge=0)]
_Weight = Annotated[float, pydantic.Field(ge=0)]
_Mode = Literal["random", "uniform", "stratified", "importance"]
_Shape = Literal["constant", "linear", "cosine", "exponential"]


class OriginalCurriculum(Record):
    """`training.query_sampling.curriculum`: from many queries to few."""

    enabled: bool
    start_queries: _Count = 4096
    end_queries: _Count = 1024
    warmup_epochs: _Epochs = 5


class OriginalQuerySampling(Record):
    """`training.query_sampling`: a number of queries, or a share of the points."""

    enabled: bool
    num_queries: _Count | None = None
    strategy: Literal["uniform", "stratified"] | None = None
    curriculum: OriginalCurriculum | None = None
    sample_ratio: _Share | None = None
    mode: _Mode | None = None
    schedule: _Shape = "constant"
    final_ratio: _Share | None = None
    warmup_epochs: _Epochs = 0

    @pydantic.model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if self.sample_ratio is not None and (self.num_queries, self.curriculum) != (None, None):
            raise ValueError("sample_ratio and num_queries (or curriculum) exclude each other")
        if self.strategy is not None and self.mode is not None:
            raise ValueError("strategy and mode are two names of one choice; give one")
        if self.sample_ratio is None and self.model_fields_set & {"schedule", "final_ratio", "warmup_epochs"}:
            raise ValueError("schedule, final_ratio and warmup_epochs need sample_ratio")
        return self


class OriginalTraining(Record):
    """The section `training`, as far as it has a counterpart."""

    query_sampling: OriginalQuerySampling | None = None
    query_sample_ratio: _Share | None = None
    query_sampling_mode: _Mode | None = None
    query_sampling_schedule: _Shape = "constant"
    query_sample_start_ratio: _Share | None = None
    query_sample_end_ratio: _Share | None = None
    query_sample_start_epoch: _Epochs = 0
    importance_metric: Literal["gradient", "error", "variance"] | None = None
    importance_window: _Count | None = None
    lambda_forward: _Weight | None = None
    lambda_rollout: _Weight | None = None
    lambda_spectral: _Weight | None = None
    lambda_inv_enc: _Weight | None = None
    lambda_inv_dec: _Weight | None = None
    use_inverse_losses: bool = True
    inverse_loss_warmup_epochs: _Epochs | None = None
    inverse_loss_max_weight: _Weight | None = None
    batch_size: _Count | None = None
    num_workers: _Epochs | None = None
    time_stride: _Count | None = None
    rollout_horizon: _Count | None = None

    @property
    def flat_sampling(self) -> list[str]:
        """Names of the flat keys of sampling that are given."""
        return sorted(
            name for name in self.model_fields_set if name.startswith("query_sampl") and name != "query_sampling"
        )


def translate(content: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Return a configuration's content with its section `training`, if it has one, put into our keys.

    Args:
        content: sections of a configuration; `data` must name a store, or a mixture, where epochs or an importance
            metric are given.
        where: the file, for messages.

    Raises:
        ConfigError: an unknown key (with the nearest valid one), one without a counterpart (with the reason), one that
            is given by our name too, or a schedule of a run whose number of steps is not known.
    """
    if SECTION not in content:
        return dict(content)
    ours = {name: value for name, value in content.items() if name != SECTION}
    theirs = content[SECTION]
    for name in theirs if isinstance(theirs, Mapping) else ():
        if name in _WITHOUT_COUNTERPART:
            raise ConfigError(
                f"{where}: training.{name} has no counterpart: {_WITHOUT_COUNTERPART[name]}; leave it out"
            )
    record = parse_record(OriginalTraining, theirs, where=f"{where}, section {SECTION}")
    sections = _simple_sections(record)
    _refuse_repeats(sections, ours, where)
    ours = merge_sections(ours, sections)
    run = _Run(ours, where)
    found = _given({"sampler": _sampler_of(record, run, where), "loss": _loss_of(record, run)})
    _refuse_repeats(found, ours, where)
    return merge_sections(ours, found)


class _Run:
    """How long the run is; the store is opened once something asks.

    Args:
        content: its configuration, all but the sampler.
        where: the file, for messages.
    """

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        self._content, self._where = {**content, "sampler": {"kind": "dense"}}, where
        self._config: TrainConfig | None = None
        self._batches: int | None = None

    @property
    def config(self) -> TrainConfig:
        """The configuration."""
        if self._config is None:
            self._config = parse_record(TrainConfig, self._content, where=self._where)
        return self._config

    @property
    def epoch_batches(self) -> int:
        """Batches of a pass over the training split."""
        if self._batches is None:
            data = self.config.data
            dataset = RunData.open(data, ups_data.DenseSampler(), seed=0).train
            self._batches = len(ups_data.build_loader(dataset, batch_size=data.batch_size))
        return self._batches

    @property
    def batches(self) -> int:
        """Batches of the run."""
        if self.config.steps is None:
            raise ConfigError(
                f"{self._where}: a schedule of section {SECTION} ends with the run, whose length in steps is not "
                f"known; give steps in place of seconds"
            )
        return self.config.steps * self.config.optimizer.accumulate

    def steps_of(self, epochs: int) -> int:
        """Return the optimiser steps of some epochs, rounded to the nearest."""
        return round(epochs * self.epoch_batches / self.config.optimizer.accumulate)

    def ramp(self, schedule: str, start: float, end: float, *, hold_epochs: int) -> dict[str, Any]:
        """Return a ramp over batches that begins after some epochs and ends with the run."""
        begin = hold_epochs * self.epoch_batches if hold_epochs else 0
        if begin >= self.batches:
            raise ConfigError(
                f"{self._where}: the schedule of section {SECTION} begins after {hold_epochs} epochs, {begin} batches; "
                f"the run has {self.batches}; give more steps, or begin earlier"
            )
        return {"schedule": schedule, "start": start, "end": end, "begin": begin, "steps": self.batches - begin}


def _simple_sections(record: OriginalTraining) -> dict[str, Any]:
    """Return what needs no knowledge of the run."""
    window = {"stride": record.time_stride, "targets": record.rollout_horizon}
    data = {"batch_size": record.batch_size, "num_workers": record.num_workers, "window": _given(window)}
    names = ("forward", "rollout", "spectral", "inv_enc", "inv_dec")
    weights: dict[str, Any] = {f"lambda_{name}": getattr(record, f"lambda_{name}") for name in names}
    if not record.use_inverse_losses:
        weights |= {"lambda_inv_enc": 0.0, "lambda_inv_dec": 0.0}
    loss = _given({**weights, "inverse_loss_max_weight": record.inverse_loss_max_weight})
    return _given({"data": _given(data), "loss": loss})


def _loss_of(record: OriginalTraining, run: _Run) -> dict[str, Any]:
    epochs = record.inverse_loss_warmup_epochs
    return {} if epochs is None else {"inverse_loss_warmup_steps": run.steps_of(epochs)}


def _sampler_of(record: OriginalTraining, run: _Run, where: str) -> dict[str, Any]:
    nested, flat = record.query_sampling, record.flat_sampling
    if nested is not None and flat:
        raise ConfigError(
            f"{where}: training.query_sampling and training.{flat[0]} say the same in two ways; give one of them"
        )
    found: dict[str, Any] = {}
    if nested is not None:
        found = _nested_sampler(nested, run)
    elif flat:
        found = _flat_sampler(record, run, where)
    if record.importance_window is not None and record.importance_metric != "error":
        raise ConfigError(f"{where}: training.importance_window needs training.importance_metric: error")
    if record.importance_metric is not None and found.get("kind") != "importance":
        raise ConfigError(f"{where}: training.importance_metric needs training.query_sampling_mode: importance")
    if record.importance_metric == "error":
        return {**found, "kind": "adaptive", "feedback": _feedback(record.importance_window or 5, run)}
    if record.importance_metric is not None:
        _check_metric(record.importance_metric, run, where)
    return found


def _feedback(window: int, run: _Run) -> dict[str, Any]:
    """Return a rule that changes budgets once an epoch and forgets older losses over a window of epochs."""
    return {"every": run.epoch_batches, "warmup": run.epoch_batches, "decay": 1 - 1 / window}


def _nested_sampler(sampling: OriginalQuerySampling, run: _Run) -> dict[str, Any]:
    if not sampling.enabled:
        return {"kind": "dense"}
    kind = _kind(sampling.strategy or sampling.mode)
    if sampling.sample_ratio is not None:
        ends = (sampling.sample_ratio, sampling.final_ratio)
        names = ("training.query_sampling.schedule", "training.query_sampling.final_ratio")
        return {"kind": kind, "ratio": _ratio(sampling.schedule, ends, sampling.warmup_epochs, run, names)}
    curriculum = sampling.curriculum
    if curriculum is None or not curriculum.enabled:
        return {"kind": kind, "num_queries": sampling.num_queries or 2048}
    ramp = run.ramp("linear", curriculum.start_queries, curriculum.end_queries, hold_epochs=curriculum.warmup_epochs)
    return {"kind": kind, "num_queries": ramp}


def _flat_sampler(record: OriginalTraining, run: _Run, where: str) -> dict[str, Any]:
    if record.query_sampling_schedule == "constant":
        unused = sorted(
            {"query_sample_start_ratio", "query_sample_end_ratio", "query_sample_start_epoch"} & record.model_fields_set
        )
        if unused:
            raise ConfigError(f"{where}: training.{unused[0]} needs training.query_sampling_schedule: linear or cosine")
    elif record.query_sample_ratio is not None and record.query_sample_start_ratio is not None:
        raise ConfigError(
            f"{where}: training.query_sample_ratio and training.query_sample_start_ratio both say where the schedule "
            f"starts; give one of them"
        )
    start = record.query_sample_start_ratio or record.query_sample_ratio or 1.0
    names = ("training.query_sampling_schedule", "training.query_sample_end_ratio")
    ends = (start, record.query_sample_end_ratio)
    ratio = _ratio(record.query_sampling_schedule, ends, record.query_sample_start_epoch, run, names)
    return {"kind": _kind(record.query_sampling_mode), "ratio": ratio}


def _ratio(
    schedule: str, ends: tuple[float, float | None], hold_epochs: int, run: _Run, names: tuple[str, str]
) -> float | dict[str, Any]:
    start, end = ends
    if (schedule == "constant") != (end is None):
        raise ConfigError(f"{names[0]}: {schedule} {'takes no' if end is not None else 'needs'} {names[1]}")
    return start if end is None else run.ramp(schedule, start, end, hold_epochs=hold_epochs)


def _kind(mode: str | None) -> str:
    return "uniform" if mode in (None, "random") else str(mode)


def _check_metric(metric: str, run: _Run, where: str) -> None:
    """Refuse a metric that has no part in the store's maps."""
    for part in run.config.data.parts.values():
        store = part.open()
        metrics = store.manifest.importance.metrics
        if metric not in metrics:
            raise ConfigError(
                f"{where}: training.importance_metric is {metric}, and the maps of {store.location} are of "
                f"{', '.join(sorted(metrics))}; importance is computed when a store is converted: leave the key out, "
                f"or convert again with --importance {metric}"
            )


def _refuse_repeats(sections: Mapping[str, Any], ours: Mapping[str, Any], where: str) -> None:
    """Refuse what section `training` says and our keys say too."""
    for name, section in sections.items():
        given = ours.get(name)
        repeated = sorted(set(section) & set(given)) if isinstance(given, Mapping) else []
        if name == "sampler" and given is not None:
            raise ConfigError(f"{where}: section {SECTION} says how queries are sampled, and so does sampler; give one")
        for key in repeated:
            if isinstance(section[key], Mapping):
                _refuse_repeats({key: section[key]}, {key: given[key]}, where)  # type: ignore[index]  # given is a mapping where a key is repeated
            else:
                raise ConfigError(
                    f"{where}: section {SECTION} says what {name}.{key} is, which is given too; give one of them"
                )


def _given(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is given of a section."""
    return {name: value for name, value in section.items() if value is not None and value != {}}
