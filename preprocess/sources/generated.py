"""Generated data sets: a few equations solved by exponax or in closed form, written as described NumPy arrays.

What is written is what a user would bring: `.npy` files and their YAML description, which `arrays` converts. Recipes
are solved pseudo-spectrally with exponential time differencing (F. Koehler, exponax), on nodes at i L / n. Scattered
points are drawn evenly over the domain, anew for each trajectory; the solver's trigonometric polynomial is evaluated at
them.

JAX runs threads of its own, and a process that has used it must not fork workers: generate in a process of its own,
as `ups-preprocess generate` does. JAX is imported when a generation starts, never before.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
import yaml
from jaxtyping import Float32, Float64

from preprocess.sources.recipes import RECIPES, Recipe, Solver
from preprocess.sources.scattered import beltrami_flow, evaluate_spectrally
from ups_data.errors import ConfigError, SourceError, StoreExistsError, suggest
from ups_data.random import Stream, generator
from ups_data.schema import Name, Positive, Record

Progress = Callable[[str, int, int], None]


class GenerateSettings(Record):
    """How much of a recipe is made; None takes the recipe's value.

    Attributes:
        num_trajectories: simulations; the first k of them are the same for every number of them.
        num_frames: frames of each, the initial condition among them.
        num_points: scattered points of each, where a recipe has such.
        resolution: nodes per axis of the solver.
        viscosity: diffusion coefficient; too small for a resolution, fronts ring or the solution blows up.
        seed: of the initial conditions.
        name: of the data set and its files; the recipe's name by default.
    """

    num_trajectories: Positive | None = None
    num_frames: Annotated[int, pydantic.Field(ge=2, le=2**20)] | None = None
    num_points: Annotated[int, pydantic.Field(ge=8, le=2**26)] | None = None
    resolution: Annotated[int, pydantic.Field(ge=8, le=2**16)] | None = None
    viscosity: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] | None = None
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**31)] = 0
    name: Name | None = None


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A recipe with all of its values settled."""

    recipe: Recipe
    recipe_name: str
    name: str
    num_trajectories: int
    num_frames: int
    num_points: int | None
    resolution: int | None
    viscosity: float
    seed: int

    @property
    def shape(self) -> tuple[int, ...]:
        components = (len(self.recipe.components),) if len(self.recipe.components) > 1 else ()
        space = (self.resolution,) * self.recipe.dims if self.num_points is None else (self.num_points,)
        return (self.num_trajectories, self.num_frames, *components, *space)

    def draw_points(self, number: int) -> Float64[np.ndarray, "point dim"] | None:
        """Return the scattered points of a trajectory, None on a grid."""
        if self.num_points is None:
            return None
        random = generator(seed=self.seed, stream=Stream.GENERATE, words=(0, number))
        return random.uniform(0.0, self.recipe.length, size=(self.num_points, self.recipe.dims))


@dataclass(frozen=True, kw_only=True)
class _Solution:
    """One trajectory: its frames (float32), and the parameters that are its own."""

    frames: Float32[np.ndarray, "time *rest"]
    parameters: Mapping[str, float]


