"""Pictures of a report, by matplotlib: fields and points as PNG, charts as SVG that takes the page's colours.

Charts are drawn in placeholder colours, which are then replaced by CSS variables: one chart serves light and dark
pages. Words and numbers stay text, so a page's font applies, and readers and browsers can find them.
"""

from __future__ import annotations

import base64
import html
import importlib.util
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float64, Shaped

from ups_data.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

Palette = Mapping[str, str]
"""Colours by the name of the style sheet's variable."""

# What stands for the variables of the page's style sheet until `to_svg` puts these in.
PLACEHOLDERS: Palette = {
    "ink": "#010101",
    "muted": "#020202",
    "rule": "#030303",
    "sparse": "#040404",
    "dense": "#050505",
    "third": "#060606",
    "input": "#070707",
}
LIGHT: Palette = {
    "ink": "#1b1d21",
    "muted": "#5d636e",
    "rule": "#dfe1e5",
    "sparse": "#c2480b",
    "dense": "#2467b5",
    "third": "#5d7f3a",
    "input": "#b9bec7",
}
"""The colours of the style sheet on light pages, for pictures that stand alone."""
# Orange to blue through purple: every shade is told apart from a white page and from a dark one.
_WEIGHT_COLOURS = ("#f59f00", "#f76707", "#d6336c", "#9775fa", "#339af0")
FONT_POINTS = 9.0
_CHART_INCHES = (4.6, 3.1)
_WIDE_INCHES = 5.2

MISSING = "#b8b8b8"
"""Colour of points without a value."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A colour scale that several pictures share.

    Attributes:
        colours: name of a matplotlib colour map.
        low, high: values at its ends.
        log: whether it is logarithmic.
    """

    colours: str
    low: float
    high: float
    log: bool = False

    @classmethod
    def of_field(cls, *values: Float[np.ndarray, "..."]) -> Scale:
        """Return a diverging scale around 0 for values of both signs, else a sequential one; NaN counts for nothing."""
        known = np.concatenate([part[np.isfinite(part)] for part in values])
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
        if low < 0 < high:
            return cls.of_errors(low, high, colours="RdBu_r")
        return cls(colours="viridis", low=low, high=high if high > low else low + 1)

    @classmethod
    def of_errors(cls, *values: float, colours: str = "PuOr_r") -> Scale:
        """Return a scale that is symmetric around 0 and reaches the largest of the values."""
        size = max(abs(value) for value in values) or 1.0
        return cls(colours=colours, low=-size, high=size)

    @classmethod
    def of_importance(cls, values: Float[np.ndarray, "..."]) -> Scale:
        """Return a logarithmic scale, or a linear one where the importance is the same everywhere or 0 somewhere."""
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        if low <= 0 or low == high:
            return cls(colours="magma", low=low, high=high if high > low else low + 1)
        return cls(colours="magma", low=low, high=high, log=True)

    def norm(self) -> Normalize:
        """Return what maps values to [0, 1]."""
        from matplotlib.colors import LogNorm, Normalize

        return (LogNorm if self.log else Normalize)(self.low, self.high, clip=True)

    def paint(self, values: Float[np.ndarray, "..."]) -> Shaped[np.ndarray, "... 4"]:
        """Return the colours of values, as bytes (..., 4); grey where they are missing."""
        from matplotlib import colormaps

        return colormaps[self.colours].with_extremes(bad=MISSING)(self.norm()(values), bytes=True)

    def ticks(self) -> tuple[float, float, float]:
        """Return the values at both ends and in the middle."""
        middle = np.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return self.low, float(middle), self.high


def check_matplotlib() -> None:
    """Raise ConfigError where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError('matplotlib, which draws the pictures, is not installed: pip install "ups-data[plots]"')


def draw_field(values: Float[np.ndarray, "x y"], scale: Scale) -> str:
    """Return a field as a data URI: the first axis to the right, the second one upwards."""
    return _image_uri(scale.paint(values.T[::-1]))


def draw_colour_bar(scale: Scale) -> str:
    """Return a strip of all colours of a scale as a data URI, low to the left."""
    steps = np.linspace(0.0, 1.0, 256)[None]
    values = (
        scale.low * (scale.high / scale.low) ** steps if scale.log else scale.low + (scale.high - scale.low) * steps
    )
    return _image_uri(scale.paint(values))


def _image_uri(pixels: Shaped[np.ndarray, "row column 4"]) -> str:
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, pixels, format="png", metadata={"Software": ""})
    return _png_uri(buffer)


def _png_uri(buffer: io.BytesIO) -> str:
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def weight_colours(stands_for: Float64[np.ndarray, " weight"], span: tuple[float, float]) -> list[str]:
    """Return the colour of each weight, on a logarithmic scale from the lowest of `span` to the highest."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    low, high = np.log(span[0]), np.log(span[1])
    place = (np.log(stands_for) - low) / (high - low) if high > low else np.full(len(stands_for), 0.5)
    colours = LinearSegmentedColormap.from_list("weights", list(_WEIGHT_COLOURS))
    return [to_hex(colours(value)) for value in place]


