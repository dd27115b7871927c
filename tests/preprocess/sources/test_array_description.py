"""The rules of a description that need no array to be checked."""

import re
from typing import Any

import pytest

import preprocess.sources.array_description
from preprocess.sources.array_description import ArraysDescription
from ups_data.errors import ConfigError
from ups_data.yaml_records import parse_record, parse_yaml

GRID = {"fields": {"u": {"file": "u.npy"}}, "axes": {"x": {"start": 0, "stop": 1}}}
POINTS = {**GRID, "kind": "points", "axes": {"x": {}}, "coordinates": {"file": "x.npy"}}


def parse(content: dict[str, Any]) -> ArraysDescription:
    return parse_record(ArraysDescription, content, where="d.yaml")


def test_the_example_of_the_module_is_a_description() -> None:
    documentation = preprocess.sources.array_description.__doc__
    assert documentation is not None
    example = re.search(r"\n\n((?:    .*\n)+)", documentation)
    assert example is not None
    description = parse(parse_yaml(example.group(1), where="example"))
    assert description.parameters["viscosity"].value == 1e-3
    assert description.split is not None
    assert description.split.counts == {"train": 800, "test": 200}


def test_defaults() -> None:
    grid, points = parse(GRID), parse(POINTS)
    assert (grid.kind, grid.times, grid.parameters, grid.notes) == ("grid", None, {}, ())
    assert points.coordinates is not None


@pytest.mark.parametrize("split", ["train", ["train", "test"], {"train": 1, "test": 2}])
def test_splits_in_each_way(split: Any) -> None:
    entry = parse({**GRID, "split": split}).split
    assert entry is not None
    given = [value for value in (entry.name, entry.names, entry.counts) if value is not None]
    assert given == [tuple(split) if isinstance(split, list) else split]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": {}}, "`fields` should have at least 1 item"),
        ({"axes": {}}, "axes: Dictionary should have at least 1 item"),
        ({"axes": {name: {"start": 0, "stop": 1} for name in "abcd"}}, "axes: Dictionary should have at most 3 items"),
        ({"axes": {"time": {"start": 0, "stop": 1}}}, "'time'.* name dimensions of arrays and cannot name an axis"),
        ({"axes": {"x": {"start": 0}}}, "axes.x: start and stop must be given together"),
        ({"axes": {"x": {"start": 0, "stop": 1, "file": "x.npy"}}}, "nodes must be given in one way"),
        ({"axes": {"x": {}}}, "axis 'x' of `kind: grid` needs nodes"),
        ({"axes": {"9": {"start": 0, "stop": 1}}}, "'9' is no valid name"),
        ({"coordinates": {"file": "x.npy"}}, "`coordinates` belongs to `kind: points`"),
        ({"times": {"start": 0}}, "times: start and step must be given together"),
        ({"times": {}}, "times must be given in one way"),
        ({"times": {"start": 0, "step": 1, "values": [0, 1]}}, "times must be given in one way"),
        ({"parameters": {"nu": True}}, "a parameter is a number, or keys"),
        ({"parameters": {"nu": {}}}, "a parameter must be given in one way"),
        ({"parameters": {"nu": {"value": 1, "values": [1]}}}, "a parameter must be given in one way"),
        ({"split": {"train": 0}}, "split.counts.train: Input should be greater than or equal to 1, got 0"),
        ({"split": ["a b"]}, "'a b' is no valid name"),
        ({"kind": "cloud"}, "kind: Input should be 'grid', 'points' or 'mesh', got 'cloud'"),
        ({"cells": {"file": "c.npy", "type": "triangle"}}, "`cells` belongs to `kind: mesh`, and only to it"),
    ],
)
def test_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse({**GRID, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coordinates": None}, "`coordinates` belongs to `kind: points`"),
        ({"axes": {"x": {"start": 0, "stop": 1}}}, "axis 'x' of `kind: points` must have none"),
        ({"axes": {"x": {"periodic": True}}}, "axis 'x' is periodic, so its extent must be stated"),
        ({"kind": "mesh"}, "`cells` belongs to `kind: mesh`, and only to it"),
        ({"kind": "mesh", "cells": {"file": "c.npy", "type": "tri"}}, "cells.type: Input should be 'line', 'triangle'"),
        (
            {
                "kind": "mesh",
                "cells": {"file": "c.npy", "type": "line"},
                "coordinates": None,
                "positions": {"file": "p.npy"},
            },
            "a mesh has `coordinates` of its nodes",
        ),
    ],
)
def test_refuses_of_points(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse({**POINTS, **changes})
