"""What a data set is: fields, axes, splits, statistics, layout, and the manifest that binds them to bytes.

All records are frozen and checked when made; unknown keys are refused. The manifest is JSON, written
last by a conversion: where there is no manifest, there is no store. `docs/format.md` specifies it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self, TypeVar, get_args

import pydantic

from ups_data.errors import SchemaError, suggest

FORMAT_NAME = "ups-data"
MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 256 * 2**20
MAX_POINTS = 2**31 - 1

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")

_Manifest = TypeVar("_Manifest", bound="Fingerprinted")

GeometryKind = Literal["grid", "points", "mesh"]
CodecName = Literal["none", "zstd", "blosc-lz4", "blosc-zstd"]
CurveName = Literal["hilbert", "morton"]
AxisKind = Literal["linear", "longitude", "latitude", "colatitude"]
Estimand = Literal["mean", "integral"]
SchemeName = Literal["linear", "cubic"]


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is no valid name: a letter first, then letters, digits, '_', '.' or '-', at most 128"
        )
    return value


Name = Annotated[str, pydantic.AfterValidator(_check_name)]
Count = Annotated[int, pydantic.Field(ge=0, le=2**53)]
Positive = Annotated[int, pydantic.Field(ge=1, le=2**53)]
Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]


class Record(pydantic.BaseModel):
    """Base of every schema record: frozen, strict, no unknown keys."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)


class FieldSpec(Record):
    """A named physical quantity.

    Attributes:
        name: unique among the fields of a store.
        components: one name for each channel; `("",)` for a scalar, `("x", "y")` for a plane vector.
        unit: physical unit as text, None where the source does not tell.
    """

    name: Name
    components: tuple[str, ...] = ("",)
    unit: str | None = None

    @pydantic.model_validator(mode="after")
    def _components_are_distinct(self) -> Self:
        if not self.components or len(set(self.components)) != len(self.components):
            raise ValueError(f"field {self.name!r} needs one or more distinct components, got {self.components}")
        return self

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Channel names: `pressure`, or `velocity.x`, `velocity.y`."""
        return tuple(f"{self.name}.{part}" if part else self.name for part in self.components)


class AxisSpec(Record):
    """One spatial axis of the domain.

    Attributes:
        name: `x`, `y`, `z`, `longitude`, ...; the order of the axes is the order of the stored array.
        lower, upper: extent of the domain over all trajectories, in `unit`. Not periodic: the first and the
            last node (or the bounding box of a cloud). Periodic: `upper` is `lower` plus one period, so the
            node that would lie at `upper` is the node at `lower` and is not stored.
        periodic: whether the field wraps around.
        unit: physical unit as text, None where the source does not tell.
        kind: `linear`, or which angle on a sphere the coordinate is, in degrees or radians by its unit: `latitude`
            counts from the equator, `colatitude` from the north pole. It decides the measure of cells alone.
    """

    name: Name
    lower: Finite
    upper: Finite
    periodic: bool = False
    unit: str | None = None
    kind: AxisKind = "linear"

    @pydantic.model_validator(mode="after")
    def _extent_is_positive(self) -> Self:
        if not self.lower < self.upper:
            raise ValueError(f"axis {self.name!r}: lower={self.lower} must be less than upper={self.upper}")
        if self.kind == "linear":
            return self
        limits = {"longitude": (-720.0, 720.0), "latitude": (-90.0, 90.0), "colatitude": (0.0, 180.0)}[self.kind]
        lower, upper = self.lower / self.radian * (180 / math.pi), self.upper / self.radian * (180 / math.pi)
        if not limits[0] - 1e-6 <= lower <= upper <= limits[1] + 1e-6:
            raise ValueError(
                f"axis {self.name!r} is a {self.kind} from {self.lower} to {self.upper} {self.unit}, which leaves "
                f"{limits[0]:g} to {limits[1]:g} degrees"
            )
        return self

    @property
    def radian(self) -> float:
        """One radian in the unit of an angle.

        Raises:
            ValueError: the unit is neither degrees nor radians.
        """
        unit = (self.unit or "").lower()
        if unit.startswith("deg") or unit == "\N{DEGREE SIGN}":
            return 180 / math.pi
        if unit.startswith("rad"):
            return 1.0
        raise ValueError(f"axis {self.name!r} is a {self.kind}, so its unit must be degrees or radians, not {unit!r}")


class GeometrySpec(Record):
    """Where the points of a trajectory lie.

    Attributes:
        kind: `grid` (tensor-product coordinates), `points` (cloud) or `mesh` (points and cells).
        axes: one to three axes, in stored order; point ids of grids count in C order over them.
        shape: nodes per axis where all trajectories share them, else None.
        stored_measures: whether the measure (length, area, volume) of each point's cell is stored, of points and meshes
            whose source tells it; that of grids follows from their axes.
        point_location: what the points of a mesh are, `nodes` or centres of `cells`, where meshes are stored; None
            elsewhere.
    """

    kind: GeometryKind
    axes: tuple[AxisSpec, ...] = pydantic.Field(min_length=1, max_length=3)
    shape: tuple[Positive, ...] | None = None
    stored_measures: bool = False
    point_location: Literal["nodes", "cells"] | None = None

    @pydantic.model_validator(mode="after")
    def _axes_fit(self) -> Self:
        if self.stored_measures and self.kind == "grid":
            raise ValueError("the measures of a grid follow from its axes and are not stored")
        if self.point_location is not None and self.kind != "mesh":
            raise ValueError(f"point_location {self.point_location!r} belongs to meshes, not to kind {self.kind!r}")
        names = [axis.name for axis in self.axes]
        if len(set(names)) != len(names):
            raise ValueError(f"axis names must be distinct, got {names}")
        if self.shape is not None and self.kind == "grid" and len(self.shape) != len(self.axes):
            raise ValueError(f"shape {self.shape} has {len(self.shape)} entries for {len(self.axes)} axes")
        return self

    @property
    def dims(self) -> int:
        """Number of spatial dimensions."""
        return len(self.axes)

    @property
    def has_measures(self) -> bool:
        """Whether the measure of each point's cell is known."""
        return self.kind == "grid" or self.stored_measures


