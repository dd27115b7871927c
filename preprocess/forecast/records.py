"""A forecast: a record for machines, and tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from preprocess.inspect import format_bytes, new_table
from preprocess.prove import LayoutReport
from ups_data.schema import CodecName, GeometryKind, ImportanceSpec, LayoutSpec
from ups_data.storage.zarr_store import FIELDS, VALUES


@dataclass(frozen=True, kw_only=True)
class PartSize:
    """One part of a store, as `inspect` tells parts apart.

    Attributes:
        key: of an array, or `trajectories` (all tables), or `metadata`.
        size_bytes: of its files, with the codec `none`.
        shape, num_rows, row_bytes, rows_per_shard, num_shards: of a sharded array; a row is what is read at once.
    """

    key: str
    size_bytes: int
    shape: tuple[int, ...] | None = None
    num_rows: int | None = None
    row_bytes: int | None = None
    rows_per_shard: int | None = None
    num_shards: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A part of the source that was converted, and what it tells of the whole.

    Attributes:
        trajectories: their numbers.
        num_frames: of all of them.
        num_values: of all their frames.
        share: of all values of the source.
        sample_seconds: that it took.
        seconds: that the whole will take, by one process.
        compressed: size of each array / its size with the codec `none`.
    """

    trajectories: tuple[int, ...]
    num_frames: int
    num_values: int
    share: float
    sample_seconds: float
    seconds: float
    compressed: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class FrameReads:
    """How long a whole frame of the sample takes to read, from a warm disk.

    Attributes:
        stored_seconds: from dense frames; None where none are stored.
        rebuilt_seconds: from all pages.
    """

    stored_seconds: float | None
    rebuilt_seconds: float


# What the allocator keeps beyond what is held, as a share of it: measured on conversions of 200 to 300 MB.
_ALLOCATOR_SHARE = 0.4


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a conversion holds at most.

    Attributes:
        base_bytes: of the process without data.
        frame_bytes: work on one frame, measured on the sample and scaled to the largest trajectory.
        block_bytes: frames that are read together.
        row_bytes: rows that are being encoded, and the index of a shard.
    """

    base_bytes: int
    frame_bytes: int
    block_bytes: int
    row_bytes: int

    @property
    def data_bytes(self) -> int:
        """What is held of the data, all in all."""
        return self.frame_bytes + self.block_bytes + self.row_bytes

    @property
    def allocator_bytes(self) -> int:
        """What the allocator keeps beyond that, in pieces that are free but not given back."""
        return round(_ALLOCATOR_SHARE * self.data_bytes)

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.base_bytes + self.data_bytes + self.allocator_bytes


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a conversion will write, need and take.

    Attributes:
        name, format, kind, channels: of the source.
        num_trajectories, num_frames: how many there are.
        splits, split_provenance: trajectories of each split, and how that came about.
        least_points, most_points: of a trajectory.
        shape: nodes per axis that all grids share, else None.
        dtype, codec: of the stored values.
        layout: of pages.
        reasons: why, by the name of the setting.
        importance: recipe of the maps.
        parts: sizes; the manifest is not among them.
        sample, memory, frame_reads: None where no sample was converted.
        layouts: what draws from other layouts would be worth on the sample; None where it was not asked for.
    """

    name: str
    format: str
    kind: GeometryKind
    channels: tuple[str, ...]
    num_trajectories: int
    splits: Mapping[str, int]
    split_provenance: str
    num_frames: int
    least_points: int
    most_points: int
    shape: tuple[int, ...] | None
    dtype: str
    codec: CodecName
    layout: LayoutSpec
    reasons: Mapping[str, str]
    importance: ImportanceSpec
    parts: tuple[PartSize, ...]
    sample: Sample | None
    memory: Memory | None
    frame_reads: FrameReads | None = None
    layouts: LayoutReport | None = None

    @property
    def size_bytes(self) -> int:
        """Of all files but the manifest, with the codec `none`."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def num_shards(self) -> int:
        """Shards of all arrays."""
        return sum(part.num_shards or 0 for part in self.parts)

    @property
    def stored_bytes(self) -> int | None:
        """With the codec of the settings: exact for `none`, by the sample's ratios otherwise, None without a sample."""
        if self.codec == "none":
            return self.size_bytes
        if self.sample is None:
            return None
        ratios = self.sample.compressed
        return round(sum(part.size_bytes * ratios.get(part.key, 1.0) for part in self.parts))

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON knows it."""
        content = asdict(self)
        return {
            **content,
            "layout": self.layout.model_dump(mode="json"),
            "importance": self.importance.model_dump(mode="json"),
            "size_bytes": self.size_bytes,
            "stored_bytes": self.stored_bytes,
            "num_shards": self.num_shards,
            "layouts": None if self.layouts is None else self.layouts.to_dict(),
            "memory": None if self.memory is None else {**content["memory"], "total_bytes": self.memory.total_bytes},
        }

    def to_tables(self) -> RenderableType:
        """Return tables for a terminal."""
        return Group(*_tables(self))


def format_seconds(seconds: float) -> str:
    """Return a time for people: `0.4 s`, `38 s`, `12 min`, `5.5 h`."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _tables(made: Forecast) -> Iterator[RenderableType]:
    yield _overview(made)
    yield _layout(made)
    yield _sizes(made)
    if made.memory is not None:
        yield _memory(made.memory)
    if made.layouts is not None:
        yield made.layouts.to_table()
    yield from (Text(line) for line in _closing_lines(made))


