"""What the study of accuracy compares: data sets, ways to draw, and which runs make which part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray
import yaml

from benchmark_cases import call_apart
from preprocess.convert import convert
from preprocess.settings import ConvertSettings
from preprocess.sources import open_source
from preprocess.sources.generated import GenerateSettings, generate
from ups_data.errors import ConfigError
from ups_data.training import TrainConfig, load_config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
Part = Literal["time", "steps", "resolution", "longer", "matrix"]
PARTS: tuple[Part, ...] = ("time", "steps", "resolution", "longer", "matrix")
EVALUATIONS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A data set, and how a model is trained on it.

    Attributes:
        name: of its store too.
        title: what it is, for people.
        config: file in configs/.
        recipe, made: what is generated; the winds are read from a file.
        splits: share of trajectories of each split.
        stride: every so many nodes of each axis are kept: the same fields on a coarser grid.
        changes: of the configuration.
    """

    name: str
    title: str
    config: str
    splits: Mapping[str, float]
    recipe: str | None = None
    made: GenerateSettings | None = None
    stride: int = 1
    changes: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self, folder: Path, winds: Path | None) -> None:
        """Make the store, in a process of its own: solvers run threads; a store that is there already is taken."""
        if not (folder / self.name).exists():
            folder.mkdir(parents=True, exist_ok=True)
            call_apart(_make_store, self, folder, winds)

    def configure(self, arm: Arm, seed: int) -> TrainConfig:
        """Return the configuration of a run; it names no store yet."""
        config = load_config(CONFIGS / self.config)
        assert config.steps is not None
        steps = round(arm.more * config.steps)
        return config.with_changes(
            **{"evaluations": EVALUATIONS, "threads": 1, **self.changes},
            steps=steps,
            seed=seed,
            sampler=arm.sampler(steps),
        ).with_changes(model={"decoder": {"attention": arm.decoder}})


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the things that are compared.

    Attributes:
        draws: kind of the sampler.
        ratio: drawn points / points, the mean over the run; 1 for dense.
        curriculum: whether the ratio rises over the run, linearly from half of `ratio` to one and a half times it.
        decoder: `local` attends to the tokens around a query, `global` to all.
        more: steps of the run over those of the dense run.
    """

    draws: str
    ratio: float = 1.0
    curriculum: bool = False
    decoder: Literal["local", "global"] = "local"
    more: float = 1.0

    @property
    def name(self) -> str:
        """Return it in words."""
        if self.draws == "dense":
            words = "dense" + (f", {self.more:g} times the steps" if self.more != 1 else "")
        else:
            words = f"{self.draws} {self.ratio:g}" + (", few to many" if self.curriculum else "")
        return words + (", plain decoder" if self.decoder == "global" else "")

    def sampler(self, steps: int) -> dict[str, Any]:
        """Return the section of the configuration."""
        if self.draws == "dense":
            return {"kind": "dense"}
        low, high = self.ratio / 2, min(1.5 * self.ratio, 1.0)
        ramp = {"schedule": "linear", "start": low, "end": high, "steps": steps}
        return {"kind": self.draws, "ratio": ramp if self.curriculum else self.ratio}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is to be made."""

    case: Case
    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        """Return it in words."""
        return f"{self.case.name}, {self.arm.name}, {self.configure().steps} steps, seed {self.seed}"

    @property
    def key(self) -> tuple[str, Arm, int]:
        """What tells it from other runs."""
        return (self.case.name, self.arm, self.seed)

    def configure(self) -> TrainConfig:
        """Return its configuration, which names no store yet."""
        return self.case.configure(self.arm, self.seed)


