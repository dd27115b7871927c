"""A trained model and the data that it is asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float

import ups_data
from ups_data.dataset import QueryDataset
from ups_data.errors import DatasetError
from ups_data.inference.decode import decode_dense
from ups_data.inference.points import PointSet
from ups_data.inference.rollout import Rollout, collect, iterate_rollout
from ups_data.inference.state import LATENT, PHYSICAL, RolloutPlan, RolloutState, check_times, window_step
from ups_data.models import NeuralOperator
from ups_data.sample import SparseSample
from ups_data.samplers import FixedSampler, Sampler
from ups_data.storage import Store
from ups_data.training import Checkpoint, find_device


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """Answers for the trajectories of a store, at any points and times.

    Attributes:
        model: in evaluation mode.
        dataset: gives the starts: windows of one target frame.
    """

    model: NeuralOperator
    dataset: QueryDataset

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        store: Store | str | None = None,
        *,
        split: str | None = None,
        device: torch.device | str = "cpu",
        sampler: Sampler | None = None,
    ) -> Self:
        """Take the model of a checkpoint to a store.

        Args:
            checkpoint: of a run.
            store: that of the run if None. Values are normalised as in the run, whichever it is.
            split: the run's test split if None.
            device: where to compute.
            sampler: which queries the starts carry; only rewards need any. Their weights are those of the integral over
                the domain where the store knows the measures of cells, else of the mean over points.

        Raises:
            DatasetError: a store of another kind than that of the run.
            ConfigError: a device that is not there.
        """
        data = checkpoint.header.config.data
        chosen = data.open() if store is None else store
        opened = ups_data.open_store(chosen) if isinstance(chosen, str) else chosen
        one = {"targets": 1, "drawn_targets": None, "points": "same"}
        one_target = data.model_copy(update={"window": data.window.model_copy(update=one)})
        dataset = one_target.build(
            opened,
            sampler or FixedSampler(num_queries=1),
            split=split or data.test_split,
            statistics=checkpoint.header.statistics,
            estimand="integral" if opened.manifest.geometry.has_measures else "mean",
        )
        checkpoint.header.problem.check_data(dataset)
        return cls(model=checkpoint.build_model().to(find_device(str(device))).eval(), dataset=dataset)

    def start(self, trajectory: int, frame: int = 0) -> SparseSample:
        """Return the sample whose input window begins at a frame of a trajectory.

        Raises:
            DatasetError: the trajectory is of another split, or no window begins there.
        """
        samples = self.dataset.samples_of(trajectory)
        if not 0 <= frame < len(samples):
            raise DatasetError(
                f"windows of trajectory {trajectory} in split {self.dataset.split!r} begin at frames 0 to "
                f"{len(samples) - 1}, got {frame}"
                if len(samples)
                else f"trajectory {trajectory} is not of the split {self.dataset.split!r}, whose trajectories are "
                f"{self.trajectories[:10]}"
            )
        return self.dataset[samples[frame]]

    @property
    def trajectories(self) -> tuple[int, ...]:
        """Numbers of the trajectories of the split."""
        return tuple(int(number) for number in self.dataset.store.trajectories_of(self.dataset.split))

    def predict(
        self,
        sample: SparseSample,
        *,
        points: PointSet | None = None,
        out: Float[np.ndarray, "channel point"] | None = None,
    ) -> Float[np.ndarray, "channel point"]:
        """Predict the first target frame of a sample at every point of its input, or at others, in physical units.

        Steady problems too. A finer grid (`self.refine(sample, 2)`) is super-resolution.
        """
        start = RolloutState.start(self.model, sample, LATENT)
        time = float(sample.target_times[0])
        state = start.accept(start.propose(time), time)
        where = state.points if points is None else points
        return decode_dense(
            self.model, state.latent, where, base=state.base, normaliser=sample.normalisers.target, out=out
        )

    def refine(self, sample: SparseSample, factor: int) -> PointSet:
        """Return the grid of a sample's input with `factor` times its resolution.

        Raises:
            DatasetError: a cloud, which has none.
        """
        store, domain = self.dataset.store, self.dataset.domain
        coarse = PointSet(axes=store.axes(sample.trajectory))
        return coarse.refine(factor, lower=domain.lower, upper=domain.upper, periodic=domain.periodic)

    def rollout(
        self,
        sample: SparseSample,
        num_steps: int,
        *,
        plan: RolloutPlan = PHYSICAL,
        points: PointSet | None = None,
    ) -> Rollout:
        """Go `num_steps` frames on from the input of a sample; see `times_after`."""
        return collect(iterate_rollout(self.model, sample, self.times_after(sample, num_steps), plan=plan), points)

    def times_after(self, sample: SparseSample, num_steps: int) -> tuple[float, ...]:
        """Return the next times of a rollout: those of the store, and beyond its end even steps of the window.

        Raises:
            ConfigError: a steady problem, or less than one step.
        """
        step = window_step(sample)
        frames = self.truth_frames(sample, num_steps)
        times = [float(time) for time in self.dataset.store.times(sample.trajectory)[list(frames)]]
        last = times[-1] if times else float(sample.input_times[-1])
        times += [last + step * number for number in range(1, num_steps - len(times) + 1)]
        return check_times(sample, times)

    def truth_frames(self, sample: SparseSample, num_steps: int) -> tuple[int, ...]:
        """Return the frames of the store that a rollout of so many steps meets: fewer where the trajectory ends."""
        window, total = self.dataset.window, self.dataset.store.num_frames(sample.trajectory)
        if window.lead != 1:
            raise DatasetError(
                f"a rollout needs a model that predicts the next frame of its window (lead=1), got {window}"
            )
        last = sample.input_frames[-1]
        return tuple(range(last + window.stride, total, window.stride))[:num_steps]

    def truth(self, sample: SparseSample, num_steps: int) -> Float[np.ndarray, "time channel point"]:
        """Return the target channels of those frames in physical units, NaN where a value is missing."""
        names = tuple(field.name for field in self.dataset.target_fields)
        channels = self.dataset.store.manifest.channels_of(names)
        return self.dataset.store.read_frames(sample.trajectory, self.truth_frames(sample, num_steps), channels)
