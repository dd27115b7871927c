"""Inclusion probabilities are exactly k_s / R_s, and the weighted sum is exactly unbiased: by enumeration."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ups_data.errors import SamplerError
from ups_data.pages import PageTable, build_pages, draw_pages, page_budgets, page_shares


def make_table(num_points: int, page_points: int, num_strata: int) -> PageTable:
    random = np.random.default_rng(num_points)
    return build_pages(
        random.exponential(size=num_points),
        np.arange(num_points),
        page_points=page_points,
        num_strata=num_strata,
        block_points=1,
        seed=3,
        key=(0, 0),
    )


@settings(max_examples=60, deadline=None)
@given(
    num_points=st.integers(2, 60),
    page_points=st.integers(1, 8),
    num_strata=st.integers(1, 3),
    share=st.floats(0, 1),
    uniform_share=st.floats(0, 1),
)
def test_all_draws_together_see_every_point_with_its_weight(
    num_points: int, page_points: int, num_strata: int, share: float, uniform_share: float
) -> None:
    table = make_table(num_points, page_points, num_strata)
    layout = table.layout
    num_pages = layout.num_strata + round(share * (layout.num_pages - layout.num_strata))
    shares = page_shares(layout, uniform_share=uniform_share)
    budgets = page_budgets(layout, num_pages=num_pages, shares=shares)
    assert budgets.sum() == num_pages
    sizes = np.maximum(layout.stratum_pages, 1)
    counts, sums = np.zeros(num_points), np.zeros(num_points)
    starts = list(product(*map(range, sizes)))
    for start in starts:
        draw = draw_pages(layout, budgets=budgets, starts=np.array(start))
        assert len(np.unique(draw.pages)) == num_pages
        ids = table.index[draw.pages]
        weights = np.broadcast_to(draw.weights[:, None], ids.shape)[ids >= 0]
        counts[ids[ids >= 0]] += 1
        sums[ids[ids >= 0]] += weights
    inclusion = np.repeat(budgets / sizes, layout.stratum_pages)
    of_point = np.empty(num_points)
    of_point[table.index[table.index >= 0]] = np.repeat(inclusion, page_points)[table.index.ravel() >= 0]
    np.testing.assert_allclose(counts / len(starts), of_point, rtol=1e-12)
    np.testing.assert_allclose(sums / len(starts), 1 / num_points, rtol=1e-12)


@settings(max_examples=200)
@given(
    num_points=st.integers(1, 5000),
    page_points=st.integers(1, 64),
    num_strata=st.integers(1, 8),
    fraction=st.floats(0, 1),
    uniform_share=st.floats(0, 1),
)
def test_budgets_add_up_and_stay_within_bounds(
    num_points: int, page_points: int, num_strata: int, fraction: float, uniform_share: float
) -> None:
    layout = make_table(num_points, page_points, num_strata).layout
    wanted = layout.num_strata + int(fraction * (layout.num_pages - layout.num_strata))
    shares = page_shares(layout, uniform_share=uniform_share)
    budgets = page_budgets(layout, num_pages=wanted, shares=shares)
    assert budgets.sum() == wanted
    assert (budgets <= layout.stratum_pages).all()
    assert (budgets[layout.stratum_pages > 0] >= 1).all()


def test_budgets_follow_the_shares_to_one_page() -> None:
    layout = make_table(10_000, 10, 4).layout
    shares = page_shares(layout, uniform_share=0.25)
    budgets = page_budgets(layout, num_pages=100, shares=shares)
    assert np.abs(budgets - 100 * shares).max() <= 1
    assert shares.sum() == pytest.approx(1)


def test_all_pages_are_the_dense_mean() -> None:
    table = make_table(1003, 10, 4)
    budgets = page_budgets(table.layout, num_pages=101, shares=np.ones(4))
    draw = draw_pages(table.layout, budgets=budgets, starts=np.array([5, 0, 1, 2]))
    np.testing.assert_allclose(draw.weights, 1 / 1003, rtol=1e-14)


@pytest.mark.parametrize("num_pages", [0, 3, 102])
def test_budgets_that_cannot_be_are_refused(num_pages: int) -> None:
    layout = make_table(1003, 10, 4).layout
    with pytest.raises(SamplerError, match=f"a draw of {num_pages} pages.*4 strata.*ask for 40 to 1003"):
        page_budgets(layout, num_pages=num_pages, shares=np.ones(4))
