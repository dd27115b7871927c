"""The contract of a source: one input format, described before it is read, and read frame by frame."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float64, Shaped

from preprocess.sources.survey import Survey
from ups_data.errors import SourceError
from ups_data.importance import Subject
from ups_data.mesh import Mesh
from ups_data.schema import (
    AxisSpec,
    BoundarySpec,
    ChannelStatistics,
    FieldSpec,
    GeometryKind,
    ImportanceSpec,
    OffGridSpec,
    SourceFingerprint,
)

_MIB = 2**20
_ZARR_METADATA = frozenset({"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"})


@dataclass(frozen=True, kw_only=True)
class TrajectoryInfo:
    """One trajectory as its source describes it, before any field is read.

    Attributes:
        item: where it lies, for messages and provenance: `tensor[7]`, `0007/data`.
        shape: nodes per axis of a grid, in axis order; `(N,)` for points.
        times: strictly increasing physical times of the frames; `[0.0]` for a steady problem.
        parameters: scalars of the trajectory by name; the same names in every trajectory.
        split: the split that the source puts it in, None where it has none.
    """

    item: str
    shape: tuple[int, ...]
    times: Float64[np.ndarray, " time"]
    parameters: Mapping[str, float] = field(default_factory=dict)
    split: str | None = None

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1:
            raise SourceError(f"{self.item}: shape {self.shape} holds no point")
        if self.times.size < 1 or not np.isfinite(self.times).all() or (np.diff(self.times) <= 0).any():
            raise SourceError(
                f"{self.item}: times must be finite and strictly increasing, got {self.times.size} of them: "
                f"{np.array2string(self.times, threshold=8)}"
            )

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return int(self.times.size)

    @property
    def num_points(self) -> int:
        """Number of points of a frame."""
        return int(np.prod(self.shape, dtype=np.int64))


class Source(ABC):
    """A data set in the layout of one format.

    A source is opened with `Source.open(paths, ...)`, describes itself from metadata alone, and then reads
    blocks of frames. It is picklable (handles are opened lazily), never guesses, and raises `SourceError`
    naming file and item for whatever does not fit.

    `parameter_units` holds the units of those parameters whose unit the source tells, `boundaries` the conditions on
    the boundary of the domain that it tells. `missing_fields` names the fields that declare missing values (a fill
    value, a mask): they read as NaN, and NaN anywhere else is refused. `has_measures` tells that `read_measures` gives
    the measures of every trajectory's points. `marks` are names that HDF5 files of the format hold, by which an unknown
    file is told its nearest format; `is_general` marks a format that steps back where another one recognises a file
    too. `off_grid` tells how points lie between the nodes of another source, where they do.
    """

    format: ClassVar[str]
    summary: ClassVar[str]
    marks: ClassVar[frozenset[str]] = frozenset()
    is_general: ClassVar[bool] = False

    name: str
    paths: tuple[Path, ...]
    fields: tuple[FieldSpec, ...]
    axes: tuple[AxisSpec, ...]
    kind: GeometryKind
    time_unit: str | None
    dtype: np.dtype[Any]
    trajectories: Sequence[TrajectoryInfo]
    notes: tuple[str, ...]
    parameter_units: Mapping[str, str] = MappingProxyType({})
    boundaries: tuple[BoundarySpec, ...] = ()
    missing_fields: frozenset[str] = frozenset()
    options: Mapping[str, Any] = MappingProxyType({})
    has_measures: bool = False
    off_grid: OffGridSpec | None = None

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Tell by content, cheaply and without raising, whether a file or a directory is in this format."""

    @classmethod
    @abstractmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> Source:
        """Open one data set spread over `paths`; `options` are the format's own, unknown ones refused."""

    @abstractmethod
    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read frames [start, stop) of a trajectory: (time, channel, *shape), channels in `fields` order.

        What was returned before keeps its values.
        """

    @abstractmethod
    def read_coordinates(self, trajectory: int) -> tuple[Float[np.ndarray, "..."], ...]:
        """Return one array of strictly increasing node coordinates per axis (grids), or one (N, D) array (points)."""

    def read_measures(self, trajectory: int) -> Float64[np.ndarray, " point"] | None:  # noqa: ARG002  of the contract
        """Return the measure (length, area, volume) of each point's cell, None where the source tells none.

        Never on grids: there it follows from the axes, see `ups_data.coordinates.grid_measures`.
        """
        return None

    def read_mesh(self, trajectory: int) -> Mesh | None:  # noqa: ARG002  of the contract
        """Return the cells of a trajectory of kind `mesh`, None for other kinds."""
        return None

    @property
    def may_miss(self) -> Bool[np.ndarray, " channel"]:
        """Whether values of each channel may be missing."""
        return np.array([field.name in self.missing_fields for field in self.fields for _ in field.components])

    @property
    def subject(self) -> Subject:
        """What importance is measured on, before a frame is read."""
        return Subject(
            kind=self.kind,
            axes=tuple(axis.name for axis in self.axes),
            fields=self.fields,
            specs=self.axes,
            boundaries=self.boundaries,
            missing_fields=self.missing_fields,
            parameters=tuple(self.trajectories[0].parameters),
            least_frames=min(info.num_frames for info in self.trajectories),
        )

    def survey(
        self,
        trajectory: int,  # noqa: ARG002  of the contract
        blocks: Sequence[tuple[int, int]],  # noqa: ARG002  as above
        recipe: ImportanceSpec,  # noqa: ARG002  as above
    ) -> Survey | None:
        """Return what is measured on other points than those that are stored; None where nothing is.

        Args:
            trajectory: its number.
            blocks: first frame and number of frames of each of its blocks.
            recipe: of the importance maps.
        """
        return None

    def review_statistics(self, statistics: tuple[ChannelStatistics, ...]) -> tuple[str, ...]:  # noqa: ARG002  of the contract
        """Return notes on our statistics of the train split, where the source brings its own to compare with."""
        return ()

    def fingerprints(self) -> tuple[SourceFingerprint, ...]:
        """Return what identifies the files that were read."""
        return tuple(fingerprint_file(path) for path in self.paths)


def fingerprint_file(path: Path) -> SourceFingerprint:
    """Hash the first and the last MiB of a file: enough to tell versions of terabyte files apart.

    Of a directory (an array of Zarr), the sorted names and sizes of all files in it and the content of those named as
    Zarr names its metadata.
    """
    if path.is_dir():
        return _fingerprint_directory(path)
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        digest.update(handle.read(_MIB))
        handle.seek(max(0, size - _MIB))
        digest.update(handle.read(_MIB))
    return SourceFingerprint(name=path.name, size_bytes=size, sha256_ends=digest.hexdigest())


def _fingerprint_directory(path: Path) -> SourceFingerprint:
    digest, total = hashlib.sha256(), 0
    for file in sorted(found for found in path.rglob("*") if found.is_file()):
        size = file.stat().st_size
        total += size
        digest.update(f"{file.relative_to(path).as_posix()}\0{size}\0".encode())
        if file.name in _ZARR_METADATA:
            digest.update(file.read_bytes())
    return SourceFingerprint(name=path.name, size_bytes=total, sha256_ends=digest.hexdigest())
