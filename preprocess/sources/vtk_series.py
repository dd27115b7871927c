"""Which files of VTK make a trajectory.

One file is one steady trajectory, a `.pvd` collection one trajectory in time. Several files may be either, and where
their names differ by a number alone the option `series` must say which: `trajectories`, or `time` for a trajectory of
each run of numbers. Times are those that the files tell (`TimeValue`), or `time_step` times the number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64

from preprocess.sources.axes import read_increasing
from preprocess.sources.vtk_process import shared_process
from ups_data.errors import SourceError

Series = Literal["time", "trajectories"]
_NUMBERED = re.compile(r"(.*?)(\d+)")
_MAX_LISTED = 4


@dataclass(frozen=True, kw_only=True)
class Case:
    """The files of one trajectory in the order of time.

    Attributes:
        item: name of the trajectory, for messages and provenance.
        files: a frame each.
        times: of the frames, where they are told from outside of the files.
    """

    item: str
    files: tuple[Path, ...]
    times: tuple[float, ...] | None = None


def find_cases(paths: Sequence[Path], *, series: Series | None, time_step: float | None) -> tuple[Case, ...]:
    """Sort files into trajectories.

    Raises:
        SourceError: files that may be steps or trajectories, two steps of one number, or a damaged collection.
    """
    collections = [path for path in paths if path.suffix.lower() == ".pvd"]
    runs = _find_runs([path for path in paths if path not in collections])
    ambiguous = next((run for run in runs if len(run) > 1), None)
    if ambiguous is not None and series is None:
        names = ", ".join(path.name for _, path in ambiguous[:_MAX_LISTED])
        raise SourceError(
            f"{names}{', ...' if len(ambiguous) > _MAX_LISTED else ''} may be steps of one trajectory in time, or "
            f"trajectories of their own; say which: --option series=time, or series=trajectories"
        )
    several = len({path.parent for path in paths}) > 1
    cases = [_open_collection(path) for path in collections]
    for run in runs:
        if series == "time":
            cases.append(_as_steps(run, time_step, several=several))
        else:
            cases += [Case(item=_name(path, several=several), files=(path,)) for _, path in run]
    return tuple(cases)


def join_times(case: Case, told: Sequence[float | None]) -> Float64[np.ndarray, " time"]:
    """Return the times of a trajectory.

    Args:
        case: the trajectory.
        told: the time that each of its files tells.

    Raises:
        SourceError: a step without time, or times that do not increase strictly.
    """
    times = case.times
    if times is None and len(case.files) == 1:
        times = (told[0] or 0.0,)
    if times is None:
        missing = [path for path, time in zip(case.files, told, strict=True) if time is None]
        if missing:
            raise SourceError(
                f"{missing[0]} does not tell its time (TimeValue); state the time from one number to the next: "
                f"--option time_step=0.1"
            )
        times = tuple(time for time in told if time is not None)
    return read_increasing(np.array(times, dtype=np.float64), where=f"{case.item}: times")


def _find_runs(paths: Sequence[Path]) -> list[list[tuple[int, Path]]]:
    """Group files whose names differ by a number at the end, in the order of the numbers."""
    runs: dict[tuple[Path, str], list[tuple[int, Path]]] = {}
    for path in paths:
        found = _NUMBERED.fullmatch(path.stem)
        stem, number = (found[1], int(found[2])) if found else (path.stem, 0)
        runs.setdefault((path.parent, stem), []).append((number, path))
    return [sorted(run) for run in runs.values()]


def _open_collection(path: Path) -> Case:
    steps = shared_process().read_collection(path)
    return Case(item=path.name, files=tuple(file for _, file in steps), times=tuple(time for time, _ in steps))


def _as_steps(run: Sequence[tuple[int, Path]], time_step: float | None, *, several: bool) -> Case:
    numbers, files = zip(*run, strict=True)
    if len(set(numbers)) != len(numbers):
        raise SourceError(f"two files of {', '.join(path.name for path in files)} bear the same number")
    item = _name(files[0], several=several)
    return Case(
        item=item if len(files) == 1 else f"{item} to {files[-1].name}",
        files=files,
        times=None if time_step is None else tuple(time_step * number for number in numbers),
    )


def _name(path: Path, *, several: bool) -> str:
    return f"{path.parent.name}/{path.name}" if several else path.name
