"""Meshes in `.ply` files (Stanford triangle format, ASCII or binary): vertices, and triangles between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float64, Int64

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
_FACE_LISTS = {"vertex_indices", "vertex_index"}
_CORNERS = 3
_MAX_HEADER_LINES = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class PlyMesh:
    """What a file holds.

    Attributes:
        points: x, y and z of all vertices (V, 3).
        triangles: their vertices (F, 3), from 0; none where the file has no faces.
    """

    points: Float64[np.ndarray, "point 3"]
    triangles: Int64[np.ndarray, "triangle 3"]


@dataclass(frozen=True, kw_only=True)
class _Element:
    """Rows of one kind; the type of a list is that of its length and that of its entries, joined by a blank."""

    name: str
    count: int
    properties: tuple[tuple[str, str], ...]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.properties]


@dataclass(frozen=True, kw_only=True)
class _Header:
    order: str
    vertices: _Element
    faces: _Element | None


def read_ply(path: Path) -> PlyMesh:
    """Read vertices and faces.

    Raises:
        SourceError: no such file, no `.ply` file, cut short, coordinates that are not finite, or faces that are no
            triangles or name vertices that are not there.
    """
    try:
        with path.open("rb") as file:
            header = _read_header(file, path)
            points = _read_vertices(file, header, path)
            triangles = _read_faces(file, header, path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    if not np.isfinite(points).all():
        row, column = np.unravel_index(int(np.argmin(np.isfinite(points))), points.shape)
        raise SourceError(f"{path}: vertex {row} holds {points[row, column]}; coordinates must be finite")
    if triangles.size and not (triangles.min() >= 0 and triangles.max() < len(points)):
        raise SourceError(
            f"{path}: faces name vertices {triangles.min()} to {triangles.max()}, and there are {len(points)}"
        )
    return PlyMesh(points=points, triangles=triangles)


def _read_header(file: BinaryIO, path: Path) -> _Header:
    lines = [line.split() for line in _header_lines(file, path)]
    order = next((_ORDERS.get(words[1]) for words in lines if words[0] == "format" and len(words) > 1), None)
    if order is None:
        raise SourceError(f"{path}: the header names no format of {', '.join(_ORDERS)}")
    places = [place for place, words in enumerate(lines) if words[0] == "element"]
    if not places or lines[places[0]][1:2] != ["vertex"]:
        raise SourceError(f"{path}: the first element of the header must be vertex")
    elements = [
        _read_element(lines[place:stop], path) for place, stop in zip(places, [*places[1:], len(lines)], strict=True)
    ]
    vertices = elements[0]
    if vertices.count < 1:
        raise SourceError(f"{path}: the header says {' '.join(lines[places[0]])!r}; a number of vertices is wanted")
    if not {"x", "y", "z"} <= set(vertices.names) or any(" " in kind for _, kind in vertices.properties):
        listed = ", ".join(vertices.names) or "no properties"
        raise SourceError(f"{path}: vertices have {listed}; x, y and z are wanted")
    faces = next((element for element in elements if element.name == "face" and element.count), None)
    if faces is not None and (faces is not elements[1] or len(_FACE_LISTS & set(faces.names)) != 1):
        there, told = ", ".join(element.name for element in elements[1:]), ", ".join(faces.names) or "nothing"
        raise SourceError(
            f"{path}: after the vertices faces are wanted with one list of {' or '.join(sorted(_FACE_LISTS))}; there "
            f"are {there}, faces with {told}"
        )
    return _Header(order=order, vertices=vertices, faces=faces)


def _read_element(lines: list[list[str]], path: Path) -> _Element:
    """Read what the header says of one element: a line with its name and number, and one a property."""
    words = lines[0]
    if len(words) != 3 or not words[2].isdigit():
        what = {"vertex": "vertices", "face": "faces"}.get(words[1] if len(words) > 1 else "", "rows")
        raise SourceError(f"{path}: the header says {' '.join(words)!r}; a number of {what} is wanted")
    properties = []
    for line in lines[1:]:
        if line[0] != "property":
            continue
        types = line[2:-1] if line[1:2] == ["list"] else line[1:-1]
        wanted = 2 if line[1:2] == ["list"] else 1
        if len(types) != wanted or not set(types) <= set(_TYPES):
            raise SourceError(f"{path}: the header says {' '.join(line)!r} of {words[1]}; a type and a name are wanted")
        properties.append((line[-1], " ".join(_TYPES[kind] for kind in types)))
    names = [name for name, _ in properties]
    if len(set(names)) != len(names):
        raise SourceError(f"{path}: the header names a property of {words[1]} twice: {', '.join(names)}")
    return _Element(name=words[1], count=int(words[2]), properties=tuple(properties))


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
    element = header.vertices
    if header.order:
        dtype = np.dtype([(name, header.order + kind) for name, kind in element.properties])
        content = np.frombuffer(_read_bytes(file, dtype.itemsize * element.count, element, path), dtype=dtype)
        return np.stack([content[name].astype(np.float64) for name in ("x", "y", "z")], axis=1)
    places = [element.names.index(name) for name in ("x", "y", "z")]
    rows = []
    for number in range(element.count):
        words = file.readline(10_000).split()
        try:
            rows.append([float(words[place]) for place in places])
        except (IndexError, ValueError) as error:
            raise SourceError(f"{path} is cut short or damaged at vertex {number}: {b' '.join(words)!r:.80}") from error
    return np.array(rows, dtype=np.float64)


def _read_faces(file: BinaryIO, header: _Header, path: Path) -> Int64[np.ndarray, "triangle 3"]:
    if header.faces is None:
        return np.empty((0, _CORNERS), dtype=np.int64)
    return _read_binary_faces(file, header, path) if header.order else _read_text_faces(file, header.faces, path)


def _read_binary_faces(file: BinaryIO, header: _Header, path: Path) -> Int64[np.ndarray, "triangle 3"]:
    """Read rows of one size: all lists but that of the corners must be absent, and that has three entries."""
    element, order = header.faces, header.order
    assert element is not None
    columns: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for name, kind in element.properties:
        if " " not in kind:
            columns.append((f"of {name}", order + kind))
            continue
        if name not in _FACE_LISTS:
            raise SourceError(f"{path}: faces have the list {name!r}, which this reader does not know how to pass over")
        length, entry = kind.split()
        columns += [("count", order + length), ("corners", order + entry, (_CORNERS,))]
    dtype = np.dtype(columns)
    content = np.frombuffer(_read_bytes(file, dtype.itemsize * element.count, element, path), dtype=dtype)
    other = np.flatnonzero(content["count"] != _CORNERS)
    if other.size:
        _refuse_face(path, int(other[0]), int(content["count"][other[0]]))
    return content["corners"].astype(np.int64)


def _read_text_faces(file: BinaryIO, element: _Element, path: Path) -> Int64[np.ndarray, "triangle 3"]:
    if " " not in element.properties[0][1]:
        raise SourceError(f"{path}: faces of text must begin with their list of vertices, not {element.names[0]!r}")
    rows = []
    for number in range(element.count):
        words = file.readline(10_000).split()
        try:
            count, corners = int(words[0]), [int(word) for word in words[1 : 1 + _CORNERS]]
        except (IndexError, ValueError) as error:
            raise SourceError(f"{path} is cut short or damaged at face {number}: {b' '.join(words)!r:.80}") from error
        if count != _CORNERS:
            _refuse_face(path, number, count)
        if len(corners) != _CORNERS:
            raise SourceError(f"{path} is cut short or damaged at face {number}: {b' '.join(words)!r:.80}")
        rows.append(corners)
    return np.array(rows, dtype=np.int64)


def _refuse_face(path: Path, number: int, count: int) -> None:
    raise SourceError(f"{path}: face {number} has {count} vertices; triangles are read")


def _read_bytes(file: BinaryIO, size: int, element: _Element, path: Path) -> bytes:
    # Against the size of the file first: a header may promise more than any memory holds.
    left = path.stat().st_size - file.tell()
    if left < size:
        what = {"vertex": "vertices", "face": "faces"}.get(element.name, element.name)
        raise SourceError(f"{path} is cut short: {left} bytes are left for {element.count} {what}")
    return file.read(size)
