"""Prove samplers on the user's own fields: many draws of known integrands against the dense truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from preprocess.convert import Progress
from preprocess.prove.draws import DrawTally, EstimateTally, TrajectoryDraws
from preprocess.prove.estimates import EstimateRow
from preprocess.prove.integrands import choose_evenly, choose_frames, count_parts, frames_by_block, read_truths
from preprocess.prove.layouts import recommend_layout
from preprocess.prove.records import DrawRow, ProveReport
from preprocess.prove.sizes import measure_sizes
from ups_data.errors import ConfigError, DatasetError, SamplerError, suggest
from ups_data.samplers import (
    BalancedSampler,
    DenseSampler,
    ImportanceSampler,
    Sampler,
    StratifiedSampler,
    UniformSampler,
    Weights,
)
from ups_data.storage import Store

SAMPLERS: Mapping[str, Callable[..., Sampler]] = {
    "dense": lambda ratio, weights="unbiased": DenseSampler(weights),  # noqa: ARG005  it draws every point
    "uniform": UniformSampler,
    "stratified": StratifiedSampler,
    "balanced": BalancedSampler,
    "importance": ImportanceSampler,
}
"""Samplers by name, each made from a ratio, and `weights=`, with its defaults otherwise."""

_MIN_DRAWS = 100
# A dense draw is the same every time.
_DENSE_DRAWS = 10
_PROGRESS_EVERY = 100
# Each candidate layout goes through all frames of a trajectory, and sizes through many integrands.
_LAYOUT_TRAJECTORIES = 2


def prove(  # noqa: PLR0913  what is asked, keyword-only, each with its default here
    store: Store,
    *,
    samplers: Sequence[str | Sampler] | None = None,
    ratio: float = 0.05,
    draws: int = 2000,
    split: str | None = None,
    seed: int = 0,
    num_trajectories: int = 4,
    num_frames: int = 3,
    layouts: bool = False,
    error: float | None = None,
    weights: str | Weights = "unbiased",
    strict: bool = False,
    progress: Progress | None = None,
) -> ProveReport:
    """Draw many times and hold estimates, numbers, weights and reads against what they must be.

    The estimates are those of each field, its square, its squared change from the frame before, the importance map, and
    the constant 1, on evenly spread trajectories and frames. A sampler is refused when an estimate is biased beyond
    chance, when points do not come as often as their weights say, when a draw holds a point twice or another number of
    points than documented, when weights that must sum to 1 do not, or when values read are not those of the frame. The
    bias that inexact weights bring is reported, and refused only where `strict` asks for it.

    Args:
        store: an open store.
        samplers: names of `SAMPLERS`, or samplers; all names by default.
        ratio: drawn points / points of the trajectory, for samplers given by name.
        draws: of each sampler from each trajectory, at least 100, since z-scores are held against a normal.
        split: whose trajectories; `train` by default, or the first that has any.
        seed: of the draws.
        num_trajectories: most trajectories to draw from.
        num_frames: most frames of each.
        layouts: also find the layout that would be worth most, see `recommend_layout`.
        error: also find how many points give this relative standard error of a sample's dense loss, see
            `measure_sizes`.
        weights: of samplers given by name: a kind by name, or a `Weights`.
        strict: refuse the bias of inexact weights, too.
        progress: called with "draws", how many are done, and how many there are.

    Raises:
        ConfigError: too few draws, trajectories or frames.
        DatasetError: no such split, or an empty one.
        SamplerError: no such sampler, or one that cannot draw what was asked of it.
    """
    if error is not None and not 0 < error < 1:
        raise ConfigError(f"error is a relative standard error between 0 and 1, got {error}")
    if draws < _MIN_DRAWS or num_trajectories < 1 or num_frames < 1:
        raise ConfigError(
            f"prove needs at least {_MIN_DRAWS} draws, one trajectory and one frame; got {draws}, {num_trajectories} "
            f"and {num_frames}"
        )
    chosen = _name_samplers(samplers or tuple(SAMPLERS), ratio, weights)
    split = split or next(name for name in ("train", *store.splits) if len(store.splits.get(name, ())))
    members = store.trajectories_of(split)
    if not len(members):
        raise DatasetError(f"split {split!r} of {store.location} holds no trajectory to draw from")
    trajectories = tuple(int(members[place]) for place in choose_evenly(len(members), num_trajectories))
    proof = _Proof(store, chosen, draws=draws, seed=seed, num_frames=num_frames)
    proof.announce(trajectories, progress)
    for trajectory in trajectories:
        proof.measure(trajectory)
    some = [trajectories[place] for place in choose_evenly(len(trajectories), _LAYOUT_TRAJECTORIES)]
    return ProveReport(
        location=store.location,
        split=split,
        trajectories=trajectories,
        ratio=ratio,
        draws=draws,
        seed=seed,
        rows=tuple(proof.rows),
        draw_rows=tuple(proof.draw_rows),
        faults=tuple(proof.faults),
        layouts=recommend_layout(store, trajectories=some, ratio=ratio, num_frames=num_frames, progress=progress)
        if layouts
        else None,
        sizes=None
        if error is None
        else measure_sizes(store, trajectories=some, ratio=ratio, wanted=error, num_frames=num_frames),
        inexact={label: one.weights for label, one in chosen.items() if not one.weighting.is_exact},
        strict=strict,
    )


def _name_samplers(wanted: Sequence[str | Sampler], ratio: float, weights: str | Weights) -> dict[str, Sampler]:
    """Return samplers by label; a name that comes again gets a number."""
    labels: Counter[str] = Counter()
    chosen: dict[str, Sampler] = {}
    for entry in wanted:
        if isinstance(entry, str) and entry not in SAMPLERS:
            raise SamplerError(f"there is no sampler {entry!r}. {suggest(entry, SAMPLERS)}")
        sampler = SAMPLERS[entry](ratio, weights=weights) if isinstance(entry, str) else entry
        labels[sampler.name] += 1
        again = labels[sampler.name]
        chosen[sampler.name if again == 1 else f"{sampler.name} {again}"] = sampler
    return chosen


class _Proof:
    """The rows that were measured so far, and how much is done."""

    def __init__(self, store: Store, samplers: dict[str, Sampler], *, draws: int, seed: int, num_frames: int) -> None:
        self.rows: list[EstimateRow] = []
        self.draw_rows: list[DrawRow] = []
        self.faults: list[str] = []
        self._store, self._samplers, self._seed = store, samplers, seed
        self._draws, self._num_frames = draws, num_frames
        self._progress: Progress | None = None
        self._done = self._total = 0

    def announce(self, trajectories: tuple[int, ...], progress: Progress | None) -> None:
        """Count the draws to come."""
        parts = sum(count_parts(self._store, number, self._frames(number)) for number in trajectories)
        self._total = parts * sum(self._num_draws(sampler) for sampler in self._samplers.values())
        self._progress = progress

    def measure(self, trajectory: int) -> None:
        """Draw from one trajectory with every sampler."""
        for block, frames in frames_by_block(self._store, trajectory, self._frames(trajectory)).items():
            self._measure_block((trajectory, block), frames)

    def _measure_block(self, place: tuple[int, int], frames: tuple[int, ...]) -> None:
        trajectory, block = place
        source = TrajectoryDraws(self._store, trajectory, block=block, seed=self._seed)
        for number, truth in enumerate(read_truths(self._store, trajectory, block, frames)):
            for label, sampler in self._samplers.items():
                where = f"{label}, trajectory {trajectory}" + (f", block {block}" if block else "")
                checks = DrawTally(sampler, source, where=where)
                tally = EstimateTally(truth)
                self._draw(source, sampler, checks, tally)
                self.rows.extend(tally.rows(label, place))
                if number == 0:
                    self._finish(label, sampler, source, checks, (place, frames[0]))

    def _draw(self, source: TrajectoryDraws, sampler: Sampler, checks: DrawTally, tally: EstimateTally) -> None:
        for number in range(self._num_draws(sampler)):
            drawn = source.points_of(sampler, source.draw(sampler, number))
            if checks.add(drawn):
                tally.add(drawn)
            self._done += 1
            if self._progress is not None and (self._done % _PROGRESS_EVERY == 0 or self._done == self._total):
                self._progress("draws", self._done, self._total)

    def _finish(
        self,
        label: str,
        sampler: Sampler,
        source: TrajectoryDraws,
        checks: DrawTally,
        where: tuple[tuple[int, int], int],
    ) -> None:
        place, frame = where
        if checks.problems:
            self.faults.extend(checks.problems)
            return
        cost, same = source.count_reads(sampler, frame)
        if not same:
            self.faults.append(
                f"{label}, trajectory {place[0]}, frame {frame}: values read are not those of the dense frame"
            )
        self.draw_rows.append(checks.row(label, place, cost))

    def _frames(self, trajectory: int) -> tuple[int, ...]:
        return choose_frames(self._store.num_frames(trajectory), self._num_frames)

    def _num_draws(self, sampler: Sampler) -> int:
        return _DENSE_DRAWS if isinstance(sampler, DenseSampler) else self._draws