class BoundarySpec(Record):
    """A condition on the boundary of the domain, as the source tells it.

    Attributes:
        name: unique among the boundaries of a store.
        kind: `periodic`, `wall`, `open`, or what else the source calls it, in lower case.
        axes: axes that it holds on.
        sides: ends of these axes that it holds at; empty where the source tells none (a wall inside of the domain).
        fields: fields that it holds for; empty where the source tells none, or all of them.
    """

    name: Name
    kind: Name
    axes: tuple[Name, ...] = pydantic.Field(min_length=1, max_length=3)
    sides: tuple[Literal["lower", "upper"], ...] = ()
    fields: tuple[Name, ...] = ()


class ParameterSpec(Record):
    """A scalar that belongs to a whole trajectory (viscosity, Mach number), with its train statistics."""

    name: Name
    unit: str | None = None
    mean: Finite = 0.0
    std: Annotated[Finite, pydantic.Field(ge=0)] = 0.0


class ChannelStatistics(Record):
    """Moments of one channel over all points and frames of the train split, in physical units.

    `delta_*` are those of the change between consecutive frames, None where no trajectory has two frames.
    Standard deviations are those of the population (divided by the count).
    """

    channel: str
    count: Count
    mean: Finite
    std: Annotated[Finite, pydantic.Field(ge=0)]
    rms: Annotated[Finite, pydantic.Field(ge=0)]
    min: Finite
    max: Finite
    delta_mean: Finite | None = None
    delta_std: Finite | None = None
    delta_rms: Finite | None = None


class RoundingRule(Record):
    """How values were rounded before they were stored: to the nearest, ties to even.

    Attributes:
        mantissa_bits: bits of the mantissa that are kept, beside the leading one that is not written; None for numbers
            that a float16 holds.
    """

    mantissa_bits: Annotated[int, pydantic.Field(ge=1, le=51)] | None


