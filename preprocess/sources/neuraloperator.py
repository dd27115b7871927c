"""neuraloperator's `.pt` files: Darcy flow, Navier-Stokes, and Burgers in one dimension.

* Darcy: a dictionary of `x`, bool (N, H, W), the phase of the medium, and `y`, float32 (N, H, W), the pressure. One
  frame a trajectory.
* Navier-Stokes (`nsforcing_...`): a dictionary of `x`, the forcing, and `y`, the vorticity that it leads to, floats
  (N, H, W). One frame a trajectory. Where neither type nor name tells it from Darcy, the option `problem` must.
* Burgers: a dictionary of `input` (N, X), `output` (N, T, X), whose first frame is the input, and `visc`, one number.

Where the nodes lie, the files do not say. `darcy_test_16` equals every second node of `darcy_test_32`, bit for bit,
from the first node on in both directions; of the usual grids on [0, 1] only x_i = i / n has that, and it is the grid of
neuraloperator's own positional embedding. The pressure vanishes at the first node and tends to 0 one spacing behind
the last: the domain is [0, 1], not periodic, and the nodes at 1 are not stored.

`burgers_lowres.pt` is periodic on x_i = i / n and has 0.06 between two frames: solving u_t + u u_x = visc u_xx from one
frame gives the next to 2e-5 of the change after that time, and to 3e-2 after 0.058. Other files need to be told.

Navier-Stokes is solved on a torus; its nodes are taken at i/n of a period, in periods, as neuraloperator embeds them.

Files are loaded with `weights_only=True`: no code in them is ever run.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float64, Shaped

from preprocess.sources.axes import as_float, grid_axis
from preprocess.sources.base import Source, TrajectoryInfo
from preprocess.sources.exact import exact_cast, stored_dtype
from ups_data.errors import ConfigError, SourceError, suggest
from ups_data.schema import FieldSpec, GeometryKind

if TYPE_CHECKING:
    import torch

_SPLIT_IN_NAME = re.compile(r"(?:^|_)(train|valid|test)(?:_|$)")
_LOWRES_SHAPE, _LOWRES_TIME_STEP = (1200, 17, 16), 0.06

# What torch's restricted unpickler stumbles over, told nothing of a file: any of these.
_UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    struct.error,
    zipfile.BadZipFile,
)

Tensors = dict[str, Shaped[np.ndarray, "..."]]


class NeuralOperatorSource(Source):
    """One or several files of one problem; train and test files become one data set with their split."""

    format: ClassVar[str] = "neuraloperator"
    summary: ClassVar[str] = "neuraloperator .pt files (darcy_train_16.pt, nsforcing_train_128.pt, burgers_lowres.pt)"
    problem: ClassVar[str]
    field_key: ClassVar[str]

    _nodes: tuple[Float64[np.ndarray, " _"], ...]

    def __init__(self, paths: Sequence[Path], tensors: Sequence[Tensors]) -> None:
        self.paths = tuple(paths)
        self._tensors: dict[Path, Tensors] = dict(zip(paths, tensors, strict=True))
        self.kind: GeometryKind = "grid"
        self.time_unit = None
        self._check_files()
        first = tensors[0][self.field_key]
        for key, array in tensors[0].items():
            stored_dtype([array.dtype], where=f"{paths[0].name}: {key}")
        self.dtype = stored_dtype((array.dtype for array in tensors[0].values()), where=paths[0].name)
        self._places = tuple((path, row) for path in paths for row in range(len(self._tensors[path][self.field_key])))
        self._describe(first)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell by the keys of the dictionary in a torch archive."""
        if not _is_torch_archive(path):
            return False
        try:
            return bool(_candidates(_load_tensors(path)))
        except SourceError:
            return False

    @classmethod
    def open(cls, paths: Sequence[Path], options: Mapping[str, Any]) -> NeuralOperatorSource:
        """Open files of one problem.

        Args:
            paths: files of one problem and one resolution.
            options: `problem`: `darcy` or `navier_stokes`, where neither types nor name tell; for Burgers, `time_step`:
                the time between two frames, which its files do not tell.

        Raises:
            SourceError: a file that is damaged, of another problem or resolution, or of no known problem.
            ConfigError: an option that the problem does not have.
        """
        tensors = [_load_tensors(path) for path in paths]
        told = options.get("problem")
        layouts = [_choose(path, content, told) for path, content in zip(paths, tensors, strict=True)]
        for path, layout in zip(paths, layouts, strict=True):
            if layout is not layouts[0]:
                raise SourceError(f"{paths[0].name} and {path.name} hold different problems; convert them one by one")
        return layouts[0](paths, tensors, {key: value for key, value in options.items() if key != "problem"})

    @abstractmethod
    def _describe(self, array: Shaped[np.ndarray, "..."]) -> None:
        """Fill in fields, axes, notes and trajectories from the main array of the first file."""

    @abstractmethod
    def _read(self, tensors: Tensors, row: int, frames: slice) -> Shaped[np.ndarray, "time channel *space"]:
        """Cut frames of one row out of a file's arrays."""

    def read_frames(self, trajectory: int, start: int, stop: int) -> Shaped[np.ndarray, "time channel *space"]:
        """Read frames [start, stop) of a trajectory; see `Source.read_frames`."""
        path, row = self._places[trajectory]
        if path not in self._tensors:
            self._tensors[path] = _load_tensors(path)
        block = self._read(self._tensors[path], row, slice(start, stop))
        return exact_cast(block, self.dtype, where=self.trajectories[trajectory].item)

    def read_coordinates(self, trajectory: int) -> tuple[Float64[np.ndarray, "..."], ...]:  # noqa: ARG002  one grid
        """Return the nodes of every axis; see `Source.read_coordinates`."""
        return self._nodes

    def __getstate__(self) -> dict[str, Any]:
        """Leave loaded arrays behind: another process maps the files itself."""
        return {**self.__dict__, "_tensors": {}}

    def _check_files(self) -> None:
        first = self.paths[0]
        wanted = {key: array.shape[1:] for key, array in self._tensors[first].items()}
        for path, tensors in self._tensors.items():
            for key, array in tensors.items():
                if array.shape[1:] != wanted[key] or array.dtype != self._tensors[first][key].dtype:
                    raise SourceError(
                        f"{path.name}: {key} has shape {array.shape} and type {array.dtype}, {first.name} has {key} of "
                        f"(N, {', '.join(map(str, wanted[key]))}) and {self._tensors[first][key].dtype}; files of one "
                        f"data set must agree. Convert other resolutions to stores of their own"
                    )
        splits = {path: _split_of(path) for path in self.paths}
        unknown = [path.name for path, split in splits.items() if split is None]
        if unknown and len(unknown) < len(splits):
            raise SourceError(
                f"{unknown[0]} does not say its split and others do; name it ..._train_... or ..._test_..."
            )

    def _trajectory(
        self,
        place: tuple[Path, int],
        shape: tuple[int, ...],
        times: Float64[np.ndarray, " time"],
        parameters: Mapping[str, float],
    ) -> TrajectoryInfo:
        path, row = place
        return TrajectoryInfo(
            item=f"{path.name}: {self.field_key}[{row}]",
            shape=shape,
            times=times,
            parameters=parameters,
            split=_split_of(path),
        )


