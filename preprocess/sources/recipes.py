"""The recipes of generated data: an equation with good values each.

All are periodic on [0, L) in every axis and nondimensional; frame 0 is the initial condition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Solver:
    """How a recipe is solved by exponax: pseudo-spectrally, with exponential time differencing.

    Attributes:
        resolution: nodes per axis, n, at i L / n.
        substeps: steps of the solver per frame, at the recipe's resolution; more on finer grids.
        order: order of the time stepper.
        stepper: class in `exponax.stepper`.
        modes: largest wave number of the random initial condition.
        amplitude: factor on the initial condition.
        normalised: what the initial condition has of 1 before that factor: `max_one` or `std_one`.
        stepper_options: what the stepper takes beyond the above.
    """

    resolution: int
    substeps: int
    order: int
    stepper: str
    modes: int
    amplitude: float
    normalised: str
    stepper_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One equation with good values.

    Attributes:
        summary: the equation, for people.
        field: name of the unknown.
        components: of the unknown; `("",)` for a scalar.
        dims: space dimensions.
        length: domain length L of every axis.
        viscosity: the diffusion coefficient.
        frame_step: time between two frames.
        num_trajectories, num_frames: how much is made by default.
        num_points: scattered points of a trajectory, each with points of its own; None for the nodes of a grid.
        solver: how it is solved; None where the solution is known in closed form.
    """

    summary: str
    field: str
    components: tuple[str, ...] = ("",)
    dims: int
    length: float
    viscosity: float
    frame_step: float
    num_trajectories: int
    num_frames: int
    num_points: int | None = None
    solver: Solver | None = None


RECIPES: Mapping[str, Recipe] = {
    "burgers": Recipe(
        summary="2-D Burgers, sharp fronts: u_t + u (u_x + u_y) = nu (u_xx + u_yy)",
        field="velocity",
        dims=2,
        length=1.0,
        viscosity=2e-3,
        frame_step=0.05,
        num_trajectories=16,
        num_frames=21,
        solver=Solver(
            resolution=256,
            substeps=20,
            order=2,
            stepper="Burgers",
            stepper_options={"single_channel": True},
            modes=3,
            amplitude=1.0,
            normalised="max_one",
        ),
    ),
    "burgers_1d": Recipe(
        summary="1-D Burgers, travelling shocks: u_t + u u_x = nu u_xx",
        field="velocity",
        dims=1,
        length=1.0,
        viscosity=1e-3,
        frame_step=0.02,
        num_trajectories=64,
        num_frames=51,
        solver=Solver(
            resolution=1024,
            substeps=20,
            order=2,
            stepper="Burgers",
            stepper_options={"single_channel": True},
            modes=4,
            amplitude=1.0,
            normalised="max_one",
        ),
    ),
    "navier_stokes": Recipe(
        summary="2-D turbulence, vorticity w of an incompressible flow u: w_t + u . grad w = nu (w_xx + w_yy)",
        field="vorticity",
        dims=2,
        length=2 * math.pi,
        viscosity=5e-4,
        frame_step=0.2,
        num_trajectories=16,
        num_frames=21,
        solver=Solver(
            resolution=256,
            substeps=40,
            order=4,
            stepper="NavierStokesVorticity",
            stepper_options={},
            modes=8,
            amplitude=3.0,
            normalised="std_one",
        ),
    ),
    "turbulence": Recipe(
        summary="2-D turbulence, finer and faster: w_t + u . grad w = nu (w_xx + w_yy), sharpening from frame to frame",
        field="vorticity",
        dims=2,
        length=2 * math.pi,
        viscosity=2.5e-4,
        frame_step=0.2,
        num_trajectories=1,
        num_frames=7,
        solver=Solver(
            resolution=512,
            substeps=80,
            order=4,
            stepper="NavierStokesVorticity",
            stepper_options={},
            modes=8,
            amplitude=8.0,
            normalised="std_one",
        ),
    ),
    "burgers_3d": Recipe(
        summary="3-D Burgers, fronts in space: u_t + u (u_x + u_y + u_z) = nu (u_xx + u_yy + u_zz)",
        field="velocity",
        dims=3,
        length=1.0,
        viscosity=1e-2,
        frame_step=0.05,
        num_trajectories=4,
        num_frames=9,
        solver=Solver(
            resolution=32,
            substeps=10,
            order=2,
            stepper="Burgers",
            stepper_options={"single_channel": True},
            modes=2,
            amplitude=1.0,
            normalised="max_one",
        ),
    ),
    "navier_stokes_points": Recipe(
        summary="2-D turbulence at scattered points: w_t + u . grad w = nu (w_xx + w_yy), solved on a grid, its "
        "trigonometric polynomial evaluated at random points of each trajectory",
        field="vorticity",
        dims=2,
        length=2 * math.pi,
        viscosity=2e-3,
        frame_step=0.2,
        num_trajectories=4,
        num_frames=11,
        num_points=4096,
        solver=Solver(
            resolution=128,
            substeps=40,
            order=4,
            stepper="NavierStokesVorticity",
            modes=6,
            amplitude=3.0,
            normalised="std_one",
        ),
    ),
    "beltrami_points": Recipe(
        summary="3-D Navier-Stokes at scattered points, in closed form: decaying Arnold-Beltrami-Childress flows "
        "u_t + u . grad u = -grad p + nu lap u, curl u = k u, their amplitudes A, B, C drawn for each trajectory",
        field="velocity",
        components=("x", "y", "z"),
        dims=3,
        length=2 * math.pi,
        viscosity=0.1,
        frame_step=0.2,
        num_trajectories=8,
        num_frames=11,
        num_points=4096,
    ),
}
"""Every recipe by name."""
