"""What every task of a conversion needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from preprocess.partition import Partition
from preprocess.sources.base import Source


@dataclass(frozen=True, kw_only=True, eq=False)
class Workbench:
    """What every task needs; picklable, sent to a process once.

    Attributes:
        source: the data set; it opens its files again where it is unpickled.
        partition: the plan and its tasks.
        counted: which trajectories the statistics cover.
        folder: the conversion's folder, `.NAME.partial`.
        staging: where files are written before they get their names. It belongs to this run alone and is removed at its
            end, so that a process that nobody knows of any more can put nothing in place.
        ledger: name of the ledger that the tasks are noted in.
        dest: where the store will lie, for messages.
        wanted: files of the store that are to be written, if not all.
    """

    source: Source
    partition: Partition
    counted: Shaped[np.ndarray, " trajectory"]
    folder: Path
    staging: Path
    ledger: str
    dest: Path
    wanted: frozenset[str] | None = None

    def is_wanted(self, path: str) -> bool:
        """Tell whether a file of the store, by its path below the folder, is to be written."""
        return self.wanted is None or path in self.wanted
