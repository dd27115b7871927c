"""Generated data sets: a few equations solved by exponax, written as described NumPy arrays.

What is written is what a user would bring: one `.npy` file and its YAML description, which `arrays` converts.

All recipes are periodic on [0, L) in every axis, with nodes at i L / n, and nondimensional; frame 0 is the initial
condition. They are solved pseudo-spectrally with exponential time differencing (F. Koehler, exponax).

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
from jaxtyping import Float32

from ups_data.errors import ConfigError, SourceError, StoreExistsError, suggest
from ups_data.schema import Name, Positive, Record

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One equation with good values.

    Attributes:
        summary: the equation, for people.
        field: name of the unknown.
        dims: space dimensions.
        length: domain length L of every axis.
        resolution: nodes per axis, n.
        viscosity: the diffusion coefficient.
        frame_step: time between two frames.
        substeps: steps of the solver per frame, at the recipe's resolution; more on finer grids.
        order: order of the time stepper.
        stepper: class in `exponax.stepper`.
        stepper_options: what it takes beyond the above.
        modes: largest wave number of the random initial condition.
        amplitude: factor on the initial condition.
        normalised: what the initial condition has of 1 before that factor: `max_one` or `std_one`.
        num_trajectories, num_frames: how much is made by default.
    """

    summary: str
    field: str
    dims: int
    length: float
    resolution: int
    viscosity: float
    frame_step: float
    substeps: int
    order: int
    stepper: str
    stepper_options: Mapping[str, Any]
    modes: int
    amplitude: float
    normalised: str
    num_trajectories: int
    num_frames: int


RECIPES: Mapping[str, Recipe] = {
    "burgers": Recipe(
        summary="2-D Burgers, sharp fronts: u_t + u (u_x + u_y) = nu (u_xx + u_yy)",
        field="velocity",
        dims=2,
        length=1.0,
        resolution=256,
        viscosity=2e-3,
        frame_step=0.05,
        substeps=20,
        order=2,
        stepper="Burgers",
        stepper_options={"single_channel": True},
        modes=3,
        amplitude=1.0,
        normalised="max_one",
        num_trajectories=16,
        num_frames=21,
    ),
    "burgers_1d": Recipe(
        summary="1-D Burgers, travelling shocks: u_t + u u_x = nu u_xx",
        field="velocity",
        dims=1,
        length=1.0,
        resolution=1024,
        viscosity=1e-3,
        frame_step=0.02,
        substeps=20,
        order=2,
        stepper="Burgers",
        stepper_options={"single_channel": True},
        modes=4,
        amplitude=1.0,
        normalised="max_one",
        num_trajectories=64,
        num_frames=51,
    ),
    "navier_stokes": Recipe(
        summary="2-D turbulence, vorticity w of an incompressible flow u: w_t + u . grad w = nu (w_xx + w_yy)",
        field="vorticity",
        dims=2,
        length=2 * math.pi,
        resolution=256,
        viscosity=5e-4,
        frame_step=0.2,
        substeps=40,
        order=4,
        stepper="NavierStokesVorticity",
        stepper_options={},
        modes=8,
        amplitude=3.0,
        normalised="std_one",
        num_trajectories=16,
        num_frames=21,
    ),
    "turbulence": Recipe(
        summary="2-D turbulence, finer and faster: w_t + u . grad w = nu (w_xx + w_yy), sharpening from frame to frame",
        field="vorticity",
        dims=2,
        length=2 * math.pi,
        resolution=512,
        viscosity=2.5e-4,
        frame_step=0.2,
        substeps=80,
        order=4,
        stepper="NavierStokesVorticity",
        stepper_options={},
        modes=8,
        amplitude=8.0,
        normalised="std_one",
        num_trajectories=1,
        num_frames=7,
    ),
}
"""Every recipe by name."""


class GenerateSettings(Record):
    """How much of a recipe is made; None takes the recipe's value.

    Attributes:
        num_trajectories: simulations; the first k of them are the same for every number of them.
        num_frames: frames of each, the initial condition among them.
        resolution: nodes per axis.
        viscosity: diffusion coefficient; too small for a resolution, fronts ring or the solution blows up.
        seed: of the initial conditions.
        name: of the data set and its files; the recipe's name by default.
    """

    num_trajectories: Positive | None = None
    num_frames: Annotated[int, pydantic.Field(ge=2, le=2**20)] | None = None
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
    resolution: int
    viscosity: float
    seed: int

    @property
    def substeps(self) -> int:
        """Steps of the solver per frame: the step shrinks with the spacing, for the same advective stability."""
        return math.ceil(self.recipe.substeps * max(1.0, self.resolution / self.recipe.resolution))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.num_trajectories, self.num_frames, *(self.resolution,) * self.recipe.dims)


