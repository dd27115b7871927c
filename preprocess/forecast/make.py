"""Put a forecast together: the plan, exact sizes, and what a sample tells of time and memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

from preprocess.convert import Progress
from preprocess.forecast.records import Forecast, PartSize
from preprocess.forecast.sample import SampleConverter
from preprocess.forecast.sizes import measure_sizes
from preprocess.plan import ConvertPlan, explain_layout, plan_conversion
from preprocess.settings import ConvertSettings
from preprocess.sources import Source
from ups_data.errors import ConfigError


def forecast(
    source: Source,
    settings: ConvertSettings,
    *,
    scratch: Path | None = None,
    sample_bytes: int = 32 * 2**20,
    layouts_ratio: float | None = None,
    progress: Progress | None = None,
) -> Forecast:
    """Tell what converting `source` with `settings` will write, need and take.

    Args:
        source: what would be converted.
        settings: of the conversion.
        scratch: folder in which a sample is converted and removed again, best on the destination's disk; the system's
            temporary folder if None.
        sample_bytes: values that the sample holds, about, but at least a frame of a trajectory; 0 for no sample, hence
            no time, memory and compression.
        layouts_ratio: drawn points / points of a trajectory, for which the sample is also laid out in other ways to
            find what is worth most, as `prove` does on a store; None for not at all.
        progress: called with "sample", how many parts are done, and how many there are.

    Raises:
        SourceError, ConfigError, SchemaError, StoreError: as the conversion itself; a sample finds bad values where it
            reads. ConfigError also where `scratch` is no folder, and where layouts are asked for without a sample.
    """
    folder = Path(tempfile.gettempdir()) if scratch is None else scratch
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; a sample is converted in it and removed: name one that is there")
    if layouts_ratio is not None and not sample_bytes:
        raise ConfigError("layouts are compared on a sample: ask for one that is larger than 0")
    plan = plan_conversion(source, settings)
    parts = measure_sizes(source, plan, shard_bytes=settings.shard_bytes)
    found = None
    if sample_bytes:
        converter = SampleConverter(source, plan, settings, folder)
        found = converter.measure(sample_bytes, layouts_ratio=layouts_ratio, progress=progress)
    return Forecast(
        name=source.name,
        format=source.format,
        kind=source.kind,
        channels=tuple(name for field in source.fields for name in field.channel_names),
        num_trajectories=len(plan.num_frames),
        splits=plan.splits,
        split_provenance=plan.split_provenance,
        num_frames=int(plan.num_frames.sum()),
        least_points=int(plan.num_points.min()),
        most_points=int(plan.num_points.max()),
        shape=plan.shape if source.kind == "grid" else None,
        dtype=plan.dtype,
        codec=settings.codec,
        layout=plan.layout,
        reasons=explain_layout(plan, settings),
        importance=plan.importance,
        parts=tuple(_part(key, size, plan) for key, size in parts.items()),
        sample=None if found is None else found.sample,
        memory=None if found is None else found.memory,
        frame_reads=None if found is None else found.frame_reads,
        layouts=None if found is None else found.layouts,
    )


def _part(key: str, size: int, plan: ConvertPlan) -> PartSize:
    spec = plan.arrays.get(key)
    if spec is None:
        return PartSize(key=key, size_bytes=size)
    return PartSize(
        key=key,
        size_bytes=size,
        shape=spec.shape,
        num_rows=spec.num_rows,
        row_bytes=spec.codec_of_chunk.chunk_bytes,
        rows_per_shard=spec.rows_per_shard,
        num_shards=spec.num_shards,
    )
