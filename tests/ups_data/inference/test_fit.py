"""What keeps a model from being asked about a data set: named, one difference at a time."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ups_data.importance import Subject
from ups_data.inference.fit import find_misfit
from ups_data.models import ProblemSpec
from ups_data.models.problem import FieldChannels
from ups_data.schema import AxisSpec, ChannelStatistics, FieldSpec
from ups_data.training import TrainConfig
from ups_data.training.checkpoint import CheckpointHeader, Progress

AXES = (AxisSpec(name="x", lower=0.0, upper=1.0, periodic=True), AxisSpec(name="y", lower=0.0, upper=2.0))
FIELDS = (FieldSpec(name="wind", components=("u", "v")), FieldSpec(name="heat"))
SUBJECT = Subject(
    kind="grid",
    axes=("x", "y"),
    fields=(FieldSpec(name="extra"), *FIELDS),
    specs=AXES,
    parameters=("nu",),
    least_frames=9,
)
CHANNELS = ("wind.u", "wind.v", "heat")


def header_of(**changes: object) -> CheckpointHeader:
    problem = ProblemSpec(
        geometry="grid",
        axis_names=("x", "y"),
        lower=(0.0, 0.0),
        upper=(1.0, 2.0),
        periodic=(True, False),
        grid_axes=((0.0, 0.5), (0.0, 2.0)),
        num_input_frames=1,
        input_fields=(FieldChannels(name="wind", channels=2), FieldChannels(name="heat", channels=1)),
        target_fields=(FieldChannels(name="wind", channels=2),),
        parameter_mean=(0.0,),
        parameter_scale=(1.0,),
    )
    return CheckpointHeader(
        config=TrainConfig.model_validate({"steps": 1, "data": {"window": {"inputs": 2, "stride": 3}}}),
        problem=problem.model_copy(update=changes),
        statistics=tuple(
            ChannelStatistics(channel=name, count=1, mean=0.0, std=1.0, rms=1.0, min=0.0, max=0.0) for name in CHANNELS
        ),
        progress=Progress(step=1, seconds=1.0, waited=0.0, loader={}),
    )


@pytest.mark.parametrize(
    "subject",
    [
        SUBJECT,
        replace(SUBJECT, least_frames=None),
        replace(SUBJECT, least_frames=7),
        replace(SUBJECT, specs=(AXES[0], AXES[1].model_copy(update={"lower": -0.1, "upper": 2.1}))),
        replace(SUBJECT, specs=(AXES[0].model_copy(update={"lower": 0.05, "upper": 1.05}), AXES[1])),
        replace(SUBJECT, missing_fields=frozenset({"extra"})),
    ],
)
def test_data_of_the_same_problem_fit(subject: Subject) -> None:
    assert find_misfit(header_of(), subject) is None


def test_meshes_and_clouds_are_one_kind_of_problem() -> None:
    assert find_misfit(header_of(geometry="points"), replace(SUBJECT, kind="mesh")) is None


def shifted(number: int, **changes: object) -> Callable[[Subject], Subject]:
    specs = [spec.model_copy(update=changes if place == number else {}) for place, spec in enumerate(AXES)]
    return lambda subject: replace(subject, specs=tuple(specs))


def changed(**changes: object) -> Callable[[Subject], Subject]:
    return lambda subject: replace(subject, **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(kind="mesh"), "was trained on grids, these data are meshes"),
        (changed(axes=("x", "z")), "was trained on the axes x, y, these data have x, z"),
        (shifted(1, periodic=True), "was trained on an axis 'y' that does not wrap around, that of these data wraps a"),
        (shifted(0, upper=1.01), "was trained on x from 0 to 1, in these data it goes from 0 to 1.01"),
        (shifted(0, lower=0.5, upper=1.5), "was trained on x from 0 to 1, in these data it goes from 0.5 to 1.5"),
        (shifted(1, upper=2.3), "was trained on y from 0 to 2, in these data it goes from 0 to 2.3"),
        (changed(fields=FIELDS[:1]), "was trained on the field 'heat', these data have wind"),
        (
            changed(fields=(FieldSpec(name="wind"), FIELDS[1])),
            "was trained on a field 'wind' of 2 components, that of these data has 1",
        ),
        (
            changed(fields=(FieldSpec(name="wind", components=("u", "w")), FIELDS[1])),
            "was trained on a field 'wind' without the component 'wind.w' of these data",
        ),
        (changed(missing_fields=frozenset({"heat"})), "was trained on whole values of 'heat', which may be missing"),
        (changed(parameters=()), "was trained with 1 parameters of a trajectory, these data have 0: none"),
        (
            changed(least_frames=6),
            r"predicts the last of 7 frames \(inputs=2, lead=1, stride=3\), and a trajectory of these data has 6",
        ),
    ],
)
def test_what_differs_is_named(change: Callable[[Subject], Subject], message: str) -> None:
    found = find_misfit(header_of(), change(SUBJECT))
    assert found is not None
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(found)
