"""The contract of a sampler: from a page layout and a key to what is read, and with which weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from ups_data.errors import SamplerError
from ups_data.pages import CellDraw, PageDraw, PageLayout, PointDraw
from ups_data.random import Stream, generator
from ups_data.samplers.schedule import Constant, Schedule
from ups_data.samplers.weights import Weights


@dataclass(frozen=True, kw_only=True)
class DrawKey:
    """What a draw depends on, beside the layout.

    Attributes:
        seed: seed of the data stream.
        epoch: number of the epoch.
        sample: number of the sample in its dataset.
        step: global step, for schedules.
        emphasis: of an adaptive sampler, how much a point of each stratum counts; None before anything was fed back.
    """

    seed: int
    epoch: int
    sample: int
    step: int = 0
    emphasis: tuple[float, ...] | None = None

    def at_frame(self, place: int) -> DrawKey:
        """Return the key of the points of one target frame, where each has its own.

        Its seed follows from this one's and the place alone, so a frame has its points whatever other frames are drawn,
        and every sampler draws anew for it. That of place 0 is this key.

        Args:
            place: of the frame among all target frames of the window, from 0.
        """
        if not place:
            return self
        random = generator(seed=self.seed, stream=Stream.FRAME_POINTS, words=(place, 0))
        return replace(self, seed=int(random.integers(2**64 - 1, dtype=np.uint64, endpoint=True)))


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How many points to draw: a share of the trajectory's points, or a number; constant or scheduled."""

    ratio: Schedule | None
    num_queries: Schedule | None

    @classmethod
    def of(cls, ratio: float | Schedule | None, num_queries: int | Schedule | None) -> Amount:
        """Take exactly one of `ratio` in (0, 1] and `num_queries` >= 1.

        Raises:
            SamplerError: none or both were given, or a value outside of its range.
        """
        if (ratio is None) == (num_queries is None):
            raise SamplerError(
                f"give ratio= or num_queries=, one of them; got ratio={ratio}, num_queries={num_queries}"
            )
        shares = Constant(float(ratio)) if isinstance(ratio, (int, float)) else ratio
        numbers = Constant(float(num_queries)) if isinstance(num_queries, (int, float)) else num_queries
        if shares is not None and not 0 < shares.bounds[0] <= shares.bounds[1] <= 1:
            raise SamplerError(f"ratio must lie in (0, 1], got {ratio}")
        if numbers is not None and not numbers.bounds[0] >= 1:
            raise SamplerError(f"num_queries must be at least 1, got {num_queries}")
        return cls(ratio=shares, num_queries=numbers)

    def most_points(self, num_points: Int64[np.ndarray, " size"]) -> Int64[np.ndarray, " size"]:
        """Return the most points that are drawn, at any global step, of trajectories with so many points."""
        if self.ratio is not None:
            return np.maximum(1, np.rint(self.ratio.bounds[1] * num_points)).astype(np.int64)
        assert self.num_queries is not None
        return np.minimum(round(self.num_queries.bounds[1]), num_points)

    def points(self, layout: PageLayout, step: int) -> int:
        """Return the number of points to draw at a global step, rounded to the nearest.

        Raises:
            SamplerError: more points than the trajectory has.
        """
        if self.ratio is not None:
            return max(1, round(self.ratio(step) * layout.num_points))
        assert self.num_queries is not None
        wanted = round(self.num_queries(step))
        if wanted > layout.num_points:
            raise SamplerError(
                f"{wanted} queries were asked of a trajectory with {layout.num_points} points; ask for fewer, or use "
                f"ratio= where trajectories differ in size"
            )
        return wanted


@dataclass(frozen=True, kw_only=True)
class FeedbackRule:
    """How the losses that a loader is fed back become the emphasis of later draws.

    Losses are gathered over `every` global steps; what was gathered before is multiplied by `decay` and added to. Draws
    of step t know of the losses of steps before t - lag, rounded down to a multiple of `every`: that is what makes them
    the same for any number of workers, as long as these and the device are less than `lag` batches ahead. Where a loss
    is not finite, those of its `every` steps are left out, and draws go by the maps of the store until the next change.

    Attributes:
        every: global steps between two changes of the emphasis.
        lag: global steps between a loss and the first draw that may know of it.
        decay: what is left of older losses at each change, from 0 (none) to 1 (all).
        warmup: global steps of losses before anything changes.
        trust: share of the budgets that goes by the losses, in [0, 1]; the rest goes by the maps of the store. A
            defensive mixture (Owen and Zhou 2000): losses that say nothing cost little.
        least_effective: effective number of losses, (sum q)^2 / sum q^2, that each stratum needs: with fewer, a few
            large losses would decide, and draws go by the maps of the store.
    """

    every: int = 50
    lag: int = 50
    decay: float = 0.9
    warmup: int = 200
    trust: float = 0.5
    least_effective: float = 32.0

    def __post_init__(self) -> None:
        if self.every < 1 or self.lag < 0 or self.warmup < 0:
            raise SamplerError(f"feedback needs every >= 1, lag >= 0 and warmup >= 0, got {self}")
        if not (0 <= self.decay <= 1 and 0 <= self.trust <= 1 and self.least_effective >= 0):
            raise SamplerError(f"feedback needs decay and trust in [0, 1] and least_effective >= 0, got {self}")

    def known(self, step: int) -> int:
        """Return how many steps the draws of a global step know the losses of."""
        return max(step - self.lag, 0) // self.every * self.every


class Sampler(ABC):
    """Draws the points of one sample. Samplers hold no state: a draw is a function of layout and key.

    Args:
        weights: how the unbiased weights of a draw become those of a batch: a kind by name, or a `Weights`.

    Attributes:
        feedback: how losses change later draws; None where they do not.
    """

    feedback: FeedbackRule | None = None

    def __init__(self, weights: str | Weights = "unbiased") -> None:
        self.weighting = Weights(weights) if isinstance(weights, str) else weights

    @property
    def weights(self) -> str:
        """Kind of the weights."""
        return self.weighting.kind

    @abstractmethod
    def draw(self, layout: PageLayout, key: DrawKey) -> PageDraw | PointDraw | CellDraw:
        """Draw with the unbiased weights: those whose weighted sum has the mean over all points as expectation."""

    def most_queries(
        self,
        num_points: Int64[np.ndarray, " size"],
        page_points: int,  # noqa: ARG002  # for samplers that go by pages
    ) -> int:
        """Return a bound on the points of a draw, at any global step.

        Args:
            num_points: sizes of the trajectories that are drawn from.
            page_points: points of a page.
        """
        return int(num_points.max())

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(self).items()))
        return f"{type(self).__name__}({settings})"

    @property
    def name(self) -> str:
        """Name for tables: the class without `Sampler`, lower case."""
        return type(self).__name__.removesuffix("Sampler").lower()

    def finish_weights(self, weights: Float64[np.ndarray, " query"]) -> Float64[np.ndarray, " query"]:
        """Turn unbiased weights (0 on padding) into those that were asked for; see `Weights`."""
        return self.weighting.finish(weights)