class RoundingError(Record):
    """The largest errors that rounding made in one channel, over all points and frames.

    Attributes:
        channel: which.
        max_absolute: in units of the channel.
        max_relative: over the size of the value; zero has none.
    """

    channel: str
    max_absolute: Annotated[Finite, pydantic.Field(ge=0)]
    max_relative: Annotated[Finite, pydantic.Field(ge=0)]


class RoundingSpec(Record):
    """Declared rounding of a store, and what it cost."""

    rule: RoundingRule
    errors: tuple[RoundingError, ...]


class LayoutSpec(Record):
    """How points are dealt to pages; see `ups_data.pages`.

    Attributes:
        page_points: entries of a page, P.
        num_strata: bands of importance, S; a trajectory with fewer pages has fewer.
        block_points: consecutive points of the curve that share a stratum.
        curve: space-filling curve that orders the points of a stratum.
        seed: seed of the dealing shifts.
        dense: whether dense frames are stored beside the pages or rebuilt from them.
        frames_per_block: frames after which a trajectory begins another layout, with an importance map of its own; None
            for one layout a trajectory.
        target_span: frames from the first to the last target of the longest window that any block holds whole; each
            block reaches `target_span - 1` frames into the next one.
    """

    page_points: Positive
    num_strata: Annotated[int, pydantic.Field(ge=1, le=64)]
    block_points: Positive
    curve: CurveName = "hilbert"
    seed: Count = 0
    dense: Literal["stored", "rebuilt"] = "stored"
    frames_per_block: Positive | None = None
    target_span: Positive = 1


class ClipSpec(Record):
    """Where importance is cut, so that a few points do not take all draws; one of the two is given.

    Attributes:
        quantile: of the importance of those points that have any.
        times_mean: multiple of the mean importance.
    """

    quantile: Annotated[Finite, pydantic.Field(gt=0, lt=1)] | None = None
    times_mean: Annotated[Finite, pydantic.Field(ge=1)] | None = None

    @pydantic.model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.quantile is None) == (self.times_mean is None):
            raise ValueError("clip takes quantile or times_mean, one of them")
        return self


class ImportanceSpec(Record):
    """The recipe of the importance maps.

    m = sum over metrics of weight * metric; v = (m / mean(m)) ** exponent, cut as `clip` says; w = v / mean(v) + floor,
    over its mean. Each metric is the mean over its maps, each divided by its own mean, so channels count alike.
    """

    metrics: dict[str, Annotated[Finite, pydantic.Field(gt=0)]] = pydantic.Field(min_length=1)
    # Maps have mean 1, so no value exceeds the number of points: its eighth power still fits a float64.
    exponent: Annotated[Finite, pydantic.Field(gt=0, le=8)] = 2.0
    floor: Annotated[Finite, pydantic.Field(ge=0)] = 0.05
    clip: ClipSpec | None = None


class DeviationSpec(Record):
    """How far a scheme of interpolation is off at known values of one channel, at twice the spacing of the nodes.

    Every second node along each axis is left out, and the scheme asked for those that lie in the middle of what is
    left, where it is at its worst: the difference from their values, over all frames and trajectories, in physical
    units.

    Attributes:
        channel: its name.
        count: values that were compared; 0 where no grid has nodes enough, and then the others are None.
        rms, max: root mean square of the differences, and the largest.
    """

    channel: str
    count: Count
    rms: Annotated[Finite, pydantic.Field(ge=0)] | None = None
    max: Annotated[Finite, pydantic.Field(ge=0)] | None = None

    @pydantic.model_validator(mode="after")
    def _numbers_go_with_the_count(self) -> Self:
        if (self.rms is None or self.max is None) != (self.count == 0):
            raise ValueError(f"rms and max stand where values were compared and nowhere else, got {self.count} values")
        if self.rms is not None and self.max is not None and self.rms > self.max * (1 + 1e-12):
            raise ValueError(f"a root mean square of {self.rms} is over the largest difference {self.max}")
        return self


