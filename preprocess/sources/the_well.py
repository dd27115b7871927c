"""The Well's HDF5 files, one by one or as the directory of a data set.

A directory is `<dataset>` with `data/{train,valid,test}/*.hdf5`; the folder of a file is its split. A file holds

* `t0_fields`, `t1_fields`, `t2_fields`: scalars, vectors and tensors, ([B], [T], x, y, (z), [D, [D]]). Those that are
  the same in all trajectories, in all frames, or along an axis lack that dimension (or have one entry along an axis)
  and are repeated. Tensors keep all of their components, symmetric or not.
* `dimensions`: `time` and the axes, of all trajectories (N,) or of each (B, N).
* `scalars` and the root attributes that `simulation_parameters` names: parameters. A scalar that changes in time
  becomes a field that is the same at all points.
* `boundary_conditions`: kept in the manifest; an axis of a `PERIODIC` one is periodic. The mask of a boundary that is
  not the end of an axis (a wall inside of the domain) becomes a field of that name with `_mask`, 1 on the boundary, and
  the values that it prescribes one with `_values`, which is 0 off the boundary.

Grids on a sphere (`grid_type` equiangular, the axes theta and phi) have angles for axes, in radians.

`stats.yaml` beside `data` is compared with the statistics of our conversion; what differs is noted in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from jaxtyping import Float64, Shaped

from preprocess.sources.axes import shared_axis
from preprocess.sources.base import Source, fingerprint_file
from preprocess.sources.exact import exact_cast, stored_dtype
from preprocess.sources.hdf5_files import has_hdf5_magic, open_hdf5, read_part
from preprocess.sources.the_well_layout import FIELD_GROUPS, SPLITS, WellLayout, WellPart, describe_well
from ups_data.errors import ConfigError, SourceError, UnknownFormatError
from ups_data.schema import ChannelStatistics, GeometryKind, SourceFingerprint
from ups_data.yaml_records import parse_yaml

if TYPE_CHECKING:
    import h5py

_GRID: GeometryKind = "grid"
_SUFFIXES = frozenset({".h5", ".hdf5"})
_TOLERANCE = 1e-3
"""Difference of statistics worth a note, relative to the root mean square: The Well's are sums in float32."""


