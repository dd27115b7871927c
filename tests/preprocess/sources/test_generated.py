"""Generated data: solutions hold against an exact one, descriptions convert, failures leave nothing.

JAX runs threads, and other tests fork: data are generated in other processes.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from preprocess.sources import open_source
from preprocess.sources.generated import GenerateSettings, generate
from preprocess.sources.scattered import beltrami_flow, evaluate_spectrally
from ups_data.errors import ConfigError, StoreExistsError

ROOT = Path(__file__).resolve().parents[3]

RunCommand = Callable[..., subprocess.CompletedProcess[str]]

pytest.importorskip("exponax")


def exact_burgers(start: np.ndarray, viscosity: float, time: float) -> np.ndarray:
    """Solve u_t + u u_x = nu u_xx on the periodic unit interval by the Cole-Hopf transform, spectrally."""
    wave = 2j * np.pi * np.fft.fftfreq(start.size, 1 / start.size)
    mean = start.mean()
    integral = np.fft.fft(start - mean)
    integral[1:] /= wave[1:]
    integral[0] = 0
    heat = np.fft.fft(np.exp(-np.fft.ifft(integral).real / (2 * viscosity))) * np.exp(viscosity * wave**2 * time)
    moving = -2 * viscosity * np.fft.ifft(wave * heat).real / np.fft.ifft(heat).real
    return mean + np.fft.ifft(np.fft.fft(moving) * np.exp(-wave * mean * time)).real


MAKE = """
import sys
from dataclasses import replace
from pathlib import Path
from preprocess.sources import generated
from preprocess.sources.generated import GenerateSettings, generate

raw = Path(sys.argv[1])
generate("burgers_1d", raw, GenerateSettings(num_trajectories=2, num_frames=4, resolution=128, viscosity=0.02))
for count, seed in ((1, 5), (3, 5), (1, 6)):
    size = {"num_trajectories": count, "num_frames": 2, "resolution": 32, "seed": seed}
    generate("burgers", raw, GenerateSettings(**size, name=f"of_{count}_{seed}"))
generate("burgers_3d", raw, GenerateSettings(num_trajectories=1, num_frames=3, resolution=16))
size = {"num_trajectories": 2, "num_frames": 3, "resolution": 32}
generate("navier_stokes_points", raw, GenerateSettings(**size, num_points=50))
recipe = replace(generated.RECIPES["navier_stokes_points"], num_points=None)
generated.RECIPES = {"navier_stokes_points": recipe}
generate("navier_stokes_points", raw, GenerateSettings(**size, name="grid"))
"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of generated data, all made by one process, since JAX takes seconds to start."""
    folder: Path = tmp_path_factory.mktemp("generated")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", MAKE, folder], env=environment, check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return folder


def test_burgers_agrees_with_the_exact_solution(raw: Path) -> None:
    source = open_source([raw / "burgers_1d.yaml"])
    assert (source.name, source.fields[0].name, source.axes[0].periodic) == ("burgers_1d", "velocity", True)
    np.testing.assert_allclose(source.read_coordinates(0)[0], np.arange(128) / 128)
    assert source.trajectories[0].parameters == {"viscosity": 0.02}
    for number, info in enumerate(source.trajectories):
        frames = source.read_frames(number, 0, 4)[:, 0].astype("float64")
        assert np.abs(frames[0]).max() == pytest.approx(1.0, abs=1e-6)
        for frame, time in zip(frames, info.times, strict=True):
            np.testing.assert_allclose(frame, exact_burgers(frames[0], 0.02, time), atol=2e-4)
    assert not np.allclose(source.read_frames(0, 0, 1), source.read_frames(1, 0, 1))


def test_more_trajectories_begin_with_the_same_ones(raw: Path) -> None:
    one, three, other = (np.load(raw / f"of_{name}.npy") for name in ("1_5", "3_5", "1_6"))
    assert three.shape == (3, 2, 32, 32)
    np.testing.assert_array_equal(one[0], three[0])
    assert not np.array_equal(one, other)


def test_turbulence_decays(run_command: RunCommand, tmp_path: Path) -> None:
    sizes = ["--trajectories", 1, "--frames", 3, "--resolution", 64]
    result = run_command("generate", "navier_stokes", "raw", *sizes, "--json")
    assert result.returncode == 0, result.stderr
    source = open_source([tmp_path / "raw" / "navier_stokes.yaml"])
    assert [axis.upper for axis in source.axes] == pytest.approx([2 * np.pi] * 2)
    frames = source.read_frames(0, 0, 3)[:, 0].astype("float64")
    assert frames.mean(axis=(1, 2)) == pytest.approx([0.0] * 3, abs=1e-4)
    enstrophy = np.square(frames).mean(axis=(1, 2))
    assert enstrophy[0] == pytest.approx(9.0, rel=1e-5)
    assert (np.diff(enstrophy) < 0).all()


