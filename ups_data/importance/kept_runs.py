"""What was made ready of the runs of a cloud, kept from frame to frame: in memory, or in a temporary file."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from jaxtyping import Shaped

Arrays = Sequence[Shaped[np.ndarray, "..."]]

MOST_IN_MEMORY = 2**30
"""Bytes of all runs together; larger ones lie in a file."""

# A file is made where it leaves as much room as it takes.
_ROOM = 2


class _Place(NamedTuple):
    """Where the arrays of a run begin in the file, and what they are."""

    start: int
    kinds: tuple[tuple[np.dtype, tuple[int, ...]], ...]


class KeptRuns:
    """Keeps arrays of runs that take long to make, and has them made again where there is no room for them.

    Args:
        num_bytes: of all runs together.
        folder: where the file lies; the system's folder for temporary files if None.
        most_in_memory: bytes that may lie in memory.
    """

    def __init__(self, *, num_bytes: int, folder: Path | None = None, most_in_memory: int = MOST_IN_MEMORY) -> None:
        self._in_memory: list[Arrays] | None = [] if num_bytes <= most_in_memory else None
        self._file: IO[bytes] | None = None
        self._places: list[_Place] = []
        if self._in_memory is None:
            place = tempfile.gettempdir() if folder is None else folder
            if shutil.disk_usage(place).free >= _ROOM * num_bytes:
                # It has no name, so nothing is left of it, however this process ends.
                self._file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115  it lives as long as this object
                self._close = weakref.finalize(self, self._file.close)

    def take(self, number: int, make: Callable[[int], Arrays]) -> Arrays:
        """Return the arrays of a run; asked for in order the first time, they are kept.

        Args:
            number: the run.
            make: makes its arrays; the same ones whenever it is asked.
        """
        kept = self._places if self._in_memory is None else self._in_memory
        if number < len(kept):
            return self._read(self._places[number]) if self._in_memory is None else self._in_memory[number]
        arrays = make(number)
        if number == len(kept):
            if self._in_memory is not None:
                self._in_memory.append(arrays)
            elif self._file is not None:
                self._write(arrays)
        return arrays

    def _write(self, arrays: Arrays) -> None:
        assert self._file is not None
        place = _Place(self._file.seek(0, 2), tuple((array.dtype, array.shape) for array in arrays))
        try:
            for array in arrays:
                self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            self._file.flush()
        except OSError:
            # No room: what is not kept is made again, which takes longer and gives the same.
            self._close.detach()
            with suppress(OSError):  # it writes what is left first, for which there is no room either
                self._file.close()
            self._file, self._places = None, []
            return
        self._places.append(place)

    def _read(self, place: _Place) -> Arrays:
        assert self._file is not None
        self._file.seek(place.start)
        arrays = [np.empty(shape, dtype) for dtype, shape in place.kinds]
        for array in arrays:
            self._file.readinto(array.reshape(-1).view(np.uint8).data)  # type: ignore[attr-defined]
        return arrays
