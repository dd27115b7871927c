"""A small part of a source, converted for real: how long it takes, how much memory, how far it is compressed."""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped

from preprocess.convert import Progress, convert
from preprocess.forecast.records import FrameReads, Memory, Sample
from preprocess.inspect import part_of
from preprocess.memory import largest_resident_bytes
from preprocess.partition import BLOCK_BYTES
from preprocess.plan import ConvertPlan, plan_conversion
from preprocess.prove import LayoutReport, recommend_layout
from preprocess.settings import ConvertSettings
from preprocess.sources import Source
from preprocess.sources.survey import Survey
from preprocess.sources.wrapped import WrappedSource
from ups_data.mesh import Mesh
from ups_data.schema import ImportanceSpec, Manifest
from ups_data.storage import Store, open_store
from ups_data.storage.shard import SLAB_BYTES

# Many small trajectories take time by their number and not by their size.
_MAX_TRAJECTORIES, _MAX_SHARE = 512, 0.25
_MOST_LAID_OUT, _READS = 4, 3
# A conversion reads frames in blocks of this size, holds each once as read and once as stored.
_BLOCK_COPIES = 2
# The index of a shard is made of lengths and offsets.
_INDEX_COPIES = 2


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """Which trajectories of a source, and how many frames of each."""

    trajectories: tuple[int, ...]
    num_frames: int


class _CutSource(WrappedSource):
    """Some trajectories of a source, and their first frames."""

    format = "sample"
    summary = "a part of another source"

    def __init__(self, source: Source, cut: _Cut) -> None:
        super().__init__(source)
        self._cut = cut
        self.name, self.paths, self.notes = f"a sample of {source.name}", (), ()
        infos = (source.trajectories[number] for number in cut.trajectories)
        self.trajectories = [replace(info, times=info.times[: cut.num_frames], split="train") for info in infos]

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read frames of the source."""
        return self._source.read_frames(self._cut.trajectories[trajectory], start, stop)

    def read_coordinates(self, trajectory: int) -> tuple[Float64[np.ndarray, "..."], ...]:
        """Read coordinates of the source."""
        return self._source.read_coordinates(self._cut.trajectories[trajectory])

    def read_measures(self, trajectory: int) -> Float64[np.ndarray, " point"] | None:
        """Read measures of cells of the source."""
        return self._source.read_measures(self._cut.trajectories[trajectory])

    def read_mesh(self, trajectory: int) -> Mesh | None:
        """Read nodes and cells of the source."""
        return self._source.read_mesh(self._cut.trajectories[trajectory])

    def survey(self, trajectory: int, blocks: Sequence[tuple[int, int]], recipe: ImportanceSpec) -> Survey | None:
        """Measure what the source measures on other points."""
        return self._source.survey(self._cut.trajectories[trajectory], blocks, recipe)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One conversion of a cut."""

    seconds: float
    num_points: int
    num_values: int
    manifest: Manifest
    plan: ConvertPlan


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a sample told; see `Forecast`."""

    sample: Sample
    memory: Memory
    frame_reads: FrameReads
    layouts: LayoutReport | None


class SampleConverter:
    """Converts parts of a source.

    Args:
        source: the whole of it.
        plan: of the whole conversion, whose layout the parts get too.
        settings: of the whole conversion.
        folder: where the parts are converted; each is removed at once.
    """

    def __init__(self, source: Source, plan: ConvertPlan, settings: ConvertSettings, folder: Path) -> None:
        self._source, self._plan, self._folder = source, plan, folder
        layout = plan.layout
        self._settings = settings.model_copy(
            update={
                "page_points": layout.page_points,
                "num_strata": layout.num_strata,
                "block_points": layout.block_points,
                "dense": layout.dense,
                "splits": None,
            }
        )

    def measure(
        self, max_bytes: int, *, layouts_ratio: float | None = None, progress: Progress | None = None
    ) -> Measured:
        """Convert a sample of about `max_bytes`, and smaller ones that tell what depends on what."""
        cut = self._choose(max_bytes)
        first = _Cut(trajectories=cut.trajectories[:1], num_frames=1)
        still = _Cut(trajectories=cut.trajectories, num_frames=1)
        report = progress or (lambda what, done, total: None)  # noqa: ARG005  # of the contract
        report("sample", 0, 4)
        # The first one imports what a conversion needs; its time is no measure.
        peak, run = self._trace(first)
        base = largest_resident_bytes()
        report("sample", 1, 4)
        tiny = min((self._run(first) for _ in range(2)), key=lambda run: run.seconds)
        report("sample", 2, 4)
        static = self._run(still)
        report("sample", 3, 4)
        reads: list[FrameReads] = []
        layouts: list[LayoutReport] = []

        def look(store: Store) -> None:
            reads.append(_time_frames(store))
            if layouts_ratio is not None:
                numbers = range(min(len(store), _MOST_LAID_OUT))
                layouts.append(recommend_layout(store, trajectories=numbers, ratio=layouts_ratio, progress=progress))

        whole = self._run(cut, look)
        report("sample", 4, 4)
        return Measured(
            sample=self._scale_time(cut, tiny, static, whole),
            memory=self._scale_memory(peak, run, base),
            frame_reads=reads[0],
            layouts=layouts[0] if layouts else None,
        )

    def _choose(self, max_bytes: int) -> _Cut:
        """Take whole trajectories, evenly spread, where one fits; else the first frames of the middle one."""
        plan = self._plan
        item = np.dtype(plan.dtype).itemsize
        sizes = plan.num_frames * plan.num_points * plan.num_channels * item
        count = len(sizes)
        wanted = int(max(1, min(_MAX_SHARE * count, _MAX_TRAJECTORIES, max_bytes // max(1, int(sizes.mean())))))
        chosen = np.unique(np.linspace(0, count - 1, wanted + 2).round().astype(int)[1:-1]) if count > 1 else [0]
        numbers = tuple(int(number) for number in chosen)
        frame = int(plan.num_points[list(numbers)].sum()) * plan.num_channels * item
        frames = int(plan.num_frames[list(numbers)].max())
        return _Cut(trajectories=numbers, num_frames=int(min(frames, max(2, max_bytes // max(1, frame)))))

    def _run(self, cut: _Cut, look: Callable[[Store], None] | None = None) -> _Run:
        """Convert a cut, and let its store be looked at before it is removed."""
        source = _CutSource(self._source, cut)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".ups-sample-") as scratch:
            started = time.perf_counter()
            manifest = convert(source, Path(scratch) / "sample", self._settings)
            seconds = time.perf_counter() - started
            if look is not None:
                look(open_store(Path(scratch) / "sample"))
        plan = plan_conversion(source, self._settings)
        return _Run(
            seconds=seconds,
            num_points=int(plan.num_points.sum()),
            num_values=plan.num_values,
            manifest=manifest,
            plan=plan,
        )

    def _trace(self, cut: _Cut) -> tuple[int, _Run]:
        """Convert a cut, and return the most memory that it held beyond what was held before."""
        already = tracemalloc.is_tracing()
        if not already:
            tracemalloc.start()
        try:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            run = self._run(cut)
            return max(0, tracemalloc.get_traced_memory()[1] - before), run
        finally:
            if not already:
                tracemalloc.stop()

    def _scale_time(self, cut: _Cut, tiny: _Run, static: _Run, whole: _Run) -> Sample:
        """Split the time into what a conversion, a point of a trajectory, and a value cost, and add up the whole's."""
        more = whole.num_values - static.num_values
        per_value = max(0.0, whole.seconds - static.seconds) / more if more else 0.0
        still = whole.seconds - per_value * more
        many = static.num_points > tiny.num_points
        per_point = max(0.0, still - tiny.seconds) / (static.num_points - tiny.num_points) if many else 0.0
        fixed = max(0.0, still - per_point * static.num_points)
        if not many:
            # One trajectory cannot tell what it costs itself from what the conversion does: all of it is the former's.
            per_point, fixed = still / static.num_points, 0.0
        points = int(self._plan.num_points.sum())
        beyond = self._plan.num_values - self._plan.num_channels * points
        sizes: Counter[str] = Counter()
        for entry in whole.manifest.files:
            sizes[part_of(entry.key)] += entry.size_bytes
        return Sample(
            trajectories=cut.trajectories,
            num_frames=sum(info.num_frames for info in _CutSource(self._source, cut).trajectories),
            num_values=whole.num_values,
            share=whole.num_values / self._plan.num_values,
            sample_seconds=whole.seconds,
            seconds=max(whole.seconds, fixed + per_point * points + per_value * beyond),
            compressed={spec.key: sizes[spec.key] / spec.uncompressed_bytes for spec in whole.plan.arrays.values()},
        )

    def _scale_memory(self, peak: int, run: _Run, base: int) -> Memory:
        """Add what whole blocks and rows hold to what a single frame was measured to need beyond them."""
        scratch = max(0, peak - sum(_held_bytes(run.plan)))
        frame, largest = int(run.plan.num_points.max()), int(self._plan.num_points.max())
        blocks, rows = _held_bytes(self._plan)
        return Memory(
            base_bytes=base,
            frame_bytes=round(scratch * max(1.0, largest / frame)),
            block_bytes=blocks,
            row_bytes=rows,
        )


