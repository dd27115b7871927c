"""What the process that reads files of VTK tells: a header of JSON, and the bytes of arrays after it. Never pickle.

The other end may have been led astray by the file that it read, so nothing here is believed: sizes are looked at before
memory is taken for them, and the parts of a file must fit together.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from preprocess.sources.mesh_points import SizedCells
from preprocess.sources.vtk_files import VtkFile
from ups_data.errors import SourceError

ArrayMap = Mapping[tuple[str, str], Shaped[np.ndarray, "..."]]
"""Arrays by group and name."""

ReadInto = Callable[[memoryview], None]
"""Fills all of a buffer, or raises."""

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 16 * 2**20
_DTYPE = re.compile(r"[<>|](?:[biufc]\d{1,2}|[SU]\d{1,9})")
_CELLS, _NODE_DATA, _CELL_DATA, _MESH = "cells", "at_nodes", "at_cells", ("nodes", "types", "offsets", "connectivity")
_SIZED = ("sizes", "centres")


def write_message(stream: io.BufferedIOBase, header: Mapping[str, Any], arrays: ArrayMap) -> None:
    """Write a header and arrays, and flush.

    Args:
        stream: where to.
        header: what JSON can hold.
        arrays: of numbers or text.
    """
    listed = [[*key, values.dtype.str, values.shape] for key, values in arrays.items()]
    head = json.dumps({**header, "arrays": listed}).encode()
    stream.write(len(head).to_bytes(_LENGTH_BYTES, "little") + head)
    for values in arrays.values():
        if values.size and values.dtype.itemsize:
            stream.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    stream.flush()


def read_message(
    read_into: ReadInto, max_bytes: int
) -> tuple[dict[str, Any], dict[tuple[str, str], Shaped[np.ndarray, "..."]]]:
    """Read what `write_message` wrote.

    Args:
        read_into: the other end.
        max_bytes: of all arrays together.

    Raises:
        ValueError: no such message, or one that is longer than it may be.
    """
    length = int.from_bytes(_read_bytes(read_into, _LENGTH_BYTES), "little")
    if length > _MAX_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(_read_bytes(read_into, length))
    arrays, left = {}, max_bytes
    for group, name, descr, shape in header.pop("arrays"):
        if not _DTYPE.fullmatch(descr) or not all(isinstance(size, int) and size >= 0 for size in shape):
            raise ValueError(f"array {name!r:.80} of type {descr!r:.20} and shape {shape!r:.80}")
        dtype = np.dtype(descr)
        left -= math.prod(shape) * dtype.itemsize
        if left < 0:
            raise ValueError(f"arrays of more than {max_bytes} bytes")
        values = np.empty(shape, dtype=dtype)
        if values.size and dtype.itemsize:
            read_into(values.reshape(-1).view(np.uint8).data)
        arrays[str(group), str(name)] = values
    return header, arrays


def pack_file(file: VtkFile) -> tuple[dict[str, Any], ArrayMap]:
    """Return header and arrays of a file's content."""
    arrays: dict[tuple[str, str], Shaped[np.ndarray, "..."]] = {
        (_CELLS, name): getattr(file.cells, name) for name in (*_MESH, *_SIZED)
    }
    arrays[_CELLS, "dims"] = file.dims
    arrays.update({(_NODE_DATA, name): values for name, values in file.at_nodes.items()})
    arrays.update({(_CELL_DATA, name): values for name, values in file.at_cells.items()})
    return {"numbers": dict(file.numbers), "time": file.time}, arrays


def unpack_file(header: Mapping[str, Any], arrays: ArrayMap, path: Path) -> VtkFile:
    """Return a file's content.

    Raises:
        SourceError: its parts do not fit together.
    """
    try:
        file = VtkFile(
            cells=SizedCells(**{name: arrays[_CELLS, name] for name in (*_MESH, *_SIZED)}),
            dims=arrays[_CELLS, "dims"],
            at_nodes={name: values for (group, name), values in arrays.items() if group == _NODE_DATA},
            at_cells={name: values for (group, name), values in arrays.items() if group == _CELL_DATA},
            numbers={str(name): float(value) for name, value in header["numbers"].items()},
            time=None if header["time"] is None else float(header["time"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(f"{path} is damaged: VTK's reader told no mesh of it ({error!r:.200})") from error
    _check_parts(file, path)
    return file


def _check_parts(file: VtkFile, path: Path) -> None:
    cells, num_nodes, num_cells = file.cells, len(file.cells.nodes), len(file.dims)
    corners = cells.connectivity
    sound = (
        cells.nodes.shape == (num_nodes, 3)
        and cells.types.shape == cells.sizes.shape == (num_cells,)
        and cells.centres.shape == (num_cells, 3)
        and cells.offsets.shape == (num_cells + 1,)
        and cells.offsets[0] == 0
        and cells.offsets[-1] == len(corners)
        and (np.diff(cells.offsets) >= 0).all()
        and (not corners.size or (corners.min() >= 0 and corners.max() < num_nodes))
    )
    if not sound:
        raise SourceError(f"{path} is damaged: {num_cells} cells of {num_nodes} nodes that do not fit together")
    for group, count, what in ((file.at_nodes, num_nodes, "nodes"), (file.at_cells, num_cells, "cells")):
        for name, values in group.items():
            if values.shape[:1] != (count,):
                raise SourceError(f"{path} is damaged: {name!r} has shape {values.shape}, and there are {count} {what}")


def _read_bytes(read_into: ReadInto, length: int) -> bytes:
    content = bytearray(length)
    if length:
        read_into(memoryview(content))
    return bytes(content)
