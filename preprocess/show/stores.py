"""Panels of a store's fields: lines, images, slices or scattered points, by the geometry."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from preprocess.report.figures import Scale
from preprocess.show.drawing import (
    Dots,
    draw_curve,
    draw_dots,
    draw_dots_on_curve,
    draw_image,
    draw_marks,
    draw_scatter,
)
from preprocess.show.picture import Panel, Picture
from preprocess.show.subject import Subject
from preprocess.show.surfaces import Surface, draw_dots_on_surface, draw_surface, surface_of

_WIDTH = 4.4
_LINE_INCHES = (9.0, 2.5)
_SOLID_INCHES = (4.6, 4.3)
# More marks than a panel can show only make files large.
_MAX_SCATTERED = 50_000
# A slice shows the drawn points of a slab of this share of the axis around it.
_SLAB = 0.125


def picture_store(subject: Subject) -> Picture:
    """Return the picture of a frame: the field, the importance map, and the drawn points by weight."""
    time_unit = f" {subject.time_unit}" if subject.time_unit else ""
    return Picture(
        title=(
            f"{subject.store}: {subject.field}, trajectory {subject.trajectory}, frame {subject.frame}, "
            f"t = {subject.time:g}{time_unit}"
        ),
        **_panels(subject),
        facts=(
            ("store", subject.store),
            ("frame", f"trajectory {subject.trajectory}, frame {subject.frame}, t = {subject.time:g}{time_unit}"),
            ("field", _labelled(subject.field, subject.unit)),
            ("points", f"{subject.values.size:,}"),
            ("sampler", subject.sampler),
            ("drawn points", f"{subject.points.size:,} ({subject.points.size / subject.values.size:.2%})"),
            ("effective points", f"{subject.effective_points:,.0f}"),
            ("one drawn point stands for", f"{subject.stands_for.min():.4g} to {subject.stands_for.max():.4g} points"),
            ("sum of the weights", f"{subject.weight_sum:.6g}"),
        ),
    )


def _panels(subject: Subject) -> dict[str, Any]:
    """Return panels, columns and caption, by the geometry."""
    if subject.nodes is None:
        return _cloud_panels(subject)
    # An axis of one node has nothing to show, but where all are of one node.
    wide = [axis for axis, nodes in enumerate(subject.nodes) if nodes.size > 1] or [0]
    return (_line_panels, _image_panels, _slice_panels)[len(wide) - 1](subject, wide)


_CAPTION = (
    "Importance is the map of the whole trajectory, of mean 1. A drawn point's colour tells how many points of the "
    "frame it stands for, and so does its area."
)


def _line_panels(subject: Subject, wide: list[int]) -> dict[str, Any]:
    assert subject.nodes is not None
    (axis,) = wide
    x, values, importance = subject.nodes[axis], subject.values.reshape(-1), subject.importance.reshape(-1)
    dots = Dots(
        places=np.stack([subject.places[:, axis], values[subject.points]], axis=1).astype(np.float64),
        stands_for=subject.stands_for,
        span=_span(subject),
    )
    label, axis_label = _labelled(subject.field, subject.unit), _axis_label(subject, axis)
    panels = (
        ("", partial(draw_curve, x=x, y=values, colour="dense", labels=(axis_label, label))),
        ("Importance", partial(draw_curve, x=x, y=importance, colour="sparse", labels=(axis_label, "importance"))),
        (_drawn_title(subject), partial(draw_dots_on_curve, x=x, y=values, dots=dots, labels=(axis_label, label))),
    )
    return {
        "panels": tuple(Panel(title=title or label, draw=draw, inches=_LINE_INCHES) for title, draw in panels),
        "columns": 1,
        "caption": _CAPTION,
    }


def _image_panels(subject: Subject, wide: list[int]) -> dict[str, Any]:
    shape = subject.values.shape
    plane = (shape[wide[0]], shape[wide[1]])
    dots = Dots(places=subject.places[:, wide], stands_for=subject.stands_for, span=_span(subject))
    scale = Scale.of_field(subject.values)
    inches = (_WIDTH, _panel_height(subject, wide))
    return {
        "panels": tuple(
            Panel(title=title, draw=draw, inches=inches)
            for title, draw in _plane_panels(
                subject,
                wide,
                (subject.values.reshape(plane), scale),
                subject.importance.reshape(plane),
                (_drawn_title(subject), dots),
            )
        ),
        "columns": 3,
        "caption": _CAPTION,
    }


def _slice_panels(subject: Subject, wide: list[int]) -> dict[str, Any]:
    """Cut through the middle of each axis: one row a slice."""
    assert subject.nodes is not None
    scale, names = Scale.of_field(subject.values), [axis.name for axis in subject.axes]
    panels = []
    for cut in reversed(wide):
        plane = [axis for axis in wide if axis != cut]
        nodes = subject.nodes[cut]
        middle = nodes.size // 2
        half = _SLAB / 2 * (subject.axes[cut].upper - subject.axes[cut].lower)
        near = np.abs(subject.places[:, cut] - nodes[middle]) <= half
        dots = Dots(places=subject.places[near][:, plane], stands_for=subject.stands_for[near], span=_span(subject))
        where = f"{names[cut]} = {nodes[middle]:.4g}"
        drawn = f"Drawn, {names[cut]} within {half:.2g} of it: {len(dots.places):,}"
        images = subject.values.take(middle, axis=cut), subject.importance.take(middle, axis=cut)
        inches = (_WIDTH, _panel_height(subject, plane))
        panels += [
            Panel(title=f"{title}, {where}" if number < 2 else title, draw=draw, inches=inches)
            for number, (title, draw) in enumerate(
                _plane_panels(subject, plane, (images[0], scale), images[1], (drawn, dots))
            )
        ]
    caption = f"Slices through the middle of each axis; {_drawn_title(subject)[0].lower()}{_drawn_title(subject)[1:]} "
    return {"panels": tuple(panels), "columns": 3, "caption": f"{caption}in all. {_CAPTION}"}


def _plane_panels(
    subject: Subject,
    plane: list[int],
    field: tuple[Float[np.ndarray, "row column"], Scale],
    importance: Float[np.ndarray, "row column"],
    drawn: tuple[str, Dots],
) -> Iterator[tuple[str, Any]]:
    """Yield titles and drawings of a field, its importance and the drawn points in one plane."""
    assert subject.nodes is not None
    labels = _axis_label(subject, plane[0]), _axis_label(subject, plane[1])
    edges = tuple(_edges(subject, axis) for axis in plane)
    equal = _is_square(subject, plane)
    common: dict[str, Any] = {"labels": labels, "equal": equal}
    image = partial(draw_image, edges=edges, **common)
    yield _labelled(subject.field, subject.unit), partial(image, values=field[0], scale=field[1])
    # One scale for all slices.
    yield "Importance", partial(image, values=importance, scale=Scale.of_importance(subject.importance))
    limits = tuple((float(part[0]), float(part[-1])) for part in edges)
    yield drawn[0], partial(draw_dots, dots=drawn[1], limits=limits, **common)


def _cloud_panels(subject: Subject) -> dict[str, Any]:
    assert subject.coordinates is not None
    step = -(-subject.values.size // _MAX_SCATTERED)
    some = f", every {_ordinal(step)} point" if step > 1 else ""
    places, dims = subject.coordinates[::step], len(subject.axes)
    labels = tuple(_axis_label(subject, axis) for axis in range(dims))
    field = _labelled(subject.field, subject.unit)
    importance_scale = Scale.of_importance(subject.importance)
    dots = Dots(places=subject.places, stands_for=subject.stands_for, span=_span(subject))
    limits = tuple((axis.lower, axis.upper) for axis in subject.axes)
    if dims == 1:
        values = subject.values[::step]
        heights = subject.values[subject.points].astype(np.float64)
        dots = Dots(places=np.column_stack([dots.places[:, 0], heights]), stands_for=dots.stands_for, span=dots.span)
        draws = (
            partial(draw_marks, x=places[:, 0], y=values, colour="dense", labels=(labels[0], field)),
            partial(
                draw_marks,
                x=places[:, 0],
                y=subject.importance[::step],
                colour="sparse",
                labels=(labels[0], "importance"),
            ),
            partial(draw_dots_on_curve, x=places[:, 0], y=values, dots=dots, labels=(labels[0], field), marks=True),
        )
        inches, columns = _LINE_INCHES, 1
    else:
        equal = _is_square(subject, list(range(dims)))
        common: dict[str, Any] = {"labels": labels, "equal": equal, "limits": limits}
        surface = None if subject.mesh is None else surface_of(subject.mesh, subject.axes)
        if surface is not None:
            return _surface_panels(subject, surface, dots, common)
        scattered = partial(draw_scatter, places=places, **common)
        draws = (
            partial(scattered, values=subject.values[::step], scale=Scale.of_field(subject.values)),
            partial(scattered, values=subject.importance[::step], scale=importance_scale),
            partial(draw_dots, dots=dots, **common),
        )
        inches, columns = _SOLID_INCHES if dims == 3 else (_WIDTH, _panel_height(subject, [0, 1])), 3
    titles = (f"{field}{some}", f"Importance{some}", _drawn_title(subject))
    return {
        "panels": tuple(
            Panel(title=title, draw=draw, inches=inches, solid=dims == 3)
            for title, draw in zip(titles, draws, strict=True)
        ),
        "columns": columns,
        "caption": _CAPTION,
    }


def _surface_panels(subject: Subject, surface: Surface, dots: Dots, common: dict[str, Any]) -> dict[str, Any]:
    dims = len(subject.axes)
    field, importance = Scale.of_field(subject.values), Scale.of_importance(subject.importance)
    drawn = partial(draw_surface, surface=surface, **common)
    draws = {
        _labelled(subject.field, subject.unit): partial(drawn, values=subject.values, scale=field),
        "Importance": partial(drawn, values=subject.importance, scale=importance),
        _drawn_title(subject): partial(draw_dots_on_surface, surface=surface, dots=dots, **common),
    }
    inches = _SOLID_INCHES if dims == 3 else (_WIDTH, _panel_height(subject, [0, 1]))
    of_solid = " Of solid cells the outer faces are shown, and drawn points inside too." if surface.is_of_solids else ""
    return {
        "panels": tuple(Panel(title=title, draw=draw, inches=inches, solid=dims == 3) for title, draw in draws.items()),
        "columns": 3,
        "caption": f"{_CAPTION}{of_solid}",
    }


# -- what panels are made of -------------------------------------------------------------------------------------------


def _ordinal(step: int) -> str:
    return "2nd" if step == 2 else "3rd" if step == 3 else f"{step}th"


def _span(subject: Subject) -> tuple[float, float]:
    return float(subject.stands_for.min()), float(subject.stands_for.max())


def _drawn_title(subject: Subject) -> str:
    count, total = subject.points.size, subject.values.size
    return f"Drawn by {subject.sampler}: {count:,} of {total:,} points"


def _labelled(name: str, unit: str | None) -> str:
    return f"{name} ({unit})" if unit else name


def _axis_label(subject: Subject, axis: int) -> str:
    return _labelled(subject.axes[axis].name, subject.axes[axis].unit)


def _lengths(subject: Subject, axes: list[int]) -> list[float]:
    return [subject.axes[axis].upper - subject.axes[axis].lower for axis in axes]


def _is_square(subject: Subject, axes: list[int]) -> bool:
    """Tell whether a length looks the same along these axes: of one unit, and none much longer than the others."""
    lengths = _lengths(subject, axes)
    units = {subject.axes[axis].unit for axis in axes}
    return len(units) == 1 and max(lengths) <= 4 * min(lengths)


def _panel_height(subject: Subject, plane: list[int]) -> float:
    first, second = _lengths(subject, plane)
    return 0.75 + (_WIDTH - 1.25) * (second / first if _is_square(subject, plane) else 0.8)


def _edges(subject: Subject, axis: int) -> Float64[np.ndarray, " edge"]:
    """Return the borders between the cells of an axis' nodes, halfway between them."""
    assert subject.nodes is not None
    nodes = subject.nodes[axis]
    if nodes.size == 1:
        return np.array([subject.axes[axis].lower, subject.axes[axis].upper])
    inner = (nodes[1:] + nodes[:-1]) / 2
    ends = nodes[0] - (inner[0] - nodes[0]), nodes[-1] + (nodes[-1] - inner[-1])
    return np.concatenate([ends[:1], inner, ends[1:]])
