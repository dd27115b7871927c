"""Blocks of frames, missing values and integrals, from the source to the loss: exact over all starts of a draw."""

from pathlib import Path

import numpy as np
import pytest
import torch

import ups_data
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from tests.memory_source import MemorySource, cloud, wave_frames
from tests.ups_data.storage.cases import GEOMETRIES, long, make_store, ocean, sensors
from ups_data.collate import collate_samples
from ups_data.coordinates import grid_measures
from ups_data.errors import ConfigError, DatasetError, SourceError
from ups_data.samplers import DrawKey, Sampler
from ups_data.schema import ImportanceSpec
from ups_data.training.losses import weighted_loss

WINDOW = ups_data.Window(inputs=1, targets=2)
# Every start of every stratum's run comes equally often over so many epochs of a walk, which the strata share.
SAMPLERS = {
    "importance": lambda: ups_data.ImportanceSampler(ratio=0.3),
    "balanced": lambda: ups_data.BalancedSampler(ratio=0.3),
}


def dataset_of(store: ups_data.Store, sampler: Sampler, **options: object) -> ups_data.QueryDataset:
    arguments = {"window": WINDOW, "normalize": False, "dtype": "float64", **options}
    return ups_data.QueryDataset(store, sampler=sampler, **arguments)


# -- unbiased, exactly -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", ["long", "ocean", "sensors"])
@pytest.mark.parametrize("estimand", ["mean", "integral"])
def test_every_point_comes_as_often_as_its_weight_says(name: str, sampler: str, estimand: str, tmp_path: Path) -> None:
    """Enumerated: sum over starts of 1 / (N P(i)) = the share of each point, and the measure of its cell."""
    store = make_store(
        GEOMETRIES[name]("float64"), tmp_path / "s", page_points=16 if name == "ocean" else 8, num_strata=2
    )
    dataset = dataset_of(store, SAMPLERS[sampler](), estimand=estimand)
    for number in (0, len(dataset) - 1)[: 2 if estimand == "mean" else 1]:
        trajectory, first = dataset.locate(number)
        block = store.block_of(trajectory, WINDOW.target_frames(first))
        layout = store.layout(trajectory, block)
        epochs = int(np.lcm.reduce(np.maximum(layout.stratum_pages, 1)))
        sums = np.zeros(store.num_points(trajectory))
        for epoch in range(epochs):
            sample = dataset.sample(number, epoch=epoch)
            np.add.at(sums, sample.query_index.numpy(), sample.query_weights.numpy())
        drawn = store.drawn_points(trajectory, block)
        share = np.full(drawn.size, 1 / drawn.size) if estimand == "mean" else store.measures(trajectory)[drawn]
        np.testing.assert_allclose(sums[drawn] / epochs, share, rtol=1e-9)
        assert not np.delete(sums, drawn).any()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", ["long", "ocean", "sensors"])
def test_every_point_is_seen_within_the_stated_epochs(name: str, sampler: str, tmp_path: Path) -> None:
    """Every point of every sample, in blocks, on clouds and beside missing ones: within ceil(R_s / k_s) epochs."""
    store = make_store(GEOMETRIES[name]("float32"), tmp_path / "s", num_strata=2)
    dataset = dataset_of(store, SAMPLERS[sampler](), dtype="float32")
    for number in range(len(dataset)):
        trajectory, first = dataset.locate(number)
        block = store.block_of(trajectory, WINDOW.target_frames(first))
        layout = store.layout(trajectory, block)
        draw = dataset.sampler.draw(layout, DrawKey(seed=0, epoch=0, sample=number))
        budgets = np.bincount(np.searchsorted(np.cumsum(layout.stratum_pages), draw.pages, side="right"))
        epochs = int(np.ceil(layout.stratum_pages[: budgets.size] / budgets).max())
        seen = [dataset.sample(number, epoch=epoch).query_index.numpy() for epoch in range(2, 2 + epochs)]
        np.testing.assert_array_equal(np.unique(np.concatenate(seen)), store.drawn_points(trajectory, block))


