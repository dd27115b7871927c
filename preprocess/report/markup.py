"""Pieces of HTML: escaped text, numbers that carry their exact value, tables, figures."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence

from preprocess.inspect import format_bytes


def text(words: object) -> str:
    """Return text with what HTML would read as markup escaped."""
    return html.escape(str(words), quote=True)


def number(value: float, shown: str) -> str:
    """Return a number as people read it, with its exact value beside it for machines and tests."""
    return f'<data value="{value!r}">{text(shown)}</data>'


def percent(value: float, *, digits: int = 2) -> str:
    """Return a share as percent: 0.0824 is `8.2 %`, with a thin space."""
    return number(float(value), format_percent(value, digits=digits))


def format_percent(value: float, *, digits: int = 2) -> str:
    """Return a share as percent, as plain text."""
    return f"{significant(100 * value, digits)}\u202f%"


def size(num_bytes: float) -> str:
    """Return a size in bytes for people: 1536 is `1.5 KiB`."""
    return number(float(num_bytes), format_bytes(round(num_bytes)).replace(" ", "\u202f"))


def duration(seconds: float) -> str:
    """Return a time: `0.35 s`, `110 s`, `38 ms`."""
    shown = f"{significant(1000 * seconds, 2)}\u202fms" if seconds < 0.1 else f"{significant(seconds, 3)}\u202fs"
    return number(float(seconds), shown)


def counted(value: int, one: str, many: str) -> str:
    """Return a number with its noun: `1 frame`, `2 frames`."""
    return f"{count(value)} {one if value == 1 else many}"


def count(value: float) -> str:
    """Return a number of things: `65,536`."""
    return number(float(value), f"{value:,.0f}")


def plain(value: float, *, digits: int = 3) -> str:
    """Return a number without a unit."""
    return number(float(value), significant(value, digits))


def times(value: float, *, digits: int = 3) -> str:
    """Return a factor: `4.9 \u00d7`."""
    return f"{plain(value, digits=digits)}\u202f\u00d7"


def signed(value: float) -> str:
    """Return a number with its sign and two decimals: `+1.20`, `0.00`."""
    shown = f"{value:+.2f}"
    return number(value, "0.00" if float(shown) == 0 else shown.replace("-", "\u2212"))


def significant(value: float, digits: int) -> str:
    """Return a number with that many significant digits, never fewer before the point, never with an exponent."""
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    # The exponent after rounding: 9.97 to two digits is 10, not 10.0.
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    shown = f"{value:,.{min(max(0, digits - 1 - exponent), 12)}f}"
    return shown.replace("-", "\u2212")


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """Return a table that scrolls by itself on narrow screens.

    Args:
        caption: plain text.
        header: headings in HTML, or none.
        rows: cells in HTML; the first one names the row, and is empty where the row goes on with the one above it.
        kind: a class of the style sheet: `words` where cells hold text, `two-words` where the second one does.
    """
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join(_row(cells) for cells in rows)
    titles = f"<thead><tr>{head}</tr></thead>" if header else ""
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{text(caption)}">'
        f'<table class="{kind}"><caption>{text(caption)}</caption>{titles}<tbody>{body}</tbody></table></div>'
    )


def _row(cells: Sequence[str]) -> str:
    first, *rest = cells
    kind = "" if first else ' class="same"'
    return f'<tr{kind}><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'


def figure(caption: str, *parts: str) -> str:
    """Return a figure with its caption; all of it is HTML."""
    return f"<figure>{''.join(parts)}<figcaption>{caption}</figcaption></figure>"


def section(name: str, title: str, *parts: str) -> str:
    """Return a section with a heading; parts are HTML."""
    heading = f'<h2 id="{name}-title">{title}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">{heading}{"".join(parts)}</section>'


def paragraph(*sentences: str) -> str:
    """Return a paragraph of sentences in HTML."""
    return f"<p>{' '.join(sentence for sentence in sentences if sentence)}</p>"


def equation(words: str) -> str:
    """Return an equation of plain letters, `u_t + u u_x = nu u_xx`, as one reads it."""
    marked = re.sub(r"\b([A-Za-z])(?:_([a-z]+))?\b", _symbol, text(words))
    return re.sub(r"\bnu\b", "\u03bd", marked)


def _symbol(found: re.Match[str]) -> str:
    letter, index = found.groups()
    return f"<i>{letter}</i>" + (f"<sub>{index}</sub>" if index else "")


def picture(title: str, source: str, alt: str, below: str = "") -> str:
    """Return an image with a title above it and a line below it."""
    line = f'<p class="below">{below}</p>' if below else ""
    return f'<div class="picture"><h3>{title}</h3><img src="{source}" alt="{text(alt)}">{line}</div>'


def scale_bar(title: str, source: str, ticks: Sequence[str]) -> str:
    """Return a colour bar with the values at its ends and in its middle."""
    marks = "".join(f"<span>{text(tick)}</span>" for tick in ticks)
    return f'<div class="scale"><p>{title}</p><img src="{source}" alt=""><div class="ticks">{marks}</div></div>'


def line_legend(entries: Iterable[tuple[str, str, str, str]]) -> str:
    """Return a legend of lines: colour, dashes (`5 3` or empty), marker (`o`, `s` or empty), words."""
    marks = {
        "o": '<circle cx="14" cy="6" r="4"/>',
        "s": '<rect x="10" y="2" width="8" height="8"/>',
        "D": '<rect x="10.5" y="2.5" width="7" height="7" transform="rotate(45 14 6)"/>',
    }
    items = "".join(
        f'<li><svg viewBox="0 0 28 12" aria-hidden="true" style="stroke:var(--{colour});fill:var(--{colour})">'
        f'<path d="M0 6H28" stroke-width="2.5" stroke-dasharray="{dashes}"/>{marks.get(marker, "")}</svg>{words}</li>'
        for colour, dashes, marker, words in entries
    )
    return f'<ul class="legend">{items}</ul>'


def dot_legend(entries: Iterable[tuple[str, str]], *, tick: str = "") -> str:
    """Return a legend of colours: a CSS colour, and words; and what a tick means, where there is one."""
    items = "".join(
        f'<li><span class="dot" style="background:{colour}"></span>{words}</li>' for colour, words in entries
    )
    if tick:
        items += f'<li><span class="tick"></span>{tick}</li>'
    return f'<ul class="legend">{items}</ul>'


def listing(lines: Iterable[tuple[str, str]]) -> str:
    """Return command lines, each below a comment that says what it does."""
    body = "\n".join(f'<span class="purpose"># {text(purpose)}</span>\n{text(line)}' for line, purpose in lines)
    return f"<pre><code>{body}</code></pre>"