def test_burgers_in_space_keeps_its_mean_and_loses_energy(raw: Path) -> None:
    source = open_source([raw / "burgers_3d.yaml"])
    assert (source.kind, source.trajectories[0].shape) == ("grid", (16, 16, 16))
    frames = source.read_frames(0, 0, 3)[:, 0].astype("float64")
    assert frames.mean(axis=(1, 2, 3)) == pytest.approx([frames[0].mean()] * 3, abs=1e-5)
    assert (np.diff(np.square(frames).mean(axis=(1, 2, 3))) < 0).all()


def test_scattered_points_have_the_values_of_the_grid_s_polynomial(raw: Path) -> None:
    cloud, grid = (open_source([raw / f"{name}.yaml"]) for name in ("navier_stokes_points", "grid"))
    assert (cloud.kind, cloud.trajectories[0].shape, len(cloud.trajectories)) == ("points", (50,), 2)
    assert [(axis.lower, axis.upper, axis.periodic) for axis in cloud.axes] == [
        (0.0, pytest.approx(2 * np.pi), True)
    ] * 2
    for number in range(2):
        (points,) = cloud.read_coordinates(number)
        expected = evaluate_spectrally(grid.read_frames(number, 0, 3)[:, 0], points, 2 * np.pi)
        np.testing.assert_allclose(cloud.read_frames(number, 0, 3)[:, 0], expected, atol=1e-5)
    assert not np.array_equal(cloud.read_coordinates(0)[0], cloud.read_coordinates(1)[0])


def test_a_closed_form_is_made_without_solver(run_command: RunCommand, tmp_path: Path) -> None:
    code = "import sys; sys.modules['exponax'] = None; from preprocess.cli import main; main()"
    sizes = ["--trajectories", 3, "--frames", 4, "--points", 100, "--viscosity", 0.2]
    result = run_command("generate", "beltrami_points", "raw", *sizes, code=code)
    assert result.returncode == 0, result.stderr
    source = open_source([tmp_path / "raw" / "beltrami_points.yaml"])
    assert source.fields[0].channel_names == ("velocity.x", "velocity.y", "velocity.z")
    for number, info in enumerate(source.trajectories):
        amplitudes = np.array([info.parameters[name] for name in "ABC"])
        (points,) = source.read_coordinates(number)
        flow = beltrami_flow(points, info.times, amplitudes=amplitudes, wave_number=1.0, viscosity=0.2)
        np.testing.assert_allclose(source.read_frames(number, 0, 4), flow, atol=1e-6)


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("burgers", {"num_points": 64}, "recipe 'burgers' is solved on a grid, so it has no number of points"),
        ("beltrami_points", {"resolution": 64}, "'beltrami_points' is known in closed form, so it has no resolution"),
    ],
)
def test_settings_that_a_recipe_has_not(tmp_path: Path, recipe: str, settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generate(recipe, tmp_path, GenerateSettings(**settings))


def test_a_solution_that_blows_up_is_told_and_leaves_nothing(run_command: RunCommand, tmp_path: Path) -> None:
    sizes = ["--trajectories", 1, "--frames", 5, "--resolution", 1024, "--viscosity", 1e-9]
    result = run_command("generate", "burgers_1d", "raw", *sizes)
    assert result.returncode == 1, result.stdout
    assert "recipe 'burgers_1d' blew up: trajectory 0, frame" in result.stderr
    assert "Take a larger viscosity than 1e-09" in result.stderr
    assert list((tmp_path / "raw").iterdir()) == []


def test_what_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "burgers.npy").write_text("mine")
    with pytest.raises(StoreExistsError, match=r"burgers.npy is there already; choose another folder or name, or pass"):
        generate("burgers", tmp_path)
    assert (tmp_path / "burgers.npy").read_text() == "mine"


def test_an_unknown_recipe_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no recipe 'burger_1d'. Did you mean 'burgers_1d'\?"):
        generate("burger_1d", tmp_path)


def test_a_missing_exponax_is_told(run_command: RunCommand) -> None:
    code = "import sys; sys.modules['exponax'] = None; from preprocess.cli import main; main()"
    result = run_command("generate", "burgers", "raw", code=code)
    assert result.returncode == 2, result.stderr
    assert 'exponax, which solves the recipes, is not installed: pip install "ups-data[demo]"' in result.stderr


def test_recipes_are_steppers_of_exponax(run_command: RunCommand) -> None:
    """Names alone, without solving: a renamed stepper or option of exponax would show here."""
    code = (
        "import inspect, exponax; from preprocess.sources.recipes import RECIPES\n"
        "for solver in (recipe.solver for recipe in RECIPES.values() if recipe.solver is not None):\n"
        "    known = inspect.signature(getattr(exponax.stepper, solver.stepper)).parameters\n"
        "    assert {'diffusivity', 'order', *solver.stepper_options} <= set(known), known\n"
    )
    result = run_command(code=code)
    assert result.returncode == 0, result.stderr