@pytest.mark.parametrize("make", [ocean, sensors])
@pytest.mark.parametrize("kind", ["dense", "uniform", "importance"])
def test_no_nan_is_shipped_and_what_is_missing_is_told(make, kind: str, tmp_path: Path) -> None:
    source = make("float32")
    store = make_store(source, tmp_path / "s")
    samplers = {"dense": ups_data.DenseSampler(), "uniform": ups_data.UniformSampler(ratio=0.4)}
    dataset = dataset_of(store, samplers.get(kind) or ups_data.ImportanceSampler(ratio=0.4), dtype="float32")
    for number in range(len(dataset)):
        sample = dataset[number]
        frames = source.frames[sample.trajectory]
        flat = frames.reshape(*frames.shape[:2], -1)[list(sample.target_frames)][..., sample.query_index.numpy()]
        np.testing.assert_array_equal(sample.query_targets.numpy(), np.nan_to_num(flat.transpose(0, 2, 1), nan=0.0))
        np.testing.assert_array_equal(sample.target_valid.numpy(), ~np.isnan(flat.transpose(0, 2, 1)))
        given = frames[list(sample.input_frames)]
        np.testing.assert_array_equal(sample.inputs.numpy(), np.nan_to_num(given, nan=0.0))
        np.testing.assert_array_equal(sample.input_valid.numpy(), ~np.isnan(given))
    count = 2 if sample.input_coords is None else 1  # clouds of other sizes are padded, grids agree
    batch = collate_samples([dataset[0], *([dataset[1]] * (count - 1)), *([dataset[len(dataset) - 1]])])
    for values in (batch.inputs, batch.query_targets, batch.query_weights):
        assert torch.isfinite(values).all()
    assert not batch.target_valid[~batch.query_mask[:, None, :, None].expand(batch.target_valid.shape)].any()
    assert batch.to("cpu").target_valid.equal(batch.target_valid)


def test_stores_without_missing_values_ship_no_masks(tmp_path: Path) -> None:
    store = make_store(GEOMETRIES["plane"]("float32"), tmp_path / "s")
    batch = collate_samples([dataset_of(store, ups_data.BalancedSampler(ratio=0.5))[0]])
    assert batch.target_valid is None
    assert batch.input_valid is None


def test_fields_without_missing_values_ship_no_masks(tmp_path: Path) -> None:
    frames = wave_frames((10, 8), num_channels=2)
    frames[:, 0, :3] = np.nan
    store = make_store(MemorySource.grid([frames], missing=("u0",)), tmp_path / "s", splits={"train": 1.0})
    whole = dataset_of(store, ups_data.DenseSampler(), fields=["u1"])[0]
    assert whole.target_valid is None
    assert len(whole.query_index) == 80


def test_statistics_and_importance_are_those_of_the_values_that_are_there(tmp_path: Path) -> None:
    source = ocean("float64")
    store = make_store(source, tmp_path / "s", splits={"train": 1.0})
    values = np.concatenate([frames.transpose(1, 0, 2, 3).reshape(3, -1) for frames in source.frames], axis=1)
    for channel, record in enumerate(store.manifest.statistics):
        assert record.count == np.isfinite(values[channel]).sum()
        assert record.mean == pytest.approx(np.nanmean(values[channel]), rel=1e-12)
        assert record.std == pytest.approx(np.nanstd(values[channel]), rel=1e-12)
        assert (record.min, record.max) == (np.nanmin(values[channel]), np.nanmax(values[channel]))
    changes = np.concatenate([np.diff(frames, axis=0)[:, 1].reshape(-1) for frames in source.frames])
    assert store.manifest.statistics[1].delta_rms == pytest.approx(np.sqrt(np.nanmean(changes**2)), rel=1e-12)
    assert store.manifest.missing_fields == ("u0", "u1", "u2")


# -- losses ------------------------------------------------------------------------------------------------------------


