"""PDEArena's HDF5 files: one group a split (`train`, `valid`, `test`), trajectories in rows.

* Navier-Stokes in two dimensions, plain and conditioned: `u` (smoke), `vx`, `vy`, each (n, T, X, Y), with `t` (n, T),
  `x` (n, X), `y` (n, Y), and the buoyancy `buo_y` (n). Smoke and flow stay in a closed box: no axis is periodic.
* Kuramoto-Sivashinsky: `pde_{T}-{X}` (n, T, X), periodic, with `dt` and `dx`, one number or one a trajectory, from
  which times and nodes follow, and the optional parameter `v`.
* Maxwell in three dimensions: `d_field`, `h_field`, each (n, T, X, Y, Z, 3). Neither times nor nodes are told: the
  options `time_step` and `spacing` state them.

`dt`, `dx`, `dy` of Navier-Stokes restate times and nodes and are no parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import numpy as np
import pydantic
from jaxtyping import Float64

from preprocess.sources.axes import as_float, read_increasing
from preprocess.sources.base import TrajectoryInfo
from preprocess.sources.hdf5_files import get_dataset, has_hdf5_magic, open_hdf5, read_part
from preprocess.sources.hdf5_source import AXES, HDF5Source, Layout, Part, Place
from ups_data.errors import ConfigError, SourceError, UnknownFormatError, suggest
from ups_data.schema import FieldSpec, Finite, Record
from ups_data.yaml_records import parse_record

if TYPE_CHECKING:
    import h5py

_SPLITS = ("train", "valid", "test")
_SMOKE = ("u", "vx", "vy")
_MAXWELL = ("d_field", "h_field")
_PDE = re.compile(r"pde_([0-9]+)-([0-9]+)")
_RESTATED = frozenset({"dt", "dx", "dy", "t", "x", "y"})

_Length = Annotated[Finite, pydantic.Field(gt=0)]


class PDEArenaOptions(Record):
    """What a user may have to say about a file of PDEArena.

    Attributes:
        dataset: which `pde_{T}-{X}` of a Kuramoto-Sivashinsky file is meant, where it holds several.
        periodic: whether all axes are periodic, where the problem does not tell.
        time_step: time between two frames of a Maxwell file.
        spacing: distance of neighbouring nodes of a Maxwell file, along all axes.
    """

    dataset: str | None = None
    periodic: bool | None = None
    time_step: _Length | None = None
    spacing: _Length | None = None


Describe = Callable[["h5py.Group", Path, PDEArenaOptions], Layout]


class PDEArenaSource(HDF5Source):
    """One or several files of one problem of PDEArena."""

    format: ClassVar[str] = "pdearena"
    summary: ClassVar[str] = (
        "PDEArena .h5 files: Navier-Stokes 2-D (conditioned too), Kuramoto-Sivashinsky, Maxwell 3-D"
    )
    marks: ClassVar[frozenset[str]] = frozenset({*_SPLITS, *_SMOKE, "buo_y"})
    _on_other_periods: ClassVar[str] = "; with --option periodic=false they are converted as if nothing wrapped around"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell by the names of groups, and of data sets in the first of them."""
        try:
            if not has_hdf5_magic(path):
                return False
            with open_hdf5(path) as file:
                groups = _find_groups(file)
                return bool(groups) and _find_problem(file[groups[0]]) is not None
        except (OSError, SourceError):
            return False

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, object]) -> Self:
        """Open files of one problem; `options` are those of `PDEArenaOptions`."""
        chosen = parse_record(PDEArenaOptions, options, where="options of format 'pdearena'")
        layouts = [(path, layout) for path in paths for layout in _describe(path, chosen)]
        source = cls([path for path, _ in layouts], [layout for _, layout in layouts])
        source.paths = tuple(paths)
        return source


def _describe(path: Path, options: PDEArenaOptions) -> list[Layout]:
    """Describe every group of a file."""
    layouts = []
    with open_hdf5(path) as file:
        groups = _find_groups(file)
        if not groups:
            raise UnknownFormatError(
                f"{path} has no group {', '.join(_SPLITS)}, as PDEArena's files have; it holds "
                f"{', '.join(list(file)[:8]) or 'nothing'}"
            )
        for name in groups:
            describe = _find_problem(file[name])
            if describe is None:
                raise SourceError(
                    f"{path.name}: {name} holds {', '.join(list(file[name])[:12]) or 'nothing'}; u, vx and vy "
                    f"(Navier-Stokes), pde_T-X (Kuramoto-Sivashinsky), or d_field and h_field (Maxwell) are wanted"
                )
            layouts.append(describe(file[name], path, options))
    return layouts


