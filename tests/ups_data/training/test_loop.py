import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import ups_data
from ups_data.errors import ConfigError, StateError, TrainingError
from ups_data.training import Checkpoint, StepRecord, TrainConfig, TrainResult, evaluate, train
from ups_data.training.journal import CHECKPOINT_NAME, LOG_NAME

MakeConfig = Callable[..., TrainConfig]


class StopHere(Exception):
    """Stands for a run that is killed between two steps."""


def stop_after(step: int) -> Callable[[StepRecord], None]:
    def report(record: StepRecord) -> None:
        if record.step == step:
            raise StopHere

    return report


def same_weights(one: TrainResult, other: TrainResult) -> bool:
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def without_clock(record: StepRecord) -> StepRecord:
    return dataclasses.replace(record, seconds=0.0, waited=0.0)


def test_full_training_with_sampling(make_config: MakeConfig, tmp_path: Path) -> None:
    """On a quarter of the points, evaluated on all: half of the error of an untrained model is gone."""
    config = make_config(
        steps=200,
        data={"store": make_config().data.store, "batch_size": 4, "test_split": "train"},
        model={"width": 32, "grid_encoder": {"patch": 2}, "residual": True},
        optimizer={"learning_rate": 5e-3, "ema_decay": 0.9},
    )
    result = train(config, output=tmp_path / "run")
    errors = [record.relative_l2 for record in result.records if record.relative_l2 is not None]
    assert len(errors) == 3
    assert errors[-1] == result.errors.relative_l2
    start = train(config.with_changes(steps=1, evaluations=1)).errors.relative_l2
    assert errors[-1] < 0.5 * start
    assert [record.step for record in result.records] == list(range(1, 201))


def test_the_order_of_samples_is_that_of_the_configuration(make_config: MakeConfig) -> None:
    data = {"store": make_config().data.store, "batch_size": 4}
    runs = [
        train(make_config(steps=2, evaluations=1, data={**data, **changes}))
        for changes in ({"shuffle": {"kind": "none"}}, {"shuffle": {"kind": "none"}}, {"shuffle": {"kind": "block"}})
    ]
    assert same_weights(runs[0], runs[1])
    assert not same_weights(runs[0], runs[2])


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("stop", [2, 3, 5])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    make_config: MakeConfig, tmp_path: Path, stop: int, num_workers: int
) -> None:
    """Evaluations, and with them checkpoints, follow steps 2, 4 and 6: stops on one of them and between two."""
    config = make_config()
    config = config.with_changes(data={"num_workers": num_workers})
    whole = train(config, output=tmp_path / "whole")
    with pytest.raises(StopHere):
        train(config, output=tmp_path / "parts", report=stop_after(stop))
    resumed = train(config, output=tmp_path / "parts", resume=True)
    assert same_weights(whole, resumed)
    assert whole.errors == resumed.errors
    assert list(map(without_clock, whole.records)) == list(map(without_clock, resumed.records))
    lines = (tmp_path / "parts" / LOG_NAME).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_a_run_with_adaptive_draws_goes_on_to_the_same_bits(make_config: MakeConfig, tmp_path: Path) -> None:
    feedback = {"every": 2, "lag": 2, "warmup": 2, "least_effective": 1.0}
    config = make_config(sampler={"kind": "adaptive", "ratio": 0.25, "feedback": feedback}, steps=12, evaluations=4)
    whole = train(config, output=tmp_path / "whole")
    with pytest.raises(StopHere):
        train(config, output=tmp_path / "parts", report=stop_after(8))
    assert same_weights(whole, train(config, output=tmp_path / "parts", resume=True))
    learnt = Checkpoint.load(tmp_path / "whole" / CHECKPOINT_NAME).header.progress.loader["feedback"]
    assert learnt["next_step"] == 12
    assert learnt["learnt"][0]["emphases"][-1][1] is not None
    loss = {"lambda_forward": 0.0, "lambda_rollout": 0.0, "lambda_inv_enc": 1.0}
    with pytest.raises(ConfigError, match="adaptive learns from forward errors"):
        train(config.with_changes(loss=loss))


def test_runs_repeat_to_the_bit_and_seeds_differ(make_config: MakeConfig) -> None:
    torch.manual_seed(1)
    first = train(make_config())
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert same_weights(first, train(make_config()))
    assert torch.equal(state, torch.random.get_rng_state())
    assert not same_weights(first, train(make_config(seed=1)))


def test_ratio_one_is_dense_training(make_config: MakeConfig) -> None:
    dense = train(make_config(sampler={"kind": "dense"}))
    whole = train(make_config(sampler={"kind": "importance", "ratio": 1.0}))
    for mine, theirs in zip(dense.records, whole.records, strict=True):
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-4)


def test_a_finished_run_is_not_run_again(make_config: MakeConfig, tmp_path: Path) -> None:
    whole = train(make_config(), output=tmp_path)
    again = train(make_config(), output=tmp_path, resume=True, report=stop_after(6))
    assert same_weights(whole, again)
    assert again.errors == whole.errors
    assert again.records == whole.records


