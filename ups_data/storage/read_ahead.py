"""Reading at once what several samples need: far away it is round trips that take the time, not bytes.

What a sample reads follows from tables and random numbers, never from the values that it reads. So it is rehearsed on
zeros, which tells the rows; those of many samples are read together, and the samples are then made of rows in memory. A
row that no rehearsal told is read when it is asked for: foresight that fails costs time alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from jaxtyping import Int64, Integer, Shaped

from ups_data.storage.rows import FileRows, HeldRows, RowReader, read_together


class _Rehearsal(RowReader):
    """Notes which rows are asked for, and answers with zeros."""

    def __init__(self, reader: RowReader, noted: list[Int64[np.ndarray, " row"]]) -> None:
        self.spec, self._noted = reader.spec, noted

    def read_rows(self, rows: Integer[np.ndarray, " row"]) -> Shaped[np.ndarray, "row *chunk"]:
        """Note the rows; return zeros."""
        self.check_rows(rows)
        self._noted.append(rows.astype(np.int64))
        return np.zeros((rows.size, *self.spec.chunk_shape[1:]), dtype=self.dtype)


class ReadAhead:
    """The rows that some samples will ask for.

    Args:
        readers: the arrays of a store, by key.
    """

    def __init__(self, readers: Mapping[str, RowReader]) -> None:
        self._readers = dict(readers)
        self._noted: dict[str, list[Int64[np.ndarray, " row"]]] = defaultdict(list)

    def rehearsal(self) -> dict[str, RowReader]:
        """Return readers that note what they are asked for and answer with zeros."""
        return {key: _Rehearsal(reader, self._noted[key]) for key, reader in self._readers.items()}

    @property
    def num_bytes(self) -> int:
        """Bytes of the rows that were noted; those that were noted twice count twice."""
        return sum(
            sum(rows.size for rows in noted) * self._readers[key].spec.codec_of_chunk.chunk_bytes
            for key, noted in self._noted.items()
        )

    def read(self) -> dict[str, RowReader]:
        """Read what was noted, all at once; return readers that have it in memory.

        Raises:
            CorruptionError: a row's bytes are not what was written.
        """
        wanted = {key: np.unique(np.concatenate(noted)) for key, noted in self._noted.items() if noted}
        files = {
            key: (reader, rows) for key, rows in wanted.items() if isinstance(reader := self._readers[key], FileRows)
        }
        found = dict(zip(files, read_together(list(files.values())), strict=True))
        held: dict[str, RowReader] = dict(self._readers)
        for key, (reader, rows) in files.items():
            held[key] = memory = HeldRows(reader.spec, reader)
            edges = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), rows.size]
            for start, stop in pairwise(edges):
                memory.hold(int(rows[start]), found[key][start:stop])
        return held
