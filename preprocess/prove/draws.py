"""Draw many times from one trajectory: check each draw, and sum up what the estimates tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from preprocess.prove.estimates import EstimateRow
from preprocess.prove.integrands import Truth
from preprocess.prove.records import DrawRow, ReadCost
from ups_data.pages import CellDraw, PageDraw, PageLayout, PointDraw
from ups_data.random import Stream, generator
from ups_data.samplers import DenseSampler, DrawKey, PageSampler, Sampler
from ups_data.samplers.base import Amount
from ups_data.storage import Store

_EPOCHS = 4
_NUM_READS = 8
_SUM_TOLERANCE = 1e-6
# Rounding of a weighted sum in float64, relative to the largest value.
_ROUNDING = 1e-11


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnPoints:
    """The points of one draw, padding left out.

    Attributes:
        points: point ids.
        design_weights: weights of the sampler, which say how often a point is drawn: 1 / (N * inclusion probability).
        weights: those that a loss gets; the same unless the sampler was asked for other ones.
    """

    points: Int64[np.ndarray, " query"]
    design_weights: Float64[np.ndarray, " query"]
    weights: Float64[np.ndarray, " query"]


class TrajectoryDraws:
    """Draws from one block of frames of a trajectory, keyed as a dataset keys them.

    Args:
        store: an open store.
        trajectory: its number.
        block: number of the block.
        seed: of all draws.

    Attributes:
        layout: of the block.
        drawn: points that draws may take, rising.
        num_points: points of the trajectory.
    """

    def __init__(self, store: Store, trajectory: int, *, block: int = 0, seed: int) -> None:
        self.layout = store.layout(trajectory, block)
        self.drawn = store.drawn_points(trajectory, block)
        self.num_points = store.num_points(trajectory)
        self._store, self._trajectory, self._block = store, trajectory, block
        index = store.read_page_points(trajectory, np.arange(self.layout.num_pages), block).index
        self._index = index.reshape(self.layout.num_pages, self.layout.page_points)
        # Trajectories and blocks share no draws, samplers do.
        random = generator(seed=seed, stream=Stream.PROVE, words=(trajectory, block))
        self._seed = int(random.integers(2**63))

    def draw(self, sampler: Sampler, number: int) -> PageDraw | PointDraw | CellDraw:
        """Return draw `number`: of a sample of its own, in one of a few epochs, since starts may walk with them."""
        return sampler.draw(self.layout, DrawKey(seed=self._seed, epoch=number % _EPOCHS, sample=number))

    def points_of(self, sampler: Sampler, draw: PageDraw | PointDraw | CellDraw) -> DrawnPoints:
        """Return points and weights as `QueryDataset` gives them."""
        if not isinstance(draw, PageDraw):
            points, weights = self._store.find_points(draw, self._trajectory, self._block), draw.weights
        else:
            points = self._index[draw.pages].reshape(-1)
            valid = points >= 0
            points, weights = points[valid], np.repeat(draw.weights, self.layout.page_points)[valid]
        return DrawnPoints(points=points, design_weights=weights, weights=sampler.finish_weights(weights))

    def count_reads(self, sampler: Sampler, frame: int) -> tuple[ReadCost, bool]:
        """Read a few draws of one frame as a dataset does.

        Returns:
            What one draw cost on average, and whether all values were those of the dense frame.
        """
        dense = self._store.read_dense(self._trajectory, [frame])[0].T
        draws = [self.draw(sampler, number) for number in range(_NUM_READS)]
        # Shard indices are read once and kept: a running loader does not pay for them.
        self._read(draws[0], frame)
        costs, sound = [], True
        for draw in draws:
            values, cost = self._read(draw, frame)
            points = self.points_of(sampler, draw).points
            sound &= np.array_equal(values, dense[points], equal_nan=True)
            costs.append((*cost, points.size * values.itemsize * values.shape[1]))
        mean = np.mean(costs, axis=0).tolist()
        return ReadCost(
            index_bytes=mean[0],
            index_ranges=mean[1],
            value_bytes=mean[2],
            value_ranges=mean[3],
            point_bytes=mean[4],
        ), sound

    def _read(
        self, draw: PageDraw | PointDraw | CellDraw, frame: int
    ) -> tuple[Float64[np.ndarray, "query channel"] | np.ndarray, tuple[int, int, int, int]]:
        store, trajectory = self._store, self._trajectory
        channels = tuple(range(len(store.manifest.channel_names)))
        before = _reads(store)
        if not isinstance(draw, PageDraw):
            points = store.find_points(draw, trajectory, self._block)
            if store.manifest.geometry.kind != "grid":
                store.coordinates(trajectory)
            middle = _reads(store)
            values = store.read_frames(trajectory, [frame], channels)[0].T[points]
        else:
            index = store.read_page_points(trajectory, draw.pages, self._block).index
            middle = _reads(store)
            read = store.read_page_values(trajectory, [frame], draw.pages, channels, self._block)
            values = read[0][index >= 0]
        after = _reads(store)
        return values, (*(middle - before).tolist(), *(after - middle).tolist())


def _reads(store: Store) -> Int64[np.ndarray, "2"]:
    return np.array([store.read_count.num_bytes, store.read_count.num_ranges], dtype=np.int64)


class EstimateTally:
    """Sums of the errors of many estimates.

    Args:
        truth: what is estimated.
    """

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._num_draws = self._num_points = 0
        self._largest_weight = 0.0
        self._sum = np.zeros(len(truth.integrands))
        self._squares = np.zeros(len(truth.integrands))

    def add(self, drawn: DrawnPoints) -> None:
        """Add the estimates of one draw."""
        # Around the truth, so that the variance does not drown in the rounding of a large mean.
        error = drawn.weights @ self._truth.values[drawn.points] - self._truth.mean
        self._num_draws += 1
        self._num_points += drawn.points.size
        self._largest_weight = max(self._largest_weight, float(drawn.weights.max(initial=0.0)))
        self._sum += error
        self._squares += np.square(error)

    def rows(self, sampler: str, place: tuple[int, int]) -> Iterator[EstimateRow]:
        """Yield what the draws so far tell of each integrand; nothing from fewer than two of them."""
        truth, n = self._truth, self._num_draws
        if n < 2:
            return
        bias = self._sum / n
        variance = np.maximum(self._squares - n * np.square(bias), 0.0) / (n - 1)
        rounding = _ROUNDING * truth.largest
        error = np.maximum(np.sqrt(np.maximum(variance, self._rare_variance()) / n), rounding)
        uniform = self._uniform_variance()
        for k, integrand in enumerate(truth.integrands):
            known = min(uniform[k], variance[k]) > rounding[k] ** 2
            yield EstimateRow(
                sampler=sampler,
                trajectory=place[0],
                block=place[1],
                integrand=integrand.name,
                channel=integrand.channel,
                frame=integrand.frame,
                truth=float(truth.mean[k]),
                bias=float(bias[k]),
                std=float(np.sqrt(variance[k])),
                z=float(bias[k] / error[k]) if error[k] else 0.0,
                multiplier=float(uniform[k] / variance[k]) if known else None,
            )

    def _rare_variance(self) -> Float64[np.ndarray, " integrand"]:
        """Return the variance that the point farthest from the mean brings alone, if it has the largest weight.

        Where it is so rare that no draw met it, the estimates look more certain than they are.
        """
        count = self._truth.num_points
        return self._truth.deviation * max(0.0, self._largest_weight - 1 / count) / count

    def _uniform_variance(self) -> Float64[np.ndarray, " integrand"]:
        """Return that of n uniform points: (1 - n/N) S^2 / n, S^2 divided by N - 1 (Cochran 1977, theorem 2.2)."""
        count = self._truth.num_points
        mean_points = self._num_points / self._num_draws
        return (1 - mean_points / count) * self._truth.variance / mean_points


class DrawTally:
    """Checks of the draws themselves: ids, numbers, weights, and how often each point came.

    Args:
        sampler: whose draws.
        source: where they come from.
        where: for messages.
    """

    def __init__(self, sampler: Sampler, source: TrajectoryDraws, *, where: str) -> None:
        self.problems: list[str] = []
        self._where = where
        self._must_sum_to_one = sampler.weighting.sums_to_one
        self._documented = documented_points(sampler, source.layout)
        self._drawn = source.drawn
        count = source.num_points
        self._may_come = np.zeros(count, dtype=bool)
        self._may_come[source.drawn] = True
        self._place = np.zeros(count, dtype=np.int64)
        self._visits = np.zeros(count, dtype=np.int64)
        self._weight_sums = np.zeros(count)
        self._num_points: list[int] = []
        self._sums: list[float] = []
        self._effective: list[float] = []
        self._largest = self._largest_design = 0.0

    def add(self, drawn: DrawnPoints) -> bool:
        """Check one draw and add it; return whether it can be used."""
        points, weights = drawn.points, drawn.weights
        if not self._check_points(points):
            return False
        if not (np.isfinite(weights).all() and (weights > 0).all() and (drawn.design_weights > 0).all()):
            self._report("a weight is not finite and positive")
            return False
        self._visits[points] += 1
        self._weight_sums[points] += drawn.design_weights
        total = float(weights.sum())
        self._num_points.append(points.size)
        self._sums.append(total)
        self._effective.append(total**2 / float(np.square(weights).sum()))
        self._largest = max(self._largest, float(weights.max()))
        self._largest_design = max(self._largest_design, float(drawn.design_weights.max()))
        if self._must_sum_to_one and not abs(total - 1) <= _SUM_TOLERANCE:
            self._report(f"the weights sum to {total!r}, and must sum to 1 within {_SUM_TOLERANCE:g} in every draw")
        return True

    def _check_points(self, points: Int64[np.ndarray, " query"]) -> bool:
        count = self._place.size
        if not points.size or points.min() < 0 or points.max() >= count:
            self._report(f"it holds no point, or one outside of [0, {count})")
            return False
        if not self._may_come[points].all():
            self._report(f"it holds point {points[np.argmin(self._may_come[points])]}, which has no value")
            return False
        self._place[points] = np.arange(points.size)
        if (self._place[points] != np.arange(points.size)).any():
            self._report("it holds a point twice")
        low, high = self._documented or (1, self._drawn.size)
        if not low <= points.size <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            self._report(f"it holds {points.size} points where {wanted} are documented")
        return True

    def _report(self, fault: str) -> None:
        # One line for the first draw of a trajectory at fault: the others are at fault alike.
        if not self.problems:
            self.problems.append(f"{self._where}, draw {len(self._num_points)}: {fault}")

    def row(self, sampler: str, place: tuple[int, int], cost: ReadCost) -> DrawRow:
        """Return what the draws so far were like; where all were sound."""
        point, deviation = self._worst_coverage()
        return DrawRow(
            sampler=sampler,
            trajectory=place[0],
            block=place[1],
            num_draws=len(self._num_points),
            num_points=self._drawn.size,
            drawn_points=float(np.mean(self._num_points)),
            drawn_points_min=min(self._num_points),
            drawn_points_max=max(self._num_points),
            effective_points=float(np.mean(self._effective)),
            largest_weight=self._largest * self._drawn.size,
            weight_sum=float(np.mean(self._sums)),
            weight_sum_error=float(np.abs(np.array(self._sums) - 1).max()),
            coverage_z=deviation,
            coverage_point=point,
            coverage_visits=int(self._visits[point]),
            cost=cost,
        )

    def _worst_coverage(self) -> tuple[int, float]:
        """Return the point whose number of visits v is farthest from what its weight promises, and how far.

        A point of weight w is drawn with probability 1 / (N w), so v is binomial with mean m = draws / (N w). The
        distance is the signed root of the Poisson deviance 2 (v log(v / m) - v + m): like a z-score, and
        P(|distance| > d) <= 2 exp(-d^2 / 2) for every m (Chernoff), also where m is far too small for a normal. A point
        that never came has the largest weight at least: the least that could be expected of it.
        """
        count, draws = self._drawn.size, len(self._num_points)
        visits = self._visits[self._drawn].astype(np.float64)
        weights = np.where(visits > 0, self._weight_sums[self._drawn] / np.maximum(visits, 1), self._largest_design)
        expected = draws / (count * weights)
        logs = np.log(np.maximum(visits, 1) / expected)
        deviance = np.maximum(2 * (visits * logs - visits + expected), 0.0)
        place = int(np.argmax(deviance))
        deviation = float(np.copysign(np.sqrt(deviance[place]), visits[place] - expected[place]))
        return int(self._drawn[place]), deviation


def documented_points(sampler: Sampler, layout: PageLayout) -> tuple[int, int] | None:
    """Return the least and the most points that a sampler of this project says to draw; None for others.

    Whole pages hold fewer points where they are padded, which only pages of the last stratum are.
    """
    if isinstance(sampler, DenseSampler):
        return layout.num_points, layout.num_points
    amount = getattr(sampler, "amount", None)
    if not isinstance(amount, Amount):
        return None
    if not isinstance(sampler, PageSampler):
        points = amount.points(layout, 0)
        return points, points
    pages = sampler.num_pages(layout, 0)
    padding = layout.num_pages * layout.page_points - layout.num_points
    high = min(layout.num_points, pages * layout.page_points)
    return max(1, pages * layout.page_points - padding), high