def generate(
    recipe: str,
    folder: Path,
    settings: GenerateSettings | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Solve a recipe and write `<name>.npy` with its description `<name>.yaml` into a folder.

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
    if importlib.util.find_spec("exponax") is None:
        raise ConfigError('exponax, which solves the recipes, is not installed: pip install "ups-data[demo]"')
    values, description = folder / f"{task.name}.npy", folder / f"{task.name}.yaml"
    taken = [path for path in (values, description) if path.exists()]
    if taken and not overwrite:
        raise StoreExistsError(f"{taken[0]} is there already; choose another folder or name, or pass --overwrite")
    folder.mkdir(parents=True, exist_ok=True)
    description.unlink(missing_ok=True)
    staged = folder / f"{task.name}.partial.npy"
    try:
        _write_values(task, staged, progress)
        staged.replace(values)
    finally:
        staged.unlink(missing_ok=True)
    staged = description.with_suffix(".partial.yaml")
    staged.write_text(yaml.safe_dump(_describe(task), sort_keys=False, width=100), encoding="utf-8")
    return staged.replace(description)


def _settle(name: str, settings: GenerateSettings) -> _Task:
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}. {suggest(name, RECIPES)}")
    recipe = RECIPES[name]
    return _Task(
        recipe=recipe,
        recipe_name=name,
        name=settings.name or name,
        num_trajectories=settings.num_trajectories or recipe.num_trajectories,
        num_frames=settings.num_frames or recipe.num_frames,
        resolution=settings.resolution or recipe.resolution,
        viscosity=settings.viscosity or recipe.viscosity,
        seed=settings.seed,
    )


def _write_values(task: _Task, path: Path, progress: Progress | None) -> None:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=task.shape)
    for number, frames in enumerate(_simulate(task)):
        if not np.isfinite(frames).all():
            frame = int(np.argmin(np.isfinite(frames).all(axis=tuple(range(1, frames.ndim)))))
            raise SourceError(
                f"recipe {task.recipe_name!r} blew up: trajectory {number}, frame {frame} is not finite. Take a larger "
                f"viscosity than {task.viscosity:g}, or a finer grid than {task.resolution} nodes"
            )
        array[number] = frames
        if progress is not None:
            progress("trajectories", number + 1, task.num_trajectories)
    array.flush()


def _simulate(task: _Task) -> Iterator[Float32[np.ndarray, "time *space"]]:
    """Yield one trajectory after another, each from its own key."""
    import exponax
    import jax

    recipe = task.recipe
    stepper = getattr(exponax.stepper, recipe.stepper)(
        recipe.dims,
        recipe.length,
        task.resolution,
        recipe.frame_step / task.substeps,
        diffusivity=task.viscosity,
        order=recipe.order,
        **recipe.stepper_options,
    )
    roll_out = jax.jit(exponax.rollout(exponax.repeat(stepper, task.substeps), task.num_frames - 1, include_init=True))
    draw = exponax.ic.RandomTruncatedFourierSeries(recipe.dims, cutoff=recipe.modes, **{recipe.normalised: True})
    seed = jax.random.key(task.seed)
    for number in range(task.num_trajectories):
        start = recipe.amplitude * draw(task.resolution, key=jax.random.fold_in(seed, number))
        yield np.asarray(roll_out(start), dtype=np.float32)[:, 0]


def _describe(task: _Task) -> dict[str, Any]:
    recipe = task.recipe
    axes = ("x", "y", "z")[: recipe.dims]
    provenance = (
        f"generated by exponax {importlib.metadata.version('exponax')}, recipe {task.recipe_name}, seed {task.seed}, "
        f"{task.substeps} steps of order {recipe.order} a frame; nondimensional; frame 0 is the initial condition"
    )
    return {
        "format": "arrays",
        "name": task.name,
        "kind": "grid",
        "dims": ["trajectory", "time", *axes],
        "fields": {recipe.field: {"file": f"{task.name}.npy"}},
        "axes": {axis: {"start": 0.0, "stop": recipe.length, "periodic": True} for axis in axes},
        "times": {"start": 0.0, "step": recipe.frame_step},
        "parameters": {"viscosity": task.viscosity},
        "notes": [recipe.summary, provenance],
    }
