"""How many points are enough: exact errors of draws from a store's own layout, by ratio, for two kinds of residuals.

What a model gets wrong may lie where the field changes, or all over it. The loss of a model that predicts no change
stands for the first; the gradient of a decoder of few Fourier modes, fitted to the field, for the second.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int64

from preprocess.prove.integrands import CHANGE, SQUARE, choose_frames
from preprocess.prove.size_records import SPREAD, SizeReport, SizeRow
from ups_data.pages import PageDraw, PageLayout, draw_variances, uniform_variance
from ups_data.samplers import BalancedSampler, DrawKey, ImportanceSampler, PageSampler
from ups_data.storage import Store

RATIOS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_MOST_MODES = {1: 8, 2: 2, 3: 1}
_SLICE_POINTS = 2**18
_NEGLIGIBLE = 1e-22  # of the squared size of an integrand: a variance below it is rounding

Variances = dict[tuple[str, float], tuple[Float64[np.ndarray, " channel"], Float64[np.ndarray, " channel"]]]
"""By sampler and ratio: variances of the draw and of as many uniform points."""

Found = tuple[tuple[str, str, str, float], tuple[float | None, float | None]]
"""Sampler, channel, integrand and ratio, with multiplier and relative error."""


def measure_sizes(
    store: Store, *, trajectories: Sequence[int], ratio: float, wanted: float, num_frames: int = 3
) -> SizeReport:
    """Work out the errors of uniform, balanced and importance draws of many sizes.

    Args:
        store: an open store.
        trajectories: those to go by.
        ratio: drawn points / points of a trajectory, at which the report says what points are worth.
        wanted: relative standard error of a sample's dense loss that draws should have.
        num_frames: most target frames of each trajectory.
    """
    moving = all(store.num_frames(trajectory) > 1 for trajectory in trajectories)
    integrand, ratios = CHANGE if moving else SQUARE, sorted({*RATIOS, ratio})
    found: dict[tuple[str, str, str, float], list[tuple[float | None, float | None]]] = {}
    for trajectory in trajectories:
        for frame in choose_frames(store.num_frames(trajectory), num_frames):
            target = _Target(store, trajectory, frame, ratios, moving=moving)
            for key, pair in (*target.of_loss(integrand), *target.of_spread()):
                found.setdefault(key, []).append(pair)
    rows = []
    for (sampler, channel, what, size), numbers in found.items():
        multipliers = [multiplier for multiplier, _ in numbers if multiplier is not None]
        errors = [error for _, error in numbers if error is not None]
        rows.append(
            SizeRow(
                sampler=sampler,
                channel=channel,
                integrand=what,
                ratio=size,
                multiplier=statistics.geometric_mean(multipliers) if multipliers else None,
                error=math.sqrt(statistics.fmean(error**2 for error in errors)) if errors else None,
            )
        )
    return SizeReport(wanted=wanted, ratio=ratio, rows=tuple(rows))


def mode_numbers(dims: int, most: int) -> Int64[np.ndarray, "mode dim"]:
    """Return whole wave numbers up to `most` on each axis, one of each pair k, -k, the zero first."""
    numbers = np.array(list(itertools.product(range(-most, most + 1), repeat=dims)))
    return numbers[len(numbers) // 2 :]


def mode_values(
    coordinates: Float64[np.ndarray, "point dim"], numbers: Int64[np.ndarray, "mode dim"]
) -> Float64[np.ndarray, "point wave"]:
    """Return the cosines and sines of waves over the box of all points, the sine of the constant left out."""
    lowest, highest = coordinates.min(axis=0), coordinates.max(axis=0)
    phases = 2 * np.pi * ((coordinates - lowest) / np.where(highest > lowest, highest - lowest, 1.0)) @ numbers.T
    return np.concatenate([np.cos(phases), np.sin(phases[:, 1:])], axis=1)


class _Target:
    """A target frame, and the draws from the block that it lies in."""

    def __init__(self, store: Store, trajectory: int, frame: int, ratios: Sequence[float], *, moving: bool) -> None:
        block = store.block_of(trajectory, [frame])
        self._layout: PageLayout = store.layout(trajectory, block)
        index = store.read_page_points(trajectory, np.arange(self._layout.num_pages), block).index
        self._index = index.reshape(self._layout.num_pages, self._layout.page_points)
        self._drawn: Int64[np.ndarray, " drawn"] = store.drawn_points(trajectory, block)
        self._factor = np.zeros(store.num_points(trajectory))
        self._factor[self._drawn] = 1.0
        if store.manifest.estimand == "integral":
            self._factor *= self._drawn.size * store.measures(trajectory)
        dense = store.read_dense(trajectory, [frame - 1, frame] if moving else [frame]).astype(np.float64)
        self._field = np.nan_to_num(dense[-1], nan=0.0)
        self._squares = np.nan_to_num(np.square(dense[-1] - dense[0] if moving else dense[0]), nan=0.0)
        self._store, self._trajectory, self._ratios = store, trajectory, ratios
        self._draws = dict(self._make_draws())

    def _make_draws(self) -> Iterator[tuple[tuple[str, float], PageDraw]]:
        for ratio in self._ratios:
            samplers: dict[str, PageSampler] = {
                "balanced": BalancedSampler(ratio),
                "importance": ImportanceSampler(ratio),
            }
            for name, sampler in samplers.items():
                if sampler.num_pages(self._layout, 0) >= self._layout.num_strata:
                    yield (name, ratio), sampler.draw(self._layout, DrawKey(seed=0, epoch=0, sample=0))

    def of_loss(self, integrand: str) -> Iterator[Found]:
        """Yield multipliers and relative errors of the loss."""
        values = (self._factor * self._squares).T
        dense = values[self._drawn].mean(axis=0)
        scale = np.square(values).max(axis=0)
        yield from self._rows(integrand, self._variances(values), scale, dense)

    def of_spread(self) -> Iterator[Found]:
        """Yield multipliers of the gradient of a small decoder, one derivative after another."""
        coordinates = self._store.coordinates(self._trajectory)
        dims = coordinates.shape[1]
        numbers = mode_numbers(dims, _MOST_MODES[dims])
        if 4 * len(numbers) > self._drawn.size:
            return
        residual = self._fit(coordinates, numbers)
        total: Variances = {}
        # By the field, not by what is left of it: where the waves fit it whole, that is rounding.
        scale = np.square(self._factor * self._field).max(axis=1)
        for number in range(len(numbers)):
            waves = mode_values(coordinates, numbers[[0, number]])[:, 1:]
            for wave in waves.T if number else np.ones((1, len(coordinates))):
                values = self._factor[:, None] * wave[:, None] * residual
                for key, (drawn, uniform) in self._variances(values).items():
                    before = total.get(key, (np.zeros_like(drawn), np.zeros_like(uniform)))
                    total[key] = (before[0] + drawn, before[1] + uniform)
        yield from self._rows(SPREAD, total, scale, None)

    def _fit(
        self, coordinates: Float64[np.ndarray, "point dim"], numbers: Int64[np.ndarray, "mode dim"]
    ) -> Float64[np.ndarray, "point channel"]:
        """Return what the best sum of waves leaves of the field at every point, by normal equations in slices."""
        corners = np.stack([coordinates.min(axis=0), coordinates.max(axis=0)])

        def waves(part: slice) -> Float64[np.ndarray, "point wave"]:
            # The corners come along so that every slice is scaled by the box of all points.
            return mode_values(np.concatenate([coordinates[part], corners]), numbers)[:-2]

        size, field = len(coordinates), self._field.T
        parts = [slice(start, min(start + _SLICE_POINTS, size)) for start in range(0, size, _SLICE_POINTS)]
        inside: Bool[np.ndarray, " point"] = self._factor > 0
        count = 2 * len(numbers) - 1
        normal, right = np.zeros((count, count)), np.zeros((count, field.shape[1]))
        for part in parts:
            chosen = waves(part)[inside[part]]
            normal += chosen.T @ chosen
            right += chosen.T @ field[part][inside[part]]
        weights, *_ = np.linalg.lstsq(normal, right, rcond=None)
        return np.concatenate([field[part] - waves(part) @ weights for part in parts])

    def _variances(self, values: Float64[np.ndarray, "point channel"]) -> Variances:
        draws = list(self._draws.values())
        some = values[self._drawn]
        found: Variances = {}
        for ratio in self._ratios:
            exact = uniform_variance(some, max(1, round(ratio * len(some))))
            found["uniform", ratio] = (exact, exact)
        for (key, draw), drawn in zip(
            self._draws.items(), draw_variances(self._layout, self._index, draws, values), strict=True
        ):
            found[key] = (drawn, uniform_variance(some, int((self._index[draw.pages] >= 0).sum())))
        return found

    def _rows(
        self,
        integrand: str,
        variances: Variances,
        scale: Float64[np.ndarray, " channel"],
        dense: Float64[np.ndarray, " channel"] | None,
    ) -> Iterator[Found]:
        for (sampler, ratio), (drawn, uniform) in variances.items():
            for number, channel in enumerate(self._store.manifest.channel_names):
                varies = min(drawn[number], uniform[number]) > _NEGLIGIBLE * scale[number]
                multiplier = float(uniform[number] / drawn[number]) if varies else None
                error = None
                if dense is not None and dense[number] > 0:
                    error = math.sqrt(max(float(drawn[number]), 0.0)) / float(dense[number])
                yield (sampler, channel, integrand, ratio), (multiplier, error)