class DarcySource(NeuralOperatorSource):
    """Steady Darcy flow: -div(a grad u) = f, `x` the phase of a, `y` the pressure u."""

    problem: ClassVar[str] = "darcy"
    field_key: ClassVar[str] = "y"

    def __init__(self, paths: Sequence[Path], tensors: Sequence[Tensors], options: Mapping[str, Any]) -> None:
        _refuse_unknown(options, (), "Darcy files")
        super().__init__(paths, tensors)

    def _describe(self, array: Shaped[np.ndarray, "..."]) -> None:
        self.name = "darcy"
        self.fields = (FieldSpec(name="permeability"), FieldSpec(name="pressure"))
        self.notes = (
            "nodes lie at i/n on the unit square: darcy_test_16 equals every second node of darcy_test_32",
            "permeability is the phase of the medium, 0 or 1; the files do not tell the values of the two phases",
        )
        shape = array.shape[1:]
        self._nodes = tuple(np.arange(size) / size for size in shape)
        self.axes = tuple(
            grid_axis(name, nodes, periodic=False, where=self.paths[0].name, extent=(0.0, 1.0))
            for name, nodes in zip(("x", "y"), self._nodes, strict=True)
        )
        self.trajectories = tuple(self._trajectory(place, shape, np.zeros(1), {}) for place in self._places)

    def _read(self, tensors: Tensors, row: int, frames: slice) -> Shaped[np.ndarray, "time channel *space"]:
        # Each by itself: NumPy joins int64 and float32 to a float64 that does not hold the former.
        both = [exact_cast(tensors[key][row], self.dtype, where=f"{self.paths[0].name}: {key}") for key in ("x", "y")]
        return np.stack(both)[None][frames]


