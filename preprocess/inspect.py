"""What a finished store holds, as a record for machines and as tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ups_data.schema import AxisSpec, ClipSpec, Manifest, OffGridSpec, RoundingSpec
from ups_data.storage import Store


@dataclass(frozen=True, kw_only=True)
class StoreSummary:
    """The manifest of a store, without its list of files, and what the files add up to.

    Attributes:
        location: where the store lies.
        manifest: as it was read and checked.
        size_bytes: of all files but the manifest.
        part_bytes: the same by array (`pages/values`, `fields`, `trajectories`, ...).
        dense_bytes: what all frames take uncompressed, for comparison.
    """

    location: str
    manifest: Manifest
    size_bytes: int
    part_bytes: dict[str, int]
    dense_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON knows it."""
        return {
            "location": self.location,
            "fingerprint": self.manifest.fingerprint,
            "num_files": len(self.manifest.files),
            "size_bytes": self.size_bytes,
            "part_bytes": self.part_bytes,
            "dense_bytes": self.dense_bytes,
            "manifest": {key: value for key, value in self.manifest.content().items() if key != "files"},
        }

    def to_tables(self) -> RenderableType:
        """Return tables for a terminal."""
        return Group(*_tables(self))


def inspect_store(store: Store) -> StoreSummary:
    """Summarise an open store from its manifest and tables; no field is read."""
    manifest = store.manifest
    parts: Counter[str] = Counter()
    for entry in manifest.files:
        parts[part_of(entry.key)] += entry.size_bytes
    tables = store.tables
    values = int((tables.num_frames.astype(object) * tables.num_points.astype(object)).sum())
    item_bytes = 8 if manifest.dtype == "float64" else 4
    return StoreSummary(
        location=store.location,
        manifest=manifest,
        size_bytes=sum(parts.values()),
        part_bytes=dict(sorted(parts.items())),
        dense_bytes=values * len(manifest.channel_names) * item_bytes,
    )


def format_bytes(count: int) -> str:
    """Return a size for people: 1536 is `1.5 KiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def part_of(key: str) -> str:
    """Return the part of a store that a file belongs to: its array, `trajectories`, or `metadata`."""
    parts = key.split("/")
    if parts[-1] == "zarr.json":
        return "metadata"
    return "/".join(parts[:2]) if parts[0] == "pages" else parts[0]


def _tables(summary: StoreSummary) -> Iterator[RenderableType]:
    yield _overview(summary)
    yield _statistics(summary.manifest)
    if summary.manifest.rounding is not None:
        yield _rounding(summary.manifest.rounding)
    if summary.manifest.off_grid is not None:
        yield _deviations(summary.manifest, summary.manifest.off_grid)
    yield _axes(summary.manifest)
    if summary.manifest.parameters:
        yield _parameters(summary.manifest)
    yield _sizes(summary)
    yield from (Text(f"note: {note}") for note in summary.manifest.source.notes)


def new_table(title: str, *columns: str) -> Table:
    """Return an empty table: names to the left, numbers to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _describe_clip(clip: ClipSpec | None) -> str:
    if clip is None:
        return ""
    return f", cut at quantile {clip.quantile:g}" if clip.quantile else f", cut at {clip.times_mean:g} times its mean"


def _overview(summary: StoreSummary) -> Table:
    manifest = summary.manifest
    layout = manifest.layout
    metrics = ", ".join(f"{name} x {weight:g}" for name, weight in manifest.importance.metrics.items())
    shape = " x ".join(map(str, manifest.geometry.shape)) if manifest.geometry.shape else "differs"
    splits = ", ".join(f"{name} {count}" for name, count in manifest.splits.items())
    rows = {
        "store": summary.location,
        "fingerprint": manifest.fingerprint[:16],
        "written by": manifest.writer,
        "trajectories": f"{manifest.num_trajectories} ({splits}; {manifest.split_provenance})",
        "frames, all": str(manifest.num_frames),
        "geometry": f"{manifest.geometry.kind}, {manifest.geometry.dims}-D, points per frame: {shape}",
        "pages": f"{layout.page_points} points each, {layout.num_strata} strata, curve {layout.curve}",
        "dense frames": layout.dense,
        "importance": f"{metrics}; exponent {manifest.importance.exponent:g}, floor {manifest.importance.floor:g}"
        f"{_describe_clip(manifest.importance.clip)}",
        "values": f"{manifest.dtype}, codec {manifest.codec}{_describe_shortest(manifest)}",
        "source": f"{manifest.source.format}: {', '.join(file.name for file in manifest.source.files)}",
    }
    table = Table(title=manifest.name, title_justify="left", title_style="bold", show_header=False)
    for key, value in rows.items():
        table.add_row(key, Text(value))
    return table