def _overview(made: Forecast) -> Table:
    splits = ", ".join(f"{name} {count}" for name, count in made.splits.items())
    points = (
        f"{made.least_points:,}"
        if made.least_points == made.most_points
        else (f"{made.least_points:,} to {made.most_points:,}")
    )
    shape = f" ({' x '.join(map(str, made.shape))})" if made.shape else ""
    metrics = ", ".join(f"{name} x {weight:g}" for name, weight in made.importance.metrics.items())
    rows = {
        "source": f"{made.format}, {made.kind}",
        "channels": ", ".join(made.channels),
        "trajectories": f"{made.num_trajectories:,} ({splits}; {made.split_provenance})",
        "frames, all": f"{made.num_frames:,}",
        "points per frame": f"{points}{shape}",
        "importance": metrics,
        "values": f"{made.dtype}, codec {made.codec}",
    }
    table = Table(title=f"Plan of {made.name}", title_justify="left", title_style="bold", show_header=False)
    for key, value in rows.items():
        table.add_row(key, Text(value))
    return table


def _layout(made: Forecast) -> Table:
    table = new_table("Layout", "setting", "value", "why")
    table.columns[2].justify = "left"
    for name, reason in made.reasons.items():
        measured = f"; {_frame_reads(made)}" if name == "dense" and made.frame_reads is not None else ""
        table.add_row(name, str(getattr(made.layout, name)), Text(f"{reason}{measured}"))
    pages = next(part for part in made.parts if part.key == VALUES)
    assert pages.row_bytes is not None
    assert pages.rows_per_shard is not None
    table.add_row(
        "chunk",
        format_bytes(pages.row_bytes),
        Text(
            f"a page of all channels, what a draw reads at once; a shard holds {pages.rows_per_shard:,} of them, "
            f"{format_bytes(pages.rows_per_shard * pages.row_bytes)}, which one task writes whole"
        ),
    )
    return table


def _frame_reads(made: Forecast) -> str:
    """Say what dense frames save and cost, as the sample tells."""
    reads = made.frame_reads
    assert reads is not None
    rebuilt = f"a frame of the sample is read from its pages in {1e3 * reads.rebuilt_seconds:.2g} ms"
    if reads.stored_seconds is None:
        return rebuilt
    room = next(part.size_bytes for part in made.parts if part.key == FIELDS)
    return (
        f"{rebuilt}, from dense frames in {1e3 * reads.stored_seconds:.2g} ms; these take {format_bytes(room)}, "
        f"{room / made.size_bytes:.0%} of the store, which dense: rebuilt saves"
    )


def _sizes(made: Forecast) -> Table:
    table = new_table(
        f"Size before compression: {format_bytes(made.size_bytes)}", "part", "bytes", "size", "rows", "row", "shards"
    )
    for part in made.parts:
        cells = ("", "", "")
        if part.num_rows is not None and part.row_bytes is not None:
            cells = (f"{part.num_rows:,}", format_bytes(part.row_bytes), f"{part.num_shards:,}")
        table.add_row(part.key, f"{part.size_bytes:,}", format_bytes(part.size_bytes), *cells)
    table.caption = "Exact, checksums and shard indices included; the manifest comes on top."
    table.caption_justify = "left"
    return table


def _memory(memory: Memory) -> Table:
    table = new_table(f"Memory: about {format_bytes(memory.total_bytes)}", "for", "size")
    for name, size in (
        ("the process", memory.base_bytes),
        ("work on a frame", memory.frame_bytes),
        ("blocks of frames", memory.block_bytes),
        ("rows of shards", memory.row_bytes),
        ("what the allocator keeps", memory.allocator_bytes),
    ):
        table.add_row(name, format_bytes(size))
    return table


def _closing_lines(made: Forecast) -> Iterator[str]:
    sample = made.sample
    if sample is None:
        yield "time, memory and compression were not estimated: no sample was converted"
        return
    if made.codec != "none" and made.stored_bytes is not None:
        yield f"size with {made.codec}: about {format_bytes(made.stored_bytes)}, by the sample"
    yield (
        f"time: about {format_seconds(sample.seconds)}, by one process; estimated from a sample of {sample.share:.2%} "
        f"of the values ({len(sample.trajectories)} trajectories, {sample.num_frames} frames) that took "
        f"{format_seconds(sample.sample_seconds)} to convert, beside smaller ones"
    )
    if made.layouts is not None:
        yield from (f"on the sample: {line}" for line in made.layouts.lines())
