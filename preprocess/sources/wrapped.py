"""A source made of another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from preprocess.sources.base import Source
from ups_data.errors import UnknownFormatError
from ups_data.importance import Subject


class WrappedSource(Source):
    """Tells of itself what another source tells, but what a subclass sets after; reads nothing itself.

    It has no file of its own: the source that it is made of is opened, and it is made of that.

    Args:
        source: the other source.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name, self.paths, self.notes = source.name, source.paths, source.notes
        self.kind, self.axes, self.fields, self.dtype = source.kind, source.axes, source.fields, source.dtype
        # Copied, as what stands for "none" cannot be sent to another process.
        self.time_unit, self.parameter_units = source.time_unit, dict(source.parameter_units)
        self.boundaries, self.missing_fields = source.boundaries, source.missing_fields
        self.has_measures, self.off_grid = source.has_measures, source.off_grid
        self.trajectories = source.trajectories

    @classmethod
    def recognises(cls, path: Path) -> bool:  # noqa: ARG003  of the contract
        """Return False: it has no file of its own."""
        return False

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> Source:  # noqa: ARG003  of the contract
        """Refuse: it has no file of its own.

        Raises:
            UnknownFormatError: always.
        """
        raise UnknownFormatError(f"{cls.summary} has no file of its own; open that of the source")

    @property
    def subject(self) -> Subject:
        """What importance is measured on: the other source."""
        return self._source.subject