def _describe_shortest(manifest: Manifest) -> str:
    shortest = manifest.settings.get("min_compressed_bytes")
    if manifest.codec == "none" or not isinstance(shortest, int):
        return ""
    return f" for rows of at least {format_bytes(shortest)}"


def _statistics(manifest: Manifest) -> Table:
    title = f"Fields, statistics of {'all data' if manifest.statistics_split is None else 'the train split'}"
    table = new_table(title, "channel", "unit", "mean", "std", "min", "max", "change/frame")
    units = {name: field.unit for field in manifest.fields for name in field.channel_names}
    for record in manifest.statistics:
        change = "-" if record.delta_rms is None else f"{record.delta_rms:.4g}"
        numbers = (record.mean, record.std, record.min, record.max)
        table.add_row(
            Text(record.channel), Text(units[record.channel] or "-"), *(f"{number:.4g}" for number in numbers), change
        )
    return table


def _rounding(rounding: RoundingSpec) -> Table:
    bits = rounding.rule.mantissa_bits
    kept = "float16" if bits is None else f"{bits} mantissa bits"
    table = new_table(f"Rounded to {kept}", "channel", "largest error", "relative to value")
    for error in rounding.errors:
        table.add_row(Text(error.channel), f"{error.max_absolute:.3g}", f"{error.max_relative:.3g}")
    return table


def _deviations(manifest: Manifest, off_grid: OffGridSpec) -> Table:
    """Return how far interpolated values are off: what was measured, and what that comes to on the grid itself."""
    table = new_table(
        f"Values between nodes, {off_grid.scheme}: off by, in units of the channel",
        "channel",
        "every 2nd node left out, rms",
        "max",
        "hence on all nodes, if smooth, rms",
        "max",
        "rms / std",
    )
    for record, statistics in zip(off_grid.deviations, manifest.statistics, strict=True):
        if record.rms is None or record.max is None:
            table.add_row(Text(record.channel), *["too few nodes"] * 5)
            continue
        rms, largest = off_grid.error_estimate(record.rms), off_grid.error_estimate(record.max)
        share = f"{rms / statistics.std:.2g}" if statistics.std else "-"
        table.add_row(
            Text(record.channel), *(f"{number:.3g}" for number in (record.rms, record.max, rms, largest)), share
        )
    return table


def _axes(manifest: Manifest) -> Table:
    table = new_table("Axes, in stored order", "axis", "unit", "lower", "upper", "nodes", "periodic")
    shape = manifest.geometry.shape if manifest.geometry.kind == "grid" else None
    for number, axis in enumerate(manifest.geometry.axes):
        nodes = str(shape[number]) if shape else "-"
        table.add_row(Text(axis.name), *_axis_cells(axis), nodes, "yes" if axis.periodic else "no")
    return table


def _axis_cells(axis: AxisSpec) -> tuple[Text, str, str]:
    # Text, not str: rich would take a unit like [m] for a style.
    return Text(axis.unit or "-"), f"{axis.lower:g}", f"{axis.upper:g}"


def _parameters(manifest: Manifest) -> Table:
    table = new_table("Parameters", "parameter", "unit", "mean", "std")
    for record in manifest.parameters:
        table.add_row(Text(record.name), Text(record.unit or "-"), f"{record.mean:.4g}", f"{record.std:.4g}")
    return table


def _sizes(summary: StoreSummary) -> Table:
    table = new_table(f"Size: {format_bytes(summary.size_bytes)}", "part", "bytes", "of dense frames")
    for part, size in summary.part_bytes.items():
        table.add_row(part, format_bytes(size), f"{size / summary.dense_bytes:.1%}")
    table.add_row("dense frames, uncompressed", format_bytes(summary.dense_bytes), "100.0%")
    return table
