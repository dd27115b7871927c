"""Points of `.ply` files (Stanford triangle format, ASCII or binary): the vertices, without the faces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float64

from ups_data.errors import SourceError

PLY_MAGIC = b"ply"
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_TYPES_BY_WORDS = {
    "i1": ("char", "int8"),
    "u1": ("uchar", "uint8"),
    "i2": ("short", "int16"),
    "u2": ("ushort", "uint16"),
    "i4": ("int", "int32"),
    "u4": ("uint", "uint32"),
    "f4": ("float", "float32"),
    "f8": ("double", "float64"),
}
_TYPES = {word: code for code, words in _TYPES_BY_WORDS.items() for word in words}
_MAX_HEADER_LINES = 1000


@dataclass(frozen=True, kw_only=True)
class _Header:
    order: str
    count: int
    properties: tuple[tuple[str, str], ...]


def read_ply_points(path: Path) -> Float64[np.ndarray, "point 3"]:
    """Return x, y and z of all vertices.

    Raises:
        SourceError: no such file, no `.ply` file, cut short, or coordinates that are not finite.
    """
    try:
        with path.open("rb") as file:
            header = _read_header(file, path)
            points = _read_vertices(file, header, path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    if not np.isfinite(points).all():
        row, column = np.unravel_index(int(np.argmin(np.isfinite(points))), points.shape)
        raise SourceError(f"{path}: vertex {row} holds {points[row, column]}; coordinates must be finite")
    return points


def _read_header(file: BinaryIO, path: Path) -> _Header:
    lines = [line.split() for line in _header_lines(file, path)]
    order = next((_ORDERS.get(words[1]) for words in lines if words[0] == "format" and len(words) > 1), None)
    if order is None:
        raise SourceError(f"{path}: the header names no format of {', '.join(_ORDERS)}")
    elements = [place for place, words in enumerate(lines) if words[0] == "element"]
    if not elements or lines[elements[0]][1:2] != ["vertex"]:
        raise SourceError(f"{path}: the first element of the header must be vertex")
    words = lines[elements[0]]
    if len(words) != 3 or not words[2].isdigit() or int(words[2]) < 1:
        raise SourceError(f"{path}: the header says {' '.join(words)!r}; a number of vertices is wanted")
    inside = lines[elements[0] + 1 : elements[1] if len(elements) > 1 else None]
    properties = [words for words in inside if words[0] == "property"]
    for words in properties:
        if len(words) != 3 or words[1] not in _TYPES:
            raise SourceError(f"{path}: the header says {' '.join(words)!r} of vertices; a type and a name are wanted")
    names = [words[2] for words in properties]
    if not {"x", "y", "z"} <= set(names) or len(set(names)) != len(names):
        raise SourceError(f"{path}: vertices have {', '.join(names) or 'no properties'}; x, y and z are wanted")
    return _Header(
        order=order, count=int(lines[elements[0]][2]), properties=tuple((words[2], words[1]) for words in properties)
    )


def _header_lines(file: BinaryIO, path: Path) -> list[str]:
    if file.readline(16).strip() != PLY_MAGIC:
        raise SourceError(f"{path} is no .ply file")
    lines: list[str] = []
    for _ in range(_MAX_HEADER_LINES):
        line = file.readline(1000).decode("ascii", errors="replace").strip()
        if line == "end_header":
            return [text for text in lines if text]
        lines.append(line)
    raise SourceError(f"{path}: the header has no end_header")


def _read_vertices(file: BinaryIO, header: _Header, path: Path) -> Float64[np.ndarray, "point 3"]:
    names = [name for name, _ in header.properties]
    if header.order:
        dtype = np.dtype([(name, header.order + _TYPES[kind]) for name, kind in header.properties])
        # Against the size of the file first: a header may promise more than any memory holds.
        left = path.stat().st_size - file.tell()
        if left < dtype.itemsize * header.count:
            raise SourceError(f"{path} is cut short: {left} bytes after the header for {header.count} vertices")
        content = np.frombuffer(file.read(dtype.itemsize * header.count), dtype=dtype)
        return np.stack([content[name].astype(np.float64) for name in ("x", "y", "z")], axis=1)
    rows = []
    for number in range(header.count):
        words = file.readline(10_000).split()
        try:
            rows.append([float(words[names.index(name)]) for name in ("x", "y", "z")])
        except (IndexError, ValueError) as error:
            raise SourceError(f"{path} is cut short or damaged at vertex {number}: {b' '.join(words)!r:.80}") from error
    return np.array(rows, dtype=np.float64)
