"""Proofs: sound samplers pass on every geometry, biased ones are caught, the numbers are those of other formulas."""

from __future__ import annotations

import io
import json
import re
import statistics
from collections.abc import Callable

import numpy as np
import pytest
import rich.console

import ups_data
from preprocess.prove import ProveReport, prove
from preprocess.prove.integrands import choose_frames
from tests.memory_source import MemorySource, cloud, wave_frames
from tests.ups_data.storage.cases import make_store
from ups_data.errors import ConfigError, DatasetError, SamplerError
from ups_data.pages import PageDraw, PageLayout, PointDraw
from ups_data.samplers import BalancedSampler, DrawKey, ImportanceSampler, Sampler, UniformSampler
from ups_data.storage import Store


def line() -> MemorySource:
    return MemorySource.grid([wave_frames((700,), num_frames=4, seed=seed) for seed in range(2)], periodic=True)


def plane() -> MemorySource:
    frames = [wave_frames((40, 36), num_frames=5, num_channels=2, seed=seed) for seed in range(3)]
    return MemorySource.grid(frames, splits=["train", "train", "test"])


def volume() -> MemorySource:
    return MemorySource.grid([wave_frames((13, 11, 12), num_frames=2, seed=1)], periodic=(True, False, True))


def steady() -> MemorySource:
    return MemorySource.grid([wave_frames((30, 31), num_frames=1, num_channels=2, seed=seed) for seed in range(4)])


def scattered() -> MemorySource:
    counts = (901, 640)
    frames = [wave_frames((count,), num_frames=3, seed=seed) for seed, count in enumerate(counts)]
    return MemorySource.points(frames, [cloud(count, 3, seed=count) for count in counts])


SOURCES: dict[str, Callable[[], MemorySource]] = {
    make.__name__: make for make in (line, plane, volume, steady, scattered)
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, Store]:
    """Stores with padding on their last pages, but that of the volume."""
    folder = tmp_path_factory.mktemp("stores")
    return {name: make_store(make(), folder / name, page_points=8, num_strata=3) for name, make in SOURCES.items()}


@pytest.fixture(scope="module")
def report(stores) -> ProveReport:
    return prove(stores["plane"], ratio=0.1, draws=1000)


# -- sound samplers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOURCES)
def test_every_sampler_is_proven_on_every_geometry(name, stores):
    report = prove(stores[name], ratio=0.1, draws=2000, seed=3, num_trajectories=1)
    assert report.problems == ()
    assert report.ok
    assert report.samplers == ("dense", "uniform", "stratified", "balanced", "importance")
    integrands = {row.integrand for row in report.rows}
    assert integrands == {"weight_sum", "importance", "value", "square"} | ({"change"} if name != "steady" else set())
    assert max(abs(row.z) for row in report.rows) < report.z_limit < 6
    # A test that never finds anything would pass too: chance alone must show.
    assert max(abs(row.z) for row in report.rows) > 1
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["ok"] is True


def test_whole_trajectories_are_exact(stores):
    report = prove(stores["scattered"], samplers=["uniform", "balanced", "importance"], ratio=1.0, draws=100)
    assert report.ok
    assert all(row.multiplier is None and abs(row.z) <= 1 for row in report.rows)
    assert report.recommendation.startswith("no recommendation")
    assert all(row.drawn_points == row.num_points for row in report.draw_rows)


def test_constant_fields_are_exact(tmp_path):
    frames = np.full((3, 2, 24, 24), 1e6, dtype="float32")
    frames[:, 1] = 0
    store = make_store(MemorySource.grid([frames]), tmp_path / "store", page_points=8)
    report = prove(store, ratio=0.25, draws=200)
    assert report.ok
    assert all(row.multiplier is None for row in report.rows)
    assert report.recommendation.startswith("no recommendation")
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_spike_too_rare_for_the_draws_is_no_bias(tmp_path):
    """One point in 16 384 at a ratio of 1/1000: most runs of 100 draws never meet it, and say nothing of its weight."""
    frames = np.zeros((2, 1, 128, 128), dtype="float32")
    frames[1, 0, 40, 41] = 1e3
    recipe = {"metrics": {"temporal_change": 1.0}, "floor": 1e6}
    store = make_store(MemorySource.grid([frames]), tmp_path / "store", num_strata=1, page_points=8, importance=recipe)
    for seed in range(5):
        assert prove(store, ratio=0.001, draws=100, seed=seed).ok


