"""What is drawn into the axes of a panel: curves, images, scattered points, and the points of a draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float64, Shaped

from preprocess.report.figures import Palette, Scale, set_log_ticks, weight_colours
from preprocess.report.markup import significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

# More pixels than a panel can show only make files large.
_MAX_NODES = 1024
_MAX_LEGEND = 5
_BAR_PLACE = (1.025, 0.0, 0.035, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dots:
    """Points to mark.

    Attributes:
        places: along the axes of a panel.
        stands_for: how many points each stands for.
        span: least and largest of these in the whole draw.
    """

    places: Float64[np.ndarray, "point dim"]
    stands_for: Float64[np.ndarray, " point"]
    span: tuple[float, float]


def draw_curve(
    axes: Axes,
    palette: Palette,
    *,
    x: Float64[np.ndarray, " node"],
    y: Float[np.ndarray, " node"],
    colour: str,
    labels: tuple[str, str],
) -> None:
    """Draw a line; an importance map on a logarithmic axis where that shows more."""
    axes.plot(x, y, color=palette[colour], linewidth=1.4, marker="o" if x.size == 1 else None)
    _set_line_axes(axes, labels, log=colour == "sparse" and _spreads(y))


def draw_marks(
    axes: Axes,
    palette: Palette,
    *,
    x: Float64[np.ndarray, " point"],
    y: Float[np.ndarray, " point"],
    colour: str,
    labels: tuple[str, str],
) -> None:
    """Draw points of a one-dimensional cloud."""
    axes.scatter(x, y, s=4, color=palette[colour], linewidths=0)
    _set_line_axes(axes, labels, log=colour == "sparse" and _spreads(y))


def draw_dots_on_curve(
    axes: Axes,
    palette: Palette,
    *,
    x: Float64[np.ndarray, " node"],
    y: Float[np.ndarray, " node"],
    dots: Dots,
    labels: tuple[str, str],
    marks: bool = False,
) -> None:
    """Draw the drawn points on the curve of the field."""
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


def draw_image(
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
    add_colour_bar(axes, mesh, scale)


def draw_scatter(
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
    """Draw points of a plane or of space in the colours of their values."""
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
    set_space_axes(axes, palette, labels, limits, equal=equal)
    add_colour_bar(axes, marks, scale)


def draw_dots(
    axes: Axes,
    palette: Palette,
    *,
    dots: Dots,
    labels: tuple[str, ...],
    limits: tuple[tuple[float, float], ...],
    equal: bool,
) -> None:
    """Draw the drawn points in the plane or in space, in the colours of their weights."""
    # All weights together cover a fifth of the panel, whatever their number; fewer do not grow out of proportion.
    room = 0.2 * (3.2 * 72) ** 2 / max(dots.stands_for.sum(), 1.0)
    areas = np.clip(min(room, 30.0) * dots.stands_for, 0.5, 150.0)
    _scatter_dots(axes, dots, areas)
    set_space_axes(axes, palette, labels, limits, equal=equal)
    _add_weight_legend(axes, dots)


def _scatter_dots(axes: Any, dots: Dots, areas: Float64[np.ndarray, " point"]) -> None:
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


def set_space_axes(
    axes: Any, palette: Palette, labels: tuple[str, ...], limits: tuple[tuple[float, float], ...], *, equal: bool
) -> None:
    """Set limits and names of two or three axes of space."""
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


def add_colour_bar(axes: Any, mappable: ScalarMappable, scale: Scale) -> None:
    """Put a bar beside axes, as high as they are; a smaller one, farther off, beside solid axes."""
    solid = hasattr(axes, "zaxis")
    place = {"ax": axes, "shrink": 0.7, "pad": 0.14, "aspect": 22} if solid else {"cax": axes.inset_axes(_BAR_PLACE)}
    bar = axes.get_figure().colorbar(mappable, **place)
    bar.outline.set_visible(False)
    bar.solids.set_rasterized(True)
    if scale.log:
        set_log_ticks(bar.ax, lambda value: f"{value:g}")


def _add_weight_legend(axes: Axes, dots: Dots) -> None:
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


def _spreads(values: Float[np.ndarray, " _"]) -> bool:
    """Tell whether a logarithmic axis shows more of an importance map than a linear one."""
    return bool(values.min() > 0 and values.max() > 3 * values.min())


def _short(value: float) -> str:
    return significant(value, 3)


def _thin_edges(edges: Shaped[np.ndarray, " edge"], step: int) -> Shaped[np.ndarray, " kept"]:
    """Return the borders of every `step`-th cell, the last one kept."""
    kept = edges[:-1:step]
    return np.append(kept, edges[-1])
