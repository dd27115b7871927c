"""Legacy files of VTK, looked through before VTK reads them.

It crashes on some damage, and takes zeros, or half a number, for what is cut off.
"""

from __future__ import annotations

import re
from mmap import mmap
from pathlib import Path

from ups_data.errors import SourceError

LEGACY_MAGIC = b"# vtk DataFile"
_VERSION = re.compile(rb"# vtk DataFile Version [1-9]\d?\.\d\s")
_TEXT = re.compile(rb"[^\n]*\n[^\n]*\n\s*ASCII\b")
_COUNTS = re.compile(
    rb"^(?:POINTS|CELLS|CELL_TYPES|VERTICES|LINES|POLYGONS|TRIANGLE_STRIPS|POINT_DATA|CELL_DATA) +(\d+)(?: +(\d+))?"
    rb"|^\S+ +(\d+) +(\d+) +[a-z_]+ *\r?$",
    re.MULTILINE,
)
_SECTION = re.compile(rb"^[A-Za-z_]\S*(?: +\S+){1,4} *\r?$", re.MULTILINE)
_PER_ROW = {b"SCALARS": 1, b"VECTORS": 3, b"NORMALS": 3, b"TENSORS": 9, b"COLOR_SCALARS": 1, b"TEXTURE_COORDINATES": 1}
_CELLS = {b"CELLS", b"VERTICES", b"LINES", b"POLYGONS", b"TRIANGLE_STRIPS"}


def check_legacy(content: mmap, path: Path) -> None:
    """Look through a file.

    Raises:
        SourceError: no version, a number of items that the file is too short for, or, in files of text, fewer numbers
            than the last section promises.
    """
    if not _VERSION.match(content):
        raise SourceError(f"{path} tells no version of its format: it begins with {content[:32]!r}")
    for found in _COUNTS.finditer(content):
        if max(int(number) for number in found.groups() if number is not None) > len(content):
            raise SourceError(f"{path} is damaged: {found[0].decode().strip()!r} in a file of {len(content)} bytes")
    if _TEXT.match(content):
        _check_last_section(content, path)


def _check_last_section(content: mmap, path: Path) -> None:
    rows, promised, section, start = 0, 0, b"", 0
    for found in _SECTION.finditer(content):
        words = found[0].split()
        if words[0] in {b"POINT_DATA", b"CELL_DATA"} and words[1].isdigit():
            rows = int(words[1])
        count = _count_numbers(words, rows)
        if count is not None:
            promised, section, start = count, found[0].strip(), found.end()
        elif words[0] == b"LOOKUP_TABLE":
            start = found.end()
    there = len(content[start:].partition(b"METADATA")[0].split())
    if there < promised or not content[-1:].isspace():
        raise SourceError(
            f"{path} is cut short: {section.decode(errors='replace')!r} promises {promised} numbers, {there} are "
            f"there, and a whole file ends in a line break"
        )


def _count_numbers(words: list[bytes], rows: int) -> int | None:
    """Return how many numbers a section has, None for a line that begins none."""
    kind, numbers = words[0], [int(word) for word in words[1:] if word.isdigit()]
    if kind == b"POINTS" and numbers:
        return 3 * numbers[0]
    if kind in _PER_ROW and len(words) > 2:
        # Of `SCALARS name type 3`, `TEXTURE_COORDINATES name 2 type`, `COLOR_SCALARS name 4`: numbers a row.
        inside = [int(word) for word in words[2:] if word.isdigit()]
        return rows * _PER_ROW[kind] * (inside[0] if inside else 1)
    if kind == b"CELL_TYPES" and numbers:
        return numbers[0]
    if kind in _CELLS and len(numbers) == 2:
        # In version 5 the numbers follow under OFFSETS and CONNECTIVITY; they are fewer than that.
        return 0
    is_array = len(words) == 4 and words[1].isdigit() and words[2].isdigit()
    return numbers[0] * numbers[1] if is_array else None
