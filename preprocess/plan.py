"""The plan of a conversion: sizes, splits and arrays, from a source's description alone; nothing is read or written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pydantic
from jaxtyping import Float64, Int64, Shaped, UInt8

from preprocess.settings import ConvertSettings
from preprocess.sources.base import Source, TrajectoryInfo
from ups_data.errors import ConfigError, SchemaError, SourceError
from ups_data.importance import Subject, check_metrics, default_recipe, pin_recipe
from ups_data.pages import FrameBlocks, cut_blocks, default_block_points, default_num_strata, default_page_points
from ups_data.random import Stream, generator
from ups_data.rounding import MANTISSA_BITS
from ups_data.schema import MAX_POINTS, Estimand, ImportanceSpec, LayoutSpec, Name, RoundingRule
from ups_data.storage.shard import ArraySpec
from ups_data.storage.zarr_store import COORDINATES, FIELDS, IMPORTANCE, INDEX, MEASURES, VALUES

_NAME: pydantic.TypeAdapter[str] = pydantic.TypeAdapter(Name)
_MAX_SPLITS = 256
_TARGET_SPAN = 8
# Shards of smaller trajectories than this are cut by their size alone: whole trajectories would gain nothing.
_LEAST_ALIGNED_BYTES = 2**20
_DEFAULT_SPLITS = {"train": 0.8, "valid": 0.1, "test": 0.1}


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvertPlan:
    """What a conversion will write.

    Attributes:
        layout: page layout of all trajectories.
        importance: recipe of the importance maps.
        subject: what they are measured on.
        arrays: the sharded arrays by key.
        split_names: splits in manifest order.
        split_codes: number of each trajectory's split (n,).
        split_provenance: `source`, or the rule that was applied.
        parameters: scalars of each trajectory, in the order of the first trajectory's (n, K).
        dtype: stored values.
        rounding: how values are rounded, None where they are stored as they are.
        num_frames, num_points: sizes of each trajectory (n,).
        blocks: blocks of frames with a page layout of their own.
        block_pages: pages of each block (B,).
        estimand: what draws estimate.
        shape: nodes per axis that all trajectories share, None where they differ.
        trajectories_per_shard: trajectories whose frames, dense and as pages, fill a shard each, so that a task can
            write it at once; None where they differ in size, are tiny, or are larger than a shard.
    """

    layout: LayoutSpec
    importance: ImportanceSpec
    subject: Subject
    arrays: dict[str, ArraySpec]
    split_names: tuple[str, ...]
    split_codes: UInt8[np.ndarray, " trajectory"]
    split_provenance: str
    parameters: Float64[np.ndarray, "trajectory parameter"]
    dtype: str
    rounding: RoundingRule | None
    num_frames: Int64[np.ndarray, " trajectory"]
    num_points: Int64[np.ndarray, " trajectory"]
    blocks: FrameBlocks
    block_pages: Int64[np.ndarray, " block"]
    estimand: Estimand
    shape: tuple[int, ...] | None
    trajectories_per_shard: int | None

    @property
    def num_values(self) -> int:
        """Values of all channels, points, frames and trajectories."""
        return self.num_channels * sum(
            map(math.prod, zip(self.num_frames.tolist(), self.num_points.tolist(), strict=True))
        )

    @property
    def num_channels(self) -> int:
        """Channels of a frame."""
        return sum(len(field.components) for field in self.subject.fields)

    @property
    def splits(self) -> dict[str, int]:
        """Trajectories of each split."""
        counts = np.bincount(self.split_codes, minlength=len(self.split_names))
        return dict(zip(self.split_names, counts.tolist(), strict=True))


def explain_layout(plan: ConvertPlan, settings: ConvertSettings) -> dict[str, str]:
    """Return why a plan has the layout that it has, in words, by the name of the setting."""
    typical = int(np.median(plan.num_points))
    points = f"{typical:,} points, the median of the trajectories"
    pages = -(-typical // plan.layout.page_points)
    shared = "all trajectories share one grid" if plan.layout.dense == "stored" else "no one grid of all trajectories"
    reasons = {
        "page_points": f"the power of two below sqrt(N) / 8, within 8 to 4096, for {points}",
        "num_strata": f"4 where each can have eight pages, else 2 or 1; there are {pages:,} pages",
        "block_points": f"the power of two that makes 1024 to 2048 blocks, at most 64 points, for {points}",
    }
    chosen = {name: "as set" if getattr(settings, name) is not None else reason for name, reason in reasons.items()}
    return {**chosen, "dense": shared if settings.dense == "auto" else "as set"}


def table_shapes(
    plan: ConvertPlan, *, num_grids: int, num_nodes: int, num_meshes: int, dims: int
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each table over trajectories.

    Args:
        plan: of the conversion.
        num_grids: distinct grids of all trajectories; 0 for scattered points.
        num_nodes: nodes of all axes of these grids.
        num_meshes: distinct meshes of all trajectories.
        dims: axes of the domain.
    """
    count, blocks, strata = len(plan.num_frames), len(plan.block_pages), plan.layout.num_strata
    return {
        "num_frames": (count,),
        "num_points": (count,),
        "split": (count,),
        "num_blocks": (count,),
        "block_start": (blocks,),
        "block_frames": (blocks,),
        "block_pages": (blocks,),
        "drawn_points": (blocks,),
        "stratum_pages": (blocks, strata),
        "stratum_mass": (blocks, strata),
        "parameters": plan.parameters.shape,
        "times": (int(plan.num_frames.sum()),),
        "geometry": (count,),
        "geometry_shape": (num_grids, dims),
        "axis_nodes": (num_nodes,),
        "mesh": (count if num_meshes else 0,),
        "mesh_sizes": (num_meshes, 3),
    }


