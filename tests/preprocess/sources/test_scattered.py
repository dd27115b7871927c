"""Fields at scattered points: trigonometric polynomials are exact, Beltrami's flow solves Navier-Stokes."""

import numpy as np
import pytest

from preprocess.sources.scattered import beltrami_flow, evaluate_spectrally


@pytest.mark.parametrize("sizes", [(16,), (17,), (12, 15), (8, 9, 10)])
def test_a_trigonometric_polynomial_is_exact_at_any_point(sizes: tuple[int, ...]) -> None:
    random, length = np.random.default_rng(0), 3.0
    terms = [
        (random.normal(size=2), [int(random.integers(-(size - 1) // 2 + 1, (size - 1) // 2 + 1)) for size in sizes])
        for _ in range(5)
    ]

    def field(points: np.ndarray) -> np.ndarray:
        phases = [2 * np.pi / length * points @ np.array(waves) for _, waves in terms]
        return sum(a * np.cos(phase) + b * np.sin(phase) for ((a, b), _), phase in zip(terms, phases, strict=True))

    nodes = np.meshgrid(*(length * np.arange(size) / size for size in sizes), indexing="ij")
    frames = field(np.stack([part.reshape(-1) for part in nodes], axis=-1)).reshape(1, *sizes)
    points = random.uniform(0, length, size=(50, len(sizes)))
    found = evaluate_spectrally(np.concatenate([frames, 2 * frames]), points, length)
    np.testing.assert_allclose(found, [field(points), 2 * field(points)], atol=1e-12)


def test_at_the_nodes_any_field_comes_out_again() -> None:
    frames = np.random.default_rng(1).normal(size=(2, 8, 6))
    nodes = np.meshgrid(np.arange(8) / 8, np.arange(6) / 6, indexing="ij")
    points = np.stack([part.reshape(-1) for part in nodes], axis=-1)
    np.testing.assert_allclose(evaluate_spectrally(frames, points, 1.0), frames.reshape(2, -1), atol=1e-12)


def test_beltrami_flow_solves_the_navier_stokes_equations() -> None:
    """Derivatives by central differences: the momentum equation holds with p = -|u|^2 / 2, the divergence is zero."""
    amplitudes, k, nu, h = np.array([0.9, 0.4, 0.7]), 2.0, 0.3, 1e-4
    points = np.random.default_rng(2).uniform(0, np.pi, size=(20, 3))

    def flow(moved: np.ndarray, time: float = 0.5) -> np.ndarray:
        (frame,) = beltrami_flow(moved, np.array([time]), amplitudes=amplitudes, wave_number=k, viscosity=nu)
        return frame

    u = flow(points)
    steps = h * np.eye(3)
    gradient = np.stack([(flow(points + step) - flow(points - step)) / (2 * h) for step in steps])
    laplacian = sum(flow(points + step) + flow(points - step) - 2 * u for step in steps) / h**2
    change = (flow(points, 0.5 + h) - flow(points, 0.5 - h)) / (2 * h)
    convection = np.einsum("jp,jip->ip", u, gradient)
    pressure = -np.einsum("jp,ijp->ip", u, gradient)
    np.testing.assert_allclose(np.einsum("iip->p", gradient), 0, atol=1e-6)
    np.testing.assert_allclose(change + convection, -pressure + nu * laplacian, atol=1e-5)
    assert np.abs(convection).max() > 0.1
