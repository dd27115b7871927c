"""From a store to training samples: windows of frames, and sparse queries drawn for each."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Int64, Shaped
from torch.nn.utils.rnn import pad_sequence

from ups_data.coordinates import Domain, coordinates_of, grid_measures
from ups_data.errors import DatasetError, suggest
from ups_data.pages import CellDraw, PageDraw, PointDraw
from ups_data.sample import Normalisers, SparseSample
from ups_data.samplers import DrawKey, FixedSampler, Sampler
from ups_data.schema import ChannelStatistics, Estimand, FieldSpec, ParameterSpec
from ups_data.statistics import Normaliser
from ups_data.storage import Store, ZarrStore
from ups_data.storage.companion import check_same_trajectories
from ups_data.storage.read_ahead import ReadAhead
from ups_data.storage.rows import RowReader
from ups_data.window import Window

_VALUE_SHARDS = "pages/values/c/"
_AHEAD_BYTES = 64 * 2**20
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Queries:
    """Drawn points with their values and weights.

    Attributes:
        index: point ids (Q,).
        coordinates: (Q, D).
        values: as stored (T, Q, C).
        weights: those of the estimand, before a sampler finishes them (Q,).
        strata: number of the stratum of each point, rising (Q,); None unless the sampler learns from losses.
    """

    index: Int64[np.ndarray, " query"]
    coordinates: Float64[np.ndarray, "query dim"]
    values: Float[np.ndarray, "time query channel"]
    weights: Float64[np.ndarray, " query"]
    strata: Int64[np.ndarray, " query"] | None = None

    def choose(self, chosen: Bool[np.ndarray, " query"]) -> _Queries:
        """Return some of them."""
        return _Queries(
            index=self.index[chosen],
            coordinates=self.coordinates[chosen],
            values=self.values[:, chosen],
            weights=self.weights[chosen],
            strata=None if self.strata is None else self.strata[chosen],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chosen:
    """What a sample consists of, before anything is read.

    Attributes:
        sample, trajectory: their numbers.
        block: number of the block in its trajectory whose pages are drawn from.
        frames: of inputs and of targets.
        draws: which points: one draw for all target frames, or one for each.
    """

    sample: int
    trajectory: int
    block: int
    frames: tuple[tuple[int, ...], tuple[int, ...]]
    draws: tuple[PageDraw | PointDraw | CellDraw, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    """All that a sample is made of, as it was read.

    Attributes:
        sample, trajectory: their numbers.
        frames: of inputs and of targets.
        queries: what was drawn, by draw.
        inputs: (T_in, C, N).
        input_coords: (N, D) for points, None on grids.
        num_strata: of the layout that was drawn from.
    """

    sample: int
    trajectory: int
    frames: tuple[tuple[int, ...], tuple[int, ...]]
    queries: tuple[_Queries, ...]
    num_strata: int
    inputs: Float[np.ndarray, "time channel point"]
    input_coords: Float64[np.ndarray, "point dim"] | None


class QueryDataset(torch.utils.data.Dataset[SparseSample]):
    """Samples with sparse queries: every window of every trajectory of a split is one.

    A sample is a pure function of (seed, epoch, number), and of the global step where the sampler has a schedule. The
    dataset keeps no random state, so workers, ranks and restarts cannot change it.

    Args:
        store: an open store.
        queries: another store of the same trajectories, whose points are queried instead of those of `store`, which
            gives the inputs: points between the nodes of its grids (`ups-preprocess convert --off-grid`), or a finer
            grid of the same frames. Point ids are then those of that store. Values are normalised by the statistics of
            `store` on both sides.
        split: whose trajectories; see `store.splits`.
        window: which frames make a sample.
        sampler: which points are drawn.
        seed: seed of all draws.
        fields: fields of inputs and targets alike; all by default.
        input_fields, target_fields: fields of one side, where they differ.
        normalize: True for values normalised by the store's train statistics, False for physical units.
        statistics: statistics to normalise by instead, one record for each channel of inputs and targets, found by its
            name; those of the training store when a model is evaluated on another one.
        dtype: `float32` or `float64`, of all floating-point tensors.
        estimand: what weighted sums over the queries estimate: the `mean` over the N points that may be drawn, or the
            `integral` over the domain, by the measures of their cells; what the store's manifest says if None. Points
            that lack every value are never drawn. Entries of `target_valid` that are False count as zero: then the
            sums estimate those of the valid entries alone, divided by N or over their cells.

    Raises:
        DatasetError: an unknown split, an empty one, a trajectory shorter than the window, targets that span more
            frames than the store's blocks hold, missing statistics, an integral of a store without measures, queries of
            other trajectories, fresh points of a `FixedSampler`.
        SchemaError: an unknown field.
    """

    def __init__(  # noqa: PLR0913  # the choices of a user, keyword-only, each with its default here
        self,
        store: Store,
        *,
        sampler: Sampler,
        queries: Store | None = None,
        split: str = "train",
        window: Window = Window(),  # noqa: B008  a frozen record
        seed: int = 0,
        fields: Sequence[str] | None = None,
        input_fields: Sequence[str] | None = None,
        target_fields: Sequence[str] | None = None,
        normalize: bool = True,
        statistics: tuple[ChannelStatistics, ...] | None = None,
        dtype: str = "float32",
        estimand: str | None = None,
    ) -> None:
        if dtype not in _DTYPES:
            raise DatasetError(f"dtype must be one of {sorted(_DTYPES)}, got {dtype!r}")
        self.store, self.split, self.window, self.sampler, self.seed = store, split, window, sampler, seed
        if window.points == "fresh" and isinstance(sampler, FixedSampler):
            raise DatasetError(
                f"Window(points='fresh') gives each target frame a draw of its own, and {sampler!r} takes the same "
                f"points every time; use points='same', or a sampler that draws"
            )
        self.query_store = store if queries is None else queries
        if queries is not None:
            check_same_trajectories(store, queries)
        self.dtype = dtype
        if not 0 <= seed < 2**64:
            raise DatasetError(f"seed must lie in [0, 2**64), got {seed}")
        self._input_names = _names(input_fields if input_fields is not None else fields)
        self._target_names = _names(target_fields if target_fields is not None else fields)
        self._input_channels = store.manifest.channels_of(self._input_names)
        self._target_channels = store.manifest.channels_of(self._target_names)
        self._trajectories = store.trajectories_of(split)
        self._offsets = self._count_windows()
        self._check_target_span()
        self.estimand = self._check_estimand(estimand)
        self.normalize = normalize
        self._normalisers = self._make_normalisers(statistics)

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def __getitem__(self, index: int) -> SparseSample:
        return self.sample(index)

    def sample(self, index: int, *, epoch: int = 0, step: int = 0) -> SparseSample:
        """Return a sample as the loader draws it in a given epoch.

        Args:
            index: number of the sample, from 0 to len - 1.
            epoch: number of the epoch, which changes the drawn points.
            step: global step, which a schedule turns into the number of points.
        """
        return self.draw([DrawKey(seed=self.seed, epoch=epoch, sample=index, step=step)])[0]

    def samples(self, indices: Sequence[int], *, epoch: int = 0, step: int = 0) -> list[SparseSample]:
        """Return several samples, each the same as `sample` gives."""
        return self.draw([DrawKey(seed=self.seed, epoch=epoch, sample=index, step=step) for index in indices])

    def draw(self, keys: Sequence[DrawKey]) -> list[SparseSample]:
        """Return the samples of some draws.

        From a remote store all that they need is read at once, up to 64 MiB at a time.
        """
        remote = [store for store in self.stores if isinstance(store, ZarrStore) and store.is_remote]
        if not remote:
            return [self._assemble(self._read(self._choose(key))) for key in keys]
        found: list[SparseSample] = []
        while len(found) < len(keys):
            aheads, chosen = [ReadAhead(store.arrays) for store in remote], list[_Chosen]()
            rehearsing = self._reading(remote, [ahead.rehearsal() for ahead in aheads])
            while len(found) + len(chosen) < len(keys) and (
                not chosen or sum(ahead.num_bytes for ahead in aheads) < _AHEAD_BYTES
            ):
                chosen.append(self._choose(keys[len(found) + len(chosen)]))
                rehearsing._read(chosen[-1])  # noqa: SLF001  another of this class
            reading = self._reading(remote, [ahead.read() for ahead in aheads])
            found += [reading._assemble(reading._read(one)) for one in chosen]  # noqa: SLF001  as above
        return found

    def _reading(self, stores: Sequence[ZarrStore], readers: Sequence[Mapping[str, RowReader]]) -> Self:
        """Return this dataset with other readers of the arrays of some of its stores."""
        others = {id(store): store.with_rows(rows) for store, rows in zip(stores, readers, strict=True)}
        other = copy.copy(self)
        other.store = others.get(id(self.store), self.store)
        other.query_store = others.get(id(self.query_store), self.query_store)
        return other

    @property
    def stores(self) -> tuple[Store, ...]:
        """What is read: the store of the inputs, and that of the queries where it is another one."""
        return (self.store,) if self.query_store is self.store else (self.store, self.query_store)

    def on(self, store: Store) -> Self:
        """Return this dataset on another handle of the same store.

        Raises:
            DatasetError: queries come from another store.
        """
        if len(self.stores) > 1:
            raise DatasetError(
                f"inputs come from {self.store.location} and queries from {self.query_store.location}, and this takes "
                f"datasets of one store; leave queries out, or read both stores in place with build_loader"
            )
        other = copy.copy(self)
        other.store = other.query_store = store
        return other

    def locate(self, index: int) -> tuple[int, int]:
        """Return the trajectory and the first frame of a sample."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} outside of [0, {len(self)}) in split {self.split!r}")
        place = int(np.searchsorted(self._offsets, index, side="right")) - 1
        return int(self._trajectories[place]), int(index - self._offsets[place])

    def samples_of(self, trajectory: int) -> range:
        """Return the numbers of the samples of a trajectory, none where it is of another split."""
        place = int(np.searchsorted(self._trajectories, trajectory))
        if place == len(self._trajectories) or self._trajectories[place] != trajectory:
            return range(0)
        return range(int(self._offsets[place]), int(self._offsets[place + 1]))

    @property
    def largest_sample(self) -> tuple[int, int]:
        """Bounds on the drawn points of a sample, at any global step, and on the points of its trajectory."""
        sizes = np.unique(self.query_store.tables.num_points[self._trajectories])
        largest = int(self.store.tables.num_points[self._trajectories].max())
        return self.sampler.most_queries(sizes, self.query_store.manifest.layout.page_points), largest

    @property
    def largest_shape(self) -> tuple[int, ...]:
        """The most nodes that a grid has along each axis; no one grid need have them all."""
        tables = self.store.tables
        shapes = tables.geometry_shape[np.unique(tables.geometry[self._trajectories])]
        return tuple(int(size) for size in shapes.max(axis=0))

    @property
    def samples_per_shard(self) -> int:
        """Samples whose pages lie in one shard, on average: the natural block of a `BlockShuffle`."""
        shards = sum(entry.key.startswith(_VALUE_SHARDS) for entry in self.query_store.manifest.files)
        values = self.query_store.tables.num_points * self.query_store.tables.num_frames
        share = float(values[self._trajectories].sum() / values.sum())
        return max(1, round(len(self) / max(1.0, shards * share)))

    @property
    def input_fields(self) -> tuple[FieldSpec, ...]:
        """Fields of the inputs, in channel order."""
        return self._fields(self._input_names)

    @property
    def target_fields(self) -> tuple[FieldSpec, ...]:
        """Fields of the targets, in channel order."""
        return self._fields(self._target_names)

    @property
    def missing_inputs(self) -> tuple[int, ...]:
        """Numbers of those input channels that may lack values."""
        may_miss = self.store.manifest.missing_channels
        return tuple(number for number, channel in enumerate(self._input_channels) if may_miss[channel])

    @property
    def domain(self) -> Domain:
        """The box that holds all points."""
        return self.store.domain

    @property
    def geometry(self) -> str:
        """`grid`, `points` or `mesh`."""
        return self.store.manifest.geometry.kind

    @property
    def parameters(self) -> tuple[ParameterSpec, ...]:
        """The scalar parameters of a trajectory, with their train statistics."""
        return self.store.manifest.parameters

    @property
    def normalisers(self) -> Normalisers:
        """The maps that are applied to inputs and targets; those that change nothing with `normalize=False`."""
        return self._normalisers

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """What a saved state is held against: the store, and what makes a sample."""
        other = {} if len(self.stores) == 1 else {"queries": self.query_store.manifest.fingerprint}
        return {
            "store": self.store.manifest.fingerprint,
            **other,
            "split": self.split,
            "window": repr(self.window),
            "seed": str(self.seed),
            "fields": repr((self._input_channels, self._target_channels)),
            "values": repr((self.normalize, self.dtype, self.estimand)),
            "sampler": repr(self.sampler),
        }

    def _fields(self, names: tuple[str, ...] | None) -> tuple[FieldSpec, ...]:
        manifest = self.store.manifest
        return manifest.fields if names is None else tuple(manifest.field(name) for name in names)

    def _count_windows(self) -> Int64[np.ndarray, " offset"]:
        frames = self.store.tables.num_frames[self._trajectories]
        counts = frames - self.window.span + 1
        if not len(counts):
            raise DatasetError(f"split {self.split!r} of {self.store.location} holds no trajectory")
        if counts.min() < 1:
            short = int(np.argmin(counts))
            raise DatasetError(
                f"{self.window} spans {self.window.span} frames, but trajectory {self._trajectories[short]} has "
                f"{frames[short]}; use fewer inputs or targets, a smaller stride, or lead=0 for a steady problem"
            )
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])

    def _check_target_span(self) -> None:
        layout = self.query_store.manifest.layout
        span = (self.window.targets - 1) * self.window.stride + 1
        if layout.frames_per_block is not None and span > layout.target_span:
            raise DatasetError(
                f"the targets of {self.window} span {span} frames, and blocks of {self.query_store.location} hold "
                f"windows of at most {layout.target_span} whole; use fewer targets or a smaller stride, or convert "
                f"with target_span={span}"
            )

    def _check_estimand(self, estimand: str | None) -> str:
        manifest = self.query_store.manifest
        chosen = manifest.estimand if estimand is None else estimand
        if chosen not in get_args(Estimand):
            raise DatasetError(f"there is no estimand {chosen!r}. {suggest(chosen, get_args(Estimand))}")
        if chosen == "integral" and not manifest.geometry.has_measures:
            raise DatasetError(
                f"{self.query_store.location} does not know the measures of the cells of its points, so it gives no "
                f"integrals; use estimand='mean'"
            )
        return chosen

    def _make_normalisers(self, statistics: tuple[ChannelStatistics, ...] | None) -> Normalisers:
        sides = (self._input_channels, self._target_channels)
        if not self.normalize:
            return Normalisers(input=Normaliser.identity(len(sides[0])), target=Normaliser.identity(len(sides[1])))
        manifest = self.store.manifest
        if statistics is None:
            if manifest.statistics_split is None:
                raise DatasetError(
                    f"{self.store.location} has no train split, so no train statistics: pass statistics= of the "
                    f"training store (store.manifest.statistics), or normalize=False"
                )
            statistics = manifest.statistics
        found, names = {record.channel: record for record in statistics}, manifest.channel_names
        if missing := [names[channel] for side in sides for channel in side if names[channel] not in found]:
            raise DatasetError(
                f"statistics are of channels {sorted(found)}, and samples of {self.store.location} have {missing[0]!r} "
                f"too; leave it out by fields=, or give statistics of it"
            )
        maps = [Normaliser.from_statistics(tuple(found[names[channel]] for channel in side)) for side in sides]
        return Normalisers(input=maps[0], target=maps[1])

    def _read_pages(self, place: tuple[int, int], frames: tuple[int, ...], draw: PageDraw) -> _Queries:
        """Read the drawn pages; padding is left out, and added again where samples of a batch differ in size."""
        trajectory, block = place
        points = self.query_store.read_page_points(trajectory, draw.pages, block)
        values = self.query_store.read_page_values(trajectory, frames, draw.pages, self._target_channels, block)
        weights = np.repeat(draw.weights, self.query_store.manifest.layout.page_points)
        if self.estimand == "integral":
            measures = self.query_store.read_page_measures(trajectory, draw.pages, points, block)
            weights = weights * (self.query_store.layout(trajectory, block).num_points * measures)
        strata = None
        if self.sampler.feedback is not None and draw.strata is not None:
            strata = np.repeat(draw.strata, self.query_store.manifest.layout.page_points)
        queries = _Queries(
            index=points.index, coordinates=points.coordinates, values=values, weights=weights, strata=strata
        )
        valid = points.index >= 0
        return queries if valid.all() else queries.choose(valid)

    def _read_points(self, place: tuple[int, int], frames: tuple[int, ...], draw: PointDraw | CellDraw) -> _Queries:
        store, (trajectory, block) = self.query_store, place
        ids = store.find_points(draw, trajectory, block)
        on_grid = store.manifest.geometry.kind == "grid"
        values = store.read_frames(trajectory, frames, self._target_channels)[..., ids]
        return _Queries(
            index=ids,
            coordinates=coordinates_of(store.axes(trajectory), ids) if on_grid else store.coordinates(trajectory)[ids],
            values=values.transpose(0, 2, 1),
            weights=draw.weights if self.estimand == "mean" else self._measures_of(draw, place, ids),
        )

    def _measures_of(
        self, draw: PointDraw | CellDraw, place: tuple[int, int], ids: Int64[np.ndarray, " query"]
    ) -> Float64[np.ndarray, " query"]:
        """Return the weights of a draw with which sums estimate the integral."""
        store, (trajectory, block) = self.query_store, place
        if isinstance(draw, CellDraw) and draw.places is None:
            measures = store.measures(trajectory)[store.curve_points(trajectory, block)]
            return np.add.reduceat(measures, np.cumsum(draw.sizes) - draw.sizes)
        axes = store.manifest.geometry.axes
        on_grid = store.manifest.geometry.kind == "grid"
        measures = grid_measures(store.axes(trajectory), axes, ids) if on_grid else store.measures(trajectory)[ids]
        return draw.weights * (store.layout(trajectory, block).num_points * measures)

    def _choose(self, key: DrawKey) -> _Chosen:
        """Draw the points of a sample; nothing is read for it."""
        trajectory, first = self.locate(key.sample)
        # That of the whole window: which points are drawn says nothing about which frames are.
        block = self.query_store.block_of(trajectory, self.window.target_frames(first))
        layout, targets = self.query_store.layout(trajectory, block), self.window.draw_targets(first, key)
        return _Chosen(
            sample=key.sample,
            trajectory=trajectory,
            block=block,
            frames=(self.window.input_frames(first), targets),
            draws=tuple(self.sampler.draw(layout, one) for one in self.window.point_keys(first, targets, key)),
        )

    def _read(self, chosen: _Chosen) -> _Read:
        """Read all that a sample needs."""
        store, trajectory, (inputs, targets) = self.store, chosen.trajectory, chosen.frames
        shares = [targets] if self.window.points == "same" else [(frame,) for frame in targets]
        place = (trajectory, chosen.block)
        return _Read(
            sample=chosen.sample,
            trajectory=trajectory,
            frames=chosen.frames,
            queries=tuple(
                self._read_pages(place, frames, draw)
                if isinstance(draw, PageDraw)
                else self._read_points(place, frames, draw)
                for frames, draw in zip(shares, chosen.draws, strict=True)
            ),
            num_strata=self.query_store.layout(trajectory, chosen.block).num_strata,
            inputs=store.read_frames(trajectory, inputs, self._input_channels),
            input_coords=None if self.geometry == "grid" else store.coordinates(trajectory),
        )

    def _assemble(self, read: _Read) -> SparseSample:
        trajectory, (inputs, targets) = read.trajectory, read.frames
        input_values, input_valid = self._make_inputs(trajectory, read.inputs)
        drawn = [self._finish(queries, read.num_strata) for queries in read.queries]
        dtype, store = _DTYPES[self.dtype], self.store
        axes = store.axes(trajectory) if read.input_coords is None else ()
        times = store.times(trajectory)
        return SparseSample(
            sample_id=read.sample,
            trajectory=trajectory,
            input_frames=inputs,
            target_frames=targets,
            inputs=input_values,
            input_axes=tuple(_as_tensor(axis, dtype) for axis in axes),
            input_coords=None if read.input_coords is None else _as_tensor(read.input_coords, dtype),
            parameters=_as_tensor(store.parameters(trajectory), dtype),
            input_times=_as_tensor(times[list(inputs)], dtype),
            target_times=_as_tensor(times[list(targets)], dtype),
            normalisers=self._normalisers,
            input_valid=input_valid,
            targets_drawn=len(targets) < self.window.targets,
            **(drawn[0] if self.window.points == "same" else _stack_frames(drawn)),
        )

    def _finish(self, queries: _Queries, num_strata: int) -> dict[str, Any]:
        """Return what a sample holds of the points of one draw, by its name there."""
        applied, dtype = self._apply(queries.values, self._normalisers.target), _DTYPES[self.dtype]
        values, valid = _fill(applied, self.query_store, self._target_channels)
        return {
            "query_coords": _as_tensor(queries.coordinates, dtype),
            "query_targets": _as_tensor(values, dtype),
            "query_weights": _as_tensor(self.sampler.finish_weights(queries.weights), dtype),
            "query_index": _as_tensor(queries.index, torch.int32),
            "target_valid": None if valid is None else torch.from_numpy(valid),
            "stratum_queries": self._count_strata(queries, num_strata),
        }

    def _count_strata(self, queries: _Queries, num_strata: int) -> Int[torch.Tensor, " stratum"] | None:
        if queries.strata is None:
            return None
        size = self.query_store.manifest.layout.num_strata
        counts = np.bincount(queries.strata, minlength=size) if num_strata == size else np.zeros(size, dtype=np.int64)
        return _as_tensor(counts, torch.int32)

    def _make_inputs(
        self, trajectory: int, values: Float[np.ndarray, "time channel point"]
    ) -> tuple[Float[torch.Tensor, "time channel *space"], Bool[torch.Tensor, "time channel *space"] | None]:
        normalised = self._apply(values.transpose(0, 2, 1), self._normalisers.input)
        filled, valid = _fill(normalised, self.store, self._input_channels)
        shape = (*values.shape[:2], *self.store.shape(trajectory))
        inputs = _as_tensor(filled.transpose(0, 2, 1).reshape(shape), _DTYPES[self.dtype])
        return inputs, None if valid is None else _as_tensor(valid.transpose(0, 2, 1).reshape(shape), torch.bool)

    def _apply(self, values: Shaped[np.ndarray, "..."], normaliser: Normaliser) -> Shaped[np.ndarray, "..."]:
        """Normalise values whose last dimension is the channels, in the precision of the store."""
        if not self.normalize:
            return values
        mean: Float64[np.ndarray, " channel"] = normaliser.mean.astype(values.dtype)
        return (values - mean) / normaliser.scale.astype(values.dtype)


