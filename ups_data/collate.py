"""A batch as one packed buffer: what a worker ships, and the named views into it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int

from ups_data.errors import DatasetError
from ups_data.sample import Normalisers, QueryPoints, SparseSample

_ALIGNMENT = 8


@dataclass(frozen=True, kw_only=True)
class Section:
    """Where one tensor lies in the buffer of a batch."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class BatchCost:
    """What building one batch took, where it was built.

    Attributes:
        read_bytes: bytes read from the store.
        read_ranges: contiguous ranges that they came from.
        decoded_bytes: bytes of the rows that were decoded from them, and from what a cache had.
        read_seconds: time that the store took to bring them.
        build_seconds: time from the request to the finished batch, reading included.
    """

    read_bytes: int
    read_ranges: int
    decoded_bytes: int
    read_seconds: float
    build_seconds: float


@dataclass(frozen=True, kw_only=True)
class BatchOrigin:
    """Where a batch stands in the stream that a loader serves.

    Attributes:
        dataset: name of the dataset in a mixture, None without one.
        epoch: number of the pass over the dataset.
        step: global step.
        global_samples: samples of the global batch, over all ranks. A mean over them is, on every rank, the sum over
            the rank's own samples times `world_size / global_samples`, averaged over ranks: also where ranks have
            unequal shares.
        sources: for each sample its dataset and the number of the pass over it, where a batch mixes datasets; samples
            that only fill the batch have none. None where all are of `dataset` in pass `epoch`.
    """

    dataset: str | None
    epoch: int
    step: int
    global_samples: int
    sources: tuple[tuple[str, int], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Room:
    """Sizes that a batch is padded to where its samples are smaller.

    Attributes:
        queries: drawn points of a sample.
        points: points of the encoder's cloud.
        shape: nodes per axis of grids; None where grids are not padded, and must be of one shape.
    """

    queries: int = 0
    points: int = 0
    shape: tuple[int, ...] | None = None


class SparseBatch:
    """A batch of samples in one buffer of bytes.

    Every tensor is a view of `buffer`, so passing a batch between processes, pinning it and copying it to a device move
    one block of memory. Sections begin at multiples of 8 bytes.

    Attributes:
        buffer: all bytes that are shipped.
        cost: what building it took; None unless a loader built it.
        origin: where it stands in the stream; None unless a loader built it.
        targets_drawn: whether target frames of the window are left out, other ones in each sample; see `Window`.
        inputs: (B, T_in, C, *space) on grids; (B, T_in, C, N) for points.
        input_axes: D tensors (B, n) of node coordinates on grids, None for points; where a smaller grid is padded, the
            last node again and again.
        input_coords: (B, N, D) for points, None on grids.
        query_coords: (B, Q, D), physical.
        query_targets: (B, T_out, Q, C).
        input_valid: like `inputs`, False where a value is missing (`inputs` holds 0 there) and on padding; None where
            no value of these fields is ever missing.
        target_valid: like `query_targets`, as above.
        query_weights: (B, Q); the sum over q of weight * f is the unbiased mean of f over a sample's trajectory, or its
            integral, as the dataset's `estimand` says. Entries that are not valid must count as 0.
        query_index: (B, Q) int32, -1 on padding.
        stratum_queries: (B, S) int32, drawn points of each stratum, see `SparseSample`; None unless a sampler learns.
            Where datasets are mixed, 0 behind the strata of each.
        parameters: (B, K); input_times: (B, T_in); target_times: (B, T_out); physical.
        sample_ids: (B,) int64, -1 for a sample that only fills the batch: all its weights are 0.

    Where each target frame has points of its own (`Window.points`), `query_coords` is (B, T_out, Q, D), `query_weights`
    and `query_index` are (B, T_out, Q), and `stratum_queries` is (B, T_out, S): see `points_at`.
    """

    inputs: Float[torch.Tensor, "batch time_in channel *space"]
    query_coords: Float[torch.Tensor, "batch *frame query dim"]
    query_targets: Float[torch.Tensor, "batch time_out query channel_out"]
    query_weights: Float[torch.Tensor, "batch *frame query"]
    query_index: Int[torch.Tensor, "batch *frame query"]
    parameters: Float[torch.Tensor, "batch parameter"]
    input_times: Float[torch.Tensor, "batch time_in"]
    target_times: Float[torch.Tensor, "batch time_out"]
    sample_ids: Int[torch.Tensor, " batch"]
    input_valid: Bool[torch.Tensor, "batch time_in channel *space"] | None = None
    target_valid: Bool[torch.Tensor, "batch time_out query channel_out"] | None = None
    stratum_queries: Int[torch.Tensor, "batch *frame stratum"] | None = None

    def __init__(
        self,
        buffer: torch.Tensor,
        sections: tuple[Section, ...],
        normalisers: Normalisers,
        cost: BatchCost | None = None,
        origin: BatchOrigin | None = None,
        *,
        targets_drawn: bool = False,
    ) -> None:
        self.buffer = buffer
        self.targets_drawn = targets_drawn
        self.cost = cost
        self.origin = origin
        self.sections = sections
        self.normalisers = normalisers
        for section in sections:
            setattr(self, section.name, self._view(section))

    def _view(self, section: Section) -> torch.Tensor:
        part = self.buffer[section.offset : section.offset + section.num_bytes]
        return part.view(section.dtype).view(section.shape)

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{section.name}={tuple(section.shape)}" for section in self.sections)
        return f"SparseBatch({shapes}, {self.num_bytes} bytes on {self.buffer.device})"

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = functools.partial(SparseBatch, targets_drawn=self.targets_drawn)
        return (rebuild, (self.buffer, self.sections, self.normalisers, self.cost, self.origin))

    @property
    def num_bytes(self) -> int:
        """Bytes that the batch ships."""
        return self.buffer.numel()

    @property
    def input_axes(self) -> tuple[Float[torch.Tensor, "batch _"], ...] | None:
        """Node coordinates of each axis (B, n) on grids, None for points."""
        names = [section.name for section in self.sections if section.name.startswith("input_axis_")]
        return tuple(getattr(self, name) for name in names) or None

    @property
    def input_coords(self) -> Float[torch.Tensor, "batch point dim"] | None:
        """Coordinates of the encoder's points (B, N, D), None on grids; zeros on padding."""
        return getattr(self, "input_points", None)

    @property
    def input_mask(self) -> Bool[torch.Tensor, "batch *space"] | None:
        """True on the encoder's points (B, N) or nodes (B, *space), False where a smaller cloud or grid is padded.

        None on grids of one shape.
        """
        if not hasattr(self, "input_sizes"):
            return None
        space = self.inputs.shape[3:]
        mask = torch.ones((len(self), *space), dtype=torch.bool, device=self.buffer.device)
        for dim, size in enumerate(space):
            inside = torch.arange(size, device=self.buffer.device) < self.input_sizes.view(len(self), -1)[:, dim, None]
            mask &= inside.view(len(self), *(size if other == dim else 1 for other in range(len(space))))
        return mask

    @property
    def query_mask(self) -> Bool[torch.Tensor, "batch *frame query"]:
        """True on drawn points, False on padding."""
        return self.query_index >= 0

    @property
    def effective_points(self) -> Float64[torch.Tensor, " drawn"]:
        """(sum w)^2 / sum w^2 of each sample that has weights: how many points of one weight those drawn are worth."""
        weights = self.query_weights.double().flatten(1)
        squares = weights.square().sum(dim=1)
        drawn = squares > 0
        return weights.sum(dim=1)[drawn].square() / squares[drawn]

    @property
    def has_fresh_points(self) -> bool:
        """Whether each target frame has points of its own."""
        return self.query_index.ndim > 2

    def points_at(self, frame: int) -> QueryPoints:
        """Return the points of the samples' target frames of a number, from 0."""
        parts = (self.query_coords, self.query_weights, self.query_index)
        coords, weights, index = (part[:, frame] for part in parts) if self.has_fresh_points else parts
        return QueryPoints(coords=coords, weights=weights, index=index)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Return the batch on another device: one copy."""
        return self._with(self.buffer.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory."""
        return self._with(self.buffer.pin_memory())

    def _with(self, buffer: torch.Tensor) -> Self:
        return type(self)(
            buffer, self.sections, self.normalisers, self.cost, self.origin, targets_drawn=self.targets_drawn
        )

    def denormalize(
        self, values: torch.Tensor, *, kind: Literal["target", "input"] = "target", channel_dim: int = -1
    ) -> torch.Tensor:
        """Return values in physical units: x = y * scale + mean.

        Args:
            values: normalised values with one channel for each of the batch's targets (or inputs).
            kind: whose statistics apply.
            channel_dim: the dimension of the channels: the last one of targets, 2 in `inputs`.
        """
        normaliser = self.normalisers.target if kind == "target" else self.normalisers.input
        channels = values.shape[channel_dim]
        if channels != normaliser.mean.size:
            raise DatasetError(
                f"dimension {channel_dim} of values of shape {tuple(values.shape)} has {channels} entries, the batch "
                f"has {normaliser.mean.size} {kind} channels"
            )
        shape = [1] * values.ndim
        shape[channel_dim] = channels
        mean, scale = (
            torch.as_tensor(part, dtype=values.dtype, device=values.device).view(shape)
            for part in (normaliser.mean, normaliser.scale)
        )
        return values * scale + mean


def collate_samples(
    samples: Sequence[SparseSample],
    *,
    num_padding: int = 0,
    like: SparseSample | None = None,
    room: Room = Room(),  # a frozen record
) -> SparseBatch:
    """Pack samples into one batch.

    Samples may differ in the number of queries, and clouds in the number of points: shorter ones are padded with index
    -1 and weight 0. Grids are padded at the ends of their axes if `room` gives a shape. Nothing is dropped.

    Args:
        samples: on the same grid shape (unless `room` gives one), with the same fields and window.
        num_padding: samples to append that only fill the batch (all zero but for the nodes of grids, weights 0, id -1).
        like: a sample to take the shapes from where `samples` is empty: a batch that is nothing but padding.
        room: sizes to pad to at least, for batches of one shape.

    Raises:
        DatasetError: samples that do not fit into one batch; names the attribute and the shapes.
    """
    shaping = samples or ([like] if like is not None else [])
    _check_alike(shaping, pad_grids=room.shape is not None)
    sections = _plan_sections(shaping, len(samples) + num_padding, room)
    total = sections[-1].offset + _aligned(sections[-1].num_bytes)
    batch = SparseBatch(
        torch.zeros(total, dtype=torch.uint8),
        sections,
        shaping[0].normalisers,
        targets_drawn=any(sample.targets_drawn for sample in shaping),
    )
    batch.query_index.fill_(-1)
    batch.sample_ids.fill_(-1)
    for row, sample in enumerate(samples):
        _fill(batch, row, sample)
    for row in range(len(samples), len(batch)):
        _fill_axes(batch, row, shaping[0])  # between nodes on one spot a model would find no number
    return batch


def batch_bytes(sections: Sequence[tuple[tuple[int, ...], int]]) -> int:
    """Return the bytes of a batch whose sections have the given (shape, bytes of an item): each rounded up to 8."""
    return sum(_aligned(math.prod(shape) * item) for shape, item in sections)


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT


def _check_alike(samples: Sequence[SparseSample], *, pad_grids: bool) -> None:
    if not samples:
        raise DatasetError("a batch needs at least one sample")
    first = samples[0]
    for sample in samples[1:]:
        one_shape = first.input_coords is None and not pad_grids
        if (one_shape and sample.inputs.shape != first.inputs.shape) or _channels(sample) != _channels(first):
            raise DatasetError(
                f"samples {first.sample_id} and {sample.sample_id} have inputs of shapes {tuple(first.inputs.shape)} "
                f"and {tuple(sample.inputs.shape)}, which do not fit into one batch; use batch_size=1, or "
                f"MixtureDataset(..., batches='padded') for grids of different shapes"
            )
        if sample.query_targets.shape[::2] != first.query_targets.shape[::2]:
            raise DatasetError(f"samples {first.sample_id} and {sample.sample_id} differ in target frames or channels")
        if sample.has_fresh_points != first.has_fresh_points:
            raise DatasetError(
                f"samples {first.sample_id} and {sample.sample_id} differ in whether each target frame has points of "
                f"its own; give both the same Window(points=)"
            )


def _channels(sample: SparseSample) -> tuple[object, ...]:
    """Return what the inputs of samples in one batch have in common, however large they are."""
    return (*sample.inputs.shape[:2], sample.inputs.ndim, sample.input_coords is None)


def _plan_sections(samples: Sequence[SparseSample], size: int, room: Room) -> tuple[Section, ...]:
    first = samples[0]
    queries = max(room.queries, *(sample.query_index.shape[-1] for sample in samples))
    points = max(room.points, *(sample.inputs.shape[-1] for sample in samples))
    shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    if first.input_coords is None:
        grids = np.array([sample.inputs.shape[2:] for sample in samples] + ([room.shape] if room.shape else []))
        space = tuple(grids.max(axis=0).tolist())
        shapes["inputs"] = (first.inputs.dtype, (*first.inputs.shape[:2], *space))
        for number, axis in enumerate(first.input_axes):
            shapes[f"input_axis_{number}"] = (axis.dtype, (space[number],))
        if room.shape is not None:
            shapes["input_sizes"] = (torch.int64, (len(space),))
    else:
        shapes["inputs"] = (first.inputs.dtype, (*first.inputs.shape[:2], points))
        shapes["input_points"] = (first.input_coords.dtype, (points, first.input_coords.shape[1]))
        shapes["input_sizes"] = (torch.int64, ())
    if any(sample.input_valid is not None for sample in samples):
        shapes["input_valid"] = (torch.bool, shapes["inputs"][1])
    times, _, channels = first.query_targets.shape
    frames = (times,) if first.has_fresh_points else ()
    shapes["query_coords"] = (first.query_coords.dtype, (*frames, queries, first.query_coords.shape[-1]))
    shapes["query_targets"] = (first.query_targets.dtype, (times, queries, channels))
    if any(sample.target_valid is not None for sample in samples):
        shapes["target_valid"] = (torch.bool, (times, queries, channels))
    shapes["query_weights"] = (first.query_weights.dtype, (*frames, queries))
    shapes["query_index"] = (torch.int32, (*frames, queries))
    counts = [sample.stratum_queries for sample in samples if sample.stratum_queries is not None]
    if counts:
        shapes["stratum_queries"] = (torch.int32, (*frames, max(count.shape[-1] for count in counts)))
    for name in ("parameters", "input_times", "target_times"):
        shapes[name] = (getattr(first, name).dtype, tuple(getattr(first, name).shape))
    shapes["sample_ids"] = (torch.int64, ())
    sections, offset = [], 0
    for name, (dtype, shape) in shapes.items():
        sections.append(Section(name=name, dtype=dtype, shape=(size, *shape), offset=offset))
        offset += _aligned(sections[-1].num_bytes)
    return tuple(sections)


def _fill_axes(batch: SparseBatch, row: int, sample: SparseSample) -> None:
    for number, axis in enumerate(sample.input_axes):
        nodes = getattr(batch, f"input_axis_{number}")[row]
        nodes[: len(axis)], nodes[len(axis) :] = axis, axis[-1]


def _fill(batch: SparseBatch, row: int, sample: SparseSample) -> None:
    queries, sizes = sample.query_index.shape[-1], sample.inputs.shape[2:]
    inside: tuple[int | slice, ...] = (row, slice(None), slice(None), *(slice(size) for size in sizes))
    batch.inputs[inside] = sample.inputs
    if hasattr(batch, "input_sizes"):
        batch.input_sizes[row] = torch.tensor(sizes if sample.input_coords is None else sizes[0])
    if sample.input_coords is None:
        _fill_axes(batch, row, sample)
    else:
        getattr(batch, "input_points")[row, : sizes[0]] = sample.input_coords  # noqa: B009  # views are made by name
    if batch.input_valid is not None:
        batch.input_valid[inside] = True if sample.input_valid is None else sample.input_valid
    if batch.target_valid is not None:
        batch.target_valid[row, :, :queries] = True if sample.target_valid is None else sample.target_valid
    batch.query_coords[row, ..., :queries, :] = sample.query_coords
    batch.query_targets[row, :, :queries] = sample.query_targets
    batch.query_weights[row, ..., :queries] = sample.query_weights
    batch.query_index[row, ..., :queries] = sample.query_index
    if batch.stratum_queries is not None and sample.stratum_queries is not None:
        batch.stratum_queries[row, ..., : sample.stratum_queries.shape[-1]] = sample.stratum_queries
    batch.parameters[row] = sample.parameters
    batch.input_times[row] = sample.input_times
    batch.target_times[row] = sample.target_times
    batch.sample_ids[row] = sample.sample_id
