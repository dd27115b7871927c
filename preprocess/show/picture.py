"""A picture of several panels, as PNG or as an HTML page that needs nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preprocess.report import figures, markup
from preprocess.report.style import STYLE_SHEET
from ups_data.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".html")
"""Endings of the files that can be written."""

_DPI = 150
_TITLE_INCHES = 0.55
_STYLE = """
main { max-width: 84rem; }
h1 { max-width: none; font-size: 1.6rem; }
.panels { display: grid; gap: 1.5rem 2rem; margin-top: 1.5rem; }
.panels .chart { max-width: none; overflow: visible; }
.picture h2 { margin: 0 0 .375rem; font-size: 1rem; }
@media (max-width: 56rem) { .panels { grid-template-columns: minmax(0, 1fr) !important; } }
"""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        title: above it.
        draw: draws into axes, with the colours of a palette.
        inches: width and height.
        solid: whether its axes are three-dimensional.
    """

    title: str
    draw: Callable[[Axes, figures.Palette], None]
    inches: tuple[float, float]
    solid: bool = False

    @property
    def axes_options(self) -> dict[str, str]:
        """What matplotlib is told when it makes the axes."""
        return {"projection": "3d"} if self.solid else {}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Panels in rows, and words around them.

    Attributes:
        title: of the picture.
        panels: row after row, all of one size.
        columns: panels of a row.
        caption: how to read it.
        facts: names and values, for the table of a page.
    """

    title: str
    panels: tuple[Panel, ...]
    columns: int
    caption: str
    facts: tuple[tuple[str, str], ...]


def check_output(path: Path) -> None:
    """Refuse an output before anything is read.

    Raises:
        ConfigError: the file's ending tells no format, its folder is not there, or matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"pictures end in {' or '.join(FORMATS)}, got {path.name!r}")
    if not path.parent.is_dir():
        raise ConfigError(f"the folder {path.parent} of {path.name} is not there; make it first")
    figures.check_matplotlib()


def write_picture(picture: Picture, path: Path) -> Path:
    """Write a picture in the format that the file's ending tells; it takes its name when it is complete.

    Raises:
        ConfigError: see `check_output`.
    """
    check_output(path)
    content = _to_png(picture) if path.suffix.lower() == ".png" else _to_html(picture).encode()
    staged = path.with_name(f".{path.name}.staged")
    staged.write_bytes(content)
    return staged.replace(path)


def _to_png(picture: Picture) -> bytes:
    from matplotlib.figure import Figure

    rows = -(-len(picture.panels) // picture.columns)
    width, height = picture.panels[0].inches
    size = (picture.columns * width, rows * height + _TITLE_INCHES)
    with figures.chart_style(figures.LIGHT):
        figure = Figure(figsize=size, layout="constrained", facecolor="white", dpi=_DPI)
        # Room between panels: the titles of one row must not touch the axes of the row above it.
        engine: Any = figure.get_layout_engine()
        engine.set(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.04)
        figure.suptitle(picture.title, x=0.01, ha="left", fontsize=figures.FONT_POINTS + 3)
        for number, panel in enumerate(picture.panels):
            axes = figure.add_subplot(rows, picture.columns, number + 1, facecolor="none", **panel.axes_options)
            axes.set_title(panel.title, loc="left", fontsize=figures.FONT_POINTS + 1)
            panel.draw(axes, figures.LIGHT)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": ""})
    return buffer.getvalue()


def _to_html(picture: Picture) -> str:
    charts = "".join(
        f'<div class="picture"><h2>{markup.text(panel.title)}</h2>{_to_chart(panel, f"panel{number}")}</div>'
        for number, panel in enumerate(picture.panels)
    )
    columns = f"grid-template-columns: repeat({picture.columns}, minmax(0, 1fr))"
    facts = [(markup.text(name), markup.text(value)) for name, value in picture.facts]
    panels = markup.figure(markup.text(picture.caption), f'<div class="panels" style="{columns}">{charts}</div>')
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{markup.text(picture.title)}</title><link rel="icon" href="data:,">'
        f"<style>{STYLE_SHEET}{_STYLE}</style></head>\n"
        f"<body><main>\n<h1>{markup.text(picture.title)}</h1>\n{panels}\n"
        f"{markup.table('What is shown', (), facts, kind='words')}\n</main></body></html>\n"
    )


def _to_chart(panel: Panel, name: str) -> str:
    from matplotlib.figure import Figure

    with figures.chart_style(figures.PLACEHOLDERS):
        figure = Figure(figsize=panel.inches, layout="constrained", facecolor="none", dpi=_DPI)
        axes = figure.add_subplot(facecolor="none", **panel.axes_options)
        panel.draw(axes, figures.PLACEHOLDERS)
        return figures.to_svg(figure, name, panel.title)