def _fronts(size: int) -> Case:
    """Return the Burgers fields of 256 x 256 nodes on every so many of them, tokens at the same places."""
    return Case(
        name=f"fronts_{size}",
        title=f"2-D Burgers, sharp fronts, {size} x {size}",
        config="fronts.yaml",
        recipe="burgers",
        made=GenerateSettings(num_frames=11),
        splits={"train": 0.875, "test": 0.125},
        stride=256 // size,
        changes={"model": {"grid_encoder": {"patch": size // 16}}},
    )


CASES: dict[str, Case] = {
    "winds": Case(
        name="winds",
        title="monthly winds on the globe, 72 x 144 (real)",
        config="winds.yaml",
        splits={"train": 9 / 11, "test": 2 / 11},
    ),
    **{f"fronts_{size}": _fronts(size) for size in (256, 128, 64, 32)},
    "cloud": Case(
        name="cloud",
        title="2-D turbulence at 10,000 scattered points",
        config="cloud.yaml",
        recipe="navier_stokes_points",
        made=GenerateSettings(num_trajectories=12, num_points=10_000),
        splits={"train": 10 / 12, "test": 2 / 12},
    ),
}
MAIN = ("winds", "fronts_256", "cloud")
"""The three data sets; the others are the second one on coarser grids."""

DENSE = Arm(draws="dense")
RECIPES: dict[str, Arm] = {
    "winds": Arm(draws="balanced", ratio=0.1, curriculum=True, more=1.6),
    "fronts_256": Arm(draws="stratified", ratio=0.1, curriculum=True, more=2.25),
    "cloud": Arm(draws="balanced", ratio=0.1, curriculum=True, more=1.35),
}
"""What is recommended for each of the three, with as many steps as fit into half of the dense run's time."""
DRAWS, RATIOS = ("uniform", "balanced", "importance", "adaptive"), (0.5, 0.3, 0.1, 0.05)


def arms_of(part: Part, case: Case) -> Sequence[Arm]:
    """Return what a part compares on a data set; nothing where the part does not need it."""
    if part == "time" and case.name in MAIN:
        recipe = RECIPES[case.name]
        return (DENSE, recipe, replace(recipe, draws="uniform", curriculum=False), replace(recipe, decoder="global"))
    if part == "steps" and case.name == "fronts_256":
        kinds = ("uniform", "stratified", "importance")
        return (DENSE, *(Arm(draws=kind, ratio=ratio) for kind in kinds for ratio in (0.3, 0.1)))
    if part == "resolution" and case.recipe == "burgers":
        return (DENSE, *(Arm(draws=kind, ratio=ratio) for kind in ("stratified", "importance") for ratio in (0.3, 0.1)))
    if part == "longer" and case.name in MAIN:
        recipe = RECIPES[case.name]
        return (DENSE, replace(DENSE, more=recipe.more), replace(recipe, more=2 * recipe.more))
    if part == "matrix" and case.name in MAIN:
        sparse = (
            Arm(draws=kind, ratio=ratio, curriculum=ramp)
            for ratio in RATIOS
            for ramp in (False, True)
            for kind in DRAWS
        )
        return (DENSE, *sparse)
    return ()


def list_jobs(parts: Sequence[Part], cases: Sequence[Case], seeds: int) -> list[Job]:
    """Return the runs of some parts, each once, the most important parts first; seeds and arms are interleaved."""
    jobs = (
        Job(case=case, arm=arm, seed=seed)
        for part in parts
        for seed in range(seeds)
        for case in cases
        for arm in arms_of(part, case)
    )
    return list(dict.fromkeys(jobs))


def _make_store(case: Case, folder: Path, winds: Path | None) -> None:
    source = _write_winds(folder, winds) if case.recipe is None else _generate(case, folder)
    options = {"frames_per_trajectory": 12} if case.recipe is None else {}
    convert(open_source([source], options=options), folder / case.name, ConvertSettings(splits=dict(case.splits)))


def _write_winds(folder: Path, winds: Path | None) -> Path:
    """Write the winds without the row of the south pole: 73 rows, a prime number, cannot be cut into patches."""
    if winds is None:
        raise ConfigError("the winds are not generated: give their file, --winds monthly_navy_winds.cdf")
    path = folder / "winds.nc"
    with xarray.open_dataset(winds, decode_times=False) as fields:
        fields.isel(FNOCY=slice(1, None)).to_netcdf(path)
    return path


def _generate(case: Case, folder: Path) -> Path:
    """Generate the fields, once for all grids, and return the description of those on the grid of the case."""
    assert case.recipe is not None
    whole = folder / f"{case.recipe}.yaml"
    if not whole.exists():
        generate(case.recipe, folder, case.made, overwrite=True)
    if case.stride == 1:
        return whole
    description = yaml.safe_load(whole.read_text(encoding="utf-8"))
    ((_, values),) = description["fields"].items()
    fields = np.load(folder / values["file"], mmap_mode="r")
    values["file"] = f"{case.name}.npy"
    np.save(folder / values["file"], fields[:, :, :: case.stride, :: case.stride])
    path = folder / f"{case.name}.yaml"
    path.write_text(yaml.safe_dump(description), encoding="utf-8")
    return path