class NavierStokesSource(NeuralOperatorSource):
    """Forced flow on a torus: `x` the forcing, `y` the vorticity at the end."""

    problem: ClassVar[str] = "navier_stokes"
    field_key: ClassVar[str] = "y"

    def __init__(self, paths: Sequence[Path], tensors: Sequence[Tensors], options: Mapping[str, Any]) -> None:
        _refuse_unknown(options, (), "Navier-Stokes files")
        super().__init__(paths, tensors)

    def _describe(self, array: Shaped[np.ndarray, "..."]) -> None:
        self.name = "navier_stokes"
        self.fields = (FieldSpec(name="forcing"), FieldSpec(name="vorticity"))
        self.notes = ("nodes lie at i/n of a period of the torus, lengths are in periods; the files do not tell them",)
        shape = array.shape[1:]
        self._nodes = tuple(np.arange(size) / size for size in shape)
        self.axes = tuple(
            grid_axis(name, nodes, periodic=True, where=self.paths[0].name, extent=(0.0, 1.0))
            for name, nodes in zip(("x", "y"), self._nodes, strict=True)
        )
        self.trajectories = tuple(self._trajectory(place, shape, np.zeros(1), {}) for place in self._places)

    def _read(self, tensors: Tensors, row: int, frames: slice) -> Shaped[np.ndarray, "time channel *space"]:
        # Each by itself: NumPy joins int64 and float32 to a float64 that does not hold the former.
        both = [exact_cast(tensors[key][row], self.dtype, where=f"{self.paths[0].name}: {key}") for key in ("x", "y")]
        return np.stack(both)[None][frames]


class BurgersSource(NeuralOperatorSource):
    """Burgers' equation in one dimension: u_t + u u_x = visc u_xx."""

    problem: ClassVar[str] = "burgers"
    field_key: ClassVar[str] = "output"

    def __init__(self, paths: Sequence[Path], tensors: Sequence[Tensors], options: Mapping[str, Any]) -> None:
        _refuse_unknown(options, ("time_step",), "Burgers files")
        self._time_step = self._find_time_step(options, paths, tensors[0]["output"].shape)
        for path, content in zip(paths, tensors, strict=True):
            if not np.array_equal(content["input"], content["output"][:, 0]):
                raise SourceError(f"{path.name}: input is not the first frame of output; what it is instead is unknown")
        super().__init__(paths, tensors)

    @staticmethod
    def _find_time_step(options: Mapping[str, Any], paths: Sequence[Path], shape: tuple[int, ...]) -> float:
        if "time_step" in options:
            step = as_float(options["time_step"], where="option time_step")
            if step <= 0:
                raise ConfigError(f"option time_step must be positive, got {step}")
            return step
        if [path.name for path in paths] == ["burgers_lowres.pt"] and shape == _LOWRES_SHAPE:
            return _LOWRES_TIME_STEP
        raise SourceError(
            f"{paths[0].name} does not tell the time between two frames; state it: --option time_step=0.01"
        )

    def _describe(self, array: Shaped[np.ndarray, "..."]) -> None:
        self.name = "burgers"
        self.fields = (FieldSpec(name="velocity"),)
        self.notes = (
            "nodes lie at i/n on the periodic unit interval, as in neuraloperator's loader",
            f"the files do not tell times; {self._time_step:g} between two frames was taken",
        )
        _, num_frames, size = array.shape
        self._nodes = (np.arange(size) / size,)
        axis = grid_axis("x", self._nodes[0], periodic=True, where=self.paths[0].name, extent=(0.0, 1.0))
        self.axes = (axis,)
        times = self._time_step * np.arange(num_frames)
        viscosity = {
            path: as_float(content["visc"], where=f"{path.name}: visc") for path, content in self._tensors.items()
        }
        self.trajectories = tuple(
            self._trajectory(place, (size,), times, {"viscosity": viscosity[place[0]]}) for place in self._places
        )

    def _read(self, tensors: Tensors, row: int, frames: slice) -> Shaped[np.ndarray, "time channel *space"]:
        return tensors["output"][row, frames][:, None]


