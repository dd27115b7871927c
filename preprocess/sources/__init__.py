"""Sources: one input format a file, each describing itself before it is read.

`open_source` recognises a format by content, refuses what is ambiguous or unknown, and says what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from preprocess.sources.anemoi import AnemoiSource
from preprocess.sources.arrays import ArraysSource
from preprocess.sources.base import Source, TrajectoryInfo
from preprocess.sources.car_cfd import CarCFDSource
from preprocess.sources.crash_mesh import CrashMeshSource
from preprocess.sources.curator import CuratorSource
from preprocess.sources.hdf5_files import has_hdf5_magic, open_hdf5
from preprocess.sources.neuraloperator import NeuralOperatorSource
from preprocess.sources.particles import ParticlesSource
from preprocess.sources.pdearena import PDEArenaSource
from preprocess.sources.pdearena_shallow_water import ShallowWaterSource
from preprocess.sources.pdebench import PDEBenchSource
from preprocess.sources.physicsnemo_mesh import PhysicsNeMoMeshSource
from preprocess.sources.the_well import WellSource
from preprocess.sources.vtk import VtkSource
from preprocess.sources.xarray_files import XarraySource
from ups_data.errors import SourceError, UnknownFormatError, suggest

__all__ = ["SOURCES", "Source", "TrajectoryInfo", "open_source"]

SOURCES: Mapping[str, type[Source]] = {
    source.format: source
    for source in (
        ArraysSource,
        AnemoiSource,
        CarCFDSource,
        CrashMeshSource,
        CuratorSource,
        NeuralOperatorSource,
        ParticlesSource,
        PDEArenaSource,
        PDEBenchSource,
        PhysicsNeMoMeshSource,
        VtkSource,
        ShallowWaterSource,
        WellSource,
        XarraySource,
    )
}
"""Every format by name."""

_NEAREST_BY_SUFFIX = {
    ".pt": "neuraloperator",
    ".pth": "neuraloperator",
    ".nc": "xarray",
    ".grib": "xarray",
    ".grib2": "xarray",
    ".grb": "xarray",
    ".zarr": "xarray",
    ".npy": "arrays",
    ".npz": "arrays",
    ".yaml": "arrays",
    ".yml": "arrays",
    ".pvd": "vtk",
    ".vtk": "vtk",
    ".vtp": "vtk",
    ".vtu": "vtk",
}


def open_source(
    paths: Sequence[Path],
    format: str | None = None,  # noqa: A002  the name that the command line has
    options: Mapping[str, Any] | None = None,
) -> Source:
    """Open a data set that one or several files hold.

    Args:
        paths: the files; several become one data set (train and test files, for example). A directory where a format
            has its data sets in directories.
        format: name of the format; recognised by content if None.
        options: what the format needs to be told beyond its files; see its module.

    Raises:
        UnknownFormatError: a path that is not there, no format of that name, or none or several that recognise the
            files.
        SourceError: a file that is damaged or not what its format says.
        ConfigError: an option that the format does not have.
    """
    files = tuple(Path(path) for path in paths)
    _check_files(files)
    chosen = _recognise(files) if format is None else _named(format)
    source = chosen.open(files, dict(options or {}))
    source.options = dict(options or {})
    return source


def _check_files(paths: tuple[Path, ...]) -> None:
    if not paths:
        raise UnknownFormatError("no source was given; name one or several files")
    for path in paths:
        if not path.exists():
            raise UnknownFormatError(f"{path} is not there{_nearest_sibling(path)}")
        if path.is_file() and path.stat().st_size == 0:
            raise SourceError(f"{path} is empty")
    if len(set(paths)) != len(paths):
        raise SourceError(f"every file can be given once, got {', '.join(map(str, paths))}")


def _nearest_sibling(path: Path) -> str:
    names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = suggest(path.name, names)
    return f". {hint.split('?')[0]}?" if hint.startswith("Did you mean") else ""


def _named(name: str) -> type[Source]:
    if name not in SOURCES:
        raise UnknownFormatError(f"there is no format {name!r}. {suggest(name, SOURCES)}")
    return SOURCES[name]


def _recognise(paths: tuple[Path, ...]) -> type[Source]:
    found = {path: _recognising(path) for path in paths}
    for path, names in found.items():
        if not names:
            raise UnknownFormatError(_explain_unknown(path))
        if len(names) > 1:
            raise UnknownFormatError(f"{path} may be {' or '.join(names)}; say which with --format")
    formats = {path: names[0] for path, names in found.items()}
    if len(set(formats.values())) > 1:
        listed = ", ".join(f"{path.name} is {name}" for path, name in formats.items())
        raise UnknownFormatError(f"files of one data set must have one format: {listed}")
    return SOURCES[formats[paths[0]]]


def _recognising(path: Path) -> tuple[str, ...]:
    names = tuple(name for name, source in SOURCES.items() if source.recognises(path))
    special = tuple(name for name in names if not SOURCES[name].is_general)
    return special or names


def _explain_unknown(path: Path) -> str:
    supported = "; ".join(f"{name}: {source.summary}" for name, source in SOURCES.items())
    if path.is_dir():
        return (
            f"{path} is a directory, and no format's data set; name the files in it, for example {path}/*. Supported "
            f"are {supported}"
        )
    if has_hdf5_magic(path):
        hint = _compare_names(path)
    else:
        nearest = _NEAREST_BY_SUFFIX.get(path.suffix.lower())
        hint = f" Its name looks like {nearest!r}: --format {nearest} tells what is missing." if nearest else ""
    return f"{path} is in no format that is known here.{hint} Supported are {supported}"


def _compare_names(path: Path) -> str:
    """Name the format of HDF5 whose data sets, groups and attributes a file's are most like.

    Raises where h5py is missing or the file is damaged, which is then the reason why nothing recognised it.
    """
    with open_hdf5(path) as file:
        names = [*file, *file.attrs, *(inner for group in file.values() if hasattr(group, "keys") for inner in group)]
    listed = f" It holds {', '.join(names[:8]) or 'nothing'}."
    likeness = {
        name: sum(bool(get_close_matches(mark, names, n=1, cutoff=0.8)) for mark in source.marks) / len(source.marks)
        for name, source in SOURCES.items()
        if source.marks
    }
    best = max(likeness, key=lambda name: likeness[name])
    if not likeness[best]:
        return listed
    return f"{listed} Nearest is {best!r}: --format {best} tells what is missing."
