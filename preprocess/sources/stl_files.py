"""STL files, binary or text, as arrays: `points`, every corner once, and `triangles`, the three corners of each facet.

Facets keep the order of the file. A file repeats the corners of each facet; equal ones are one point, numbered in the
order in which the file first has them.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from ups_data.errors import SourceError

STL_KEYS = ("points", "triangles")

_TEXT, _HEADER_BYTES = b"solid", 84
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_NUMBERS = rb"\s+(\S+)\s+(\S+)\s+(\S+)"
_FACET_OF_TEXT = re.compile(
    rb"\bfacet\s+normal\s+\S+\s+\S+\s+\S+\s+outer\s+loop" + (rb"\s+vertex" + _NUMBERS) * 3 + rb"\s+endloop\s+endfacet"
)


def is_stl(path: Path) -> bool:
    """Tell by content and name: text, or binary of as many facets as its size allows."""
    if path.suffix.lower() != ".stl" or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    return head.startswith(_TEXT) or path.stat().st_size == _size_of(head)


def read_stl(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Return points (V, 3), in float64, and triangles (F, 3), integers.

    Raises:
        SourceError: no facets, damaged or cut short.
    """
    content = path.read_bytes()
    if len(content) == _size_of(content):
        corners = np.frombuffer(content, _FACET, offset=_HEADER_BYTES)["corners"].reshape(-1, 3).astype(np.float64)
    else:
        content = content.lower()
        facets = _FACET_OF_TEXT.findall(content)
        begun = len(re.findall(rb"^\s*facet\s", content, re.MULTILINE))
        if len(facets) != begun or b"endsolid" not in content:
            raise SourceError(
                f"{path} is damaged or cut short: {len(facets)} of {begun} facets are whole, and a line `endsolid` is "
                f"{'there' if b'endsolid' in content else 'not there'}"
            )
        try:
            corners = np.array(facets, dtype=np.bytes_).astype(np.float64).reshape(-1, 3)
        except ValueError as error:
            raise SourceError(f"{path} holds a vertex that is no number: {error}") from error
    if not corners.size:
        raise SourceError(f"{path} holds no facet")
    points, first, numbers = np.unique(corners, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return {"points": points[order], "triangles": np.argsort(order)[numbers].reshape(-1, 3)}


def _size_of(head: bytes) -> int:
    return _HEADER_BYTES + _FACET.itemsize * int.from_bytes(head[_HEADER_BYTES - 4 : _HEADER_BYTES], "little")