def _fill(
    values: Float[np.ndarray, "time point channel"], store: Store, channels: tuple[int, ...]
) -> tuple[Float[np.ndarray, "time point channel"], Bool[np.ndarray, "time point channel"] | None]:
    """Put 0 where values are missing, and tell where they are not; None where no channel ever lacks any."""
    may_miss = store.manifest.missing_channels
    if not any(may_miss[channel] for channel in channels):
        return values, None
    valid = ~np.isnan(values)
    return np.where(valid, values, 0), valid


def _stack_frames(drawn: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the draws of the target frames of a sample as one, the smaller ones padded."""
    stacked: dict[str, Any] = {}
    for name, first in drawn[0].items():
        parts = [frame[name] for frame in drawn]
        if name in ("query_targets", "target_valid") and first is not None:
            parts = [part[0] for part in parts]  # each draw is for one frame
        padding = -1 if name == "query_index" else 0
        stacked[name] = None if first is None else pad_sequence(parts, batch_first=True, padding_value=padding)
    return stacked


def _names(fields: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if fields is None else tuple(fields)


def _as_tensor(values: Shaped[np.ndarray, "..."], dtype: torch.dtype) -> torch.Tensor:
    """Return an array as a tensor of the given type; a view where it has that type and may be written to."""
    values = np.ascontiguousarray(values)
    return torch.from_numpy(values if values.flags.writeable else values.copy()).to(dtype)