def test_proofs_repeat_and_seeds_differ(stores):
    first, again, other = (prove(stores["line"], draws=100, ratio=0.2, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert [row.bias for row in first.rows] != [row.bias for row in other.rows]


# -- biased and broken samplers ------------------------------------------------------------------------------------


class Changed(ImportanceSampler):
    """An importance sampler whose draws are tampered with."""

    def tamper(self, layout: PageLayout, draw: PageDraw, key: DrawKey) -> PageDraw | PointDraw:
        raise NotImplementedError

    def draw(self, layout: PageLayout, key: DrawKey) -> PageDraw | PointDraw:
        return self.tamper(layout, super().draw(layout, key), key)


class UniformWeights(Changed):
    def tamper(self, layout, draw, key):
        count = draw.pages.size
        return PageDraw(pages=draw.pages, weights=np.full(count, 1 / (count * layout.page_points)))


class SlightlyHeavy(Changed):
    def tamper(self, layout, draw, key):
        first = draw.pages < layout.stratum_pages[0]
        return PageDraw(pages=draw.pages, weights=draw.weights * np.where(first, 1.01, 1.0))


class NeverLastPage(Changed):
    """Takes the page before it, or after, where the last page of the first stratum would come."""

    def tamper(self, layout, draw, key):
        last = layout.stratum_pages[0] - 1
        if last not in draw.pages:
            return draw
        spare = np.setdiff1d(np.arange(last), draw.pages)[key.sample % 7]
        return PageDraw(pages=np.sort(np.where(draw.pages == last, spare, draw.pages)), weights=draw.weights)


class Twice(Changed):
    def tamper(self, layout, draw, key):
        pages = draw.pages.copy()
        if key.sample == 57:
            pages[1] = pages[0]
        return PageDraw(pages=pages, weights=draw.weights)


class TooFew(Changed):
    def tamper(self, layout, draw, key):
        return PageDraw(pages=draw.pages[1:], weights=draw.weights[1:])


class Unweighted(Changed):
    def tamper(self, layout, draw, key):
        return PageDraw(pages=draw.pages, weights=draw.weights * np.nan)


class SumsToMore(Changed):
    def finish_weights(self, weights):
        return weights / weights.sum() * (1 + 2e-6)

    def tamper(self, layout, draw, key):
        return draw


class OutOfRange(UniformSampler):
    def draw(self, layout, key):
        draw = super().draw(layout, key)
        return PointDraw(points=draw.points + 1, weights=draw.weights)


class AlwaysTheSame(UniformSampler):
    def draw(self, layout, key):
        return super().draw(layout, DrawKey(seed=0, epoch=0, sample=0))


class OneEpoch(Changed):
    """Sound in the first epoch; later ones repeat its first page."""

    def tamper(self, layout, draw, key):
        return draw if key.epoch == 0 else super(Changed, self).draw(layout, DrawKey(seed=0, epoch=0, sample=0))


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (UniformWeights(ratio=0.1), "uniformweights is biased: .*u0: change, frame"),
        (ImportanceSampler(ratio=0.1, weights="none"), "importance is biased: .*, importance: "),
        (SlightlyHeavy(ratio=0.1), r"slightlyheavy is biased: .*, weight_sum: 1\.00"),
        (NeverLastPage(ratio=0.1), "neverlastpage, trajectory 0: point .* came 0 times in 2000 draws"),
        (Twice(ratio=0.1), "twice, trajectory 0, draw 57: it holds a point twice"),
        (TooFew(ratio=0.1), "toofew, trajectory 0, draw 0: it holds 136 points where 144 are documented"),
        (Unweighted(ratio=0.1), "draw 0: a weight is not finite and positive"),
        (SumsToMore(ratio=0.1, weights="self_normalised"), "the weights sum to 1.000002"),
        (OutOfRange(ratio=0.1), r"outofrange, .*: it holds no point, or one outside of \[0, 1440\)"),
        (AlwaysTheSame(ratio=0.1), "alwaysthesame is biased: "),
        (OneEpoch(ratio=0.1), "oneepoch, trajectory 0: point .* came"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Sampler) else "",
)
def test_a_biased_or_broken_sampler_is_caught(sampler, message, stores):
    few = {"num_trajectories": 1, "num_frames": 1}
    report = prove(stores["plane"], samplers=[sampler, "balanced"], ratio=0.1, strict=True, **few)
    assert not report.ok
    text = "\n".join(report.problems)
    assert re.search(message, text), text
    assert "balanced" not in text
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content["problems"] == list(report.problems)
    assert content["ok"] is False


def test_the_bias_of_inexact_weights_is_told_and_refused_only_if_asked(stores):
    options = {"samplers": ["uniform", "importance"], "ratio": 0.1, "num_trajectories": 1, "draws": 500}
    exact, plain = prove(stores["plane"], **options), prove(stores["plane"], weights="none", **options)
    assert (exact.inexact, exact.known_bias) == ({}, ())
    assert plain.ok
    assert plain.inexact == {"uniform": "none", "importance": "none"}
    assert plain.tested == ()
    found = {(row.sampler, row.integrand): row for row in plain.known_bias}
    # Pages of high importance are drawn more often, and equal weights do not make up for it.
    biased, sound = found["importance", "importance"], found["uniform", "importance"]
    assert biased.relative > 0.2
    assert biased.share > 0.9
    assert sound.share < 0.05
    mean = np.mean([row.bias for row in plain.rows if (row.sampler, row.integrand) == ("importance", "importance")])
    assert mean > 0
    text = render(plain.to_tables())
    assert "importance: weights 'none' bring a bias, up to " in text
    content = json.loads(json.dumps(plain.to_dict(), allow_nan=False))
    assert len(content["bias"]) == len(plain.known_bias)
    strict = prove(stores["plane"], weights="none", strict=True, **options)
    assert not strict.ok
    assert "importance is biased: " in "\n".join(strict.problems)
    assert "uniform is biased" not in "\n".join(strict.problems)


def test_self_normalised_weights_are_proven_where_pages_are_full(tmp_path):
    store = make_store(MemorySource.grid([wave_frames((32, 32), seed=1)]), tmp_path / "store", page_points=8)
    samplers = [ImportanceSampler(ratio=0.2, weights="self_normalised"), UniformSampler(ratio=0.2, weights="none")]
    report = prove(store, samplers=samplers, draws=500, strict=True)
    assert report.ok
    assert len(report.tested) == len(report.rows)
    assert max(row.weight_sum_error for row in report.draw_rows) < 1e-12


def test_values_that_are_not_those_of_the_frame_are_caught(stores, monkeypatch):
    store = stores["plane"]
    original = type(store).read_page_values

    def swap(self, trajectory, frames, pages, channels, block):
        return original(self, trajectory, frames, pages, tuple(reversed(channels)), block)

    monkeypatch.setattr(type(store), "read_page_values", swap)
    report = prove(store, samplers=["balanced"], ratio=0.1, draws=100, num_trajectories=1)
    assert "values read are not those of the dense frame" in report.problems[0]


# -- numbers -------------------------------------------------------------------------------------------------------


def test_uniform_draws_are_worth_themselves(report):
    """Their variance is the exact formula's: each multiplier is 1 within four standard errors of a variance."""
    found = report.multipliers("uniform")
    assert len(found) == 2 * 3 * 2 * 3
    assert max(abs(value - 1) for value in found) < 4 * (2 / 1000) ** 0.5 * 1.5
    assert abs(statistics.fmean(found) - 1) < 0.05


def test_the_multiplier_is_that_of_the_exact_variance_of_a_page_draw(tmp_path):
    """One stratum, one page of R: the variance over draws is that over pages, which can be worked out."""
    store = make_store(MemorySource.grid([wave_frames((16, 16), seed=2)]), tmp_path / "s", num_strata=1, page_points=16)
    report = prove(store, samplers=[BalancedSampler(num_queries=16)], draws=4000, num_frames=1)
    field = store.read_dense(0, [1])[0, 0].astype(np.float64)
    index = store.read_page_points(0, np.arange(16)).index.reshape(16, 16)
    of_pages = field[index].mean(axis=1).var()
    of_uniform = (1 - 16 / 256) / 16 * field.var(ddof=1)
    (row,) = [row for row in report.rows if row.integrand == "value"]
    assert row.truth == pytest.approx(field.mean())
    assert row.multiplier == pytest.approx(of_uniform / of_pages, rel=0.15)
    assert row.std == pytest.approx(of_pages**0.5, rel=0.08)


def test_the_truth_is_the_dense_mean(report, stores):
    store = stores["plane"]
    for row in report.rows:
        if row.integrand == "change":
            dense = store.read_dense(row.trajectory, [row.frame - 1, row.frame]).astype(np.float64)
            channel = store.manifest.channel_names.index(row.channel)
            assert row.truth == pytest.approx(np.square(dense[1, channel] - dense[0, channel]).mean(), rel=1e-12)
        if row.integrand == "importance":
            assert row.truth == pytest.approx(store.importance(row.trajectory).astype(np.float64).mean())


def test_draws_are_those_that_a_dataset_gives(stores):
    """Points and weights of `QueryDataset` for the same keys, padding and all."""
    from preprocess.prove.draws import TrajectoryDraws

    store = stores["scattered"]
    sampler = ImportanceSampler(num_queries=104, weights="self_normalised")
    source = TrajectoryDraws(store, 0, seed=5)
    dataset = ups_data.QueryDataset(store, split=_split_of(store, 0), sampler=sampler, seed=5, dtype="float64")
    sizes = set()
    for epoch in range(20):
        drawn = source.points_of(sampler, sampler.draw(source.layout, DrawKey(seed=5, epoch=epoch, sample=1)))
        sample = dataset.sample(1, epoch=epoch)
        np.testing.assert_array_equal(sample.query_index.numpy(), drawn.points)
        np.testing.assert_array_equal(sample.query_weights.numpy(), drawn.weights)
        sizes.add(drawn.points.size)
    assert len(sizes) > 1


def _split_of(store: Store, trajectory: int) -> str:
    return next(name for name, members in store.splits.items() if members.size and members[0] == trajectory)


def test_numbers_of_draws_are_those_of_their_formulas(report):
    rows = {row.sampler: row for row in report.draw_rows if row.trajectory == report.trajectories[0]}
    assert (rows["dense"].drawn_points, rows["dense"].largest_weight) == (1440, pytest.approx(1))
    assert rows["uniform"].drawn_points == 144
    assert rows["uniform"].effective_points == pytest.approx(144)
    assert rows["uniform"].largest_weight == pytest.approx(10)
    assert rows["importance"].drawn_points_min == rows["importance"].drawn_points_max == 144
    assert rows["importance"].effective_points < 144
    assert rows["importance"].largest_weight > 10
    assert all(row.weight_sum == pytest.approx(1) for row in report.draw_rows)
    assert all(row.num_draws == (10 if row.sampler == "dense" else 1000) for row in report.draw_rows)


def test_reads_are_counted_and_follow_the_points_drawn(report):
    """Two float32 channels: 8 bytes a point; a page adds a checksum of 4 bytes to its 64 of values and 32 of ids."""
    costs = {row.sampler: row.cost for row in report.draw_rows}
    for name in ("balanced", "importance"):
        assert costs[name].point_bytes == 144 * 8
        assert costs[name].value_bytes == 18 * (64 + 4)
        assert costs[name].index_bytes == 18 * (32 + 4)
        assert 3 <= costs[name].value_ranges <= 6
    assert costs["uniform"].value_bytes >= 1440 * 8
    assert costs["uniform"].point_bytes == 144 * 8


def test_the_limit_is_corrected_for_the_number_of_tests(report, stores):
    few = prove(stores["volume"], samplers=["balanced"], ratio=0.1, draws=100, num_frames=1)
    assert len(few.rows) == 5
    assert few.z_limit == pytest.approx(3.719, abs=1e-3)
    assert report.z_limit > 4.5 > few.z_limit
    assert report.coverage_limit > few.coverage_limit > 5


# -- tables and choices --------------------------------------------------------------------------------------------


def render(table: object) -> str:
    output = io.StringIO()
    rich.console.Console(width=200, file=output).print(table)
    return output.getvalue()


def test_tables_show_every_sampler_and_integrand_and_recommend(report):
    text = render(report.to_tables())
    for word in ("dense", "uniform", "balanced", "importance", "u0: value", "u1: change", "weight_sum"):
        assert word in text
    assert "at ratio 0.1 take " in text
    frames = render(report.to_frame_table())
    assert frames.count("trajectory ") == 2 * 2 * 3
    assert "geometric mean" in frames


def test_the_recommended_sampler_has_the_best_geometric_mean(report):
    means = {name: statistics.geometric_mean(report.multipliers(name)) for name in report.samplers if name != "dense"}
    best = max(means, key=lambda name: means[name])
    assert report.recommendation.startswith(f"at ratio 0.1 take {best}: ")
    assert f"{best} {means[best]:.2f}" in report.recommendation


def test_a_broken_sampler_does_not_spoil_the_tables(stores):
    report = prove(stores["plane"], samplers=[TooFew(ratio=0.1), "uniform"], ratio=0.1, draws=100, num_trajectories=1)
    text = render(report.to_tables())
    assert "problem: toofew, trajectory" in text


def test_a_sampler_may_come_with_several_settings(stores):
    samplers = [ImportanceSampler(ratio=0.1, uniform_share=share) for share in (0.25, 1.0)]
    report = prove(stores["line"], samplers=samplers, draws=100)
    assert report.samplers == ("importance", "importance 2")


def test_progress_counts_all_draws(stores):
    calls: list[tuple[str, int, int]] = []
    prove(
        stores["plane"],
        samplers=["dense", "uniform"],
        draws=250,
        num_trajectories=2,
        progress=lambda *call: calls.append(call),
    )
    assert calls[-1] == ("draws", 520, 520)
    assert [done for _, done, _ in calls] == [100, 200, 300, 400, 500, 520]


def test_frames_are_measured_in_blocks_where_memory_is_short(stores, monkeypatch):
    whole = prove(stores["plane"], draws=100, ratio=0.1)
    monkeypatch.setattr("preprocess.prove.integrands._BLOCK_BYTES", 1)
    calls: list[tuple[str, int, int]] = []
    blocks = prove(stores["plane"], draws=100, ratio=0.1, progress=lambda *call: calls.append(call))
    assert calls[-1][1] == calls[-1][2] == 2 * 3 * 410

    def content(report: ProveReport) -> dict[object, float]:
        return {
            (row.sampler, row.trajectory, row.integrand, row.channel, row.frame): row.truth + row.bias
            for row in report.rows
        }

    assert content(blocks) == pytest.approx(content(whole), rel=1e-9)
    assert blocks.draw_rows == whole.draw_rows


@pytest.mark.parametrize(
    ("num_frames", "wanted", "frames"),
    [(1, 3, (0,)), (2, 3, (1,)), (4, 3, (1, 2, 3)), (11, 3, (1, 5, 10)), (11, 1, (1,)), (3, 9, (1, 2))],
)
def test_frames_are_spread_and_have_one_before_them(num_frames, wanted, frames):
    assert choose_frames(num_frames, wanted) == frames


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"samplers": ["importence"]}, SamplerError, "Did you mean 'importance'"),
        ({"ratio": 1.5}, SamplerError, r"ratio must lie in \(0, 1\]"),
        ({"ratio": 0.01, "samplers": ["balanced"]}, SamplerError, "fewer than the 3 strata"),
        ({"draws": 99}, ConfigError, "at least 100 draws"),
        ({"num_frames": 0}, ConfigError, "one frame"),
        ({"split": "tset"}, DatasetError, "has no split 'tset'"),
    ],
)
def test_what_cannot_be_proven_is_refused(arguments, error, message, stores):
    with pytest.raises(error, match=message):
        prove(stores["plane"], **arguments)


def test_a_split_is_proven_by_itself(stores):
    store = stores["plane"]
    for name, members in store.splits.items():
        report = prove(store, samplers=["uniform"], draws=100, split=name)
        assert report.trajectories == tuple(members.tolist())
    assert prove(store, samplers=["uniform"], draws=100).split == "train"
