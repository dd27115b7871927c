"""Derivatives along grid axes against analytic ones: uneven nodes, seams, axes too short to differentiate."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ups_data.importance.cases import NODES, PERIODIC, random_nodes
from ups_data.importance import GridGeometry
from ups_data.importance.differences import axis_derivative, second_derivative


def test_derivative_of_a_sine_across_the_seam() -> None:
    found = axis_derivative(np.sin(2 * np.pi * NODES)[None], PERIODIC, 0)[0]
    # Second-order error of central differences: (2 pi)^3 h^2 / 6.
    assert np.abs(found - 2 * np.pi * np.cos(2 * np.pi * NODES)).max() < (2 * np.pi) ** 3 / 64**2 / 6 * 1.01


def test_second_derivative_of_a_sine_across_the_seam() -> None:
    found = second_derivative(np.sin(2 * np.pi * NODES)[None], PERIODIC, 0)[0]
    # Second-order error of the three-point formula: (2 pi)^4 h^2 / 12.
    assert np.abs(found + (2 * np.pi) ** 2 * np.sin(2 * np.pi * NODES)).max() < (2 * np.pi) ** 4 / 64**2 / 12 * 1.01


@pytest.mark.parametrize("derivative", [axis_derivative, second_derivative])
@pytest.mark.parametrize("uneven", [False, True])
def test_a_seam_is_a_place_like_any_other(derivative, uneven: bool) -> None:
    nodes = random_nodes(40) if uneven else np.arange(40) / 40
    values = np.exp(np.cos(2 * np.pi * nodes))
    whole = derivative(values[None], GridGeometry(axes=(nodes,), periods=(1.0,)), 0)[0]
    # The same circle cut at another node.
    moved = np.concatenate([nodes[15:], nodes[:15] + 1])
    found = derivative(np.roll(values, -15)[None], GridGeometry(axes=(moved,), periods=(1.0,)), 0)[0]
    np.testing.assert_allclose(np.roll(found, 15), whole, atol=1e-9)


@pytest.mark.parametrize("period", [None, 1.0])
@pytest.mark.parametrize("missing", [False, True])
def test_even_nodes_need_no_weights(period: float | None, missing: bool) -> None:
    axes = (np.linspace(-3, -2, 20, endpoint=period is None), np.linspace(0, 0.7, 2), random_nodes(9))
    geometry = GridGeometry(axes=axes, periods=(period, None, None))
    assert [spacing is not None for spacing in geometry.spacings] == [True, True, False]
    weighted = GridGeometry(axes=axes, periods=(period, None, None), spacings=(None, None, None))
    values = np.random.default_rng(0).normal(size=(2, 20, 2, 9))
    if missing:
        values[0, 3:5, 0] = values[1, 0, 1, 3] = values[1, -2, 0, :2] = np.nan
    for axis in range(3):
        expected = axis_derivative(values, weighted, axis)
        np.testing.assert_allclose(axis_derivative(values, geometry, axis), expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(axis_derivative(np.full_like(values, 0.1), geometry, axis), 0.0)


def test_nodes_that_are_even_but_for_rounding_are_even() -> None:
    nodes = np.linspace(0, 1, 101)
    shifted = nodes.copy()
    shifted[50] += 1e-9
    for axis, even in ((nodes, True), (1e3 + nodes, True), (shifted, False), (random_nodes(9), False)):
        (spacing,) = GridGeometry(axes=(axis,), periods=(None,)).spacings
        assert (spacing is not None) == even
    assert GridGeometry(axes=(nodes[:-1],), periods=(1.0,)).spacings == (pytest.approx(0.01, rel=1e-14),)
    assert GridGeometry(axes=(nodes,), periods=(1.1,)).spacings == (None,)


def test_uneven_axes_differentiate_a_parabola_exactly_inside() -> None:
    nodes = random_nodes(30)
    found = axis_derivative(np.square(nodes)[None], GridGeometry(axes=(nodes,), periods=(None,)), 0)[0]
    np.testing.assert_allclose(found[1:-1], 2 * nodes[1:-1], atol=1e-10)


def test_the_second_derivative_of_a_parabola_is_exact_on_uneven_nodes_up_to_the_ends() -> None:
    nodes = random_nodes(30)
    geometry = GridGeometry(axes=(nodes, random_nodes(3, seed=1)), periods=(None, None))
    values = 3 * np.square(nodes)[:, None] + geometry.axes[1]
    np.testing.assert_allclose(second_derivative(values[None], geometry, 0), 6.0, rtol=1e-9)
    np.testing.assert_allclose(second_derivative(values[None], geometry, 1), 0.0, atol=1e-10)


def test_an_axis_of_one_node_has_no_derivatives() -> None:
    geometry = GridGeometry(axes=(np.zeros(1), NODES), periods=(None, 1.0))
    values = np.random.default_rng(0).normal(size=(1, 1, 64))
    assert not axis_derivative(values, geometry, 0).any()
    assert not second_derivative(values, geometry, 0).any()


def test_two_nodes_have_a_slope_and_bend_only_around_a_seam() -> None:
    values = np.array([[0.0, 1.0]])
    bounded = GridGeometry(axes=(np.array([0.0, 0.5]),), periods=(None,))
    wrapped = GridGeometry(axes=(np.array([0.0, 0.5]),), periods=(1.0,))
    np.testing.assert_array_equal(axis_derivative(values, bounded, 0), [[2.0, 2.0]])
    np.testing.assert_array_equal(second_derivative(values, bounded, 0), [[0.0, 0.0]])
    np.testing.assert_array_equal(second_derivative(values, wrapped, 0), [[8.0, -8.0]])


@pytest.mark.parametrize("derivative", [axis_derivative, second_derivative])
def test_a_constant_has_derivatives_of_exactly_zero(derivative) -> None:
    geometry = GridGeometry(axes=(random_nodes(50),), periods=(1.0,))
    assert not derivative(np.full((1, 50), 0.1), geometry, 0).any()