def plan_conversion(source: Source, settings: ConvertSettings) -> ConvertPlan:
    """Work out what converting `source` with `settings` will write.

    Raises:
        SourceError: the source has no trajectory, or one with too many points.
        ConfigError: settings that cannot hold for this source.
    """
    infos = source.trajectories
    if not infos:
        raise SourceError(f"{source.name} holds no trajectory")
    subject = source.subject
    importance = _plan_importance(source, settings, subject)
    if unknown := sorted(source.missing_fields - {field.name for field in source.fields}):
        raise SourceError(f"{source.name} declares missing values of {unknown}, which are none of its fields")
    num_points = np.array([info.num_points for info in infos], dtype=np.int64)
    if num_points.max() > MAX_POINTS:
        raise SourceError(f"{source.name}: a trajectory of {num_points.max()} points is over the limit of {MAX_POINTS}")
    shapes = {tuple(info.shape) for info in infos}
    shape = next(iter(shapes)) if len(shapes) == 1 else None
    layout = _plan_layout(source, settings, int(np.median(num_points)), shape)
    num_frames = np.array([info.num_frames for info in infos], dtype=np.int64)
    blocks = cut_blocks(num_frames, frames_per_block=layout.frames_per_block, target_span=layout.target_span)
    # Points that never have a value stand on pages of their own, after the others.
    block_pages = -(-num_points // layout.page_points)[blocks.trajectory] + bool(source.missing_fields)
    names, codes, provenance = _plan_splits(source, infos, settings)
    if "train" in names and not (codes == names.index("train")).any():
        raise ConfigError(
            f"split 'train' would get none of the {len(infos)} trajectories of {source.name}, so there would be "
            f"nothing to take statistics from; raise its share, or leave it out of `splits`"
        )
    dtype = _stored_dtype(source)
    rows = _Rows.of(num_frames, blocks, block_pages)
    together = _trajectories_per_shard(source, settings, layout, dtype, rows)
    return ConvertPlan(
        layout=layout,
        importance=importance,
        subject=subject,
        arrays=_plan_arrays(source, settings, layout, dtype, rows, together=together),
        split_names=names,
        split_codes=codes,
        split_provenance=provenance,
        parameters=_plan_parameters(source),
        dtype=dtype,
        rounding=_plan_rounding(source, settings, dtype),
        num_frames=num_frames,
        num_points=num_points,
        blocks=blocks,
        block_pages=block_pages,
        estimand=_plan_estimand(source, settings),
        shape=shape,
        trajectories_per_shard=together,
    )


def _plan_importance(source: Source, settings: ConvertSettings, subject: Subject) -> ImportanceSpec:
    try:
        recipe = pin_recipe(settings.importance or default_recipe())
        check_metrics(recipe, subject)
    except (SchemaError, ConfigError) as error:
        raise ConfigError(f"{source.name}: {error}") from error
    return recipe


def _plan_estimand(source: Source, settings: ConvertSettings) -> Estimand:
    if settings.estimand == "integral" and source.kind != "grid" and not source.has_measures:
        raise ConfigError(
            f"{source.name} does not tell the measures of the cells of its points, so draws cannot estimate integrals; "
            f"use estimand: mean"
        )
    return settings.estimand


def _stored_dtype(source: Source) -> Literal["float32", "float64"]:
    """Return the smaller of the stored dtypes that holds every value of the source exactly."""
    if np.can_cast(source.dtype, np.float32, "safe"):
        return "float32"
    if np.can_cast(source.dtype, np.float64, "safe"):
        return "float64"
    raise SourceError(
        f"{source.name} holds values of dtype {source.dtype}, which neither float32 nor float64 can hold exactly; "
        f"convert them in the source first"
    )


def _plan_rounding(source: Source, settings: ConvertSettings, dtype: str) -> RoundingRule | None:
    rule = settings.rounding
    if rule is not None and rule.mantissa_bits is not None and rule.mantissa_bits >= MANTISSA_BITS[dtype]:
        raise ConfigError(
            f"round_mantissa_bits is {rule.mantissa_bits}, and the {dtype} of {source.name} has {MANTISSA_BITS[dtype]} "
            f"bits, so nothing would be rounded; give fewer, or leave it out"
        )
    return rule


def _plan_parameters(source: Source) -> Float64[np.ndarray, "trajectory parameter"]:
    names = tuple(source.trajectories[0].parameters)
    _check_names(source, names, what="parameter")
    rows = []
    for info in source.trajectories:
        if set(info.parameters) != set(names):
            raise SourceError(
                f"{source.name}: {info.item} has parameters {sorted(info.parameters)}, others {sorted(names)}"
            )
        rows.append([float(info.parameters[name]) for name in names])
        if not np.isfinite(rows[-1]).all():
            raise SourceError(f"{source.name}: {info.item} has a parameter that is not finite: {dict(info.parameters)}")
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(names))