class WellSource(Source):
    """One or several files of one data set of The Well."""

    format: ClassVar[str] = "the_well"
    summary: ClassVar[str] = "The Well .hdf5 files, or the directory of a data set with data/{train,valid,test}"
    marks: ClassVar[frozenset[str]] = frozenset({"dimensions", "boundary_conditions", "grid_type", *FIELD_GROUPS})

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._handles: dict[Path, h5py.File] = {}
        layouts = [_describe(path) for path in paths]
        first = layouts[0]
        for path, layout in zip(paths, layouts, strict=True):
            _check_same(first, layout, paths[0], path)
        self.name, self.kind, self.time_unit = first.name, _GRID, None
        self._parts = first.parts
        self.fields = tuple(part.field for part in first.parts)
        self.dtype = stored_dtype((part.dtype for layout in layouts for part in layout.parts), where=paths[0].name)
        self._places = tuple(place for layout in layouts for place in layout.places)
        self.trajectories = tuple(place.info for place in self._places)
        self.axes = tuple(
            shared_axis(
                name,
                (place.nodes[number] for place in self._places),
                periodic=first.periodic[number],
                where=f"{paths[0].name}: dimensions/{name}",
                unit=None if first.kinds[number] == "linear" else "radians",
                kind=first.kinds[number],
            )
            for number, name in enumerate(first.axes)
        )
        self.boundaries = first.boundaries
        self.notes = tuple(dict.fromkeys(note for layout in layouts for note in layout.notes))
        self._stats_path = _find_stats(self.paths)
        self._stats = _read_stats(self._stats_path) if self._stats_path is not None else {}

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell a file by its groups and attributes, a directory by the files in its splits."""
        try:
            if path.is_dir():
                return bool(_files_in(path)) and cls.recognises(_files_in(path)[0])
            if not has_hdf5_magic(path):
                return False
            with open_hdf5(path) as file:
                return "dimensions" in file and any(group in file for group in FIELD_GROUPS)
        except (OSError, SourceError):
            return False

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> Self:
        """Open files, or the directory of a data set. There are no options."""
        for option in options:
            raise ConfigError(f"format 'the_well' has no option {option!r}; its files tell all")
        files = [file for path in paths for file in (_files_in(path) if path.is_dir() else (path,))]
        if not files:
            raise UnknownFormatError(
                f"{paths[0]} holds no .hdf5 or .h5 file in data/train, data/valid or data/test, where The Well has them"
            )
        return cls(files)

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read frames [start, stop) of a trajectory; see `Source.read_frames`."""
        return np.concatenate([self._read_part(part, trajectory, start, stop) for part in self._parts], axis=1)

    def read_coordinates(self, trajectory: int) -> tuple[Float64[np.ndarray, "..."], ...]:
        """Return the nodes of every axis; see `Source.read_coordinates`."""
        return self._places[trajectory].nodes

    def review_statistics(self, statistics: tuple[ChannelStatistics, ...]) -> tuple[str, ...]:
        """Note where our statistics of the train split differ from those of `stats.yaml`."""
        ours = {record.channel: record for record in statistics}
        if not self._stats or not any(info.split == "train" for info in self.trajectories):
            return ()
        notes, compared = [], 0
        for part in self._parts:
            records = [ours[channel] for channel in part.field.channel_names]
            for kind, theirs in _statistics_of(self._stats, part.field.name):
                values = _as_row(theirs, len(records))
                if values is None:
                    notes.append(f"stats.yaml: {kind} of {part.field.name} has another shape than the field: {theirs}")
                    continue
                compared += len(records)
                notes.extend(_compare(kind, records, values))
        if not compared:
            notes.append("stats.yaml tells nothing of these fields")
        return tuple(notes) or (f"stats.yaml agrees with the statistics here: {compared} figures compared",)

    def fingerprints(self) -> tuple[SourceFingerprint, ...]:
        """Return what identifies the files that were read, `stats.yaml` among them."""
        more = () if self._stats_path is None else (fingerprint_file(self._stats_path),)
        return (*super().fingerprints(), *more)

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: another process opens its own."""
        return {**self.__dict__, "_handles": {}}

    def _read_part(
        self, part: WellPart, trajectory: int, start: int, stop: int
    ) -> Shaped[np.ndarray, "time channel *space"]:
        place = self._places[trajectory]
        cuts: dict[str, int | slice] = {"trajectory": place.row, "time": slice(start, stop)}
        whole: int | slice = slice(None)
        where = f"{place.path.name}: {part.dataset}"
        cut = tuple(cuts.get(dim, whole) for dim in part.dims)
        file = self._handle(place.path)
        if part.mask is None:
            block = read_part(file[part.dataset], cut, where=where)
        else:
            mask = read_part(file[part.mask], (), where=where) != 0
            # One dimension of values stands for all axes of the mask.
            values = read_part(file[part.dataset], (*cut[: -mask.ndim], whole), where=where)
            block = np.zeros((*values.shape[:-1], *mask.shape), dtype=values.dtype)
            block[..., mask] = values
        block = exact_cast(block, self.dtype, where=where)
        space = tuple(axis.name for axis in self.axes)
        left = tuple(dim for dim in part.dims if dim != "trajectory")
        stored = [dim for dim in left if dim in space]
        lead = 1 if "time" in left else 0
        # Component last, one dimension: ([time], stored axes, component); then the axes in the order of the grid.
        block = block.reshape((*block.shape[: lead + len(stored)], len(part.field.components)))
        order = [lead + stored.index(axis) for axis in space if axis in stored]
        block = block.transpose((*range(lead), block.ndim - 1, *order))
        sizes = dict(zip([axis for axis in space if axis in stored], block.shape[lead + 1 :], strict=True))
        frames = block.shape[0] if lead else 1
        block = block.reshape((frames, len(part.field.components), *(sizes.get(axis, 1) for axis in space)))
        return np.broadcast_to(block, (stop - start, len(part.field.components), *place.info.shape))

    def _handle(self, path: Path) -> h5py.File:
        if path not in self._handles:
            self._handles[path] = open_hdf5(path)
        return self._handles[path]


def _describe(path: Path) -> WellLayout:
    with open_hdf5(path) as file:
        return describe_well(file, path)


def _check_same(first: WellLayout, other: WellLayout, first_path: Path, path: Path) -> None:
    for what, mine, theirs in (
        ("data sets", first.name, other.name),
        ("axes", (first.axes, first.kinds), (other.axes, other.kinds)),
        ("fields", [part.field for part in first.parts], [part.field for part in other.parts]),
        ("boundary conditions", first.boundaries, other.boundaries),
    ):
        if mine != theirs:
            raise SourceError(
                f"{path.name} and {first_path.name} have different {what}; convert them one by one: {theirs!s:.200} "
                f"beside {mine!s:.200}"
            )
    stored = {part.dataset: part.dims for part in first.parts}
    if stored != {part.dataset: part.dims for part in other.parts}:
        raise SourceError(f"{path.name} and {first_path.name} store fields along different dimensions: {stored}")


def _files_in(folder: Path) -> tuple[Path, ...]:
    """Return the files of a data set's directory, split after split."""
    roots = (folder / "data", folder) if folder.name not in SPLITS else (folder.parent,)
    splits = SPLITS if folder.name not in SPLITS else (folder.name,)
    for root in roots:
        found = [
            file
            for split in splits
            if (root / split).is_dir()
            for file in sorted((root / split).iterdir())
            if file.suffix.lower() in _SUFFIXES
        ]
        if found:
            return tuple(found)
    return ()


