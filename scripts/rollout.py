#!/usr/bin/env python
"""Roll a trained model out and hold every step against the store: scripts/rollout.py CHECKPOINT [STORE].

Prints relative L2, VRMSE and nRMSE by step, dense, beside the error of holding the last input frame (persistence).
`--output` writes them as JSON, with power spectra on uniform periodic grids; `--plot` draws errors and spectra;
`--animation` draws the first start beside its truth, frame by frame (1-D and 2-D data). Pictures need matplotlib: pip
install "ups-data[plots]". `--ttc` looks for states that conserve what its file says (`configs/ttc/burgers.yaml`), and
`--output` then holds every candidate of every step.

Example: scripts/rollout.py runs/burgers/last.safetensors --steps 10 --plot rollout.png --animation rollout.gif
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import rich.console
import rich.table
import typer
from jaxtyping import Float

from ups_data.errors import ConfigError, DatasetError, UpsDataError
from ups_data.inference import (
    Predictor,
    Roll,
    RolloutPlan,
    RolloutState,
    StepErrors,
    TTCConfig,
    TTCLog,
    collect,
    iterate_rollout,
    rollout_errors,
    rollout_ttc,
)
from ups_data.models import NeuralOperator
from ups_data.sample import SparseSample
from ups_data.samplers import FixedSampler
from ups_data.training import Checkpoint
from ups_data.yaml_records import parse_record, parse_yaml

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OK, MISUSE = 0, 2
_SECONDS_PER_FRAME = 0.3
_LEAST_POWER = 1e-10  # of the largest: below, there is rounding
_KINDS = ("VRMSE", "nRMSE")


def main(  # noqa: PLR0913  the options of a command
    checkpoint: Annotated[Path, typer.Argument(help="last.safetensors of a run.")],
    store: Annotated[str | None, typer.Argument(help="A store; that of the run otherwise.")] = None,
    *,
    split: Annotated[str | None, typer.Option("--split", help="The run's test split otherwise.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Of each rollout; as many as the store has otherwise.")
    ] = None,
    starts: Annotated[int, typer.Option("--starts", min=1, help="Trajectories to start from, at most.")] = 4,
    frame: Annotated[int, typer.Option("--frame", min=0, help="First frame of the input window.")] = 0,
    reencode_every: Annotated[
        int, typer.Option("--reencode-every", min=0, help="Steps between two encodings; 0 stays in latent space.")
    ] = 1,
    held_field: Annotated[
        list[str] | None, typer.Option("--held-field", help="Input field that is not predicted; may be repeated.")
    ] = None,
    ttc: Annotated[
        Path | None, typer.Option("--ttc", help="YAML file of a search for states that conserve; see configs/ttc.")
    ] = None,
    reward_points: Annotated[
        int, typer.Option("--reward-points", min=1, help="Points that the search estimates its rewards on.")
    ] = 512,
    device: Annotated[str, typer.Option("--device", help="As torch names it.")] = "cpu",
    output: Annotated[Path | None, typer.Option("--output", help="Write errors and spectra as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw errors and spectra: .png, .svg or .pdf.")] = None,
    animation: Annotated[Path | None, typer.Option("--animation", help="Draw the first start: .gif.")] = None,
) -> None:
    """Print the errors of rollouts of a trained model, step by step."""
    plan = RolloutPlan(reencode_every=reencode_every or None, held_fields=tuple(held_field or ()))
    try:
        search = None if ttc is None else Search(load_ttc(ttc))
        roll: Roll = iterate_rollout if search is None else search
        points = FixedSampler(num_queries=1 if search is None else reward_points)
        predictor = Predictor.of(Checkpoint.load(checkpoint), store, split=split, device=device, sampler=points)
        chosen = [(trajectory, frame) for trajectory in predictor.trajectories[:starts]]
        steps = count_steps(predictor, chosen) if steps is None else steps
        errors = rollout_errors(predictor, chosen, steps, plan=plan, roll=roll)
        if output is not None:
            content: dict[str, Any] = {"starts": chosen, "steps": [step.to_dict() for step in errors]}
            if search is not None:
                content["searches"] = [log.model_dump(mode="json") for log in search.logs]
            output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        if plot is not None:
            draw_errors(errors, plot)
        if animation is not None:
            animate(predictor, chosen[0], steps, plan=plan, roll=roll, path=animation)
    except (UpsDataError, OSError) as error:
        rich.console.Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", markup=False)
        raise typer.Exit(MISUSE) from error
    console = rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(tabulate(errors, len(chosen)))


class Search:
    """Rolls out with test-time conditioning, and keeps the logs.

    Args:
        config: of the search.
    """

    def __init__(self, config: TTCConfig) -> None:
        self._config = config
        self.logs: list[TTCLog] = []

    def __call__(
        self, model: NeuralOperator, sample: SparseSample, times: Sequence[float], *, plan: RolloutPlan
    ) -> tuple[RolloutState, ...]:
        """Return the states of the path that conserves most."""
        found = rollout_ttc(model, sample, times, config=self._config, plan=plan)
        self.logs.append(found.log)
        return found.states


def load_ttc(path: Path) -> TTCConfig:
    """Read the settings of a search.

    Raises:
        ConfigError: a file that cannot be read, an unknown key, a value out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings of the search, {path}, cannot be read: {error}") from error
    return parse_record(TTCConfig, parse_yaml(text, where=str(path)), where=str(path))


