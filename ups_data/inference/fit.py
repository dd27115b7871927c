"""Whether a trained model can be asked about a data set, and in what they differ where it cannot."""

from __future__ import annotations

from collections.abc import Iterator

from ups_data.importance import Subject
from ups_data.models import ProblemSpec
from ups_data.schema import AxisSpec
from ups_data.training.checkpoint import CheckpointHeader

# Nodes in the middle of cells of a finer grid, or another cloud of the same shape, reach a little further out.
_BEYOND = 0.1
_ROUNDING = 1e-6


def find_misfit(header: CheckpointHeader, subject: Subject) -> str | None:
    """Say in what a data set is not the problem that a model was trained for; None where it can be asked.

    Grids may have another resolution, clouds other points; fields that the model does not know do not matter.

    Args:
        header: of the model's checkpoint.
        subject: the data set.
    """
    return next(_differences(header, subject), None)


def _differences(header: CheckpointHeader, subject: Subject) -> Iterator[str]:
    problem = header.problem
    if (problem.geometry == "grid") != (subject.kind == "grid"):
        yield f"was trained on {_kind(problem.geometry)}, these data are {_kind(subject.kind)}"
        return
    if problem.axis_names != subject.axes:
        yield f"was trained on the axes {_listed(problem.axis_names)}, these data have {_listed(subject.axes)}"
        return
    for number, spec in enumerate(subject.specs):
        yield from _axis_differences(problem, number, spec)
    yield from _field_differences(header, subject)
    if len(problem.parameter_mean) != len(subject.parameters):
        yield (
            f"was trained with {len(problem.parameter_mean)} parameters of a trajectory, these data have "
            f"{len(subject.parameters)}: {_listed(subject.parameters)}"
        )
    window = header.config.data.window
    needed = (window.inputs - 1 + window.lead) * window.stride + 1
    if subject.least_frames is not None and subject.least_frames < needed:
        yield (
            f"predicts the last of {needed} frames (inputs={window.inputs}, lead={window.lead}, "
            f"stride={window.stride}), and a trajectory of these data has {subject.least_frames}"
        )


def _axis_differences(problem: ProblemSpec, number: int, spec: AxisSpec) -> Iterator[str]:
    lower, upper, periodic = problem.lower[number], problem.upper[number], problem.periodic[number]
    if periodic != spec.periodic:
        yield (
            f"was trained on an axis {spec.name!r} that {_wraps(periodic)}, that of these data {_wraps(spec.periodic)}"
        )
        return
    extent = upper - lower
    other_period = periodic and abs((spec.upper - spec.lower) - extent) > _ROUNDING * extent
    if other_period or spec.lower < lower - _BEYOND * extent or spec.upper > upper + _BEYOND * extent:
        yield (
            f"was trained on {spec.name} from {lower:g} to {upper:g}, in these data it goes from {spec.lower:g} to "
            f"{spec.upper:g}"
        )


def _field_differences(header: CheckpointHeader, subject: Subject) -> Iterator[str]:
    problem, fields = header.problem, {field.name: field for field in subject.fields}
    known = {record.channel for record in header.statistics}
    for wanted in (*problem.input_fields, *problem.target_fields):
        field = fields.get(wanted.name)
        if field is None:
            yield f"was trained on the field {wanted.name!r}, these data have {_listed(tuple(fields))}"
        elif len(field.components) != wanted.channels:
            yield (
                f"was trained on a field {wanted.name!r} of {wanted.channels} components, that of these data has "
                f"{len(field.components)}"
            )
        elif unknown := sorted(set(field.channel_names) - known):
            yield f"was trained on a field {wanted.name!r} without the component {unknown[0]!r} of these data"
    start = 0
    for wanted in problem.input_fields:
        told = set(range(start, start + wanted.channels)) <= set(problem.missing_inputs)
        if wanted.name in subject.missing_fields and not told:
            yield f"was trained on whole values of {wanted.name!r}, which may be missing in these data"
        start += wanted.channels


def _kind(geometry: str) -> str:
    return {"grid": "grids", "points": "scattered points", "mesh": "meshes"}[geometry]


def _wraps(periodic: bool) -> str:
    return "wraps around" if periodic else "does not wrap around"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
