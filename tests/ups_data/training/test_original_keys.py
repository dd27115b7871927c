"""Configurations by the keys of the research that the project starts from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ups_data
from ups_data.errors import ConfigError, StoreNotFoundError
from ups_data.training import RampConfig, TrainConfig, load_config, train
from ups_data.training.config import FeedbackConfig

# 5 training trajectories of 5 frames: 20 windows of two frames, so 5 batches of 4 in an epoch.
RUN = "steps: 100\n"


@pytest.fixture
def load(store: ups_data.Store, tmp_path: Path) -> Callable[..., TrainConfig]:
    def load(training: str, *overrides: str, run: str = RUN) -> TrainConfig:
        path = tmp_path / "run.yaml"
        path.write_text(f"{run}data: {{store: {store.location}, batch_size: 4}}\ntraining: {training}\n")
        return load_config(path, overrides)

    return load


@pytest.mark.parametrize(
    ("training", "sampler"),
    [
        ("{query_sample_ratio: 0.3}", {"kind": "uniform", "ratio": 0.3}),
        ("{query_sample_ratio: 1.0, query_sampling_mode: random}", {"kind": "uniform", "ratio": 1.0}),
        ("{query_sample_ratio: 0.3, query_sampling_mode: importance}", {"kind": "importance", "ratio": 0.3}),
        (
            "{query_sample_ratio: 0.3, query_sampling_mode: importance, importance_metric: gradient}",
            {"kind": "importance", "ratio": 0.3},
        ),
        (
            """{query_sample_ratio: 0.3, query_sampling_mode: importance,
               importance_metric: error, importance_window: 4}""",
            {"kind": "adaptive", "ratio": 0.3, "feedback": FeedbackConfig(every=5, warmup=5, decay=0.75)},
        ),
        (
            "{query_sampling_schedule: linear, query_sample_end_ratio: 0.2, query_sample_start_epoch: 4}",
            {"kind": "uniform", "ratio": RampConfig(schedule="linear", start=1.0, end=0.2, begin=20, steps=80)},
        ),
        (
            "{query_sampling_schedule: cosine, query_sample_start_ratio: 0.1, query_sample_end_ratio: 0.5}",
            {"kind": "uniform", "ratio": RampConfig(schedule="cosine", start=0.1, end=0.5, steps=100)},
        ),
        ("{query_sampling: {enabled: false, num_queries: 64}}", {"kind": "dense"}),
        ("{query_sampling: {enabled: true}}", {"kind": "uniform", "num_queries": 2048}),
        (
            "{query_sampling: {enabled: true, num_queries: 64, strategy: stratified}}",
            {"kind": "stratified", "num_queries": 64},
        ),
        (
            "{query_sampling: {enabled: true, num_queries: 64, curriculum: {enabled: false}}}",
            {"kind": "uniform", "num_queries": 64},
        ),
        (
            """{query_sampling: {enabled: true, num_queries: 64,
               curriculum: {enabled: true, start_queries: 200, end_queries: 50, warmup_epochs: 2}}}""",
            {"kind": "uniform", "num_queries": RampConfig(schedule="linear", start=200, end=50, begin=10, steps=90)},
        ),
        (
            "{query_sampling: {enabled: true, sample_ratio: 0.3, mode: stratified}}",
            {"kind": "stratified", "ratio": 0.3},
        ),
        (
            """{query_sampling: {enabled: true, sample_ratio: 1.0, final_ratio: 0.1,
               schedule: cosine, warmup_epochs: 1}}""",
            {"kind": "uniform", "ratio": RampConfig(schedule="cosine", start=1.0, end=0.1, begin=5, steps=95)},
        ),
    ],
)
def test_sampling_is_said_by_either_names(
    load: Callable[..., TrainConfig], training: str, sampler: dict[str, Any]
) -> None:
    config = load(training)
    assert {name: getattr(config.sampler, name) for name in config.sampler.model_fields_set} == sampler
    assert config.sampler.build().name == sampler["kind"]


def test_what_else_the_section_holds(load: Callable[..., TrainConfig]) -> None:
    config = load(
        "{num_workers: 1, time_stride: 2, rollout_horizon: 1, lambda_forward: 2.0, lambda_inv_enc: 0.5, "
        "lambda_inv_dec: 0.25, lambda_spectral: 0.1, inverse_loss_warmup_epochs: 15, inverse_loss_max_weight: 0.05}",
        "optimizer.accumulate=2",
    )
    assert (config.data.num_workers, config.data.batch_size) == (1, 4)
    assert (config.data.window.stride, config.data.window.targets) == (2, 1)
    # Windows of stride 2: 15 of them, 4 batches a pass; 15 passes are 60 batches, 30 steps of two batches.
    assert config.loss.inverse_loss_warmup_steps == 30
    assert (config.loss.lambda_forward, config.loss.lambda_inv_enc, config.loss.lambda_inv_dec) == (2.0, 0.5, 0.25)
    assert (config.loss.lambda_spectral, config.loss.inverse_loss_max_weight) == (0.1, 0.05)
    off = load("{lambda_inv_enc: 0.5, use_inverse_losses: false}")
    assert (off.loss.lambda_inv_enc, off.loss.lambda_inv_dec) == (0.0, 0.0)


def test_schedules_of_batches_reach_the_end_with_the_run(load: Callable[..., TrainConfig]) -> None:
    training = "{query_sampling_schedule: linear, query_sample_end_ratio: 0.2}"
    ramp = load(training, "optimizer.accumulate=3").sampler.ratio
    assert isinstance(ramp, RampConfig)
    assert (ramp.begin, ramp.steps) == (0, 300)


@pytest.mark.parametrize(
    ("training", "overrides", "message"),
    [
        (
            "{query_sample_ratoi: 0.3}",
            [],
            "section training has the unknown key 'query_sample_ratoi'. Did",
        ),
        (
            "{query_sampling: {enabled: true, strtegy: uniform}}",
            [],
            "in query_sampling, .* Did you mean 'strategy'",
        ),
        ("{query_sampling: {num_queries: 5}}", [], "lacks the key 'query_sampling.enabled'"),
        ("{query_sample_ratio: 0}", [], "query_sample_ratio: .* greater than 0, got 0"),
        ("{query_sampling_mode: grid}", [], "query_sampling_mode: .*'grid'"),
        ("{query_sample_ratio: 0.3, query_sampling: {enabled: true}}", [], "say the same in two ways"),
        ("{query_sampling: {enabled: true, sample_ratio: 0.3, num_queries: 5}}", [], "exclude each other"),
        ("{query_sampling: {enabled: true, strategy: uniform, mode: random}}", [], "two names of one choice"),
        ("{query_sampling: {enabled: true, final_ratio: 0.2}}", [], "need sample_ratio"),
        ("{query_sample_ratio: 0.3, query_sample_start_epoch: 3}", [], "start_epoch needs .*query_sampling_schedule"),
        ("{query_sampling_schedule: cosine}", [], "schedule: cosine needs training.query_sample_end_ratio"),
        (
            "{query_sampling: {enabled: true, sample_ratio: 0.3, final_ratio: 0.2}}",
            [],
            "schedule: constant takes no training.query_sampling.final_ratio",
        ),
        (
            "{query_sampling_schedule: linear, query_sample_end_ratio: 0.1, query_sample_start_epoch: 20}",
            [],
            "begins after 20 epochs, 100 batches; the run has 100",
        ),
        (
            "{query_sampling_schedule: linear, query_sample_end_ratio: 0.1}",
            ["steps=null", "seconds=5"],
            "length in steps is not known",
        ),
        (
            """{query_sampling_schedule: linear, query_sample_end_ratio: 0.1,
               query_sample_ratio: 0.5, query_sample_start_ratio: 0.4}""",
            [],
            "both say where the schedule starts",
        ),
        ("{importance_metric: gradient}", [], "needs training.query_sampling_mode: importance"),
        (
            "{query_sample_ratio: 0.3, query_sampling_mode: importance, importance_metric: variance}",
            [],
            "maps of .* are of gradient, temporal_change; .* convert again with --importance variance",
        ),
        (
            "{query_sample_ratio: 0.3, query_sampling_mode: importance, importance_window: 4}",
            [],
            "importance_window needs training.importance_metric: error",
        ),
        ("{pin_memory: true}", [], "pin_memory has no counterpart: batches on their way to a GPU"),
        ("{latent_cache_dir: cache}", [], "latent_cache_dir has no counterpart"),
        ("{batch_size: 8}", [], "says what data.batch_size is, which is given too"),
        ("{time_stride: 2}", ["data.window.stride=2"], "says what window.stride is, which is given too"),
        ("{query_sample_ratio: 0.3}", ["sampler.ratio=0.1"], "and so does sampler; give one"),
        ("3", [], "section training must hold keys and values"),
    ],
)
def test_what_cannot_be_taken_is_named(
    load: Callable[..., TrainConfig], training: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(training, *overrides)


def test_epochs_are_those_of_a_store_that_is_there(load: Callable[..., TrainConfig]) -> None:
    with pytest.raises(StoreNotFoundError, match="nowhere"):
        load("{inverse_loss_warmup_epochs: 2}", "data.store=nowhere")
    with pytest.raises(ConfigError, match=r"no store is named; set data\.store"):
        load("{inverse_loss_warmup_epochs: 2}", "data.store=null")


def test_a_run_by_the_names_of_the_research(load: Callable[..., TrainConfig]) -> None:
    config = load(
        "{query_sampling_schedule: linear, query_sample_end_ratio: 0.25, query_sampling_mode: random}",
        "steps=4",
        "evaluations=1",
        "model.width=16",
        "model.grid_encoder.patch=4",
    )
    points = [record.effective_points for record in train(config).records]
    assert points == pytest.approx([256, 208, 160, 112])
