"""The layouts of PDEBench's files: what each holds, described without reading a field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pydantic
from jaxtyping import Float64

from preprocess.sources.axes import as_float, first_times, read_increasing
from preprocess.sources.base import TrajectoryInfo
from preprocess.sources.hdf5_files import get_dataset, read_part, read_text
from preprocess.sources.hdf5_source import AXES, Layout, Part, Place
from ups_data.errors import ConfigError, SourceError
from ups_data.schema import FieldSpec, Finite, Record
from ups_data.yaml_records import parse_yaml

if TYPE_CHECKING:
    import h5py

_PERIODIC_1D = ("advection", "burgers", "reaction_diffusion")
_PROBLEM_BY_NAME = (("1D_Advection", "advection"), ("1D_Burgers", "burgers"), ("ReacDiff", "reaction_diffusion"))
_PROBLEM_BY_ATTRIBUTES = {
    frozenset({"beta"}): "advection",
    frozenset({"nu"}): "burgers",
    frozenset({"nu", "rho"}): "reaction_diffusion",
}
_FLOW: tuple[str, ...] = ("density", "pressure", "Vx")
_INCOMPRESSIBLE = ("velocity", "particles", "force", "t")
_UNTOLD_PERIODIC = (
    "the file does not tell whether its domain is periodic; it was taken as not periodic (option periodic says "
    "otherwise)"
)
_PARAMETERS = frozenset({"beta", "nu", "rho", "eta", "zeta", "m"})
_NO_PHYSICS = frozenset(
    {"seed", "n", "t", "tdim", "T", "T_end", "n_time_steps", "x_left", "x_right", "xdim", "y_bottom", "y_top", "ydim"}
    | {"n_steps", "DT", "dt", "frame_int", "n_batch", "save_every"}
)


PositiveFloat = Annotated[Finite, pydantic.Field(gt=0)]


class PDEBenchOptions(Record):
    """What a user may have to say about a file of PDEBench.

    Attributes:
        axes: order of the space dimensions of grouped 2-D data, where nothing in the file tells.
        periodic: whether all axes are periodic, where neither equation nor file name tells.
        domain_size: lengths of an incompressible flow's domain along x and y, where its `config` does not tell.
        split: `official` puts the first tenth of every file's trajectories in `test`, as PDEBench's own loader does,
            and the rest in `train`.
    """

    axes: Literal["xy", "yx"] | None = None
    periodic: bool | None = None
    domain_size: tuple[PositiveFloat, PositiveFloat] | None = None
    split: Literal["official"] | None = None


Describe = Callable[["h5py.File", Path, PDEBenchOptions], Layout]


def find_layout(file: h5py.File) -> Describe | None:
    """Tell by the names in a file which layout it has; None for none of them."""
    if "tensor" in file:
        return _describe_darcy if "nu" in file else _describe_scalar
    if all(name in file for name in _FLOW):
        return _describe_flow
    if all(name in file for name in _INCOMPRESSIBLE):
        return _describe_incompressible
    if _find_groups(file):
        return _describe_groups
    return None


def _describe_scalar(file: h5py.File, path: Path, options: PDEBenchOptions) -> Layout:
    """One equation, one unknown, one space dimension: (B, T, X), or (1, B, T, X)."""
    tensor = get_dataset(file, "tensor", path=path)
    outer = (0,) if tensor.ndim == 4 and tensor.shape[0] == 1 and "y-coordinate" not in file else ()
    if tensor.ndim - len(outer) != 3:
        raise SourceError(
            f"{path.name}: tensor has shape {tensor.shape}; (B, T, X) and (1, B, T, X) are read, and (B, 1, X, Y) "
            f"beside a data set nu"
        )
    count, num_frames, _ = tensor.shape[len(outer) :]
    parameters, attributes = _read_attributes(file, path)
    problem = _name_problem(path, parameters)
    known = problem in _PERIODIC_1D
    nodes = _read_axes(file, path, tensor.shape[len(outer) + 1 :][1:], "tensor")
    times, notes = _read_times(file, path, num_frames)
    periodic, more = _settle_periodic(True if known else None, options, path, problem)
    return Layout(
        problem=problem or "pdebench",
        fields=(FieldSpec(name="u"),),
        parts=(Part(dataset="tensor", dims=("time", "x")),),
        dtypes=(tensor.dtype,),
        periodic=periodic,
        places=tuple(_places_of_rows(path, "tensor", count, outer, nodes, times, parameters, options)),
        notes=("field u is the data set tensor", *attributes, *notes, *more),
    )


def _describe_darcy(file: h5py.File, path: Path, options: PDEBenchOptions) -> Layout:
    """Steady Darcy flow: coefficient `nu` (B, X, Y), solution `tensor` (B, 1, X, Y)."""
    tensor, coefficient = get_dataset(file, "tensor", path=path), get_dataset(file, "nu", path=path)
    wanted = (coefficient.shape[0], 1, *coefficient.shape[1:])
    if coefficient.ndim != 3 or tensor.shape != wanted:
        raise SourceError(
            f"{path.name}: nu has shape {coefficient.shape} and tensor {tensor.shape}; (B, X, Y) and (B, 1, X, Y) "
            f"are wanted"
        )
    nodes = _read_axes(file, path, coefficient.shape[1:], "tensor")
    parameters, attributes = _read_attributes(file, path)
    periodic, notes = _settle_periodic(False, options, path, "darcy")
    return Layout(
        problem="darcy",
        fields=(FieldSpec(name="permeability"), FieldSpec(name="pressure")),
        parts=(Part(dataset="nu", dims=("x", "y")), Part(dataset="tensor", dims=("time", "x", "y"))),
        dtypes=(coefficient.dtype, tensor.dtype),
        periodic=periodic,
        places=tuple(_places_of_rows(path, "tensor", len(tensor), (), nodes, np.zeros(1), parameters, options)),
        notes=("permeability is the data set nu, pressure is the data set tensor", *attributes, *notes),
    )


def _describe_flow(file: h5py.File, path: Path, options: PDEBenchOptions) -> Layout:
    """Compressible flow in one to three dimensions: every data set (B, T, X[, Y[, Z]])."""
    density = get_dataset(file, "density", path=path)
    num_dims = density.ndim - 2
    if not 1 <= num_dims <= 3:
        raise SourceError(
            f"{path.name}: density has shape {density.shape}; (B, T, X), up to (B, T, X, Y, Z), is wanted"
        )
    velocities = tuple(f"V{axis}" for axis in AXES[:num_dims])
    arrays = {name: get_dataset(file, name, path=path) for name in ("density", "pressure", *velocities)}
    for name, array in arrays.items():
        if array.shape != density.shape:
            raise SourceError(f"{path.name}: {name} has shape {array.shape}, density has {density.shape}")
    nodes = _read_axes(file, path, density.shape[2:], "density")
    times, notes = _read_times(file, path, density.shape[1])
    parameters, attributes = _read_attributes(file, path)
    told = re.search(r"_(periodic|trans)(?:_|\.|$)", path.name, re.IGNORECASE)
    periodic, more = _settle_periodic(told.group(1).lower() == "periodic" if told else None, options, path, None)
    return Layout(
        problem="compressible_flow",
        fields=(
            FieldSpec(name="density"),
            FieldSpec(name="pressure"),
            FieldSpec(name="velocity", components=AXES[:num_dims]),
        ),
        parts=tuple(Part(dataset=name, dims=("time", *AXES[:num_dims])) for name in arrays),
        dtypes=tuple(array.dtype for array in arrays.values()),
        periodic=periodic,
        places=tuple(_places_of_rows(path, "density", len(density), (), nodes, times, parameters, options)),
        notes=(*attributes, *notes, *more),
    )


def _describe_incompressible(file: h5py.File, path: Path, options: PDEBenchOptions) -> Layout:
    """Incompressible flow with particles and a force that stays: every trajectory has times of its own."""
    arrays = {name: get_dataset(file, name, path=path) for name in _INCOMPRESSIBLE}
    velocity = arrays["velocity"].shape
    if len(velocity) != 5 or velocity[-1] != 2:
        raise SourceError(f"{path.name}: velocity has shape {velocity}; (B, T, X, Y, 2) is wanted")
    rows, frames, *space, _ = velocity
    wanted = {"particles": (rows, frames, *space, 1), "force": (rows, *space, 2), "t": (rows, frames)}
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            raise SourceError(f"{path.name}: {name} has shape {arrays[name].shape}; {shape} belongs to velocity")
    settings = _parse_config(file, path)
    size, told = _settle_domain(settings, options, path)
    nodes = tuple((np.arange(count) + 0.5) * (length / count) for count, length in zip(space, size, strict=True))
    numbers = _numbers_of(settings)
    parameters = {name: value for name, value in numbers.items() if name not in _NO_PHYSICS}
    places = _places_with_times(path, "velocity", arrays["t"], nodes, parameters)
    periodic, notes = _settle_periodic(False, options, path, "incompressible_flow")
    return Layout(
        problem="incompressible_flow",
        fields=(
            FieldSpec(name="velocity", components=("x", "y")),
            FieldSpec(name="particles"),
            FieldSpec(name="force", components=("x", "y")),
        ),
        parts=(
            Part(dataset="velocity", dims=("time", "x", "y", "component")),
            Part(dataset="particles", dims=("time", "x", "y", "component")),
            Part(dataset="force", dims=("x", "y", "component")),
        ),
        dtypes=tuple(arrays[name].dtype for name in ("velocity", "particles", "force")),
        periodic=periodic,
        places=tuple(_with_split(place, row, rows, options) for row, place in enumerate(places)),
        notes=("force is the same in all frames", *told, *_left_out(numbers), *notes),
    )


def _places_with_times(
    path: Path,
    dataset: str,
    clock: h5py.Dataset,
    nodes: tuple[Float64[np.ndarray, " _"], ...],
    parameters: Mapping[str, float],
) -> Iterator[Place]:
    """Describe trajectories that are the rows of one data set, with times of their own in (B, T)."""
    name = str(clock.name).lstrip("/")
    for row, times in enumerate(read_part(clock, (), where=f"{path.name}: {name}")):
        info = TrajectoryInfo(
            item=f"{path.name}: {dataset}[{row}]",
            shape=tuple(values.size for values in nodes),
            times=read_increasing(times, where=f"{path.name}: {name}[{row}]"),
            parameters=parameters,
        )
        yield Place(path=path, group="", prefix=(row,), info=info, nodes=nodes)


def _settle_domain(
    settings: Mapping[str, Any], options: PDEBenchOptions, path: Path
) -> tuple[tuple[float, float], tuple[str, ...]]:
    """Return the lengths of the domain by the configuration, or as told."""
    stated = settings.get("domain_size")
    if stated is None and options.domain_size is None:
        raise SourceError(
            f"{path.name}: attribute config tells no domain_size, so where the nodes lie is unknown; state it: "
            f"--option domain_size=[1,1] (the generator of pdebench 0.1.0 has cells of length 1, so grid_size)"
        )
    if stated is None:
        return options.domain_size or (1.0, 1.0), ("domain_size as told by option; nodes are centres of equal cells",)
    where = f"{path.name}: domain_size of attribute config"
    if not isinstance(stated, list) or len(stated) != 2:
        raise SourceError(f"{where} is {stated!r:.100}; two lengths are wanted")
    lengths = (as_float(stated[0], where=where), as_float(stated[1], where=where))
    if min(lengths) <= 0:
        raise SourceError(f"{where} is {stated!r:.100}; two lengths over 0 are wanted")
    if options.domain_size is not None and options.domain_size != lengths:
        raise ConfigError(f"option domain_size={options.domain_size} contradicts {where}: {lengths}")
    return lengths, ("nodes are centres of equal cells of the domain_size in config",)


@dataclass(frozen=True, kw_only=True)
class _Grouped:
    """What is known of a problem with one group a trajectory: fields, and the stored order of its dimensions."""

    problem: str
    fields: tuple[str, ...]
    axes: str
    keys: frozenset[str]
    name: str


_GROUPED = (
    _Grouped(
        problem="diffusion_reaction",
        fields=("activator", "inhibitor"),
        axes="yx",
        keys=frozenset({"Du", "Dv"}),
        name="diff-react",
    ),
    _Grouped(
        problem="diffusion_sorption",
        fields=("concentration",),
        axes="x",
        keys=frozenset({"por", "k_f"}),
        name="diff-sorp",
    ),
    _Grouped(
        problem="radial_dam_break",
        fields=("height",),
        axes="xy",
        keys=frozenset({"dam_radius"}),
        name="rdb",
    ),
)


def _describe_groups(file: h5py.File, path: Path, options: PDEBenchOptions) -> Layout:
    """Groups `0000`, `0001`, ...: data (T, ..., C), grid/x, grid/y, grid/t, attribute `config`."""
    groups = _find_groups(file)
    first = get_dataset(file[groups[0]], "data", path=path)
    settings = _read_config(file[groups[0]], path)
    known = _name_grouped(path, settings)
    order = _settle_order(file[groups[0]], path, known, options)
    dims = ("time", *order, "component")
    notes: list[str] = []
    places = []
    for number, group in enumerate(groups):
        place, more = _describe_group(file, path, group, dims)
        data = file[place.group + "data"]
        if (data.dtype, data.shape[-1]) != (first.dtype, first.shape[-1]):
            raise SourceError(
                f"{place.info.item} has {data.shape[-1]} channels of {data.dtype}, {groups[0]}/data has "
                f"{first.shape[-1]} of {first.dtype}; all trajectories must agree"
            )
        notes.extend(more)
        places.append(_with_split(place, number, len(groups), options))
    periodic, more_notes = _settle_periodic(False if known else None, options, path, known.problem if known else None)
    return Layout(
        problem=known.problem if known else "pdebench",
        fields=_name_channels(path, known, first.shape[-1]),
        parts=(Part(dataset="data", dims=dims),),
        dtypes=(first.dtype,),
        periodic=periodic,
        places=tuple(places),
        notes=(f"data is stored as [{', '.join(dims)}]", *_left_out(settings), *notes[:1], *more_notes),
    )


def _name_channels(path: Path, known: _Grouped | None, num_channels: int) -> tuple[FieldSpec, ...]:
    if known is None:
        return (FieldSpec(name="data", components=tuple(map(str, range(num_channels))) if num_channels > 1 else ("",)),)
    if len(known.fields) != num_channels:
        raise SourceError(
            f"{path.name}: data has {num_channels} channels, {known.problem} has {len(known.fields)}: "
            f"{', '.join(known.fields)}"
        )
    return tuple(FieldSpec(name=name) for name in known.fields)


def _describe_group(file: h5py.File, path: Path, group: str, dims: tuple[str, ...]) -> tuple[Place, tuple[str, ...]]:
    where = f"{path.name}: {group}"
    data = get_dataset(file[group], "data", path=path)
    if data.ndim != len(dims):
        raise SourceError(f"{where}/data has shape {data.shape}; [{', '.join(dims)}] is wanted")
    sizes = dict(zip(dims, data.shape, strict=True))
    space = tuple(axis for axis in AXES if axis in dims)
    nodes = []
    for axis in space:
        grid = get_dataset(file[group], f"grid/{axis}", path=path)
        values = read_increasing(read_part(grid, (), where=f"{where}/grid/{axis}"), where=f"{where}/grid/{axis}")
        if values.size != sizes[axis]:
            raise SourceError(f"{where}/grid/{axis} has {values.size} nodes, data has {sizes[axis]} along {axis}")
        nodes.append(values)
    clock = get_dataset(file[group], "grid/t", path=path)
    times, note = first_times(read_part(clock, (), where=f"{where}/grid/t"), sizes["time"], where=f"{where}/grid/t")
    numbers = {name: value for name, value in _read_config(file[group], path).items() if name not in _NO_PHYSICS}
    info = TrajectoryInfo(
        item=f"{where}/data", shape=tuple(sizes[axis] for axis in space), times=times, parameters=numbers
    )
    place = Place(path=path, group=f"{group}/", prefix=(), info=info, nodes=tuple(nodes))
    return place, (note,) if note else ()


def _find_groups(file: h5py.File) -> tuple[str, ...]:
    """Return the names of the groups that hold a trajectory; whatever else has a numeric name is refused later."""
    return tuple(name for name in sorted(file) if re.fullmatch(r"[0-9]{4,}", name) and hasattr(file[name], "keys"))


def _name_grouped(path: Path, settings: Mapping[str, float]) -> _Grouped | None:
    by_config = [known for known in _GROUPED if known.keys <= set(settings)]
    by_name = [known for known in _GROUPED if known.name in path.name]
    found = by_config or by_name
    return found[0] if len(found) == 1 else None


def _settle_order(group: h5py.Group, path: Path, known: _Grouped | None, options: PDEBenchOptions) -> str:
    """Return the stored order of the space dimensions, by lengths where they differ, else by what is known."""
    shape = get_dataset(group, "data", path=path).shape
    if len(shape) == 3:
        return "x"
    lengths = {axis: get_dataset(group, f"grid/{axis}", path=path).size for axis in "xy"}
    fitting = [order for order in ("xy", "yx") if shape[1:-1] == tuple(lengths[axis] for axis in order)]
    if not fitting:
        raise SourceError(
            f"{path.name}: {str(group.name).lstrip('/')}/data has shape {shape}, grid/x has {lengths['x']} nodes and "
            f"grid/y {lengths['y']}; (T, X, Y, C) or (T, Y, X, C) is wanted"
        )
    told = options.axes or (known.axes if known else None)
    if len(fitting) == 2 and told is None:
        raise SourceError(
            f"{path.name}: data of shape {shape} may be [t, x, y, c] (radial dam break) or [t, y, x, c] "
            f"(diffusion-reaction), and nothing in the file tells; say --option axes=xy or --option axes=yx"
        )
    if told is not None and told not in fitting:
        raise SourceError(f"{path.name}: axes={told} was told, but the grid lengths say {fitting[0]}")
    return told or fitting[0]


def _places_of_rows(  # noqa: PLR0917  one call of each layout, all of it different
    path: Path,
    dataset: str,
    count: int,
    outer: tuple[int, ...],
    nodes: tuple[Float64[np.ndarray, " _"], ...],
    times: Float64[np.ndarray, " time"],
    parameters: Mapping[str, float],
    options: PDEBenchOptions,
) -> Iterator[Place]:
    """Describe trajectories that are the rows of one data set and share nodes, times and parameters."""
    for row in range(count):
        prefix = (*outer, row)
        info = TrajectoryInfo(
            item=f"{path.name}: {dataset}[{', '.join(map(str, prefix))}]",
            shape=tuple(values.size for values in nodes),
            times=times,
            parameters=parameters,
        )
        place = Place(path=path, group="", prefix=prefix, info=info, nodes=nodes)
        yield _with_split(place, row, count, options)


def _with_split(place: Place, row: int, count: int, options: PDEBenchOptions) -> Place:
    if options.split is None:
        return place
    split = "test" if row < int(count * 0.1) else "train"
    return replace(place, info=replace(place.info, split=split))


def _read_axes(
    file: h5py.File, path: Path, shape: tuple[int, ...], dataset: str
) -> tuple[Float64[np.ndarray, " _"], ...]:
    nodes = []
    for axis, size in zip(AXES, shape, strict=False):
        where = f"{path.name}: {axis}-coordinate"
        stored = get_dataset(file, f"{axis}-coordinate", path=path)
        values = read_increasing(read_part(stored, (), where=where), where=where)
        if values.size != size:
            raise SourceError(f"{where} has {values.size} nodes, {dataset} has {size} along {axis}")
        nodes.append(values)
    return tuple(nodes)


def _read_times(file: h5py.File, path: Path, num_frames: int) -> tuple[Float64[np.ndarray, " time"], tuple[str, ...]]:
    where = f"{path.name}: t-coordinate"
    stored = get_dataset(file, "t-coordinate", path=path)
    times, note = first_times(read_part(stored, (), where=where), num_frames, where=where)
    return times, (note,) if note else ()


def _settle_periodic(
    known: bool | None, options: PDEBenchOptions, path: Path, problem: str | None
) -> tuple[bool, tuple[str, ...]]:
    if options.periodic is not None:
        if known is not None and known != options.periodic:
            what = problem or path.name
            raise ConfigError(f"option periodic={options.periodic} contradicts what is known of {what}: {known}")
        return options.periodic, ("periodic as told by option",)
    if known is None:
        return False, (_UNTOLD_PERIODIC,)
    return known, ()


def _name_problem(path: Path, parameters: Mapping[str, float]) -> str | None:
    """Tell a 1-D equation by its name in PDEBench, or by which attributes the file has."""
    for part, problem in _PROBLEM_BY_NAME:
        if part.lower() in path.name.lower():
            return problem
    return _PROBLEM_BY_ATTRIBUTES.get(frozenset(name.lower() for name in parameters))


def _read_attributes(file: h5py.File, path: Path) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return a file's scalar attributes as parameters, and all others as notes."""
    numbers, notes = {}, []
    for name, value in file.attrs.items():
        array = np.asarray(value)
        if name.lower() in _PARAMETERS or (array.size == 1 and array.dtype.kind in "iuf"):
            numbers[name] = as_float(value, where=f"{path.name}: attribute {name}")
        else:
            notes.append(f"attribute {name}: {str(value)[:200]}")
    return numbers, tuple(notes)


def _read_config(group: h5py.Group, path: Path) -> dict[str, float]:
    """Return the numbers below `sim` in the YAML text of a group's configuration, {} where it has none."""
    return _numbers_of(_parse_config(group, path))


def _parse_config(item: h5py.Group, path: Path) -> dict[str, Any]:
    """Return what stands below `sim` in the YAML text of an attribute `config`, or in all of it without `sim`."""
    if "config" not in item.attrs:
        return {}
    where = f"{path.name}: attribute config of {str(item.name).lstrip('/') or 'the file'}"
    try:
        content = parse_yaml(read_text(item.attrs["config"], where=where), where=where)
    except ConfigError as error:
        raise SourceError(str(error)) from error
    inner = content.get("sim", content) if isinstance(content, dict) else {}
    return inner if isinstance(inner, dict) else {}


def _numbers_of(content: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in content.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _left_out(settings: Mapping[str, float]) -> tuple[str, ...]:
    names = [name for name in settings if name in _NO_PHYSICS]
    return (
        (f"numbers of config that restate grid, times or seed are no parameters: {', '.join(names)}",) if names else ()
    )