def _time_frames(store: Store) -> FrameReads:
    """Read the first frame of the first trajectory in each way, and take the best of some times."""
    channels = tuple(range(len(store.manifest.channel_names)))
    pages = np.arange(store.layout(0).all_pages)
    dense = np.empty((store.num_points(0), len(channels)), dtype=store.manifest.dtype)

    def rebuild() -> None:
        index = store.read_page_points(0, pages).index
        dense[index[index >= 0]] = store.read_page_values(0, [0], pages, channels)[0, index >= 0]

    def best(read: Callable[[], object]) -> float:
        seconds = []
        for _ in range(_READS):
            started = time.perf_counter()
            read()
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    stored = store.manifest.layout.dense == "stored"
    return FrameReads(
        stored_seconds=best(lambda: store.read_frames(0, [0], channels)) if stored else None,
        rebuilt_seconds=best(rebuild),
    )


def _held_bytes(plan: ConvertPlan) -> tuple[int, int]:
    """Return what blocks of frames, and rows that are being encoded and their index, hold at most."""
    frame = plan.num_points * plan.num_channels * np.dtype(plan.dtype).itemsize
    blocks = np.minimum(frame * plan.num_frames, np.maximum(frame, BLOCK_BYTES))
    rows = sum(max(SLAB_BYTES, spec.codec_of_chunk.chunk_bytes) for spec in plan.arrays.values())
    rows += _INDEX_COPIES * max(spec.index_bytes for spec in plan.arrays.values())
    return _BLOCK_COPIES * int(blocks.max()), rows