def _find_groups(file: h5py.File) -> tuple[str, ...]:
    return tuple(name for name in _SPLITS if name in file and hasattr(file[name], "keys"))


def _find_problem(group: h5py.Group) -> Describe | None:
    """Tell the problem by the names in a group; a file that lacks one of a problem's data sets is refused later."""
    if "vx" in group or "vy" in group:
        return _describe_smoke
    if _pdes_in(group):
        return _describe_kuramoto_sivashinsky
    return _describe_maxwell if any(name in group for name in _MAXWELL) else None


def _describe_smoke(group: h5py.Group, path: Path, options: PDEArenaOptions) -> Layout:
    """Buoyant smoke in a closed box: every trajectory has its own times, nodes and buoyancy."""
    arrays = _read_fields(group, path, _SMOKE, "(n, T, X, Y)", 4)
    count, num_frames, *space = arrays["u"].shape
    times = _read_rows(group, path, "t", (count, num_frames))
    nodes = [_read_rows(group, path, axis, (count, size)) for axis, size in zip("xy", space, strict=True)]
    names = [name for name in ("buo_y",) if name in group]
    parameters = {name: _read_scalar(group, path, name, count) for name in names}
    if options.periodic:
        raise ConfigError("option periodic=True contradicts what is known of PDEArena's Navier-Stokes: a closed box")
    left_out = [name for name in group if name not in {*_SMOKE, *_RESTATED, *names}]
    return Layout(
        problem="navier_stokes_2d",
        fields=(FieldSpec(name="smoke"), FieldSpec(name="velocity", components=("x", "y"))),
        parts=tuple(Part(dataset=name, dims=("time", "x", "y")) for name in _SMOKE),
        dtypes=tuple(array.dtype for array in arrays.values()),
        periodic=False,
        places=tuple(_places(group, path, "u", times, nodes, parameters)),
        notes=("smoke is the data set u, velocity the data sets vx and vy", *_note_left_out(left_out)),
    )


def _describe_kuramoto_sivashinsky(group: h5py.Group, path: Path, options: PDEArenaOptions) -> Layout:
    """One field in one dimension; times and nodes are multiples of dt and dx."""
    name = _choose_pde(group, path, options.dataset)
    field = _read_fields(group, path, (name,), "(n, T, X)", 3)[name]
    count, *sizes = field.shape
    stated = _PDE.fullmatch(name)
    if stated is not None and sizes != [int(number) for number in stated.groups()]:
        raise SourceError(f"{_where(group, path, name)} has shape {field.shape}, which is not what its name says")
    steps = {step: _read_scalar(group, path, step, count) for step in ("dt", "dx")}
    for step, values in steps.items():
        if values.min() <= 0:
            raise SourceError(f"{_where(group, path, step)} holds {values.min():g}; steps must be positive")
    parameters = {"v": _read_scalar(group, path, "v", count)} if "v" in group else {}
    left_out = [other for other in group if other not in {name, "v", *_RESTATED}]
    times, nodes = (steps[key][:, None] * np.arange(size) for key, size in zip(("dt", "dx"), sizes, strict=True))
    places = _places(group, path, name, times, [nodes], parameters)
    return Layout(
        problem="kuramoto_sivashinsky",
        fields=(FieldSpec(name="u"),),
        # Files of one data set may differ in T, and so in the name of the data set: it stands in the places.
        parts=(Part(dataset="", dims=("time", "x")),),
        dtypes=(field.dtype,),
        periodic=options.periodic is not False,
        places=tuple(replace(place, group=f"{place.group}{name}") for place in places),
        notes=(f"field u is the data set {name}; node i lies at i dx, frame i at i dt", *_note_left_out(left_out)),
    )


def _describe_maxwell(group: h5py.Group, path: Path, options: PDEArenaOptions) -> Layout:
    """Displacement and magnetic field in three dimensions; the files tell neither times nor nodes."""
    arrays = _read_fields(group, path, _MAXWELL, "(n, T, X, Y, Z, 3)", 6)
    count, num_frames, *space, components = arrays["d_field"].shape
    if components != 3:
        raise SourceError(f"{_where(group, path, 'd_field')} has {components} components; 3 are wanted")
    if options.time_step is None or options.spacing is None:
        raise SourceError(
            f"{path.name}: {str(group.name).lstrip('/')} tells neither times nor nodes; state the distances of both: "
            f"--option time_step=1.0 --option spacing=5e-7, in units of your choice"
        )
    nodes = [np.tile(options.spacing * np.arange(size), (count, 1)) for size in space]
    periodic = (
        "the file does not tell whether its domain is periodic; it was taken as not periodic (option periodic says "
        "otherwise)"
    )
    return Layout(
        problem="maxwell_3d",
        fields=tuple(FieldSpec(name=name, components=AXES) for name in _MAXWELL),
        parts=tuple(Part(dataset=name, dims=("time", *AXES, "component")) for name in _MAXWELL),
        dtypes=tuple(array.dtype for array in arrays.values()),
        periodic=bool(options.periodic),
        places=tuple(
            _places(group, path, "d_field", np.tile(options.time_step * np.arange(num_frames), (count, 1)), nodes, {})
        ),
        notes=(
            "times and nodes as told by the options time_step and spacing",
            "periodic as told by option" if options.periodic is not None else periodic,
            *_note_left_out([name for name in group if name not in _MAXWELL]),
        ),
    )


