"""Records refuse what breaks a rule; a manifest comes back as it was written, or not at all."""

import json
from typing import Any

import pydantic
import pytest

from ups_data.errors import SchemaError
from ups_data.schema import (
    AxisSpec,
    BoundarySpec,
    ChannelStatistics,
    ClipSpec,
    FieldSpec,
    FileEntry,
    GeometrySpec,
    ImportanceSpec,
    LayoutSpec,
    Manifest,
    ParameterSpec,
    SourceFingerprint,
    SourceSpec,
)

SHA = "0" * 64
CHANNELS = ("velocity.x", "velocity.y", "pressure")


def statistics(channel: str) -> ChannelStatistics:
    return ChannelStatistics(channel=channel, count=10, mean=0.1, std=1.0, rms=1.005, min=-3.0, max=3.0)


def manifest(**changes: Any) -> Manifest:
    content: dict[str, Any] = {
        "writer": "test",
        "name": "made",
        "fields": (FieldSpec(name="velocity", components=("x", "y"), unit="m/s"), FieldSpec(name="pressure")),
        "dtype": "float32",
        "geometry": GeometrySpec(kind="grid", axes=(AxisSpec(name="x", lower=0.0, upper=1.0),), shape=(16,)),
        "boundaries": (BoundarySpec(name="inflow", kind="open", axes=("x",), sides=("lower",), fields=("velocity",)),),
        "parameters": (ParameterSpec(name="nu", mean=0.1, std=0.01),),
        "num_trajectories": 5,
        "num_frames": 50,
        "num_points": 80,
        "splits": {"train": 3, "test": 2},
        "split_provenance": "source",
        "statistics": tuple(map(statistics, CHANNELS)),
        "layout": LayoutSpec(page_points=8, num_strata=2, block_points=4),
        "importance": ImportanceSpec(metrics={"gradient": 1.0}),
        "codec": "none",
        "source": SourceSpec(
            format="memory", files=(SourceFingerprint(name="a", size_bytes=1, sha256_ends=SHA),), notes=("übrig",)
        ),
        "files": (FileEntry(key="zarr.json", size_bytes=9, sha256=SHA),),
    }
    return Manifest(**{**content, **changes})


def reread(text: str) -> Manifest:
    return Manifest.from_json(text, where="s/manifest.json")