def draw_points(
    coordinates: Float64[np.ndarray, "point 2"],
    stands_for: Float64[np.ndarray, " point"],
    *,
    extent: tuple[tuple[float, float], tuple[float, float]],
    span: tuple[float, float],
) -> str:
    """Return drawn points as a data URI: coloured by weight, areas in proportion to it; the background is clear."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 5.0), dpi=160, facecolor="none")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(*extent[0])
    axes.set_ylim(*extent[1])
    # All weights together cover a fifth of the square, whatever their number.
    areas = 0.2 * (5.0 * 72) ** 2 * stands_for / stands_for.sum()
    distinct, number = np.unique(stands_for, return_inverse=True)
    colours = np.array(weight_colours(distinct, span))[number]
    order = np.argsort(-stands_for, kind="stable")
    x, y = coordinates[order].T
    axes.scatter(x, y, s=areas[order], c=colours[order].tolist(), linewidths=0)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True, metadata={"Software": ""})
    return _png_uri(buffer)


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """One line of a chart; `colour` names a variable of the style sheet."""

    colour: str
    x: Float64[np.ndarray, " point"]
    y: Float64[np.ndarray, " point"]
    marker: str = ""
    dashed: bool = False
    width: float = 1.6
    strength: float = 1.0


def draw_lines(
    lines: Sequence[Line], *, name: str, alt: str, x_label: str, y_label: str, format_y: Callable[[float], str]
) -> str:
    """Return a chart of lines as SVG, with a logarithmic vertical axis.

    Args:
        lines: drawn in this order.
        name: makes the ids of this chart unique in the page.
        alt: what it shows, for those who do not see it.
        x_label: with its unit.
        y_label: with its unit.
        format_y: how a value of the vertical axis is written.
    """
    with _chart(_CHART_INCHES) as (figure, axes):
        for line in lines:
            axes.plot(
                line.x,
                line.y,
                color=PLACEHOLDERS[line.colour],
                linestyle=(0, (4.0, 2.0)) if line.dashed else "-",
                linewidth=line.width,
                alpha=line.strength,
                marker=line.marker or None,
                markersize=4.5,
                solid_capstyle="round",
            )
        axes.set_yscale("log")
        axes.set_ylim(*_log_limits([line.y for line in lines]))
        set_log_ticks(axes, format_y)
        axes.set_xlim(left=0)
        axes.set_xlabel(x_label)
        axes.set_title(y_label, loc="left", fontsize=FONT_POINTS, color=PLACEHOLDERS["ink"])
        return to_svg(figure, name, alt)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar.

    Attributes:
        name: written before it.
        parts: colours and lengths, one after another.
        text: written behind it.
        limit: where a tick stands for what cannot be less; None for none.
    """

    name: str
    parts: tuple[tuple[str, float], ...]
    text: str
    limit: float | None = None


