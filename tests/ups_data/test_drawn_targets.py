"""Windows of which a sample has some target frames, drawn anew in every epoch."""

from collections import Counter
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pytest
import torch

import ups_data
from ups_data.errors import ConfigError, DatasetError
from ups_data.loader import QueryLoader
from ups_data.models import NeuralOperator, OperatorConfig, ProblemSpec
from ups_data.samplers import DrawKey
from ups_data.training import TrainConfig
from ups_data.training.losses import LossConfig, compute_operator_loss_bundle
from ups_data.yaml_records import parse_record

ALL = ups_data.Window(targets=4)
TWO = ups_data.Window(targets=4, drawn_targets=2)


def make(store: ups_data.Store, window: ups_data.Window, **changes: object) -> ups_data.QueryDataset:
    arguments = {"sampler": ups_data.ImportanceSampler(ratio=0.2), "seed": 3, **changes}
    return ups_data.QueryDataset(store, window=window, **arguments)


def test_drawn_frames_have_the_points_and_values_that_all_frames_have(grid_store: ups_data.Store) -> None:
    drawn, whole = make(grid_store, TWO), make(grid_store, ALL)
    assert len(drawn) == len(whole)
    for index in range(len(drawn)):
        some, every = drawn.sample(index, epoch=5), whole.sample(index, epoch=5)
        places = [every.target_frames.index(frame) for frame in some.target_frames]
        assert places == sorted(set(places))
        assert len(places) == 2
        assert torch.equal(some.query_index, every.query_index)
        assert torch.equal(some.query_weights, every.query_weights)
        assert torch.equal(some.query_targets, every.query_targets[places])
        assert torch.equal(some.target_times, every.target_times[places])
        assert some.targets_drawn
        assert not every.targets_drawn


def test_every_subset_comes_equally_often_in_every_sample(grid_store: ups_data.Store) -> None:
    dataset, num_epochs = make(grid_store, TWO), 1500
    for index in (0, len(dataset) - 1):
        first = dataset.locate(index)[1]
        keys = [DrawKey(seed=3, epoch=epoch, sample=index) for epoch in range(num_epochs)]
        drawn = Counter(TWO.draw_targets(first, key) for key in keys)
        assert dataset.sample(index, epoch=7).target_frames == TWO.draw_targets(first, keys[7])
        assert set(drawn) == set(combinations(ALL.target_frames(first), 2))
        spread = np.sqrt(num_epochs / 6 * 5 / 6)
        assert max(abs(count - num_epochs / 6) for count in drawn.values()) < 4.5 * spread


def test_sums_over_drawn_frames_estimate_the_mean_over_the_window(grid_store: ups_data.Store) -> None:
    dataset, num_epochs = make(grid_store, TWO, normalize=False), 300
    trajectory, first = dataset.locate(2)
    truth = np.square(grid_store.read_dense(trajectory, ALL.target_frames(first)).astype(np.float64)).mean()
    found = []
    for epoch in range(num_epochs):
        sample = dataset.sample(2, epoch=epoch)
        values = sample.query_targets.double().square().mean(dim=(0, 2))
        found.append(float(sample.query_weights.double() @ values))
    error = np.std(found, ddof=1) / np.sqrt(num_epochs)
    assert abs(np.mean(found) - truth) < 4 * error
    assert error < 0.05 * truth


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loaders_resume_from_every_batch_with_the_same_frames(grid_store: ups_data.Store, num_workers: int) -> None:
    def build() -> QueryLoader:
        ramp = ups_data.Linear(start=0.5, end=0.2, steps=6)
        dataset = make(grid_store, TWO, sampler=ups_data.ImportanceSampler(ratio=ramp))
        return ups_data.build_loader(dataset, batch_size=2, num_workers=num_workers)

    loader, states, seen = build(), [], []
    for _ in range(2):
        for batch in loader:
            seen.append(batch)
            states.append(loader.state_dict())
    for number in range(0, len(states) - 1, 1 if num_workers == 0 else 3):
        other = build()
        other.load_state_dict(states[number])
        batch = next(iter(other))
        assert torch.equal(batch.buffer, seen[number + 1].buffer)
        assert batch.targets_drawn
    times = torch.stack([batch.target_times for batch in seen if len(batch) == 2])
    assert len(times.flatten(0, 1).unique(dim=0)) > 3


def test_blocks_of_frames_hold_the_window_that_is_drawn_from(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = make(stores["plane"], ups_data.Window(targets=2, drawn_targets=1))
    batch = ups_data.collate_samples(dataset.samples(range(3), epoch=1))
    assert batch.query_targets.shape[1] == 1
    model = NeuralOperator(OperatorConfig(width=8), ProblemSpec.of(dataset))
    assert model.predict(batch).shape == batch.query_targets.shape
    bundle = compute_operator_loss_bundle(model, batch, LossConfig())
    assert list(bundle.components) == ["L_forward"]


def test_rollouts_over_drawn_frames_are_refused(stores: Mapping[str, ups_data.Store]) -> None:
    dataset = make(stores["plane"], ups_data.Window(targets=3, drawn_targets=2))
    batch = ups_data.collate_samples([dataset.sample(0)])
    model = NeuralOperator(OperatorConfig(width=8), ProblemSpec.of(dataset))
    with pytest.raises(ConfigError, match=r"the 2 of this batch are drawn from a longer window.*drawn_targets=1"):
        compute_operator_loss_bundle(model, batch, LossConfig())
    content = {"data": {"window": {"targets": 3, "drawn_targets": 2}}, "steps": 1}
    with pytest.raises(ConfigError, match=r"data\.window\.drawn_targets is 1 here.*got 2 of 3"):
        parse_record(TrainConfig, content, where="test")


@pytest.mark.parametrize("drawn", [0, 5])
def test_numbers_that_cannot_be_drawn_are_refused(drawn: int) -> None:
    with pytest.raises(DatasetError, match=rf"between 1 and targets=4, got {drawn}"):
        ups_data.Window(targets=4, drawn_targets=drawn)