def _find_stats(paths: Sequence[Path]) -> Path | None:
    roots = {path.parent.parent.parent for path in paths if path.parent.name in SPLITS}
    found = [root / "stats.yaml" for root in sorted(roots) if (root / "stats.yaml").is_file()]
    return found[0] if len(found) == 1 else None


def _read_stats(path: Path) -> Mapping[str, Any]:
    try:
        content = parse_yaml(path.read_text(encoding="utf-8", errors="replace"), where=str(path))
    except ConfigError as error:
        raise SourceError(f"{error}; mend it, or take it away: it only serves to compare statistics") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path} holds no keys mean, std, ...; mend it, or take it away")
    return content


def _statistics_of(stats: Mapping[str, Any], field: str) -> Iterator[tuple[str, Any]]:
    """Go through the figures that The Well's file has of a field; any of them may be missing."""
    for kind in ("mean", "std", "rms", "mean_delta", "std_delta", "rms_delta"):
        table = stats.get(kind)
        if isinstance(table, dict) and field in table:
            yield kind, table[field]


def _as_row(values: Any, count: int) -> Float64[np.ndarray, " channel"] | None:
    try:
        row = np.asarray(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        return None
    return row if row.size == count else None


def _compare(kind: str, records: Sequence[ChannelStatistics], theirs: Float64[np.ndarray, " channel"]) -> Iterator[str]:
    name, _, delta = kind.partition("_")
    for record, value in zip(records, theirs, strict=True):
        ours = getattr(record, f"delta_{name}" if delta else name)
        size = record.delta_rms if delta else record.rms
        if ours is None or size is None:
            continue
        if not abs(ours - value) <= _TOLERANCE * max(size, abs(value)):
            yield f"stats.yaml: {kind} of {record.channel} is {value:.6g}, here it is {ours:.6g}"