def draw_bars(groups: Mapping[str, Sequence[Bar]], *, name: str, alt: str, x_label: str) -> str:
    """Return groups of horizontal bars as SVG."""
    rows = [(group, bar) for group, bars in groups.items() for bar in bars]
    height = 0.7 + 0.34 * len(rows) + 0.34 * len(groups)
    with _chart((_WIDE_INCHES, height)) as (figure, axes):
        place, ticks = 0.0, []
        longest = max(sum(length for _, length in bar.parts) for _, bar in rows)
        for group, bars in groups.items():
            axes.text(0, place, group, va="center", fontweight="bold", color=PLACEHOLDERS["ink"])
            for bar in bars:
                place += 1
                ticks.append(place)
                start = 0.0
                for colour, length in bar.parts:
                    axes.barh(place, length, left=start, height=0.62, color=PLACEHOLDERS[colour], linewidth=0)
                    start += length
                if bar.limit is not None:
                    axes.vlines(bar.limit, place - 0.45, place + 0.45, color=PLACEHOLDERS["ink"], linewidth=1.6)
                axes.text(start + 0.025 * longest, place, bar.text, va="center", color=PLACEHOLDERS["ink"])
            place += 1.25
        axes.set_yticks(ticks, [bar.name for _, bar in rows])
        axes.set_ylim(place - 0.5, -0.7)
        axes.set_xlim(0, 1.22 * longest)
        axes.set_xlabel(x_label)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(True)
        return to_svg(figure, name, alt)


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One mark of a dot chart: a variable of the style sheet and a marker."""

    row: str
    value: float
    mark: tuple[str, str]


def draw_dots(dots: Sequence[Dot], *, name: str, alt: str, x_label: str) -> str:
    """Return marks in named rows over a logarithmic axis as SVG, with a line at 1."""
    rows = list(dict.fromkeys(dot.row for dot in dots))
    with _chart((_WIDE_INCHES, 0.9 + 0.38 * len(rows))) as (figure, axes):
        axes.axvline(1.0, color=PLACEHOLDERS["muted"], linewidth=1.0)
        for dot in dots:
            axes.plot(
                [dot.value],
                [rows.index(dot.row)],
                marker=dot.mark[1],
                markersize=7,
                color=PLACEHOLDERS[dot.mark[0]],
                markeredgewidth=0,
            )
        axes.set_xscale("log")
        low, high = _log_limits([np.array([dot.value for dot in dots] + [1.0])])
        axes.set_xlim(low, high)
        set_log_ticks(axes, lambda value: f"{value:g}", axis="x")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=True, axis="both")
        axes.tick_params(axis="y", length=0)
        axes.set_title(x_label, loc="left", fontsize=FONT_POINTS, color=PLACEHOLDERS["ink"])
        return to_svg(figure, name, alt)


@contextmanager
def chart_style(palette: Palette) -> Iterator[None]:
    """Draw in the report's own style, whatever the user's settings of matplotlib are."""
    import matplotlib as mpl

    style = {
        **mpl.rcParamsDefault,
        "svg.fonttype": "none",
        "svg.hashsalt": "report",
        "font.size": FONT_POINTS,
        "axes.unicode_minus": True,
        "text.color": palette["ink"],
        "axes.labelcolor": palette["ink"],
        "xtick.color": palette["muted"],
        "ytick.color": palette["muted"],
        "axes.edgecolor": palette["muted"],
        "grid.color": palette["rule"],
        "grid.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
    }
    style.pop("backend")
    with mpl.rc_context(style):
        yield


@contextmanager
def _chart(inches: tuple[float, float]) -> Iterator[tuple[Figure, Axes]]:
    """Give a figure whose colours `to_svg` replaces."""
    from matplotlib.figure import Figure

    with chart_style(PLACEHOLDERS):
        figure = Figure(figsize=inches, layout="constrained", facecolor="none")
        axes = figure.add_subplot(facecolor="none")
        axes.set_axisbelow(True)
        axes.grid(visible=True, axis="x" if inches[0] > _CHART_INCHES[0] else "y")
        yield figure, axes


def _log_limits(values: Sequence[Float64[np.ndarray, " _"]]) -> tuple[float, float]:
    """Return limits a tenth of a decade beyond all positive values, and at least half a decade apart."""
    everything = np.concatenate(values)
    exponents = np.log10(everything[everything > 0]) if (everything > 0).any() else np.zeros(1)
    low, high = float(exponents.min()) - 0.1, float(exponents.max()) + 0.1
    missing = max(0.0, 0.5 - (high - low)) / 2
    return 10 ** (low - missing), 10 ** (high + missing)


def set_log_ticks(axes: Axes, write: Callable[[float], str], *, axis: str = "y") -> None:
    """Put ticks at 1, 2, 5 times powers of ten, or at powers of ten alone where that is enough."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    chosen = axes.yaxis if axis == "y" else axes.xaxis
    low, high = axes.get_ylim() if axis == "y" else axes.get_xlim()
    subs = (1.0, 2.0, 5.0) if high / low < 150 else (1.0,)
    chosen.set_major_locator(LogLocator(subs=subs, numticks=12))
    chosen.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    chosen.set_minor_locator(NullLocator())
    chosen.set_minor_formatter(NullFormatter())


def to_svg(figure: Figure, name: str, alt: str) -> str:
    """Return a figure as SVG for a page: its ids made unique, its colours those of the page, nothing external."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
    )
    text = buffer.getvalue()
    found = re.search(r'<svg[^>]*viewBox="([^"]*)"[^>]*>(.*)</svg>', text, re.DOTALL)
    assert found is not None
    view_box, body = found.groups()
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    for variable, placeholder in PLACEHOLDERS.items():
        body = body.replace(placeholder, f"var(--{variable})")
    return f'<svg class="chart" role="img" aria-label="{html.escape(alt)}" viewBox="{view_box}">{body}</svg>'
