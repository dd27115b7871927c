"""What the demo does, and where it puts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from preprocess.report import RunName
from preprocess.sources.generated import GenerateSettings
from ups_data.training import TrainConfig, load_config

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "burgers.yaml"
RECIPE = "burgers"
TITLE = "2-D Burgers flow with sharp fronts"
PROVED = ("uniform", "balanced", "importance")
# A dense evaluation of all 40 takes as long as a tenth of the training, and there are twenty.
_TEST_SAMPLES = 8
RUNS: tuple[RunName, ...] = ("sparse", "dense")


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What a demo does.

    Attributes:
        output: folder of all that it makes.
        generate: how much data is made.
        splits: share of trajectories of each split.
        draws: draws of each sampler that `prove` makes.
        stream_rounds, stream_batches: how often, and on how many batches, loaders are timed.
        train: the sparse run; the dense one differs in its sampler alone.
    """

    output: Path
    generate: GenerateSettings
    splits: Mapping[str, float]
    draws: int
    stream_rounds: int
    stream_batches: int
    train: TrainConfig

    @classmethod
    def full(cls, output: Path, seconds: float | None) -> DemoSettings:
        """Return the demo as it is meant; `seconds` replaces the training time of each run."""
        changes = {} if seconds is None else {"seconds": seconds}
        config = load_config(CONFIG)
        data = {"store": str(output / "store"), "test_samples": config.data.test_samples or _TEST_SAMPLES}
        return cls(
            output=output,
            generate=GenerateSettings(),
            splits={"train": 0.875, "test": 0.125},
            draws=2000,
            stream_rounds=5,
            stream_batches=8,
            train=config.with_changes(data=data, **changes),
        )

    @classmethod
    def quick(cls, output: Path, seconds: float | None) -> DemoSettings:
        """Return a demo of toy size: every part runs, and no figure of it means anything."""
        data = {"store": str(output / "store"), "batch_size": 2, "test_samples": 2}
        return cls(
            output=output,
            generate=GenerateSettings(num_trajectories=4, num_frames=5, resolution=64, viscosity=8e-3),
            splits={"train": 0.75, "test": 0.25},
            draws=200,
            stream_rounds=3,
            stream_batches=2,
            train=load_config(CONFIG).with_changes(
                data=data, evaluations=3, seconds=3.0 if seconds is None else seconds
            ),
        )

    @property
    def store(self) -> Path:
        """Where the store lies."""
        return self.output / "store"

    @property
    def description(self) -> Path:
        """The description of the generated arrays."""
        return self.output / "raw" / f"{RECIPE}.yaml"

    @property
    def report(self) -> Path:
        """Where the page lies."""
        return self.output / "report.html"

    @property
    def ratio(self) -> float:
        """Drawn points / points, in the sparse run."""
        ratio = self.train.sampler.ratio
        assert isinstance(ratio, float), "configs/burgers.yaml draws by a constant ratio"
        return ratio

    @property
    def seconds(self) -> float:
        """Training time of each run."""
        assert self.train.seconds is not None, "configs/burgers.yaml is bounded by time"
        return self.train.seconds

    def run_config(self, name: RunName) -> TrainConfig:
        """Return the configuration of a run."""
        return self.train if name == "sparse" else self.train.with_changes(sampler={"kind": "dense"})

    def run_folder(self, name: RunName) -> Path:
        """Return where a run keeps its log and its checkpoint."""
        return self.output / "runs" / name
