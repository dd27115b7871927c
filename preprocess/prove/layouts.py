"""Which layout of a store would be worth most: exact variances over all draws; nothing is drawn or converted.

What draws are worth depends on the importance map, the frames that share one, the strata, and on how many points are
drawn alike everywhere. Here each candidate is laid out in memory as a conversion would, on the store's own fields.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float, Float64, Int32

from preprocess.convert import Progress
from preprocess.prove.integrands import CHANGE, SQUARE, choose_frames
from preprocess.prove.layout_records import Candidate, LayoutReport, LayoutRow, RatioRow
from ups_data.errors import ConfigError, SchemaError
from ups_data.importance import CloudGeometry, Geometry, GridGeometry, ImportanceMap, Subject, check_metrics
from ups_data.pages import (
    PageTable,
    build_pages,
    cloud_order,
    cut_blocks,
    draw_variances,
    grid_order,
    uniform_variance,
)
from ups_data.samplers import BalancedSampler, DrawKey, ImportanceSampler, PageSampler
from ups_data.schema import ImportanceSpec
from ups_data.storage import Store

_METRICS: tuple[tuple[str, ...], ...] = (
    ("gradient", "temporal_change"),
    ("temporal_change",),
    ("gradient",),
    ("curvature",),
    ("variance",),
    ("value",),
)
_EXPONENTS = (1.0, 2.0)
_FRAMES_PER_BLOCK = (1, 2, 4, 8)
_NUM_STRATA = (4, 8, 16)
_UNIFORM_SHARES = (0.1, 0.25, 0.5)
_RATIOS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_KEPT = 2  # layouts of a stage that the next one starts from
_NEGLIGIBLE = 1e-22  # of the squared size of an integrand: a variance below it is rounding


def recommend_layout(
    store: Store,
    *,
    trajectories: Sequence[int],
    ratio: float,
    num_frames: int = 3,
    target_span: int | None = None,
    progress: Progress | None = None,
) -> LayoutReport:
    """Find the layout, and the sampler for it, that is worth most on a store's fields.

    What counts is the change: the squared step from the frame before to the target frame, which is the loss of a model
    that predicts no change, drawn from the block of frames in which the target lies. Steady problems, which have no
    step, go by the square of the field. Recipes and exponents are tried first, then blocks of frames for the best two
    layouts, then strata.

    Args:
        store: an open store.
        trajectories: those to go by; each is read whole, frame by frame, as often as there are candidates.
        ratio: drawn points / points of the trajectory.
        num_frames: most target frames of each trajectory.
        target_span: frames that the targets of a window span, where candidates have blocks of frames; that of the store
            if None.
        progress: called with "layouts", how many were tried, and how many there are to try at most.

    Raises:
        ConfigError: the store holds points between nodes, whose importance is not measured on themselves.
    """
    if store.manifest.off_grid is not None:
        raise ConfigError(
            f"{store.location} holds points between nodes, whose importance is measured on the nodes: find the layout "
            f"of the grid's own store, and convert both with it"
        )
    trial = _Trial(store, trajectories, ratio=ratio, num_frames=num_frames)
    span = target_span or store.manifest.layout.target_span
    layout = store.manifest.layout
    own = Candidate(
        importance=store.manifest.importance,
        num_strata=layout.num_strata,
        block_points=layout.block_points,
        frames_per_block=layout.frames_per_block,
        target_span=span,
    )
    own_problem = _problem_of(own.importance, store)
    recipes = [*([own] if own_problem is None else []), *_recipes(store, own)]
    most = len(recipes) + _KEPT * (len(_FRAMES_PER_BLOCK) + 2 * len(_NUM_STRATA))
    rows: dict[Candidate, list[LayoutRow]] = {}

    def measure(candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            if candidate not in rows:
                rows[candidate] = list(
                    trial.measure(candidate, (*_UNIFORM_SHARES, *([1.0] if candidate == own else [])))
                )
            if progress is not None:
                progress("layouts", len(rows), max(most, len(rows)))

    measure(recipes)
    measure([option for best in _best(rows) for option in _with_blocks(store, best)])
    measure([option for best in _best(rows) for option in _with_strata(store, best)])
    if progress is not None:
        progress("layouts", len(rows), len(rows))
    everything = sorted((row for found in rows.values() for row in found), key=lambda row: -row.mean)
    report = LayoutReport(
        integrand=trial.integrand, ratio=ratio, own=own, rows=tuple(everything), ratios=(), own_problem=own_problem
    )
    return report if report.best is None else replace(report, ratios=tuple(trial.over_ratios(report.best)))


def _recipes(store: Store, own: Candidate) -> Iterator[Candidate]:
    for metrics in _METRICS:
        for exponent in _EXPONENTS:
            spec = ImportanceSpec(metrics=dict.fromkeys(metrics, 1.0), exponent=exponent)
            if _is_possible(spec, store):
                yield replace(own, importance=spec)


def _problem_of(spec: ImportanceSpec, store: Store) -> str | None:
    """Say why a recipe cannot be measured again: a checkpoint or a module that is not here any more."""
    try:
        check_metrics(spec, _subject(store))
    except (ConfigError, SchemaError) as error:
        return str(error)
    return None


def _is_possible(spec: ImportanceSpec, store: Store) -> bool:
    steady = store.manifest.num_frames == store.manifest.num_trajectories
    if steady and {"temporal_change", "variance"} & set(spec.metrics):
        return False
    return _problem_of(spec, store) is None


def _with_blocks(store: Store, best: Candidate) -> Iterator[Candidate]:
    longest = max(store.num_frames(number) for number in range(min(len(store), 64)))
    for frames in _FRAMES_PER_BLOCK:
        if frames + best.target_span - 1 < longest:
            yield replace(best, frames_per_block=frames)


def _with_strata(store: Store, best: Candidate) -> Iterator[Candidate]:
    for num_strata in _NUM_STRATA:
        for block_points in {1, store.manifest.layout.block_points}:
            yield replace(best, num_strata=num_strata, block_points=block_points)


def _best(rows: dict[Candidate, list[LayoutRow]]) -> list[Candidate]:
    worth = {candidate: max(row.mean for row in found) for candidate, found in rows.items() if found}
    return sorted(worth, key=lambda candidate: -worth[candidate])[:_KEPT]


def _sampler(ratio: float, uniform_share: float) -> PageSampler:
    return BalancedSampler(ratio) if uniform_share == 1 else ImportanceSampler(ratio, uniform_share=uniform_share)


def _subject(store: Store) -> Subject:
    manifest = store.manifest
    return Subject(
        kind=manifest.geometry.kind,
        axes=tuple(axis.name for axis in manifest.geometry.axes),
        fields=manifest.fields,
        specs=manifest.geometry.axes,
        boundaries=manifest.boundaries,
        missing_fields=frozenset(manifest.missing_fields),
        parameters=tuple(parameter.name for parameter in manifest.parameters),
        least_frames=int(store.tables.num_frames.min()),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Target:
    """A target frame of a trajectory.

    Attributes:
        trajectory, frame: where it is.
        values: integrands at all points (N, K), one a channel; 0 at points without a value.
    """

    trajectory: int
    frame: int
    values: Float64[np.ndarray, "point channel"]


class _Trial:
    """Lays candidates out on some trajectories of a store, and works out what draws from them are worth."""

    def __init__(self, store: Store, trajectories: Sequence[int], *, ratio: float, num_frames: int) -> None:
        self._store, self._trajectories = store, tuple(trajectories)
        self._ratio, self._num_frames = ratio, num_frames
        self._subject = _subject(store)
        moving = all(store.num_frames(trajectory) > 1 for trajectory in self._trajectories)
        self.integrand = CHANGE if moving else SQUARE

    def measure(self, candidate: Candidate, uniform_shares: Sequence[float]) -> Iterator[LayoutRow]:
        """Yield what draws are worth; nothing for those that need more points than are asked for."""
        samplers = [_sampler(self._ratio, share) for share in uniform_shares]
        worth: list[list[float]] = [[] for _ in samplers]
        for target, table in self._tables(candidate):
            for number, drawn, uniform in _variances(table, target, samplers):
                worth[number].extend(_multipliers(target, drawn, uniform))
        for share, found in zip(uniform_shares, worth, strict=True):
            if found:
                yield LayoutRow(candidate=candidate, uniform_share=share, multipliers=tuple(found))

    def over_ratios(self, best: LayoutRow) -> Iterator[RatioRow]:
        """Yield what draws of other sizes are worth, and how their noise compares with that between samples."""
        samplers = [_sampler(ratio, best.uniform_share) for ratio in _RATIOS]
        worth: list[list[float]] = [[] for _ in samplers]
        noise: list[list[float]] = [[] for _ in samplers]
        means = []
        for target, table in self._tables(best.candidate):
            means.append(target.values[table.index[table.index >= 0]].mean(axis=0))
            for number, drawn, uniform in _variances(table, target, samplers):
                worth[number].extend(_multipliers(target, drawn, uniform))
                noise[number].append(float(drawn.sum()))
        between = float(np.var(means, axis=0, ddof=1).sum()) if len(means) > 1 else 0.0
        for number, ratio in enumerate(_RATIOS):
            if worth[number]:
                share = statistics.fmean(noise[number]) / between if between else None
                yield RatioRow(ratio=ratio, multiplier=statistics.geometric_mean(worth[number]), noise=share)

    def _tables(self, candidate: Candidate) -> Iterator[tuple[_Target, PageTable]]:
        for trajectory in self._trajectories:
            geometry, order = self._ground(trajectory)
            held: tuple[int, PageTable] | None = None
            for target in self._targets(trajectory):
                block, frames = _block_of(target.frame, self._store.num_frames(trajectory), candidate)
                if held is None or held[0] != block:
                    held = block, self._lay_out(trajectory, block, frames, candidate, (geometry, order))
                yield target, held[1]

    def _lay_out(
        self,
        trajectory: int,
        block: int,
        frames: range,
        candidate: Candidate,
        ground: tuple[Geometry, Int32[np.ndarray, " point"]],
    ) -> PageTable:
        geometry, order = ground
        store = self._store
        importance = ImportanceMap(candidate.importance, geometry, self._subject)

        def read(frame: int) -> Float[np.ndarray, "channel *space"]:
            return store.read_dense(trajectory, [frame])[0].reshape(-1, *geometry.shape)

        first = max(0, frames.start - importance.num_preceding)
        importance.begin(
            [read(frame) for frame in range(first, frames.start)],
            store.times(trajectory)[first : frames.stop],
            store.parameters(trajectory),
        )
        for frame in frames:
            importance.update(read(frame))
        return build_pages(
            importance.result(store.measures(trajectory) if self._is_integral else None),
            order,
            page_points=store.manifest.layout.page_points,
            num_strata=candidate.num_strata,
            block_points=candidate.block_points,
            seed=store.manifest.layout.seed,
            key=(trajectory, block),
        )

    def _targets(self, trajectory: int) -> Iterator[_Target]:
        store = self._store
        moving = self.integrand == CHANGE
        factor = store.num_points(trajectory) * store.measures(trajectory) if self._is_integral else 1.0
        for frame in choose_frames(store.num_frames(trajectory), self._num_frames):
            dense = store.read_dense(trajectory, [frame - 1, frame] if moving else [frame]).astype(np.float64)
            squares = np.square(dense[1] - dense[0] if moving else dense[0])
            yield _Target(trajectory=trajectory, frame=frame, values=np.nan_to_num(factor * squares, nan=0.0).T)

    @property
    def _is_integral(self) -> bool:
        return self._store.manifest.estimand == "integral"

    def _ground(self, trajectory: int) -> tuple[Geometry, Int32[np.ndarray, " point"]]:
        store, curve = self._store, self._store.manifest.layout.curve
        if store.manifest.geometry.kind != "grid":
            coordinates = store.coordinates(trajectory)
            order = cloud_order(coordinates, curve=curve)
            mesh = partial(store.mesh, trajectory)
            return CloudGeometry(coordinates=coordinates, order=order, read_mesh=mesh), order
        axes = store.manifest.geometry.axes
        periods = tuple(axis.upper - axis.lower if axis.periodic else None for axis in axes)
        return GridGeometry(axes=store.axes(trajectory), periods=periods), grid_order(
            store.shape(trajectory), curve=curve
        )


def _block_of(frame: int, num_frames: int, candidate: Candidate) -> tuple[int, range]:
    """Return the block in which a target frame lies, and all frames of it."""
    blocks = cut_blocks(
        np.array([num_frames]), frames_per_block=candidate.frames_per_block, target_span=candidate.target_span
    )
    number = int(np.searchsorted(blocks.start, frame, side="right")) - 1
    start = int(blocks.start[number])
    return number, range(start, start + int(blocks.frames[number]))


def _variances(
    table: PageTable, target: _Target, samplers: Sequence[PageSampler]
) -> Iterator[tuple[int, Float64[np.ndarray, " channel"], Float64[np.ndarray, " channel"]]]:
    """Yield the numbers of samplers that can draw, the variance of their draws, and that of as many uniform points."""
    layout, index = table.layout, table.index[: table.layout.num_pages]
    able = [number for number, sampler in enumerate(samplers) if sampler.num_pages(layout, 0) >= layout.num_strata]
    draws = [samplers[number].draw(layout, DrawKey(seed=0, epoch=0, sample=0)) for number in able]
    values = target.values[index[index >= 0]]
    for number, draw, drawn in zip(able, draws, draw_variances(layout, index, draws, target.values), strict=True):
        yield number, drawn, uniform_variance(values, float((index[draw.pages] >= 0).sum()))


def _multipliers(
    target: _Target, drawn: Float64[np.ndarray, " channel"], uniform: Float64[np.ndarray, " channel"]
) -> list[float]:
    """Return what a point is worth for each channel that varies at all."""
    known = np.minimum(drawn, uniform) > _NEGLIGIBLE * np.square(target.values).max(axis=0)
    return (uniform[known] / drawn[known]).tolist()
