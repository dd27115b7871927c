"""Data sets of anemoi, gridded layout: every cell of the globe a point, whatever grid the cells come from.

A Zarr group with `data` (dates, variables, ensembles, cells), `dates`, `latitudes` and `longitudes` (cells,) in
degrees, and the attribute `variables`. Each variable becomes a field, each member of the ensemble a trajectory. Dates
that `missing_dates` names hold nothing: the series is cut there, so that no window reaches across, and nothing is
filled in.
Variables of which `has_nans` says so have missing values. Points of a sphere are no grid: longitudes are as the files
have them, and nothing wraps around.

Layouts `trajectories` and `tabular` are refused, as are data sets under construction (with a group `_build`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pydantic
import zarr
from jaxtyping import Float64, Int64, Shaped

from preprocess.sources.axes import grid_axis
from preprocess.sources.base import Source, TrajectoryInfo
from preprocess.sources.exact import exact_cast, stored_dtype
from preprocess.sources.naming import name_field, storable_name
from preprocess.sources.zarr_files import (
    check_zarr_arrays,
    is_zarr,
    note_absent_chunks,
    open_zarr_array,
    read_zarr_part,
)
from ups_data.errors import SourceError, suggest
from ups_data.schema import AxisKind, AxisSpec, FieldSpec, GeometryKind, Record
from ups_data.yaml_records import parse_record

_ARRAYS = ("data", "dates", "latitudes", "longitudes")
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, RuntimeError, ArithmeticError)


class AnemoiOptions(Record):
    """What may be told of a data set.

    Attributes:
        variables: those that become fields; all by default.
        missing: variables whose NaN are missing values, though the data set does not say so.
        frames_per_trajectory: cut the series into trajectories of so many frames (the last of each may be shorter).
    """

    variables: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()
    frames_per_trajectory: Annotated[int, pydantic.Field(ge=1)] | None = None


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """Where a trajectory lies: member of the ensemble, first date."""

    member: int
    first: int


class AnemoiSource(Source):
    """One gridded data set of anemoi, as points."""

    format: ClassVar[str] = "anemoi"
    summary: ClassVar[str] = "anemoi's gridded data sets in Zarr, as points"

    def __init__(self, path: Path, options: AnemoiOptions) -> None:
        self.paths, self._path = (path,), path
        self.name, self.time_unit = path.stem, "seconds since 1970-01-01"
        self.kind: GeometryKind = "points"
        self._data: zarr.Array[Any] | None = None
        check_zarr_arrays(path)
        attributes = _read_attributes(path)
        names = _read_names(attributes, path)
        self._check_layout(attributes, names)
        chosen = options.variables or names
        for name in (*chosen, *options.missing):
            if name not in names:
                raise SourceError(f"{path.name} has no variable {name!r}. {suggest(name, names)}")
        self._rows = tuple(names.index(name) for name in chosen)
        self.fields = tuple(_describe_variable(name, attributes, path) for name in chosen)
        self.dtype = stored_dtype([self._open().dtype], where=f"{path.name}: data")
        self._points = np.stack([self._read_degrees("longitudes"), self._read_degrees("latitudes")], axis=1)
        self.axes = tuple(self._describe_axes())
        missing = {*options.missing, *self._variables_with_gaps(names)} & set(chosen)
        self.missing_fields = frozenset(storable_name(name) for name in missing)
        dates = _read_dates(path)
        gaps = _find_gaps(attributes, dates, path)
        pieces = list(self._cut(dates, gaps, options.frames_per_trajectory))
        self._pieces, self.trajectories = tuple(piece for piece, _ in pieces), tuple(info for _, info in pieces)
        self.notes = self._find_notes(chosen, gaps)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell by the names of the arrays."""
        return is_zarr(path) and all(is_zarr(path / name) for name in ("data", "latitudes", "longitudes"))

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> Self:
        """Open a data set; `options` are those of `AnemoiOptions`."""
        if len(paths) != 1:
            raise SourceError(f"{len(paths)} paths were given for format 'anemoi'; convert its data sets one by one")
        if not cls.recognises(paths[0]):
            raise SourceError(f"{paths[0]} is no Zarr group with {', '.join(_ARRAYS)}, as anemoi's data sets are")
        return cls(paths[0], parse_record(AnemoiOptions, options, where="options of format 'anemoi'"))

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read frames [start, stop) of a trajectory; see `Source.read_frames`."""
        piece, where = self._pieces[trajectory], f"{self._path.name}: data"
        place = (slice(piece.first + start, piece.first + stop), slice(None), piece.member)
        values = read_zarr_part(self._open(), place, where=where)[:, list(self._rows)]
        return exact_cast(values, self.dtype, where=where)

    def read_coordinates(self, trajectory: int) -> tuple[Float64[np.ndarray, "..."], ...]:  # noqa: ARG002  of the contract
        """Return longitudes and latitudes of the cells; see `Source.read_coordinates`."""
        return (self._points,)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open array behind: another process opens it itself."""
        return {**self.__dict__, "_data": None}

    def _open(self) -> zarr.Array[Any]:
        if self._data is None:
            self._data = open_zarr_array(self._path, "data")
        return self._data

    def _check_layout(self, attributes: Mapping[str, Any], names: tuple[str, ...]) -> None:
        layout, where = attributes.get("layout", "gridded"), self._path.name
        if layout != "gridded":
            raise SourceError(f"{where} has the layout {layout!r}; only 'gridded' is read")
        if (self._path / "_build").exists():
            raise SourceError(
                f"{where} is under construction: it holds the group _build; finish it with anemoi-datasets"
            )
        shape = self._open().shape
        if len(shape) != 4 or shape[1] != len(names):
            raise SourceError(
                f"{where}: data has shape {shape}; (dates, {len(names)} variables, ensembles, cells) is wanted"
            )

    def _read_degrees(self, name: str) -> Float64[np.ndarray, " cell"]:
        where = f"{self._path.name}: {name}"
        values = np.asarray(read_zarr_part(open_zarr_array(self._path, name), (), where=where), dtype=np.float64)
        if values.shape != self._open().shape[3:]:
            raise SourceError(f"{where} has shape {values.shape}, data has {self._open().shape[3]} cells")
        if not np.isfinite(values).all():
            cell = int(np.argmin(np.isfinite(values)))
            raise SourceError(f"{where} holds {values[cell]} at {cell}; it must be finite")
        return values

    def _describe_axes(self) -> Iterator[AxisSpec]:
        kinds: tuple[tuple[str, AxisKind], ...] = (("longitude", "longitude"), ("latitude", "latitude"))
        for (name, kind), values in zip(kinds, self._points.T, strict=True):
            ends = np.array([values.min(), values.max()])
            where = f"{self._path.name}: {name}s"
            extent = (float(ends[0]), float(ends[1]))
            yield grid_axis(name, ends, periodic=False, where=where, unit="degrees", extent=extent, kind=kind)

    def _variables_with_gaps(self, names: tuple[str, ...]) -> set[str]:
        if not is_zarr(self._path / "has_nans"):
            return set()
        where = f"{self._path.name}: has_nans"
        flags = read_zarr_part(open_zarr_array(self._path, "has_nans"), (), where=where)
        if flags.shape != (len(names),):
            raise SourceError(f"{where} has shape {flags.shape} for {len(names)} variables")
        return {name for name, flag in zip(names, flags, strict=True) if flag}

    def _cut(
        self, dates: Int64[np.ndarray, " date"], gaps: Int64[np.ndarray, " gap"], length: int | None
    ) -> Iterator[tuple[_Piece, TrajectoryInfo]]:
        """Go through the runs of dates between gaps, member after member."""
        if dates.size != self._open().shape[0]:
            raise SourceError(f"{self._path.name}: dates has {dates.size} entries, data {self._open().shape[0]}")
        members, cells = self._open().shape[2:]
        ends = [*gaps.tolist(), dates.size]
        starts = [0, *(gap + 1 for gap in gaps.tolist())]
        for member in range(members):
            for start, end in zip(starts, ends, strict=True):
                for first in range(start, end, length or dates.size):
                    last = min(end, first + (length or dates.size))
                    info = TrajectoryInfo(
                        item=f"{self._path.name}: member {member}: dates {first} to {last - 1}",
                        shape=(cells,),
                        times=dates[first:last].astype(np.float64),
                        parameters={"member": float(member)} if members > 1 else {},
                    )
                    yield _Piece(member=member, first=first), info

    def _find_notes(self, chosen: tuple[str, ...], gaps: Int64[np.ndarray, " gap"]) -> tuple[str, ...]:
        notes = [
            f"field {storable_name(name)} is the variable {name}" for name in chosen if storable_name(name) != name
        ]
        if gaps.size:
            notes.append(f"{gaps.size} missing dates were left out; the series is cut into trajectories at each")
        absent = note_absent_chunks(self._path, "data")
        return (*notes, *(() if absent is None else (absent,)))


