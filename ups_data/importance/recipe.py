"""Combine metrics into the importance map of a trajectory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from ups_data.errors import ConfigError, SchemaError, suggest
from ups_data.importance.base import Geometry, ImportanceMetric, RootMeanSquareMetric, Subject
from ups_data.importance.curvature import CurvatureMetric
from ups_data.importance.custom import FunctionFactory, is_custom, load_factory
from ups_data.importance.distance import DistanceMetric, distance_to
from ups_data.importance.error import ERROR, check_error, is_error, load_error, pin_error
from ups_data.importance.gradient import GradientMetric
from ups_data.importance.temporal_change import TemporalChangeMetric
from ups_data.importance.value import ValueMetric
from ups_data.importance.variance import VarianceMetric
from ups_data.importance.vorticity import VorticityMetric
from ups_data.schema import ClipSpec, ImportanceSpec

METRICS: dict[str, type[ImportanceMetric]] = {
    "gradient": GradientMetric,
    "curvature": CurvatureMetric,
    "temporal_change": TemporalChangeMetric,
    "variance": VarianceMetric,
    "vorticity": VorticityMetric,
    "value": ValueMetric,
    "distance": DistanceMetric,
}

_DISTANCE_TO = "distance:"

_SLICE_POINTS = 2**20

DEFAULT_METRICS = ("gradient", "temporal_change")
"""What a recipe has that names none: metrics that exist on every geometry, for every field."""


def check_metrics(spec: ImportanceSpec, subject: Subject | None = None) -> None:
    """Refuse a recipe that names a metric which does not exist, or not for such data.

    Args:
        spec: the recipe.
        subject: what is measured; None checks the names alone, and imports nothing.

    Raises:
        SchemaError: naming the metric, and the nearest valid one or why it cannot be taken.
        ConfigError: a metric of the user's own that cannot be imported, or is none.
    """
    for name in spec.metrics:
        if is_error(name):
            check_error(name)
        elif name not in METRICS and not name.startswith(_DISTANCE_TO) and not is_custom(name):
            raise SchemaError(
                f"there is no importance metric {name!r}. {suggest(name, [*METRICS, ERROR])} One of your own: "
                f"module:function."
            )
        if subject is None:
            continue
        factory = _factory(name)
        if isinstance(factory, type) and issubclass(factory, ImportanceMetric):
            objection = factory.objection(subject)
            if objection is not None:
                raise SchemaError(f"importance metric {name!r} {objection}")


def pin_recipe(spec: ImportanceSpec) -> ImportanceSpec:
    """Return a recipe whose metrics name by content what they read from files, so that it measures the same again.

    Raises:
        ConfigError: there is no such file, or it is not the one that is pinned already.
    """
    metrics: dict[str, float] = {}
    for name, weight in spec.metrics.items():
        pinned = pin_error(name) if is_error(name) else name
        if pinned in metrics:
            raise ConfigError(f"importance metric {name!r} stands twice in the recipe: give it one weight")
        metrics[pinned] = weight
    return spec.model_copy(update={"metrics": metrics})


def default_recipe() -> ImportanceSpec:
    """Return the recipe of the default metrics, all of one weight."""
    return ImportanceSpec(metrics=dict.fromkeys(DEFAULT_METRICS, 1.0))


class ImportanceMap:
    """Gathers the importance of one trajectory frame by frame.

    Each map of each metric is divided by its own mean before maps are added, so that a field with large numbers does
    not drown the rest; a map or metric that is zero everywhere adds nothing. Where all are zero (a constant field), the
    importance is 1 everywhere.
    """

    def __init__(self, spec: ImportanceSpec, geometry: Geometry, subject: Subject) -> None:
        check_metrics(spec, subject)
        self._spec = spec
        self._geometry = geometry
        self._metrics = {name: _factory(name)(geometry, subject) for name in spec.metrics}
        # Which points had a value in any frame so far; True where all had one.
        self._seen: Bool[np.ndarray, " point"] | bool = False

    @property
    def num_preceding(self) -> int:
        """How many frames before the first one are of use, where they exist."""
        return max(metric.num_preceding for metric in self._metrics.values())

    def begin(
        self,
        preceding: Sequence[Float[np.ndarray, "channel *space"]],
        times: Float64[np.ndarray, " frame"],
        parameters: Float64[np.ndarray, " parameter"],
    ) -> None:
        """Hear of the trajectory, before the first frame is added.

        Args:
            preceding: the last frames before it; they are none of the map's own.
            times: of these and of all frames that will be added.
            parameters: scalars of the trajectory, in the order of `Subject.parameters`.
        """
        for metric in self._metrics.values():
            skipped = max(0, len(preceding) - metric.num_preceding)
            metric.begin(times[skipped:], parameters)
            for frame in preceding[skipped:]:
                metric.precede(frame)

    def update(self, frame: Float[np.ndarray, "channel *space"]) -> None:
        """Add the next frame; NaN where values are missing."""
        # Those that look back come first: the frame before can go when they had this one.
        for metric in sorted(self._metrics.values(), key=_looks_back, reverse=True):
            metric.update(frame)
        if self._seen is True:
            return
        missing = np.isnan(frame)
        there = ~missing.all(axis=0).reshape(-1) if missing.any() else True
        self._seen = np.logical_or(self._seen, there) if isinstance(there, np.ndarray) else True

    @property
    def num_points(self) -> int:
        """Points that had a value in any frame so far."""
        return self._geometry.size if self._seen is True else int(np.count_nonzero(self._seen))

    def result(self, measures: Float64[np.ndarray, " point"] | None = None) -> Float64[np.ndarray, " point"]:
        """Return the map in point-id order, positive and of mean 1; NaN at points without a value in any frame.

        It can be asked for once.

        Args:
            measures: of the points' cells, positive, where draws shall estimate integrals: what counts then is the
                importance times the measure.

        Raises:
            ConfigError: a metric of the user's own gave maps of another shape, or values that are no importance.
        """
        drawn = np.flatnonzero(self._seen) if isinstance(self._seen, np.ndarray) else slice(None)
        # Metrics go when they were read, then maps when they were added: of 10^8 points an array takes 800 MB.
        maps = {name: self._read_maps(name, self._metrics.pop(name), drawn) for name in tuple(self._metrics)}
        mixture: Float64[np.ndarray, " drawn"] | None = None
        for name in tuple(maps):
            average = _average(maps.pop(name), self._spec.metrics[name])
            if mixture is None:
                mixture = average
            elif average is not None:
                mixture += average
        if mixture is None:
            mixture = np.ones(self.num_points)
        elif mixture.any():
            mixture /= mixture.mean()
            if self._spec.exponent != 1:  # the usual one, which changes nothing and takes as long as any
                np.power(mixture, self._spec.exponent, out=mixture)
            _clip(mixture, self._spec.clip)
            mixture /= mixture.mean()
            mixture += self._spec.floor
        else:
            mixture[...] = 1.0
        if measures is not None:
            mixture *= measures[drawn]
        mixture /= mixture.mean()
        if isinstance(drawn, slice):
            return mixture
        importance = np.full(self._geometry.size, np.nan)
        importance[drawn] = mixture
        return importance

    def _read_maps(
        self, name: str, metric: ImportanceMetric, drawn: slice | Int64[np.ndarray, " drawn"]
    ) -> Float64[np.ndarray, "map drawn"]:
        maps = np.asarray(metric.result(), dtype=np.float64)
        if maps.shape[1:] != self._geometry.shape or not len(maps):
            raise ConfigError(
                f"importance metric {name!r} gave an array of shape {maps.shape}; one map or more of shape "
                f"{self._geometry.shape} must come"
            )
        maps = maps.reshape(len(maps), -1)[:, drawn]
        # NaN compares as False, so this refuses it too.
        if not (maps.min() >= 0 and maps.max() < np.inf):
            raise ConfigError(f"importance metric {name!r} gave values that are negative or not finite")
        is_ours = type(metric).result is RootMeanSquareMetric.result
        return maps if is_ours else maps.copy()


def _looks_back(metric: ImportanceMetric) -> bool:
    return type(metric).precede is not ImportanceMetric.precede


def _factory(name: str) -> type[ImportanceMetric] | FunctionFactory:
    if name.startswith(_DISTANCE_TO):
        return distance_to(name.removeprefix(_DISTANCE_TO))
    if is_error(name):
        return load_error(name)
    return METRICS[name] if name in METRICS else load_factory(name)


def _clip(values: Float64[np.ndarray, " drawn"], clip: ClipSpec | None) -> None:
    """Cut values in place."""
    if clip is None:
        return
    if clip.times_mean is not None:
        limit = clip.times_mean * values.mean()
    else:
        assert clip.quantile is not None
        # Of positive values: where most of a field is at rest, a quantile of all would be zero and cut everything.
        limit = np.quantile(values[values > 0], clip.quantile)
    np.minimum(values, limit, out=values)


def _average(maps: Float64[np.ndarray, "map drawn"], weight: float) -> Float64[np.ndarray, " drawn"] | None:
    """Return the weighted mean of those maps that are not zero everywhere, each divided by its own mean.

    It takes the memory of the maps. None where all are zero.
    """
    means = maps.mean(axis=1)
    positive = np.flatnonzero(means > 0)
    if not positive.size:
        return None
    # A row of several would keep all of them.
    average = maps[0] if len(maps) == 1 else maps[positive[0]].copy()
    average /= means[positive[0]]
    for start in range(0, average.size, _SLICE_POINTS):
        part = slice(start, start + _SLICE_POINTS)
        for number in positive[1:]:
            average[part] += maps[number, part] / means[number]
    average *= weight / positive.size
    return average
