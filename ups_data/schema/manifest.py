"""The manifest, which binds records to bytes."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self, TypeVar, get_args

import pydantic

from ups_data.errors import SchemaError, suggest
from ups_data.schema.base import MANIFEST_NAME, CodecName, Count, Estimand, Name, Positive, Record
from ups_data.schema.data import BoundarySpec, ChannelStatistics, FieldSpec, GeometrySpec, ParameterSpec
from ups_data.schema.recipe import ImportanceSpec, LayoutSpec, OffGridSpec, RoundingSpec, SourceSpec

_Manifest = TypeVar("_Manifest", bound="Fingerprinted")


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