def _read_attributes(path: Path) -> Mapping[str, Any]:
    try:
        return dict(zarr.open_group(path, mode="r").attrs)
    except _UNREADABLE as error:
        raise SourceError(f"{path.name}: its attributes cannot be read: {error}") from error


def _read_names(attributes: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    names = attributes.get("variables")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise SourceError(f"{path.name}: attribute variables is {names!r:.80}; a list of names is wanted")
    return tuple(names)


def _describe_variable(name: str, attributes: Mapping[str, Any], path: Path) -> FieldSpec:
    told = attributes.get("variables_metadata", {})
    unit = told.get(name, {}).get("units") if isinstance(told, dict) and isinstance(told.get(name), dict) else None
    return name_field(
        storable_name(name), unit=unit if isinstance(unit, str) else None, where=f"{path.name}: variable {name!r}"
    )


def _read_dates(path: Path) -> Int64[np.ndarray, " date"]:
    """Return the dates in seconds since 1970."""
    where = f"{path.name}: dates"
    try:
        dates = np.asarray(zarr.open_array(path / "dates", mode="r")[...])
    except _UNREADABLE as error:
        raise SourceError(f"{where} cannot be read: {error}") from error
    if dates.dtype.kind != "M" or dates.ndim != 1 or np.isnat(dates).any():
        raise SourceError(f"{where} has type {dates.dtype} and shape {dates.shape}; one row of dates is wanted")
    seconds: Int64[np.ndarray, " date"] = dates.astype("datetime64[s]").astype(np.int64)
    if (np.diff(seconds) <= 0).any():
        raise SourceError(
            f"{where} must increase strictly, but entry {int(np.argmax(np.diff(seconds) <= 0)) + 1} does not"
        )
    return seconds


def _find_gaps(
    attributes: Mapping[str, Any], dates: Int64[np.ndarray, " date"], path: Path
) -> Int64[np.ndarray, " gap"]:
    """Return where the dates that hold nothing stand."""
    told = attributes.get("missing_dates") or []
    try:
        if not all(isinstance(date, str) for date in told):
            raise TypeError("a date is text")
        gaps = np.array([np.datetime64(date, "s") for date in told], dtype="datetime64[s]").astype(np.int64)
    except (TypeError, ValueError) as error:
        raise SourceError(f"{path.name}: attribute missing_dates is {told!r:.80}; a list of dates is wanted") from error
    return np.flatnonzero(np.isin(dates, gaps))
