"""Problems and counts of the checks of a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ups_data.errors import UpsDataError

CHECKS = ("manifest", "files", "shards", "tables", "pages", "values", "statistics")
"""Names of the checks, in their order."""

_MAX_PROBLEMS = 20


class Findings:
    """Problems and counts by check; of many problems of one check the first are kept and the rest counted."""

    def __init__(self) -> None:
        self._checked: Counter[str] = Counter()
        self._found: Counter[str] = Counter()
        self._problems: dict[str, list[str]] = {check: [] for check in CHECKS}

    def count(self, check: str, number: int = 1) -> None:
        """Note that a check looked at so many more things."""
        self._checked[check] += number

    def add(self, check: str, problem: str) -> None:
        """Note a problem; one that is known already, such as that of a chunk read twice, is not repeated."""
        if problem in self._problems[check]:
            return
        self._found[check] += 1
        if self._found[check] <= _MAX_PROBLEMS:
            self._problems[check].append(problem)

    def expect(self, check: str, holds: bool, problem: str) -> None:
        """Note a problem unless something holds."""
        if not holds:
            self.add(check, problem)

    @contextmanager
    def gathered(self, check: str, *errors: type[UpsDataError]) -> Iterator[None]:
        """Note errors as problems of a check instead of raising them."""
        try:
            yield
        except errors as error:
            self.add(check, str(error))

    @property
    def checks(self) -> dict[str, int]:
        """How many things each check looked at."""
        return {check: self._checked[check] for check in CHECKS if check in self._checked}

    @property
    def problems(self) -> tuple[str, ...]:
        """All problems, in the order of the checks."""
        return tuple(line for check in CHECKS for line in self._lines(check))

    def _lines(self, check: str) -> Iterator[str]:
        yield from (f"{check}: {problem}" for problem in self._problems[check])
        if self._found[check] > _MAX_PROBLEMS:
            yield f"{check}: and {self._found[check] - _MAX_PROBLEMS} more problems like these"


def say_nothing(what: str, done: int, total: int) -> None:
    """Take progress and drop it."""