def test_missing_entries_count_in_no_loss() -> None:
    random = torch.Generator().manual_seed(0)
    predicted, target = (torch.randn(2, 3, 5, 2, generator=random, dtype=torch.float64) for _ in range(2))
    weights = torch.rand(2, 5, generator=random, dtype=torch.float64)
    valid = torch.rand(2, 3, 5, 2, generator=random) > 0.4
    for kind in ("mean_squared", "relative_squared"):
        loss = weighted_loss(predicted, target.masked_fill(~valid, 0.0), weights, kind=kind, valid=valid)
        other = weighted_loss(predicted.masked_fill(~valid, 9.0), target, weights, kind=kind, valid=valid)
        assert loss == other
        assert loss != weighted_loss(predicted, target, weights, kind=kind)
    errors = ((predicted - target).square() * valid * weights[:, None, :, None]).sum(2).mean(dim=(1, 2))
    assert weighted_loss(predicted, target, weights, valid=valid) == pytest.approx(float(errors.mean()))


# -- integrals ---------------------------------------------------------------------------------------------------------


def test_integrals_of_a_field_on_the_globe_are_those_of_the_source(tmp_path: Path) -> None:
    source = ocean("float64")
    store = make_store(source, tmp_path / "s")
    assert store.manifest.estimand == "integral"
    sample = dataset_of(store, ups_data.DenseSampler())[0]
    values = source.frames[sample.trajectory][sample.target_frames[0], 2].reshape(-1)
    measures = grid_measures(source.coordinates[0], source.axes)
    estimate = (sample.query_weights * sample.query_targets[0, :, 2]).sum()
    assert float(estimate) == pytest.approx(np.nansum(values * measures), rel=1e-12)


def test_a_store_without_measures_gives_no_integrals(tmp_path: Path) -> None:
    source = MemorySource.points([wave_frames((30,))], [cloud(30, 2)])
    with pytest.raises(ConfigError, match="does not tell the measures of the cells"):
        convert(source, tmp_path / "s", ConvertSettings(estimand="integral"))
    store = make_store(source, tmp_path / "s", splits={"train": 1.0})
    with pytest.raises(DatasetError, match="gives no integrals; use estimand='mean'"):
        dataset_of(store, ups_data.DenseSampler(), estimand="integral")
    with pytest.raises(DatasetError, match="no estimand 'sum'"):
        dataset_of(store, ups_data.DenseSampler(), estimand="sum")


@pytest.mark.parametrize("value", [np.nan, -1.0, np.inf])
def test_measures_that_are_none_are_refused(value: float, tmp_path: Path) -> None:
    measures = np.ones(30)
    measures[7] = value
    source = MemorySource.points([wave_frames((30,))], [cloud(30, 2)], measures=[measures])
    with pytest.raises(SourceError, match=r"array\[0\]: measures of cells must be finite, .* point 7 has"):
        convert(source, tmp_path / "s", ConvertSettings())
    assert not (tmp_path / "s").exists()


# -- blocks of frames --------------------------------------------------------------------------------------------------


def test_windows_never_tear_and_use_the_map_of_their_block(tmp_path: Path) -> None:
    store = make_store(long("float32"), tmp_path / "s", splits={"train": 1.0})
    assert [store.num_blocks(number) for number in range(4)] == [3, 1, 1, 3]
    assert list(store.block_frames(0, 1)) == [4, 5, 6, 7, 8]
    assert list(store.block_frames(0, 2)) == [8, 9, 10]
    assert not np.array_equal(store.importance(0, 0), store.importance(0, 1))
    window = ups_data.Window(inputs=1, targets=2)
    store_of_long = [n for n in range(4) if store.num_frames(n) > 3]
    assert store_of_long == [0, 1, 3]
    with pytest.raises(DatasetError, match="spans 3 frames, but trajectory 2 has 1"):
        dataset_of(store, ups_data.ImportanceSampler(ratio=0.3), window=window)
    steady = ups_data.Window(inputs=1, targets=1, lead=0)
    dataset = dataset_of(store, ups_data.ImportanceSampler(ratio=0.3), window=steady)
    layouts = {dataset.store.block_of(0, [frame]) for frame in range(11)}
    assert layouts == {0, 1, 2}


