"""The exact variance of a draw: held against every draw that there is, one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ups_data.pages import build_pages, draw_pages, draw_variances, uniform_variance


@pytest.mark.parametrize(("num_points", "num_strata"), [(64, 1), (203, 2), (150, 3)])
def test_variance_is_that_of_all_draws(num_points: int, num_strata: int) -> None:
    random = np.random.default_rng(num_points)
    table = build_pages(
        random.random(num_points) ** 4,
        np.arange(num_points),
        page_points=8,
        num_strata=num_strata,
        block_points=2,
        seed=0,
        key=(0, 0),
    )
    layout = table.layout
    values = np.stack([np.ones(num_points), random.standard_normal(num_points), random.random(num_points) ** 9], axis=1)
    padded = np.concatenate([values, np.zeros((1, 3))])
    for budgets in itertools.product(*[range(1, min(pages, 3) + 1) for pages in layout.stratum_pages]):
        draws = [
            draw_pages(layout, budgets=np.array(budgets), starts=np.array(starts))
            for starts in itertools.product(*map(range, layout.stratum_pages))
        ]
        estimates = np.array(
            [(padded[table.index[draw.pages]].sum(axis=1) * draw.weights[:, None]).sum(axis=0) for draw in draws]
        )
        np.testing.assert_allclose(estimates.mean(axis=0), values.mean(axis=0), rtol=1e-10)
        found = draw_variances(layout, table.index, draws[-1:], values)[0]
        np.testing.assert_allclose(found, estimates.var(axis=0), rtol=1e-9, atol=1e-15)


def test_variance_of_uniform_draws_is_that_of_all_of_them() -> None:
    values = np.random.default_rng(0).standard_normal((7, 2))
    means = np.array([values[list(chosen)].mean(axis=0) for chosen in itertools.combinations(range(7), 3)])
    np.testing.assert_allclose(uniform_variance(values, 3), means.var(axis=0), rtol=1e-12)
