"""The contract of draws holds for our samplers on grids and clouds, and each of its tests can fail."""

import numpy as np
import pytest

import ups_data
from ups_data.pages import PageDraw, PageLayout
from ups_data.samplers import DrawKey
from ups_data.testing import DrawContract


class TestImportanceOnAGrid(DrawContract):
    @pytest.fixture
    def dataset(self, grid_store):
        return ups_data.QueryDataset(grid_store, sampler=ups_data.ImportanceSampler(ratio=0.2))


class TestStratifiedOnACloud(DrawContract):
    @pytest.fixture
    def dataset(self, cloud_store):
        return ups_data.QueryDataset(cloud_store, sampler=ups_data.StratifiedSampler(num_queries=40))


class TestIntegralsOnAGrid(DrawContract):
    @pytest.fixture
    def dataset(self, grid_store):
        sampler = ups_data.BalancedSampler(ratio=0.2)
        return ups_data.QueryDataset(grid_store, sampler=sampler, estimand="integral", normalize=False)


class TestFreshPointsOfEachFrame(DrawContract):
    @pytest.fixture
    def dataset(self, cloud_store):
        window = ups_data.Window(targets=2, points="fresh")
        return ups_data.QueryDataset(cloud_store, sampler=ups_data.ImportanceSampler(ratio=0.3), window=window)


class Repeating(ups_data.ImportanceSampler):
    def draw(self, layout: PageLayout, key: DrawKey) -> PageDraw:
        draw = super().draw(layout, key)
        return PageDraw(pages=np.append(draw.pages, draw.pages[0]), weights=np.append(draw.weights, draw.weights[0]))


class Unlucky(ups_data.ImportanceSampler):
    calls = 0

    def draw(self, layout: PageLayout, key: DrawKey) -> PageDraw:
        Unlucky.calls += 1
        return super().draw(layout, DrawKey(seed=Unlucky.calls, epoch=0, sample=0))


BROKEN = {
    "test_points_are_distinct_and_weights_positive": (Repeating(ratio=0.2), "holds a point twice"),
    "test_draws_are_unbiased": (ups_data.ImportanceSampler(ratio=0.2, weights="none"), "standard errors: biased"),
    "test_samples_are_functions_of_their_numbers": (Unlucky(ratio=0.2), "sample .* has changed"),
    "test_a_loader_resumes_where_it_stood": (Unlucky(ratio=0.2), "batch 0 differs after a resume"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_sampler_is_caught(name: str, grid_store: ups_data.Store) -> None:
    sampler, message = BROKEN[name]
    with pytest.raises(AssertionError, match=message):
        getattr(DrawContract(), name)(ups_data.QueryDataset(grid_store, sampler=sampler))


class Stubborn(ups_data.ImportanceSampler):
    """Draws by a seed that it works out itself, from what frames do not change."""

    def draw(self, layout: PageLayout, key: DrawKey) -> PageDraw:
        return super().draw(layout, DrawKey(seed=layout.num_pages, epoch=key.epoch, sample=key.sample))


def test_a_sampler_that_gives_all_frames_one_draw_is_caught(grid_store: ups_data.Store) -> None:
    window = ups_data.Window(targets=2, points="fresh")
    with pytest.raises(AssertionError, match="the target frames have the same points"):
        DrawContract().test_draws_are_unbiased(
            ups_data.QueryDataset(grid_store, sampler=Stubborn(ratio=0.2), window=window)
        )


@pytest.mark.parametrize("weights", ["tempered", ups_data.Weights(max_weight=1.2)])
def test_weights_that_bring_a_bias_are_told(weights: str | ups_data.Weights, grid_store: ups_data.Store) -> None:
    sampler = ups_data.ImportanceSampler(ratio=0.2, weights=weights)
    with pytest.raises(AssertionError, match="biased"):
        DrawContract().test_draws_are_unbiased(ups_data.QueryDataset(grid_store, sampler=sampler))