def test_a_folder_with_a_run_is_not_overwritten(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config(steps=2), output=tmp_path)
    before = (tmp_path / CHECKPOINT_NAME).read_bytes()
    with pytest.raises(ConfigError, match="holds a run already"):
        train(make_config(steps=2), output=tmp_path)
    with pytest.raises(StateError, match=r"belongs to another run .*seed: 0, now 1"):
        train(make_config(steps=2, seed=1), output=tmp_path, resume=True)
    assert (tmp_path / CHECKPOINT_NAME).read_bytes() == before


def test_a_log_cut_off_in_a_line_is_mended_from_the_checkpoint(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(StopHere):
        train(make_config(), output=tmp_path, report=stop_after(3))
    log = tmp_path / LOG_NAME
    log.write_text(log.read_text()[:-20])
    result = train(make_config(), output=tmp_path, resume=True)
    assert [record.step for record in result.records] == [1, 2, 3, 4, 5, 6]
    assert len(log.read_text().splitlines()) == 6


def test_a_loss_that_is_not_finite_ends_the_run_with_its_samples(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(optimizer={"learning_rate": 1e30, "clip_norm": 1e30, "warmup": 0.0})
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+ on samples \[\d+, \d+, \d+, \d+\]"):
        train(config, output=tmp_path)


def test_a_run_may_be_bounded_by_the_clock(make_config: MakeConfig) -> None:
    config = make_config(steps=None, seconds=0.5, evaluations=2)
    result = train(config)
    assert result.records[-1].progress == 1
    assert result.records[-1].seconds >= 0.5
    assert result.records[-2].seconds < 0.5
    assert result.records[-1].relative_l2 is not None


def test_a_checkpoint_answers_as_the_run_did(make_config: MakeConfig, store: ups_data.Store, tmp_path: Path) -> None:
    result = train(make_config(), output=tmp_path)
    checkpoint = Checkpoint.load(tmp_path / CHECKPOINT_NAME)
    data = checkpoint.header.config.data
    dataset = data.build(store, ups_data.DenseSampler(), split="test", statistics=checkpoint.header.statistics)
    assert evaluate(checkpoint.build_model(), dataset) == result.errors


def test_test_samples_are_spread_over_the_split(make_config: MakeConfig, store: ups_data.Store) -> None:
    config = make_config().with_changes(data={"test_samples": 2})
    result = train(config)
    dataset = config.data.build(store, ups_data.DenseSampler(), split="test")
    assert len(dataset) == 4
    parts = [evaluate(result.model, dataset, samples=[number]).relative_l2 for number in (0, 3)]
    assert result.errors.relative_l2 == pytest.approx(np.mean(parts))
    assert result.errors.num_samples == 2


def test_gradients_of_two_batches_are_those_of_the_large_one(make_config: MakeConfig, tmp_path: Path) -> None:
    store = make_config().data.store
    large = make_config(data={"store": store, "batch_size": 4}, steps=1, evaluations=1)
    parts = make_config(data={"store": store, "batch_size": 2}, optimizer={"accumulate": 2}, steps=1, evaluations=1)
    results = [train(config, output=tmp_path / str(number)) for number, config in enumerate((large, parts))]
    saved = [Checkpoint.load(tmp_path / str(number) / CHECKPOINT_NAME) for number in range(2)]
    for name, tensor in saved[0].optimizer.items():
        torch.testing.assert_close(saved[1].optimizer[name], tensor, rtol=1e-4, atol=1e-7)
    assert results[0].records[0].loss == pytest.approx(results[1].records[0].loss, rel=1e-5)
    assert [result.records[0].samples for result in results] == [4, 4]


def test_a_run_that_gets_no_better_ends_early_and_stays_ended(make_config: MakeConfig, tmp_path: Path) -> None:
    """With a learning rate of almost nothing the average of the weights never gets better than at first."""
    config = make_config(
        steps=40, evaluations=20, patience=3, optimizer={"learning_rate": 1e-30, "ema_decay": 0.0, "weight_decay": 0.0}
    )
    result = train(config, output=tmp_path)
    errors = [record.relative_l2 for record in result.records if record.relative_l2 is not None]
    assert len(errors) == 4  # a first one, and three that are no better
    assert result.records[-1].step == 8
    again = train(config, output=tmp_path, resume=True)
    assert len(again.records) == 8


def test_the_last_checkpoints_are_kept(make_config: MakeConfig, tmp_path: Path) -> None:
    train(make_config(keep_checkpoints=2), output=tmp_path)  # evaluations after steps 2, 4, 6
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == [
        "last.safetensors",
        "step_000000004.safetensors",
        "step_000000006.safetensors",
    ]
    steps = [Checkpoint.load(path).header.progress.step for path in sorted(tmp_path.glob("*.safetensors"))]
    assert steps == [6, 4, 6]


def test_figures_go_to_tensorboard(make_config: MakeConfig, tmp_path: Path) -> None:
    result = train(make_config(tensorboard=True), output=tmp_path)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors("train/loss")]
    assert losses == [(record.step, pytest.approx(record.loss, rel=1e-6)) for record in result.records]
    assert [event.step for event in events.Tensors("test/relative_l2")] == [2, 4, 6]


def test_effective_points_are_those_of_the_draws(make_config: MakeConfig) -> None:
    even = train(make_config(sampler={"kind": "balanced", "ratio": 0.25})).records[0].effective_points
    uneven = train(make_config()).records[0].effective_points
    assert even == pytest.approx(64, rel=0.01)  # the weights of whole pages differ a little
    assert uneven < 60