class OffGridSpec(Record):
    """How the points of a store lie between the nodes of the grids of its source, and how their values were made.

    Attributes:
        scheme: the piecewise polynomial along each axis: `linear` through 2 nodes, `cubic` through 4.
        ratio: points of a trajectory over the nodes of its grid, or
        points: how many points each trajectory has; one of the two is given.
        seed: of the places of the points.
        deviations: how far the scheme is off, one record a channel; none before it was measured.
    """

    scheme: SchemeName
    ratio: Annotated[Finite, pydantic.Field(gt=0, le=1024)] | None = None
    points: Annotated[int, pydantic.Field(ge=1, le=MAX_POINTS)] | None = None
    seed: Count = 0
    deviations: tuple[DeviationSpec, ...] = ()

    @pydantic.model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.ratio is None) == (self.points is None):
            raise ValueError("points between nodes take ratio or points, one of them")
        return self

    @property
    def degree(self) -> int:
        """Degree of the polynomials that the scheme reproduces."""
        return {"linear": 1, "cubic": 3}[self.scheme]

    def error_estimate(self, deviation: float) -> float:
        """Return what a deviation at twice the spacing comes to at the spacing itself, where the field is smooth.

        The error of polynomials of degree p falls with the (p + 1)-th power of the spacing. At a jump it does not fall
        at all, and the deviation itself is the estimate.
        """
        return deviation / float(2 ** (self.degree + 1))


class SourceFingerprint(Record):
    """Which file a store was made from: name, size, and SHA-256 of its first and its last MiB."""

    name: str
    size_bytes: Count
    sha256_ends: Annotated[str, pydantic.Field(pattern=r"[0-9a-f]{64}")]


class SourceSpec(Record):
    """The format that was read, the files, the options of the format, and what the reader notes for people."""

    format: str
    files: tuple[SourceFingerprint, ...]
    options: dict[str, pydantic.JsonValue] = pydantic.Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class FileEntry(Record):
    """One committed file of a store: its key below the root, size and SHA-256."""

    key: str
    size_bytes: Count
    sha256: Annotated[str, pydantic.Field(pattern=r"[0-9a-f]{64}")]

    @pydantic.field_validator("key")
    @classmethod
    def _key_stays_inside(cls, key: str) -> str:
        # Plain text, no path objects: a large store lists a hundred thousand files.
        parts = key.split("/")
        if not re.fullmatch(r"[A-Za-z0-9_./-]{1,512}", key) or not all(parts) or not {".", ".."}.isdisjoint(parts):
            raise ValueError(f"file key {key!r} must be a plain relative path below the store")
        return key


class Fingerprinted(Record):
    """Base of manifests: records that are written as JSON with a fingerprint of all of it."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON text: equal for equal stores."""
        return hashlib.sha256(_canonical(self.content())).hexdigest()

    def content(self) -> dict[str, object]:
        """Return what the file holds beside the fingerprint, in its order."""
        return self.model_dump(mode="json")

    def to_json(self) -> str:
        """Return the text of the file, which carries its own fingerprint."""
        return json.dumps({"fingerprint": self.fingerprint, **self.content()}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str) -> Self:
        """Read and check the text of a manifest.

        Args:
            text: content of the file.
            where: the file, for messages.

        Raises:
            SchemaError: not JSON, another format or version, a key too many or too few, a rule broken, or a
                fingerprint that does not belong to the content.
        """
        content, stated, found = _parse_manifest(text, where)
        name, versions = cls.model_fields["format"].default, get_args(cls.model_fields["version"].annotation)
        if content.get("format") != name or content.get("version") not in versions:
            raise SchemaError(
                f"{where} declares format {content.get('format')!r} version {content.get('version')!r}; this "
                f"release reads {name!r} version {' and '.join(map(str, versions))}. Convert again or install a "
                f"matching release."
            )
        if stated != found:
            raise SchemaError(
                f"{where} was changed after it was written: its fingerprint says {stated!r}, its content gives "
                f"{found!r}. Restore it from a copy or convert again."
            )
        return _validate(cls, content, where)