def _check_names(source: Source, names: Sequence[str], *, what: str) -> None:
    for name in names:
        try:
            _NAME.validate_python(name)
        except pydantic.ValidationError as error:
            raise SourceError(f"{source.name}: {what} {error.errors()[0]['ctx']['error']}") from error


def _plan_layout(
    source: Source, settings: ConvertSettings, typical_points: int, shape: tuple[int, ...] | None
) -> LayoutSpec:
    page_points = settings.page_points or default_page_points(typical_points)
    can_store = source.kind == "grid" and shape is not None
    if settings.dense == "stored" and not can_store:
        raise ConfigError(
            f"dense frames can only be stored where all trajectories share one grid, and those of {source.name} do "
            f"not; use dense: rebuilt"
        )
    stored = settings.dense == "stored" or (settings.dense == "auto" and can_store)
    return LayoutSpec(
        page_points=page_points,
        num_strata=settings.num_strata or default_num_strata(typical_points, page_points),
        block_points=settings.block_points or default_block_points(typical_points),
        curve=settings.curve,
        seed=settings.seed,
        dense="stored" if stored else "rebuilt",
        frames_per_block=settings.frames_per_block,
        target_span=settings.target_span or (_TARGET_SPAN if settings.frames_per_block else 1),
    )


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Rows of the sharded arrays: frames, pages, and pages of frames."""

    frames: int
    pages: int
    values: int

    @classmethod
    def of(
        cls,
        num_frames: Int64[np.ndarray, " trajectory"],
        blocks: FrameBlocks,
        block_pages: Int64[np.ndarray, " block"],
    ) -> _Rows:
        """Add them up."""
        return cls(
            frames=int(num_frames.sum()),
            pages=int(block_pages.sum()),
            values=int((blocks.frames * block_pages).sum()),
        )


def _plan_arrays(
    source: Source,
    settings: ConvertSettings,
    layout: LayoutSpec,
    dtype: str,
    counts: _Rows,
    *,
    together: int | None,
) -> dict[str, ArraySpec]:
    channels, points, dims = (
        sum(len(field.components) for field in source.fields),
        layout.page_points,
        len(source.axes),
    )

    def pages(key: str, rows: int, middle: tuple[int, ...], kind: str, *names: str) -> ArraySpec:
        chunk = (1, *middle, points)
        row_bytes = math.prod(chunk) * np.dtype(kind).itemsize
        size = _rows_per_shard(settings.shard_bytes, row_bytes, rows)
        if key == VALUES and together is not None:
            size = min(rows, together * rows // len(source.trajectories))
        return ArraySpec(
            key=key,
            shape=(rows, *middle, points),
            chunk_shape=chunk,
            rows_per_shard=size,
            dtype=kind,
            codec=settings.codec_of_rows(row_bytes),
            dimension_names=("page", *names, "entry"),
        )

    arrays = {
        VALUES: pages(VALUES, counts.values, (channels,), dtype, "channel"),
        INDEX: pages(INDEX, counts.pages, (), "int32"),
        IMPORTANCE: pages(IMPORTANCE, counts.pages, (), "float32"),
    }
    if source.kind != "grid":
        arrays[COORDINATES] = pages(COORDINATES, counts.pages, (dims,), "float64", "dim")
    if source.has_measures:
        arrays[MEASURES] = pages(MEASURES, counts.pages, (), "float64")
    if layout.dense == "stored":
        shape = source.trajectories[0].shape
        frames, frame_bytes = counts.frames, channels * math.prod(shape) * np.dtype(dtype).itemsize
        size = _rows_per_shard(settings.shard_bytes, frame_bytes, frames)
        if together is not None:
            size = min(frames, together * frames // len(source.trajectories))
        arrays[FIELDS] = ArraySpec(
            key=FIELDS,
            shape=(frames, channels, *shape),
            chunk_shape=(1, 1, *shape),
            rows_per_shard=channels * size,
            dtype=dtype,
            codec=settings.codec_of_rows(frame_bytes // channels),
            dimension_names=("frame", "channel", *(axis.name for axis in source.axes)),
        )
    return arrays


def _trajectories_per_shard(
    source: Source, settings: ConvertSettings, layout: LayoutSpec, dtype: str, counts: _Rows
) -> int | None:
    """Return how many trajectories of one size fill a shard; pages, with their padding, are the larger ones."""
    infos = source.trajectories
    if len({(info.num_frames, info.num_points) for info in infos}) > 1:
        return None
    channels = sum(len(field.components) for field in source.fields)
    size = counts.values // len(infos) * channels * layout.page_points * np.dtype(dtype).itemsize
    return settings.shard_bytes // size or None if size >= _LEAST_ALIGNED_BYTES else None


def _rows_per_shard(shard_bytes: int, row_bytes: int, num_rows: int) -> int:
    return int(min(num_rows, max(1, shard_bytes // row_bytes)))


def _plan_splits(
    source: Source, infos: Sequence[TrajectoryInfo], settings: ConvertSettings
) -> tuple[tuple[str, ...], UInt8[np.ndarray, " trajectory"], str]:
    given = [info.split for info in infos]
    if all(name is None for name in given):
        return _draw_splits(len(infos), settings)
    if None in given:
        raise SourceError(f"{source.name}: {infos[given.index(None)].item} has no split while others have one")
    if settings.splits is not None:
        raise ConfigError(f"{source.name} brings its own splits {sorted(set(map(str, given)))}; leave out `splits`")
    names = tuple(dict.fromkeys(str(name) for name in given))
    _check_names(source, names, what="split")
    if len(names) > _MAX_SPLITS:
        raise SourceError(f"{source.name} brings {len(names)} splits, a store holds at most {_MAX_SPLITS}")
    return names, np.array([names.index(str(name)) for name in given], dtype=np.uint8), "source"


def _draw_splits(count: int, settings: ConvertSettings) -> tuple[tuple[str, ...], Shaped[np.ndarray, "..."], str]:
    """Assign trajectories at random: shares rounded by largest remainder, at least one a split if they suffice."""
    shares = settings.splits or _DEFAULT_SPLITS
    names = tuple(shares)
    exact = np.array(list(shares.values())) * count
    sizes = np.maximum(np.floor(exact).astype(int), 1 if count >= len(names) else 0)
    order = np.argsort(sizes - exact, kind="stable")
    for turn in range(abs(count - int(sizes.sum()))):
        sizes[order[turn % len(names)] if sizes.sum() < count else int(np.argmax(sizes))] += np.sign(
            count - sizes.sum()
        )
    random = generator(seed=settings.seed, stream=Stream.SPLIT)
    codes = np.empty(count, dtype=np.uint8)
    codes[random.permutation(count)] = np.repeat(np.arange(len(names)), sizes)
    rule = ", ".join(f"{name} {share:g}" for name, share in shares.items())
    return names, codes, f"drawn at random with seed {settings.seed}: {rule}"