def generate(
    recipe: str,
    folder: Path,
    settings: GenerateSettings | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Solve a recipe and write `<name>.npy` with its description `<name>.yaml` into a folder.

    Scattered points go to `<name>_points.npy`.

    The result is a function of recipe, settings and the versions of exponax and JAX. The description is written last:
    an interrupted generation leaves none.

    Args:
        recipe: a key of `RECIPES`.
        folder: made if it is not there.
        settings: how much to make.
        overwrite: replace files of the same names.
        progress: called with "trajectories", how many are done, and how many there are.

    Returns:
        The path of the description, which `open_source` takes.

    Raises:
        ConfigError: no such recipe, or exponax is not installed.
        StoreExistsError: files of these names are there already.
        SourceError: the solution blew up.
    """
    task = _settle(recipe, settings or GenerateSettings())
    if task.recipe.solver is not None and importlib.util.find_spec("exponax") is None:
        raise ConfigError('exponax, which solves the recipes, is not installed: pip install "ups-data[demo]"')
    description = folder / f"{task.name}.yaml"
    arrays = [folder / f"{task.name}.npy"]
    if task.num_points is not None:
        arrays.append(folder / f"{task.name}_points.npy")
    taken = [path for path in (*arrays, description) if path.exists()]
    if taken and not overwrite:
        raise StoreExistsError(f"{taken[0]} is there already; choose another folder or name, or pass --overwrite")
    folder.mkdir(parents=True, exist_ok=True)
    description.unlink(missing_ok=True)
    staged = [path.with_suffix(".partial.npy") for path in arrays]
    try:
        parameters = _write_arrays(task, staged, progress)
        for partial, path in zip(staged, arrays, strict=True):
            partial.replace(path)
    finally:
        for partial in staged:
            partial.unlink(missing_ok=True)
    content = yaml.safe_dump(_describe(task, parameters), sort_keys=False, width=100)
    partial = description.with_suffix(".partial.yaml")
    partial.write_text(content, encoding="utf-8")
    return partial.replace(description)


def _settle(name: str, settings: GenerateSettings) -> _Task:
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}. {suggest(name, RECIPES)}")
    recipe = RECIPES[name]
    if settings.num_points is not None and recipe.num_points is None:
        raise ConfigError(f"recipe {name!r} is solved on a grid, so it has no number of points; set its resolution")
    if settings.resolution is not None and recipe.solver is None:
        raise ConfigError(f"recipe {name!r} is known in closed form, so it has no resolution; set its number of points")
    return _Task(
        recipe=recipe,
        recipe_name=name,
        name=settings.name or name,
        num_trajectories=settings.num_trajectories or recipe.num_trajectories,
        num_frames=settings.num_frames or recipe.num_frames,
        num_points=settings.num_points or recipe.num_points,
        resolution=None if recipe.solver is None else settings.resolution or recipe.solver.resolution,
        viscosity=settings.viscosity or recipe.viscosity,
        seed=settings.seed,
    )


def _write_arrays(task: _Task, paths: list[Path], progress: Progress | None) -> dict[str, list[float]]:
    """Write values, and points if there are any; return the parameters of all trajectories."""
    values = np.lib.format.open_memmap(paths[0], mode="w+", dtype=np.float32, shape=task.shape)
    if task.num_points is not None:
        clouds = [task.draw_points(number) for number in range(task.num_trajectories)]
        np.save(paths[1], np.stack([cloud for cloud in clouds if cloud is not None]))
    parameters: dict[str, list[float]] = {}
    for number, solution in enumerate(_solve(task)):
        frames = solution.frames
        if not np.isfinite(frames).all():
            frame = int(np.argmin(np.isfinite(frames).all(axis=tuple(range(1, frames.ndim)))))
            raise SourceError(
                f"recipe {task.recipe_name!r} blew up: trajectory {number}, frame {frame} is not finite. Take a larger "
                f"viscosity than {task.viscosity:g}, or a finer grid than {task.resolution} nodes"
            )
        values[number] = frames
        for name, value in solution.parameters.items():
            parameters.setdefault(name, []).append(value)
        if progress is not None:
            progress("trajectories", number + 1, task.num_trajectories)
    values.flush()
    return parameters


def _solve(task: _Task) -> Iterator[_Solution]:
    """Yield one trajectory after another."""
    if task.recipe.solver is None:
        for number in range(task.num_trajectories):
            yield _evaluate_beltrami(task, number)
        return
    for number, frames in enumerate(_simulate(task, task.recipe.solver)):
        points = task.draw_points(number)
        if points is None or not np.isfinite(frames).all():
            yield _Solution(frames=frames, parameters={})
        else:
            sampled = evaluate_spectrally(frames, points, task.recipe.length)
            yield _Solution(frames=sampled.astype(np.float32), parameters={})


def _evaluate_beltrami(task: _Task, number: int) -> _Solution:
    amplitudes = generator(seed=task.seed, stream=Stream.GENERATE, words=(1, number)).uniform(0.2, 1.0, size=3)
    points = task.draw_points(number)
    assert points is not None
    frames = beltrami_flow(
        points,
        task.recipe.frame_step * np.arange(task.num_frames),
        amplitudes=amplitudes,
        wave_number=2 * math.pi / task.recipe.length,
        viscosity=task.viscosity,
    )
    named = dict(zip(("A", "B", "C"), amplitudes.tolist(), strict=True))
    return _Solution(frames=frames.astype(np.float32), parameters=named)


def _simulate(task: _Task, solver: Solver) -> Iterator[Float32[np.ndarray, "time *space"]]:
    """Yield the nodes of one trajectory after another, each from its own key."""
    import exponax
    import jax

    recipe, resolution = task.recipe, task.resolution or solver.resolution
    substeps = _substeps(solver, resolution)
    stepper = getattr(exponax.stepper, solver.stepper)(
        recipe.dims,
        recipe.length,
        resolution,
        recipe.frame_step / substeps,
        diffusivity=task.viscosity,
        order=solver.order,
        **solver.stepper_options,
    )
    roll_out = jax.jit(exponax.rollout(exponax.repeat(stepper, substeps), task.num_frames - 1, include_init=True))
    draw = exponax.ic.RandomTruncatedFourierSeries(recipe.dims, cutoff=solver.modes, **{solver.normalised: True})
    seed = jax.random.key(task.seed)
    for number in range(task.num_trajectories):
        start = solver.amplitude * draw(resolution, key=jax.random.fold_in(seed, number))
        yield np.asarray(roll_out(start), dtype=np.float32)[:, 0]


def _substeps(solver: Solver, resolution: int) -> int:
    """Return the steps per frame: the step shrinks with the spacing, for the same advective stability."""
    return math.ceil(solver.substeps * max(1.0, resolution / solver.resolution))


def _describe(task: _Task, parameters: Mapping[str, list[float]]) -> dict[str, Any]:
    recipe = task.recipe
    axes = ("x", "y", "z")[: recipe.dims]
    is_grid, is_vector = task.num_points is None, len(recipe.components) > 1
    field: dict[str, Any] = {"file": f"{task.name}.npy"}
    if is_vector:
        field["components"] = list(recipe.components)
    clouds = {} if is_grid else {"coordinates": {"file": f"{task.name}_points.npy"}}
    numbers = {name: {"values": values} for name, values in parameters.items()}
    return {
        "format": "arrays",
        "name": task.name,
        "kind": "grid" if is_grid else "points",
        "dims": ["trajectory", "time", *(["component"] if is_vector else []), *(axes if is_grid else ["point"])],
        "fields": {recipe.field: field},
        "axes": {axis: _describe_axis(recipe, is_grid) for axis in axes},
        **clouds,
        "times": {"start": 0.0, "step": recipe.frame_step},
        "parameters": {"viscosity": task.viscosity, **numbers},
        "notes": [recipe.summary, _provenance(task)],
    }


def _describe_axis(recipe: Recipe, is_grid: bool) -> dict[str, Any]:
    # A record for each axis: YAML writes the same one twice as an alias, which is not read.
    place = {"start": 0.0, "stop": recipe.length} if is_grid else {"extent": [0.0, recipe.length]}
    return {**place, "periodic": True}


def _provenance(task: _Task) -> str:
    solver = task.recipe.solver
    if solver is None:
        return f"evaluated in closed form, recipe {task.recipe_name}, seed {task.seed}; nondimensional"
    steps = _substeps(solver, task.resolution or solver.resolution)
    points = "" if task.num_points is None else f", evaluated spectrally from {task.resolution} nodes an axis"
    return (
        f"generated by exponax {importlib.metadata.version('exponax')}, recipe {task.recipe_name}, seed {task.seed}, "
        f"{steps} steps of order {solver.order} a frame{points}; nondimensional; frame 0 is the initial condition"
    )