class Manifest(Fingerprinted):
    """Everything that a reader needs to know of a store, and the hashes that bind it to its bytes.

    Attributes:
        fields: in channel order; channels are all components of all fields, in this order.
        dtype: stored values, `float32` or `float64`.
        boundaries: conditions on the boundary of the domain that the source tells, none where it tells nothing; an axis
            is periodic by its own flag.
        splits: number of trajectories of each split.
        split_provenance: how the split came about (`source`, or the rule that was applied).
        statistics: one record a channel, of the split named by `statistics_split` only.
        statistics_split: `train`, or None for a store without a train split: its statistics cover all of it, serve
            people only, and do not normalise training data.
        estimand: what the weights of a draw estimate unless a dataset asks for another one: the `mean` over the points,
            or the `integral` over the domain, by the measures of cells.
        missing_fields: fields that lack values at some points or frames, which are stored as NaN.
        rounding: how values were rounded, and the largest errors of it; None where they are those of the source.
        settings: what the conversion was told, so that `repair` can do it again; empty where it is not recorded.
        off_grid: how the points lie between the nodes of grids, where they do. Such a store has version 2, and no other
            store has the key, so that it is the same bytes for every release that writes version 1.
        files: every file of the store but the manifest itself.
    """

    format: Literal["ups-data"] = "ups-data"
    version: Literal[1, 2] = 1
    writer: str
    name: str
    fields: tuple[FieldSpec, ...] = pydantic.Field(min_length=1)
    dtype: Literal["float32", "float64"]
    geometry: GeometrySpec
    boundaries: tuple[BoundarySpec, ...] = ()
    time_unit: str | None = None
    parameters: tuple[ParameterSpec, ...] = ()
    num_trajectories: Positive
    num_frames: Positive
    num_points: Positive
    splits: dict[Name, Count]
    split_provenance: str
    statistics: tuple[ChannelStatistics, ...]
    statistics_split: Literal["train"] | None = "train"
    layout: LayoutSpec
    importance: ImportanceSpec
    codec: CodecName
    estimand: Estimand = "mean"
    missing_fields: tuple[Name, ...] = ()
    rounding: RoundingSpec | None = None
    settings: dict[str, pydantic.JsonValue] = pydantic.Field(default_factory=dict)
    off_grid: OffGridSpec | None = None
    source: SourceSpec
    files: tuple[FileEntry, ...]

    @pydantic.model_validator(mode="after")
    def _parts_agree(self) -> Self:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError(f"field names must be distinct, got {names}")
        if sum(self.splits.values()) != self.num_trajectories:
            raise ValueError(f"splits {self.splits} must add up to {self.num_trajectories} trajectories")
        if tuple(record.channel for record in self.statistics) != self.channel_names:
            raise ValueError(f"statistics must list the channels {self.channel_names} in order")
        if self.rounding and tuple(error.channel for error in self.rounding.errors) != self.channel_names:
            raise ValueError(f"errors of the rounding must list the channels {self.channel_names} in order")
        self._check_boundaries(names)
        self._check_off_grid()
        if self.estimand == "integral" and not self.geometry.has_measures:
            raise ValueError("an integral needs the measures of cells, which this geometry lacks")
        if unknown := [name for name in self.missing_fields if name not in names]:
            raise ValueError(f"missing_fields names {unknown}, which are no fields of the store")
        keys = [entry.key for entry in self.files]
        if len(set(keys)) != len(keys):
            raise ValueError("files must be listed once each")
        if MANIFEST_NAME in keys:
            raise ValueError(f"{MANIFEST_NAME} must not list itself")
        return self

    def _check_off_grid(self) -> None:
        if (self.off_grid is None) != (self.version == 1):
            raise ValueError("off_grid stands in manifests of version 2, and in no others")
        if self.off_grid is None:
            return
        if self.geometry.kind != "points":
            raise ValueError(f"points between nodes are of kind 'points', not {self.geometry.kind!r}")
        if tuple(record.channel for record in self.off_grid.deviations) != self.channel_names:
            raise ValueError(f"off_grid.deviations must list the channels {self.channel_names} in order")

    @classmethod
    def from_json(cls, text: str, *, where: str) -> Self:
        """Read and check the text of a manifest, as `Fingerprinted` does."""
        manifest = super().from_json(text, where=where)
        if manifest.off_grid is None and "off_grid" in manifest.model_fields_set:
            raise SchemaError(
                f"{where} breaks the schema at off_grid: the key is left out where points do not lie between nodes, it "
                f"is never null"
            )
        return manifest

    def content(self) -> dict[str, object]:
        """Return what the file holds beside the fingerprint, in its order; without `off_grid` where it is None."""
        return self.model_dump(mode="json", exclude={"off_grid"} if self.off_grid is None else None)

    def _check_boundaries(self, fields: list[str]) -> None:
        axes = [axis.name for axis in self.geometry.axes]
        for boundary in self.boundaries:
            unknown = [name for name in boundary.axes if name not in axes]
            unknown += [name for name in boundary.fields if name not in fields]
            if unknown:
                raise ValueError(
                    f"boundary {boundary.name!r} names {unknown}, which are no axes or fields of the store"
                )
        if len({boundary.name for boundary in self.boundaries}) != len(self.boundaries):
            raise ValueError("boundaries must have distinct names")

    @property
    def channel_names(self) -> tuple[str, ...]:
        """All channels in stored order."""
        return tuple(name for field in self.fields for name in field.channel_names)

    @property
    def missing_channels(self) -> tuple[bool, ...]:
        """Whether values of each channel may be missing, in stored order."""
        return tuple(field.name in self.missing_fields for field in self.fields for _ in field.components)

    def channels_of(self, names: tuple[str, ...] | None) -> tuple[int, ...]:
        """Return the channel numbers of the named fields, in the order asked; all fields for None.

        Raises:
            SchemaError: a name that no field has, or a name given twice.
        """
        slices = dict(self._field_channels())
        chosen = tuple(slices) if names is None else tuple(names)
        for name in chosen:
            if name not in slices:
                raise SchemaError(f"store {self.name!r} has no field {name!r}. {suggest(name, slices)}")
        if not chosen or len(set(chosen)) != len(chosen):
            raise SchemaError(f"fields must be named once each and at least one, got {chosen}")
        return tuple(channel for name in chosen for channel in slices[name])

    def field(self, name: str) -> FieldSpec:
        """Return the field of that name."""
        self.channels_of((name,))
        return next(field for field in self.fields if field.name == name)

    def _field_channels(self) -> Iterator[tuple[str, range]]:
        start = 0
        for field in self.fields:
            yield field.name, range(start, start + len(field.components))
            start += len(field.components)