def count_steps(predictor: Predictor, starts: Sequence[tuple[int, int]]) -> int:
    """Return the most steps that the store has from each of some starts."""
    store = predictor.dataset.store
    samples = [predictor.start(*start) for start in starts]
    return min(len(predictor.truth_frames(sample, store.num_frames(sample.trajectory))) for sample in samples)


def tabulate(errors: Sequence[StepErrors], num_starts: int) -> rich.table.Table:
    """Return the table of errors by step."""
    title = f"Errors on all points, means over {num_starts} {'start' if num_starts == 1 else 'starts'}"
    table = rich.table.Table(title=title, title_justify="left")
    names = list(errors[0].vrmse)
    for column in ("step", "relative L2", "persistence", *(f"{kind} {name}" for name in names for kind in _KINDS)):
        table.add_column(column, justify="right")
    for step in errors:
        fields = [f"{found[name]:.4f}" for name in names for found in (step.vrmse, step.nrmse)]
        table.add_row(str(step.step), f"{step.relative_l2:.4f}", f"{step.persistence:.4f}", *fields)
    return table


def draw_errors(errors: Sequence[StepErrors], path: Path) -> None:
    """Draw errors by step, and the spectra of the first, the middle and the last one where there are any.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    pyplot = import_pyplot()
    spectra = errors[0].spectra
    figure, axes = pyplot.subplots(
        1, 1 + len(spectra), figsize=(5 * (1 + len(spectra)), 4), layout="constrained", squeeze=False
    )
    number = [step.step for step in errors]
    axes[0, 0].plot(number, [step.relative_l2 for step in errors], "o-", label="rollout")
    axes[0, 0].plot(number, [step.persistence for step in errors], "s--", color="0.5", label="last input frame, held")
    axes[0, 0].set(xlabel="step", ylabel="relative L2, all points", ylim=(0, None))
    axes[0, 0].legend()
    shown = sorted({0, len(errors) // 2, len(errors) - 1})
    for axis, name in zip(axes[0, 1:], spectra, strict=True):
        for color, place in zip(("C0", "C1", "C2"), shown, strict=False):
            found = errors[place].spectra[name]
            for values, style in ((found.truth, "-"), (found.predicted, "--"), (found.error, ":")):
                axis.loglog(found.wave_numbers[1:], values[1:], style, color=color)
            axis.plot([], [], color=color, label=f"step {errors[place].step}")
        for style, label in (("-", "truth"), ("--", "predicted"), (":", "error")):
            axis.plot([], [], style, color="0.3", label=label)
        most = max(max(errors[place].spectra[name].truth) for place in shown)
        axis.set(xlabel="wave number, cycles per unit of length", ylabel=f"power of {name}")
        axis.set_ylim(_LEAST_POWER * most, 3 * most)
        axis.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def animate(
    predictor: Predictor, start: tuple[int, int], steps: int, *, plan: RolloutPlan, roll: Roll, path: Path
) -> None:
    """Draw truth, prediction and error of the first target channel, a picture a step.

    Raises:
        ConfigError: matplotlib is not installed.
        DatasetError: three-dimensional data.
    """
    pyplot = import_pyplot()
    from matplotlib.animation import FuncAnimation, PillowWriter

    sample = predictor.start(*start)
    dims = predictor.dataset.store.manifest.geometry.dims
    if dims > 2:
        raise DatasetError(f"--animation draws data of one and two dimensions, {sample.trajectory} has {dims}")
    found = collect(roll(predictor.model, sample, predictor.times_after(sample, steps), plan=plan))
    truth = predictor.truth(sample, steps).reshape(steps, len(found.values[0]), -1)[:, 0]
    predicted = found.values[:, 0]
    name = predictor.dataset.target_fields[0].channel_names[0]
    errors = predicted - truth
    size, most = float(np.nanmax(np.abs(truth))), float(np.nanmax(np.abs(errors))) or 1.0
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.8), layout="constrained")

    def draw(step: int) -> list[Any]:
        panels = (truth[step], predicted[step], errors[step])
        share = np.sqrt(np.nansum(np.square(errors[step])) / np.nansum(np.square(truth[step])))
        titles = (
            f"{name}, t = {found.times[step]:.4g}, scale ±{size:.2g}",
            f"predicted, relative L2 {share:.3f}",
            f"error, scale ±{most:.2g}",
        )
        for axis, values, title, limit in zip(axes, panels, titles, (size, size, most), strict=True):
            axis.clear()
            draw_panel(axis, predictor, sample.trajectory, values, limit)
            axis.set_title(title)
        return []

    draw(0)
    figure.canvas.draw()
    figure.set_layout_engine("none")  # laid out anew for every frame, panels would tremble
    moving = FuncAnimation(figure, draw, frames=steps)
    moving.save(path, writer=PillowWriter(fps=round(1 / _SECONDS_PER_FRAME)), dpi=80)
    pyplot.close(figure)


def draw_panel(
    axis: Axes, predictor: Predictor, trajectory: int, values: Float[np.ndarray, " point"], limit: float
) -> None:
    """Draw one channel: a line, an image with x to the right, or dots, colours from -limit to limit."""
    store = predictor.dataset.store
    colours: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    names = [spec.name for spec in store.manifest.geometry.axes]
    if len(names) == 1:
        on_grid = predictor.dataset.geometry == "grid"
        (x,) = store.axes(trajectory) if on_grid else store.coordinates(trajectory).T
        order = np.argsort(x)
        axis.plot(x[order], values[order])
        axis.set(xlabel=names[0], ylim=(-1.05 * limit, 1.05 * limit))
        return
    if predictor.dataset.geometry == "grid":
        x, y = store.axes(trajectory)
        axis.pcolormesh(x, y, values.reshape(x.size, y.size).T, shading="nearest", **colours)
    else:
        x, y = store.coordinates(trajectory).T
        axis.scatter(x, y, c=values, s=4, **colours)
    axis.set(aspect="equal", xlabel=names[0], ylabel=names[1])


def import_pyplot() -> Any:
    """Import matplotlib, without a display.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ConfigError('pictures need matplotlib: pip install "ups-data[plots]"') from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


if __name__ == "__main__":
    typer.run(main)