def _places(  # noqa: PLR0917  one call of each problem, all of it different
    group: h5py.Group,
    path: Path,
    dataset: str,
    times: Float64[np.ndarray, "row time"],
    nodes: Sequence[Float64[np.ndarray, "row _"]],
    parameters: Mapping[str, Float64[np.ndarray, " row"]],
) -> Iterator[Place]:
    name = str(group.name).lstrip("/")
    for row in range(len(times)):
        item = f"{path.name}: {name}/{dataset}[{row}]"
        own = tuple(
            read_increasing(values[row], where=f"{item}: nodes along {axis}")
            for axis, values in zip(AXES, nodes, strict=False)
        )
        info = TrajectoryInfo(
            item=item,
            shape=tuple(values.size for values in own),
            times=read_increasing(times[row], where=f"{item}: times"),
            parameters={key: float(values[row]) for key, values in parameters.items()},
            split=name,
        )
        yield Place(path=path, group=f"{name}/", prefix=(row,), info=info, nodes=own)


def _read_fields(
    group: h5py.Group, path: Path, names: tuple[str, ...], wanted: str, num_dims: int
) -> dict[str, h5py.Dataset]:
    """Return data sets of one shape."""
    arrays = {name: get_dataset(group, name, path=path) for name in names}
    first = arrays[names[0]]
    for name, array in arrays.items():
        if array.ndim != num_dims:
            raise SourceError(f"{_where(group, path, name)} has shape {array.shape}; {wanted} is wanted")
        if array.shape != first.shape:
            raise SourceError(f"{_where(group, path, name)} has shape {array.shape}, {names[0]} has {first.shape}")
    return arrays


def _read_rows(group: h5py.Group, path: Path, name: str, shape: tuple[int, int]) -> Float64[np.ndarray, "row _"]:
    where = _where(group, path, name)
    dataset = get_dataset(group, name, path=path)
    if dataset.shape != shape:
        raise SourceError(f"{where} has shape {dataset.shape}; {shape} is wanted")
    rows = read_part(dataset, (), where=where)
    return np.stack([read_increasing(row, where=f"{where}[{number}]") for number, row in enumerate(rows)])


def _read_scalar(group: h5py.Group, path: Path, name: str, count: int) -> Float64[np.ndarray, " row"]:
    """Return one number a trajectory, of one for all or one for each."""
    where = _where(group, path, name)
    dataset = get_dataset(group, name, path=path)
    if dataset.shape not in {(), (1,), (count,)}:
        raise SourceError(
            f"{where} has shape {dataset.shape} for {count} trajectories; one number, or one for each, is wanted"
        )
    values = read_part(dataset, (), where=where).reshape(-1)
    numbers = np.array([as_float(value, where=f"{where}[{row}]") for row, value in enumerate(values)])
    return np.broadcast_to(numbers, (count,)).copy()


def _pdes_in(group: h5py.Group) -> tuple[str, ...]:
    return tuple(name for name in group if _PDE.fullmatch(name))


def _choose_pde(group: h5py.Group, path: Path, told: str | None) -> str:
    names = _pdes_in(group)
    if told is not None and told not in names:
        raise ConfigError(f"{path.name}: option dataset is {told!r}. {suggest(told, names)}")
    if told is None and len(names) > 1:
        raise SourceError(
            f"{path.name}: {str(group.name).lstrip('/')} holds {' and '.join(names)}; say which with "
            f"--option dataset={names[0]}"
        )
    return told or names[0]


def _where(group: h5py.Group, path: Path, name: str) -> str:
    return f"{path.name}: {str(group.name).lstrip('/')}/{name}"


def _note_left_out(names: Sequence[str]) -> tuple[str, ...]:
    return (f"left out: {', '.join(names)}",) if names else ()