# -- records -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "values", "message"),
    [
        (FieldSpec, {"name": "9u"}, "'9u' is no valid name: a letter first"),
        (FieldSpec, {"name": "u" * 129}, "at most 128"),
        (FieldSpec, {"name": "u", "components": ()}, "needs one or more distinct components"),
        (FieldSpec, {"name": "u", "components": ("x", "x")}, "needs one or more distinct components"),
        (FieldSpec, {"name": "u", "units": "m"}, "Extra inputs are not permitted"),
        (AxisSpec, {"name": "x", "lower": 1.0, "upper": 1.0}, "lower=1.0 must be less than upper=1.0"),
        (AxisSpec, {"name": "x", "lower": 0.0, "upper": float("inf")}, "finite number"),
        (AxisSpec, {"name": "x", "lower": 0.0, "upper": "1"}, "valid number"),
        (AxisSpec, {"name": "x", "lower": 0.0, "upper": 1.0, "kind": "latitude"}, "must be degrees or radians, not ''"),
        (AxisSpec, {"name": "x", "lower": 0.0, "upper": 1.0, "kind": "longitude", "unit": "m"}, "not 'm'"),
        (AxisSpec, {"name": "x", "lower": 0.0, "upper": 91.0, "kind": "latitude", "unit": "deg"}, "leaves -90 to 90"),
        (AxisSpec, {"name": "x", "lower": -1.0, "upper": 1.0, "kind": "colatitude", "unit": "rad"}, "leaves 0 to 180"),
        (LayoutSpec, {"page_points": 0, "num_strata": 1, "block_points": 1}, "greater than or equal to 1"),
        (LayoutSpec, {"page_points": 8, "num_strata": 65, "block_points": 1}, "less than or equal to 64"),
        (LayoutSpec, {"page_points": 8.0, "num_strata": 1, "block_points": 1}, "valid integer"),
        (ImportanceSpec, {"metrics": {}}, "at least 1 item"),
        (ImportanceSpec, {"metrics": {"gradient": 0.0}}, "greater than 0"),
        (ImportanceSpec, {"metrics": {"gradient": 1.0}, "exponent": 9.0}, "less than or equal to 8"),
        (ImportanceSpec, {"metrics": {"gradient": 1.0}, "floor": -0.1}, "greater than or equal to 0"),
        (ClipSpec, {}, "clip takes quantile or times_mean, one of them"),
        (ClipSpec, {"quantile": 0.9, "times_mean": 9.0}, "clip takes quantile or times_mean, one of them"),
        (ClipSpec, {"quantile": 1.0}, "less than 1"),
        (ClipSpec, {"times_mean": 0.5}, "greater than or equal to 1"),
        (SourceFingerprint, {"name": "a", "size_bytes": 1, "sha256_ends": "abc"}, "match pattern"),
        (ParameterSpec, {"name": "nu", "std": -1.0}, "greater than or equal to 0"),
    ],
)
def test_records_refuse(record: type[pydantic.BaseModel], values: dict[str, Any], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        record(**values)


def test_records_are_frozen() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        FieldSpec(name="u").name = "v"


@pytest.mark.parametrize(
    "key",
    ["/etc/passwd", "../x", "a/../b", "a//b", "a/./b", "a/", "", ".", "a\\b", "a\0b", "a%2e", "a b", "ä", "x" * 513],
)
def test_keys_of_files_stay_below_the_store(key: str) -> None:
    with pytest.raises(pydantic.ValidationError, match="must be a plain relative path below the store"):
        FileEntry(key=key, size_bytes=1, sha256=SHA)


@pytest.mark.parametrize("key", ["zarr.json", "pages/values/c/0/0/0", "a-b_c.d"])
def test_plain_keys_are_taken(key: str) -> None:
    assert FileEntry(key=key, size_bytes=1, sha256=SHA).key == key


def test_geometry() -> None:
    axes = tuple(AxisSpec(name=name, lower=0.0, upper=1.0) for name in "xy")
    assert GeometrySpec(kind="grid", axes=axes).dims == 2
    assert GeometrySpec(kind="points", axes=axes, shape=(100,)).shape == (100,)
    for values, message in [
        ({"axes": (axes[0], axes[0])}, "axis names must be distinct"),
        ({"axes": axes, "shape": (4,)}, r"shape \(4,\) has 1 entries for 2 axes"),
        ({"axes": axes, "stored_measures": True}, "the measures of a grid follow from its axes"),
        ({"axes": ()}, "at least 1 item"),
        ({"axes": (*axes, axes[0].model_copy(update={"name": "z"}), axes[0])}, "at most 3 items"),
    ]:
        with pytest.raises(pydantic.ValidationError, match=message):
            GeometrySpec(kind="grid", **values)


# -- channels --------------------------------------------------------------------------------------------------------


def test_channels_are_all_components_in_order() -> None:
    assert manifest().channel_names == CHANNELS
    assert manifest().channels_of(None) == (0, 1, 2)
    assert manifest().channels_of(("pressure", "velocity")) == (2, 0, 1)
    assert manifest().field("velocity").unit == "m/s"


def test_unknown_and_repeated_fields_are_refused() -> None:
    with pytest.raises(SchemaError, match=r"store 'made' has no field 'presure'. Did you mean 'pressure'\?"):
        manifest().channels_of(("presure",))
    for names in ((), ("pressure", "pressure")):
        with pytest.raises(SchemaError, match="fields must be named once each and at least one"):
            manifest().channels_of(names)


# -- manifests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": (FieldSpec(name="u"), FieldSpec(name="u"))}, "field names must be distinct"),
        ({"splits": {"train": 3}}, "must add up to 5 trajectories"),
        ({"splits": {"a b": 5}}, "no valid name"),
        ({"statistics": tuple(map(statistics, CHANNELS[::-1]))}, "statistics must list the channels"),
        ({"files": (FileEntry(key="a", size_bytes=1, sha256=SHA),) * 2}, "files must be listed once each"),
        ({"files": (FileEntry(key="manifest.json", size_bytes=1, sha256=SHA),)}, "must not list itself"),
        ({"boundaries": (BoundarySpec(name="b", kind="wall", axes=("y",)),)}, r"'b' names \['y'\], which are no axes"),
        (
            {"boundaries": (BoundarySpec(name="b", kind="wall", axes=("x",)),) * 2},
            "boundaries must have distinct names",
        ),
        (
            {
                "estimand": "integral",
                "geometry": GeometrySpec(kind="points", axes=(AxisSpec(name="x", lower=0.0, upper=1.0),)),
            },
            "an integral needs the measures of cells",
        ),
        ({"missing_fields": ("density",)}, r"missing_fields names \['density'\], which are no fields"),
        ({"dtype": "float16"}, "Input should be 'float32' or 'float64'"),
        ({"num_trajectories": 0}, "greater than or equal to 1"),
    ],
)
def test_parts_of_a_manifest_must_agree(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        manifest(**changes)


def test_a_manifest_comes_back_as_it_was_written() -> None:
    text = manifest().to_json()
    assert reread(text) == manifest()
    assert reread(text).to_json() == text
    assert json.loads(text)["fingerprint"] == manifest().fingerprint


def test_the_fingerprint_follows_every_change() -> None:
    prints = {
        manifest(**changes).fingerprint
        for changes in ({}, {"name": "other"}, {"num_frames": 51}, {"splits": {"test": 3, "train": 2}})
    }
    assert len(prints) == 4


def test_a_changed_manifest_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"s/manifest.json was changed after it was written"):
        reread(manifest().to_json().replace('"num_frames": 50', '"num_frames": 51'))
    content = json.loads(manifest().to_json())
    content["splits"] = dict(reversed(content["splits"].items()))
    with pytest.raises(SchemaError, match="was changed after it was written"):
        reread(json.dumps(content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "holds a JSON list where an object must stand"),
        ("{}", "declares format None version None; this release reads 'ups-data' version 1"),
        ('{"format": "ups-data", "version": 3}', "version 3; this release reads 'ups-data' version 1 and 2"),
        ('{"a": 1, "a": 2}', "key 'a' stands twice"),
        ('{"a": NaN}', "NaN is not a finite number"),
        ('{"a": 1e999}', "1e999 is not a finite number"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_no_manifest(text: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        reread(text)
