"""Metrics of the user's own: found by name, imported late, held to the contract."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.ups_data.importance.cases import BOUNDED, importance_of, subject_of
from ups_data.errors import ConfigError, SchemaError
from ups_data.importance import check_metrics
from ups_data.schema import ImportanceSpec

MODULE = """
import numpy as np
from ups_data.importance import ImportanceMetric, RootMeanSquareMetric

class Loudness(RootMeanSquareMetric):
    def update(self, frame):
        self.add_squares(np.square(frame, dtype=np.float64))

class Picky(Loudness):
    @classmethod
    def objection(cls, subject):
        return f"does not like {subject.fields[0].name}"

class Wild(ImportanceMetric):
    answer = np.nan
    def update(self, frame):
        pass
    def result(self):
        return np.full((1, *self.geometry.shape), self.answer)

class Negative(Wild):
    answer = -1.0

class Flat(Wild):
    def result(self):
        return np.ones(3)

class Box:
    Inner = Loudness

def make(geometry, subject):
    return Loudness(geometry, subject)

def make_text(geometry, subject):
    return "loud"

def alone(geometry):
    return Loudness(geometry, None)

number = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own; returns its name."""
    (tmp_path / "own_metrics.py").write_text(MODULE)
    (tmp_path / "broken_metrics.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "failing_metrics.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_metrics", "broken_metrics", "failing_metrics"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "own_metrics"


def recipe_of(name: str, **others: float) -> ImportanceSpec:
    return ImportanceSpec(metrics={name: 1.0, **others})


@pytest.mark.parametrize("name", ["Loudness", "make", "Box.Inner"])
def test_a_metric_of_ones_own_is_taken(own: str, name: str) -> None:
    field = np.exp(-np.square((np.arange(64) - 30) / 5.0))
    spec = ImportanceSpec(metrics={f"{own}:{name}": 2.0}, exponent=1.0, floor=0.0)
    np.testing.assert_allclose(importance_of(field[None, None], BOUNDED, spec), field / field.mean())


def test_it_mixes_with_the_others(own: str) -> None:
    frames = np.random.default_rng(0).normal(size=(3, 2, 64))
    mixed = importance_of(frames, BOUNDED, recipe_of(f"{own}:Loudness", gradient=1.0))
    assert not np.allclose(mixed, importance_of(frames, BOUNDED, recipe_of("gradient")))
    assert not np.allclose(mixed, importance_of(frames, BOUNDED, recipe_of(f"{own}:Loudness")))


def test_names_are_checked_without_importing(own: str) -> None:
    check_metrics(recipe_of(f"{own}:Loudness"))
    assert own not in sys.modules
    check_metrics(recipe_of(f"{own}:Loudness"), subject_of(BOUNDED))
    assert own in sys.modules


def test_its_objection_is_heard(own: str) -> None:
    with pytest.raises(SchemaError, match="importance metric 'own_metrics:Picky' does not like u0"):
        check_metrics(recipe_of(f"{own}:Picky"), subject_of(BOUNDED))


@pytest.mark.parametrize("name", ["own_metrics:", ":Loudness", "a b:c", "own-metrics:x", "a:b:c", "..:x", "a.:x"])
def test_names_of_no_such_form_are_unknown(own: str, name: str) -> None:
    with pytest.raises(SchemaError, match="there is no importance metric"):
        check_metrics(recipe_of(name))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nowhere_metrics:Loudness",
            r"'nowhere_metrics:Loudness': module 'nowhere_metrics' cannot be imported \(M",
        ),
        ("broken_metrics:x", r"module 'broken_metrics' cannot be imported \(ModuleNotFoundError: .*nothing_of_this"),
        ("failing_metrics:x", r"module 'failing_metrics' cannot be imported \(ZeroDivisionError"),
        ("own_metrics:Loud", "'own_metrics:Loud': module 'own_metrics' has no 'Loud'"),
        ("own_metrics:Box.Outer", "module 'own_metrics' has no 'Box.Outer'"),
        ("own_metrics:Box", "'own_metrics:Box' is a class and no metric: name a subclass of"),
        ("own_metrics:alone", "'own_metrics:alone' is of type function and no metric"),
        ("own_metrics:number", "'own_metrics:number' is of type int and no metric"),
    ],
)
def test_what_is_no_metric_is_refused_before_a_frame_is_read(own: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_metrics(recipe_of(name), subject_of(BOUNDED))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("make_text", "'own_metrics:make_text' returned a str where an instance of"),
        ("Wild", "'own_metrics:Wild' gave values that are negative or not finite"),
        ("Negative", "'own_metrics:Negative' gave values that are negative or not finite"),
        ("Flat", r"'own_metrics:Flat' gave an array of shape \(3,\); one map or more of shape \(64,\) must come"),
    ],
)
def test_what_it_gives_is_held_to_the_contract(own: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        importance_of(np.ones((1, 1, 64)), BOUNDED, recipe_of(f"{own}:{name}"))
