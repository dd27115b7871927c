"""Fields at scattered points, exactly: trigonometric polynomials where they are asked for, and a closed form."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64


def evaluate_spectrally(
    frames: Float[np.ndarray, "time *space"], points: Float64[np.ndarray, "point dim"], length: float
) -> Float64[np.ndarray, "time point"]:
    """Evaluate the trigonometric polynomial through the nodes of a periodic grid, at any points.

    On n nodes x_i = i L / n of every axis it is sum_k c_k exp(2 pi i k . x / L), |k| <= n / 2, with the coefficients of
    the discrete Fourier transform: what a pseudo-spectral solver computes with, so nothing is interpolated.

    Args:
        frames: values at the nodes, on one to three axes.
        points: where to evaluate, one coordinate an axis.
        length: L, of every axis.
    """
    sizes = frames.shape[1:]
    waves = [
        np.exp(2j * np.pi / length * np.outer(along, np.fft.fftfreq(size, 1 / size)))
        for along, size in zip(points.T, sizes, strict=True)
    ]
    values = np.empty((len(frames), len(points)))
    for frame, row in zip(frames, values, strict=True):
        coefficients = np.fft.fftn(frame.astype(np.float64), norm="forward")
        sums = np.tensordot(waves[0], coefficients, axes=1)
        for wave in waves[1:]:
            sums = np.einsum("pk,pk...->p...", wave, sums)
        row[:] = sums.real
    return values


def beltrami_flow(
    points: Float64[np.ndarray, "point dim"],
    times: Float64[np.ndarray, " time"],
    *,
    amplitudes: Float64[np.ndarray, " amplitude"],
    wave_number: float,
    viscosity: float,
) -> Float64[np.ndarray, "time component point"]:
    """Evaluate the decaying Arnold-Beltrami-Childress flow, an exact solution of the Navier-Stokes equations in 3-D.

    u = (A sin kz + C cos ky, B sin kx + A cos kz, C sin ky + B cos kx) exp(-nu k^2 t). Its curl is k u, so that
    u . grad u is the gradient of |u|^2 / 2, which the pressure balances, and u_t = nu lap u = -nu k^2 u.

    Source: V. I. Arnold (1965), C. R. Acad. Sci. Paris 261, for the steady flow; the decay follows from curl u = k u.
    """
    first, second, third = amplitudes
    x, y, z = (wave_number * along for along in points.T)
    start = np.stack(
        [
            first * np.sin(z) + third * np.cos(y),
            second * np.sin(x) + first * np.cos(z),
            third * np.sin(y) + second * np.cos(x),
        ]
    )
    return np.exp(-viscosity * wave_number**2 * times)[:, None, None] * start