def test_windows_that_no_block_holds_are_refused_with_the_setting_that_helps(tmp_path: Path) -> None:
    frames = [wave_frames((40,), num_frames=12)]
    store = make_store(MemorySource.grid(frames), tmp_path / "s", frames_per_block=4, splits={"train": 1.0})
    assert store.manifest.layout.target_span == 8
    wide = ups_data.Window(inputs=1, targets=5, stride=2)
    with pytest.raises(DatasetError, match=r"span 9 frames, .* at most 8 whole; .* target_span=9"):
        dataset_of(store, ups_data.BalancedSampler(ratio=0.5), window=wide)
    with pytest.raises(DatasetError, match="lie in no one block"):
        store.block_of(0, [0, 11])
    assert store.block_of(0, [0, 10]) == 0
    with pytest.raises(ValueError, match="give frames_per_block too"):
        ConvertSettings(target_span=4)


def test_a_block_draws_as_a_trajectory_of_its_frames_does(tmp_path: Path) -> None:
    """The importance and strata of a block are those of its frames alone, where no metric looks across frames."""
    frames = wave_frames((16, 16), num_frames=8)
    recipe = ImportanceSpec(metrics={"gradient": 1.0})
    blocks = make_store(
        MemorySource.grid([frames]), tmp_path / "b", frames_per_block=4, target_span=1, importance=recipe
    )
    alone = make_store(MemorySource.grid([frames[4:]]), tmp_path / "a", importance=recipe)
    np.testing.assert_array_equal(blocks.importance(0, 1), alone.importance(0))
    np.testing.assert_array_equal(blocks.layout(0, 1).stratum_pages, alone.layout(0).stratum_pages)
    key = DrawKey(seed=0, epoch=0, sample=0)
    draws = [ups_data.ImportanceSampler(ratio=0.3).draw(store, key) for store in (blocks.layout(0, 1), alone.layout(0))]
    np.testing.assert_array_equal(draws[0].pages, draws[1].pages)


# -- what a source may not do ------------------------------------------------------------------------------------------


def test_values_that_nobody_declared_missing_are_refused_with_their_place(tmp_path: Path) -> None:
    frames = wave_frames((10, 8), num_channels=2)
    frames[1, 1, 3, 2] = np.nan
    with pytest.raises(SourceError, match=r"frame 1, channel u1, point \(3, 2\) holds nan; 1 of .* declare what is"):
        convert(MemorySource.grid([frames], missing=("u0",)), tmp_path / "s", ConvertSettings())


def test_infinite_values_are_never_missing_ones(tmp_path: Path) -> None:
    frames = wave_frames((10, 8))
    frames[0, 0, 3, 2], frames[0, 0, 0, 0] = np.inf, np.nan
    with pytest.raises(SourceError, match=r"point \(3, 2\) holds inf"):
        convert(MemorySource.grid([frames], missing=("u0",)), tmp_path / "s", ConvertSettings())


def test_frames_without_any_value_leave_nothing_to_draw(tmp_path: Path) -> None:
    frames = wave_frames((10, 8), num_frames=6)
    frames[3:] = np.nan
    source = MemorySource.grid([frames], missing=("u0",))
    with pytest.raises(
        SourceError, match=r"array\[0\] lacks every value of frames 3 to 5, so there is nothing to draw"
    ):
        convert(source, tmp_path / "s", ConvertSettings(frames_per_block=3, target_span=1))
    make_store(source, tmp_path / "s", splits={"train": 1.0})


def test_missing_values_of_a_field_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"missing values of \['salt'\], which are none of its fields"):
        convert(MemorySource.grid([wave_frames((10,))], missing=("salt",)), tmp_path / "s", ConvertSettings())
