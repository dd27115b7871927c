"""Every point stands on exactly one page, whatever the sizes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ups_data.pages import PageLayout, build_pages, default_block_points, default_num_strata, default_page_points
from ups_data.pages.deal import deal, van_der_corput_order
from ups_data.pages.strata import block_means, cut_strata
from ups_data.random import Stream, generator


@settings(max_examples=200)
@given(
    num_points=st.integers(1, 600),
    page_points=st.integers(1, 40),
    num_strata=st.integers(1, 9),
    block_points=st.integers(1, 70),
    kind=st.sampled_from(["random", "constant", "rounded", "spike", "zero"]),
)
def test_pages_partition_the_points(
    num_points: int, page_points: int, num_strata: int, block_points: int, kind: str
) -> None:
    random = np.random.default_rng(num_points)
    importance = {
        "random": random.exponential(size=num_points),
        "constant": np.ones(num_points),
        "rounded": 1 + np.finfo(np.float64).eps * random.integers(0, 3, num_points),
        "spike": np.eye(1, num_points)[0],
        "zero": np.zeros(num_points),
    }[kind]
    table = build_pages(
        importance,
        random.permutation(num_points),
        page_points=page_points,
        num_strata=num_strata,
        block_points=block_points,
        seed=0,
        key=(1, 0),
    )
    layout, index = table.layout, table.index
    assert index.shape == (-(-num_points // page_points), page_points)
    assert np.array_equal(np.sort(index[index >= 0]), np.arange(num_points))
    assert (index < 0).sum() < page_points
    padded = (index < 0).any(axis=1)
    assert not padded[: layout.num_pages - layout.stratum_pages[layout.num_strata - 1]].any()
    assert layout.stratum_points.sum() == num_points
    assert layout.stratum_mass.sum() == pytest.approx(1)
    assert layout.num_strata == min(num_strata, layout.num_pages)


def test_strata_fall_in_importance_and_hold_whole_pages() -> None:
    importance = np.random.default_rng(0).exponential(size=1000)
    bands, pages = cut_strata(importance, np.arange(1000), page_points=10, num_strata=4, block_points=1)
    assert pages.sum() == 100
    assert np.bincount(bands).tolist() == (pages * 10).tolist()
    parts = [importance[bands == band] for band in range(4)]
    assert all(a.min() >= b.max() for a, b in pairwise(parts))
    # The rule of Dalenius and Hodges makes the bands of sharp fields small.
    assert pages[0] < pages[-1]


def test_blocks_share_a_stratum() -> None:
    importance = np.random.default_rng(1).exponential(size=1024)
    bands, _ = cut_strata(importance, np.arange(1024), page_points=16, num_strata=4, block_points=16)
    assert (bands.reshape(-1, 16) == bands.reshape(-1, 16)[:, :1]).all()


@given(st.integers(1, 600), st.integers(1, 40), st.integers(1, 64), st.integers(1, 6), st.integers(0, 99))
def test_strata_are_those_of_a_ranking_of_all_points(
    count: int, page_points: int, block_points: int, num_strata: int, seed: int
) -> None:
    """Ranked point by point, by the mean of its block, ties in curve order, and cut at whole pages."""
    random = np.random.default_rng(seed)
    importance, order = random.integers(0, 9, size=count).astype(float), random.permutation(count)
    bands, pages = cut_strata(
        importance, order, page_points=page_points, num_strata=num_strata, block_points=block_points
    )
    means = [importance[order[start : start + block_points]].mean() for start in range(0, count, block_points)]
    pooled = np.repeat(means, block_points)[:count]
    ranking = np.argsort(-pooled, kind="stable")
    expected = np.empty(count, dtype=int)
    ends = np.minimum(np.cumsum(pages) * page_points, count)
    expected[ranking] = np.searchsorted(ends, np.arange(count), side="right")
    assert bands.tolist() == expected.tolist()


def test_the_mean_of_a_shorter_last_block_is_its_own() -> None:
    values = np.array([9.0, 7.0, 5.0, 3.0, 1.0])
    assert block_means(values, np.arange(5)[::-1], 2).tolist() == [2, 6, 9]


def test_a_page_covers_its_stratum_evenly() -> None:
    random = generator(seed=0, stream=Stream.DEAL)
    table = np.zeros((64, 100), dtype=np.int32)
    deal(np.arange(6400), table, random=random)
    assert np.array_equal(np.sort(table.ravel()), np.arange(6400))
    runs = table // 64
    assert np.array_equal(runs, np.broadcast_to(np.arange(100), (64, 100)))


def test_neighbouring_pages_interleave() -> None:
    table = np.zeros((64, 10), dtype=np.int32)
    deal(np.arange(640), table, random=generator(seed=0, stream=Stream.DEAL))
    places = np.sort(table[8:12] % 64, axis=0)
    # Four consecutive pages of 64 hold, in every run, points exactly a quarter of the run apart.
    assert (np.diff(places, axis=0) == 16).all()


def test_van_der_corput_order() -> None:
    assert van_der_corput_order(8).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    assert van_der_corput_order(6).tolist() == [0, 4, 2, 1, 5, 3]
    assert van_der_corput_order(1).tolist() == [0]


def test_too_many_points_for_the_pages_are_refused() -> None:
    with pytest.raises(ValueError, match="11 points do not fit on 2 pages of 5"):
        deal(np.arange(11), np.zeros((2, 5), dtype=np.int32), random=generator(seed=0, stream=Stream.DEAL))


def test_defaults_follow_the_size() -> None:
    sizes = [1, 256, 1024, 256**2, 512**2, 10**6, 10**8]
    assert [default_page_points(size) for size in sizes] == [8, 8, 8, 32, 64, 64, 1024]
    assert [default_block_points(size) for size in sizes] == [1, 1, 1, 64, 64, 64, 64]
    assert [default_num_strata(size, default_page_points(size)) for size in sizes] == [1, 4, 4, 4, 4, 4, 4]


@pytest.mark.parametrize(
    ("pages", "message"),
    [([1, 1], "do not make the 3 pages"), ([0, 3], "without pages must come last"), ([4, -1], "do not make")],
)
def test_layouts_that_cannot_be_are_refused(pages: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PageLayout(num_points=25, page_points=10, stratum_pages=np.array(pages), stratum_mass=np.full(len(pages), 0.5))