def _canonical(content: object) -> bytes:
    # Keys keep their order: split codes count in the order of `splits`, so a reordered manifest is another one.
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def _parse_manifest(text: str, where: str) -> tuple[dict[str, object], object, str]:
    """Return the content without its fingerprint, the fingerprint that it states, and the one that it has."""
    try:
        content = json.loads(
            text, object_pairs_hook=_refuse_duplicates, parse_constant=_parse_float, parse_float=_parse_float
        )
        if not isinstance(content, dict):
            raise SchemaError(f"{where} holds a JSON {type(content).__name__} where an object must stand")
        stated = content.pop("fingerprint", None)
        return content, stated, hashlib.sha256(_canonical(content)).hexdigest()
    except RecursionError as error:
        raise SchemaError(f"{where} is nested too deeply to be a manifest") from error
    except SchemaError:
        raise
    except ValueError as error:
        raise SchemaError(f"{where} is not valid JSON: {error}") from error


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return content


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _validate(cls: type[_Manifest], content: dict[str, object], where: str) -> _Manifest:
    try:
        # JSON mode: arrays become tuples, and nothing else is coerced.
        return cls.model_validate_json(json.dumps(content))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "(root)"
        raise SchemaError(
            f"{where} breaks the schema at {place}: {first['msg']} (got {first['input']!r:.200})"
            + (f" and {error.error_count() - 1} more" if error.error_count() > 1 else "")
        ) from error