def _is_torch_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _load_tensors(path: Path) -> Tensors:
    """Map the tensors of a file; never runs code that the file may carry."""
    import torch

    try:
        content = torch.load(path, weights_only=True, map_location="cpu", mmap=_is_torch_archive(path))
    except pickle.UnpicklingError as error:
        raise SourceError(f"{path} holds more than tensors and is not loaded: {str(error).splitlines()[0]}") from error
    except _UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(f"{path} is no torch file, damaged or cut short: {reason}") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path} holds a {type(content).__name__} where a dictionary of tensors must stand")
    for key, tensor in content.items():
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor):
            raise SourceError(f"{path}: {key!r} is a {type(tensor).__name__}; a name and a tensor are wanted")
        if tensor.numel() == 0:
            raise SourceError(f"{path}: {key} has shape {tuple(tensor.shape)} and holds nothing")
    return {key: _to_numpy(tensor, f"{path}: {key}") for key, tensor in content.items()}


def _to_numpy(tensor: torch.Tensor, where: str) -> Shaped[np.ndarray, "..."]:
    """Return the numbers of a tensor; bfloat16 becomes float32, which holds it exactly."""
    import torch

    plain = tensor.detach()
    try:
        return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    except (TypeError, RuntimeError) as error:
        raise SourceError(
            f"{where} is a tensor of {tensor.dtype}, {tensor.layout}, on {tensor.device}; store dense numbers of a "
            f"type that NumPy has: {str(error).splitlines()[0]}"
        ) from error


_Problem = type[DarcySource] | type[NavierStokesSource] | type[BurgersSource]
_PROBLEM_BY_NAME: Mapping[str, _Problem] = {"darcy": DarcySource, "nsforcing": NavierStokesSource}


def _candidates(tensors: Tensors) -> tuple[_Problem, ...]:
    """Tell by keys, ranks and types which problems a file may hold."""
    shapes = {key: array.shape for key, array in tensors.items()}
    if shapes.keys() == {"x", "y"} and len(shapes["x"]) == 3 and shapes["x"] == shapes["y"]:
        # The phase of a medium is never a forcing; a coefficient stored as numbers looks like one.
        return (DarcySource,) if tensors["x"].dtype == np.bool_ else (DarcySource, NavierStokesSource)
    if shapes.keys() == {"input", "output", "visc"} and len(shapes["output"]) == 3:
        rows, *_ = shapes["output"]
        return (BurgersSource,) if shapes["input"] == (rows, shapes["output"][-1]) else ()
    return ()


def _choose(path: Path, tensors: Tensors, told: Any) -> _Problem:
    found = _candidates(tensors)
    if not found:
        raise SourceError(
            f"{path} holds {_summarise(tensors)}; Darcy files hold x (N, H, W) of bool and y of the same shape, "
            f"Navier-Stokes files both of floats, Burgers files input (N, X), output (N, T, X) and visc"
        )
    by_problem = {candidate.problem: candidate for candidate in found}
    if told is not None:
        if told not in by_problem:
            raise ConfigError(f"{path.name}: option problem is {told!r}. {suggest(str(told), by_problem)}")
        return by_problem[told]
    named = [problem for part, problem in _PROBLEM_BY_NAME.items() if part in path.name.lower() and problem in found]
    chosen = found if len(found) == 1 else named
    if len(chosen) != 1:
        raise SourceError(
            f"{path.name} may hold {' or '.join(by_problem)}, and neither types nor name tell; say which: "
            f"--option problem={next(iter(by_problem))}"
        )
    return chosen[0]


def _split_of(path: Path) -> str | None:
    found = _SPLIT_IN_NAME.search(path.stem)
    return found.group(1) if found else None


def _refuse_unknown(options: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for option in options:
        if option not in known:
            raise ConfigError(f"{what} have no option {option!r}. {suggest(option, known)}")


def _summarise(tensors: Tensors) -> str:
    return ", ".join(f"{key} {array.shape} {array.dtype}" for key, array in tensors.items()) or "nothing"
