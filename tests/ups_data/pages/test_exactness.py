"""Thousands of random layouts and budgets: inclusion probabilities are k_s / R_s in whole numbers."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ups_data.pages import PageTable, build_pages, draw_pages, page_budgets


@st.composite
def tables(draw: st.DrawFn) -> PageTable:
    """Layouts of any size, importance, resting points, strata and padding."""
    num_points = draw(st.integers(1, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    importance = random.exponential(size=num_points) ** draw(st.sampled_from([0.0, 1.0, 6.0]))
    resting = random.random(num_points) < draw(st.sampled_from([0.0, 0.3]))
    resting[random.integers(num_points)] = False
    importance[resting] = np.nan
    return build_pages(
        importance,
        random.permutation(num_points),
        page_points=draw(st.integers(1, 9)),
        num_strata=draw(st.integers(1, 5)),
        block_points=draw(st.sampled_from([1, 4])),
        seed=draw(st.integers(0, 9)),
        key=(0, draw(st.integers(0, 9))),
    )


@settings(max_examples=1500, deadline=None)
@given(table=tables(), data=st.data())
def test_inclusion_probabilities_are_exact(table: PageTable, data: st.DataObject) -> None:
    layout, ids = table.layout, table.index
    np.testing.assert_array_equal(np.sort(ids[ids >= 0]), np.arange((ids >= 0).sum()))  # each on exactly one page
    wanted = data.draw(st.integers(layout.num_strata, layout.num_pages))
    shares = np.array(data.draw(st.lists(st.floats(0, 1), min_size=layout.stratum_pages.size, max_size=9)))
    budgets = page_budgets(layout, num_pages=wanted, shares=shares[: layout.stratum_pages.size])
    first = np.cumsum(layout.stratum_pages) - layout.stratum_pages
    expected_sum = Fraction(0)
    for stratum in range(layout.num_strata):
        size, budget = int(layout.stratum_pages[stratum]), int(budgets[stratum])
        visits = np.zeros(layout.all_pages, dtype=int)
        for start in range(size):
            starts = np.where(np.arange(budgets.size) == stratum, start, 0)
            draw = draw_pages(layout, budgets=budgets, starts=starts)
            mine = (draw.pages >= first[stratum]) & (draw.pages < first[stratum] + size)
            assert mine.sum() == budget
            visits[draw.pages[mine]] += 1
            assert set(draw.weights[mine]) == {size / budget / layout.num_points}
        assert (visits[first[stratum] : first[stratum] + size] == budget).all()
        inclusion = Fraction(budget, size)
        weight = Fraction(size, budget * layout.num_points)
        expected_sum += int(layout.stratum_points[stratum]) * inclusion * weight
    assert expected_sum == 1
    assert int(budgets.sum()) == wanted
