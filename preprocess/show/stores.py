"""Panels of a store's fields: lines, images, slices or scattered points, by the geometry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float64, Shaped

from preprocess.report.figures import Palette, Scale, set_log_ticks, weight_colours
from preprocess.report.markup import significant
from preprocess.show.picture import Panel, Picture
from preprocess.show.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

_WIDTH = 4.4
_LINE_INCHES = (9.0, 2.5)
_SOLID_INCHES = (4.6, 4.3)
# More pixels than a panel can show only make files large.
_MAX_NODES = 1024
_MAX_SCATTERED = 50_000
_MAX_LEGEND = 5
_BAR_PLACE = (1.025, 0.0, 0.035, 1.0)
# A slice shows the drawn points of a slab of this share of the axis around it.
_SLAB = 0.125


@dataclass(frozen=True, kw_only=True, eq=False)
class _Dots:
    """Points to mark: places along the axes of a panel, and how many points each stands for."""

    places: Float64[np.ndarray, "point dim"]
    stands_for: Float64[np.ndarray, " point"]
    span: tuple[float, float]


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
    dots = _Dots(
        places=np.stack([subject.places[:, axis], values[subject.points]], axis=1).astype(np.float64),
        stands_for=subject.stands_for,
        span=_span(subject),
    )
    label, axis_label = _labelled(subject.field, subject.unit), _axis_label(subject, axis)
    panels = (
        ("", partial(_draw_curve, x=x, y=values, colour="dense", labels=(axis_label, label))),
        ("Importance", partial(_draw_curve, x=x, y=importance, colour="sparse", labels=(axis_label, "importance"))),
        (_drawn_title(subject), partial(_draw_dots_on_curve, x=x, y=values, dots=dots, labels=(axis_label, label))),
    )
    return {
        "panels": tuple(Panel(title=title or label, draw=draw, inches=_LINE_INCHES) for title, draw in panels),
        "columns": 1,
        "caption": _CAPTION,
    }


def _image_panels(subject: Subject, wide: list[int]) -> dict[str, Any]:
    shape = subject.values.shape
    plane = (shape[wide[0]], shape[wide[1]])
    dots = _Dots(places=subject.places[:, wide], stands_for=subject.stands_for, span=_span(subject))
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
        dots = _Dots(places=subject.places[near][:, plane], stands_for=subject.stands_for[near], span=_span(subject))
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
    drawn: tuple[str, _Dots],
) -> Iterator[tuple[str, Any]]:
    """Yield titles and drawings of a field, its importance and the drawn points in one plane."""
    assert subject.nodes is not None
    labels = _axis_label(subject, plane[0]), _axis_label(subject, plane[1])
    edges = tuple(_edges(subject, axis) for axis in plane)
    equal = _is_square(subject, plane)
    common: dict[str, Any] = {"labels": labels, "equal": equal}
    draw_image = partial(_draw_image, edges=edges, **common)
    yield _labelled(subject.field, subject.unit), partial(draw_image, values=field[0], scale=field[1])
    # One scale for all slices.
    yield "Importance", partial(draw_image, values=importance, scale=Scale.of_importance(subject.importance))
    limits = tuple((float(part[0]), float(part[-1])) for part in edges)
    yield drawn[0], partial(_draw_dots, dots=drawn[1], limits=limits, **common)


def _cloud_panels(subject: Subject) -> dict[str, Any]:
    assert subject.coordinates is not None
    step = -(-subject.values.size // _MAX_SCATTERED)
    some = f", every {_ordinal(step)} point" if step > 1 else ""
    places, dims = subject.coordinates[::step], len(subject.axes)
    labels = tuple(_axis_label(subject, axis) for axis in range(dims))
    field = _labelled(subject.field, subject.unit)
    importance_scale = Scale.of_importance(subject.importance)
    dots = _Dots(places=subject.places, stands_for=subject.stands_for, span=_span(subject))
    limits = tuple((axis.lower, axis.upper) for axis in subject.axes)
    if dims == 1:
        values = subject.values[::step]
        heights = subject.values[subject.points].astype(np.float64)
        dots = _Dots(places=np.column_stack([dots.places[:, 0], heights]), stands_for=dots.stands_for, span=dots.span)
        draws = (
            partial(_draw_marks, x=places[:, 0], y=values, colour="dense", labels=(labels[0], field)),
            partial(
                _draw_marks,
                x=places[:, 0],
                y=subject.importance[::step],
                colour="sparse",
                labels=(labels[0], "importance"),
            ),
            partial(_draw_dots_on_curve, x=places[:, 0], y=values, dots=dots, labels=(labels[0], field), marks=True),
        )
        inches, columns = _LINE_INCHES, 1
    else:
        equal = _is_square(subject, list(range(dims)))
        common: dict[str, Any] = {"labels": labels, "equal": equal, "limits": limits}
        scattered = partial(_draw_scatter, places=places, **common)
        draws = (
            partial(scattered, values=subject.values[::step], scale=Scale.of_field(subject.values)),
            partial(scattered, values=subject.importance[::step], scale=importance_scale),
            partial(_draw_dots, dots=dots, **common),
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


# -- drawing into axes -------------------------------------------------------------------------------------------------


def _draw_curve(
    axes: Axes,
    palette: Palette,
    *,
    x: Float64[np.ndarray, " node"],
    y: Float[np.ndarray, " node"],
    colour: str,
    labels: tuple[str, str],
) -> None:
    axes.plot(x, y, color=palette[colour], linewidth=1.4, marker="o" if x.size == 1 else None)
    _set_line_axes(axes, labels, log=colour == "sparse" and _spreads(y))


def _draw_marks(
    axes: Axes,
    palette: Palette,
    *,
    x: Float64[np.ndarray, " point"],
    y: Float[np.ndarray, " point"],
    colour: str,
    labels: tuple[str, str],
) -> None:
    axes.scatter(x, y, s=4, color=palette[colour], linewidths=0)
    _set_line_axes(axes, labels, log=colour == "sparse" and _spreads(y))


def _draw_dots_on_curve(
    axes: Axes,
    palette: Palette,
    *,
    x: Float64[np.ndarray, " node"],
    y: Float[np.ndarray, " node"],
    dots: _Dots,
    labels: tuple[str, str],
    marks: bool = False,
) -> None:
    if marks:
        axes.scatter(x, y, s=2, color=palette["input"], linewidths=0)
    else:
        axes.plot(x, y, color=palette["input"], linewidth=1.0)
    areas = np.clip(14.0 * dots.stands_for / dots.stands_for.mean(), 3.0, 120.0)
    _scatter_dots(axes, dots, areas)
    _set_line_axes(axes, labels, log=False)
    _add_weight_legend(axes, dots)


def _set_line_axes(axes: Axes, labels: tuple[str, str], *, log: bool) -> None:
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="y")
    axes.margins(x=0.005)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    if log:
        axes.set_yscale("log")
        set_log_ticks(axes, lambda value: f"{value:g}")


def _draw_image(
    axes: Axes,
    palette: Palette,
    *,
    edges: tuple[Float64[np.ndarray, " _"], ...],
    values: Float[np.ndarray, "row column"],
    scale: Scale,
    labels: tuple[str, str],
    equal: bool,
) -> None:
    """Draw the first axis to the right and the second one upwards."""
    steps = [-(-size // _MAX_NODES) for size in values.shape]
    x, y = (_thin_edges(part, step) for part, step in zip(edges, steps, strict=True))
    mesh = axes.pcolormesh(
        x, y, values[:: steps[0], :: steps[1]].T, cmap=scale.colours, norm=scale.norm(), rasterized=True
    )
    _set_plane_axes(axes, palette, labels, equal=equal)
    _add_colour_bar(axes, mesh, scale)


def _draw_scatter(
    axes: Any,
    palette: Palette,
    *,
    places: Float64[np.ndarray, "point dim"],
    values: Float[np.ndarray, " point"],
    scale: Scale,
    labels: tuple[str, ...],
    limits: tuple[tuple[float, float], ...],
    equal: bool,
) -> None:
    # The largest values last: they would drown among many others.
    order = np.argsort(np.abs(values), kind="stable")
    area = float(np.clip(24_000.0 / len(values), 1.0, 20.0))
    options: dict[str, Any] = {"depthshade": False} if len(labels) == 3 else {}
    marks = axes.scatter(
        *places[order].T,
        s=area,
        c=values[order],
        cmap=scale.colours,
        norm=scale.norm(),
        linewidths=0,
        rasterized=True,
        **options,
    )
    _set_space_axes(axes, palette, labels, limits, equal=equal)
    _add_colour_bar(axes, marks, scale)


def _draw_dots(
    axes: Axes,
    palette: Palette,
    *,
    dots: _Dots,
    labels: tuple[str, ...],
    limits: tuple[tuple[float, float], ...],
    equal: bool,
) -> None:
    # All weights together cover a fifth of the panel, whatever their number; fewer do not grow out of proportion.
    room = 0.2 * (3.2 * 72) ** 2 / max(dots.stands_for.sum(), 1.0)
    areas = np.clip(min(room, 30.0) * dots.stands_for, 0.5, 150.0)
    _scatter_dots(axes, dots, areas)
    _set_space_axes(axes, palette, labels, limits, equal=equal)
    _add_weight_legend(axes, dots)


def _scatter_dots(axes: Any, dots: _Dots, areas: Float64[np.ndarray, " point"]) -> None:
    if not len(dots.places):
        return
    distinct, number = np.unique(dots.stands_for.round(9), return_inverse=True)
    colours = np.array(weight_colours(distinct, dots.span))[number]
    # Heavy ones first, so that light ones lie on top of them.
    order = np.argsort(-dots.stands_for, kind="stable")
    options: dict[str, Any] = {"depthshade": False} if dots.places.shape[1] == 3 else {}
    axes.scatter(
        *dots.places[order].T,
        s=areas[order],
        c=colours[order].tolist(),
        linewidths=0,
        rasterized=True,
        zorder=3,
        **options,
    )


def _set_space_axes(
    axes: Any, palette: Palette, labels: tuple[str, ...], limits: tuple[tuple[float, float], ...], *, equal: bool
) -> None:
    if len(labels) == 2:
        axes.set_xlim(*limits[0])
        axes.set_ylim(*limits[1])
        _set_plane_axes(axes, palette, (labels[0], labels[1]), equal=equal)
        return
    for name, label, limit in zip("xyz", labels, limits, strict=True):
        getattr(axes, f"set_{name}lim")(*limit)
        getattr(axes, f"set_{name}label")(label)
        axis = getattr(axes, f"{name}axis")
        axis.set_pane_color((0, 0, 0, 0))
        axis._axinfo["grid"]["color"] = palette["rule"]  # noqa: SLF001  matplotlib has no public way
    if equal:
        axes.set_box_aspect([high - low for low, high in limits])
    axes.tick_params(labelsize=7, pad=0)


def _set_plane_axes(axes: Axes, palette: Palette, labels: tuple[str, str], *, equal: bool) -> None:
    axes.set_aspect("equal" if equal else "auto")
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(palette["rule"])


def _add_colour_bar(axes: Any, mappable: ScalarMappable, scale: Scale) -> None:
    """Put a bar beside axes, as high as they are; a smaller one, farther off, beside solid axes."""
    solid = hasattr(axes, "zaxis")
    place = {"ax": axes, "shrink": 0.7, "pad": 0.14, "aspect": 22} if solid else {"cax": axes.inset_axes(_BAR_PLACE)}
    bar = axes.get_figure().colorbar(mappable, **place)
    bar.outline.set_visible(False)
    bar.solids.set_rasterized(True)
    if scale.log:
        set_log_ticks(bar.ax, lambda value: f"{value:g}")


def _add_weight_legend(axes: Axes, dots: _Dots) -> None:
    """Name the weights: all of them where there are few, else some between the least and the largest."""
    from matplotlib.lines import Line2D

    distinct = np.unique(dots.stands_for.round(9))
    if not distinct.size:
        return
    chosen = distinct[np.linspace(0, distinct.size - 1, min(distinct.size, _MAX_LEGEND)).round().astype(int)]
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=6, markeredgewidth=0, color=colour, label=_short(weight))
        for weight, colour in zip(chosen.tolist(), weight_colours(chosen, dots.span), strict=True)
    ]
    axes.legend(
        handles=handles,
        title="stands for",
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        handletextpad=0.1,
        borderaxespad=0.2,
        alignment="left",
    )


# -- what panels are made of -------------------------------------------------------------------------------------------


def _spreads(values: Float[np.ndarray, " _"]) -> bool:
    """Tell whether a logarithmic axis shows more of an importance map than a linear one."""
    return bool(values.min() > 0 and values.max() > 3 * values.min())


def _short(value: float) -> str:
    return significant(value, 3)


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


def _thin_edges(edges: Shaped[np.ndarray, " edge"], step: int) -> Shaped[np.ndarray, " kept"]:
    """Return the borders of every `step`-th cell, the last one kept."""
    kept = edges[:-1:step]
    return np.append(kept, edges[-1])
