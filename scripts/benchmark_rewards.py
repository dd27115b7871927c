#!/usr/bin/env python
"""Measure what a reward of test-time conditioning costs, and how exact it is: whole grids beside fixed sets of points.

Cost: processor time, on one thread, of decoding the tokens of one sample at the points and adding up. Exactness: the
root mean square, over frames of the store, of the error of estimated integrals: of u as a share of that of |u|, of
|u|^2 / 2 as a share of itself. `grid` takes every n-th node of each axis, `uniform` random points.

Example: scripts/benchmark_rewards.py runs/burgers/last.safetensors data/burgers --velocity velocity
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import rich.console
import rich.table
import torch
from jaxtyping import Float64, Int64

from machine import machine_line
from ups_data.inference import ConservationReward, Integrals, PointSet, Predictor, RewardConfig, RolloutState
from ups_data.inference.state import LATENT
from ups_data.sample import SparseSample
from ups_data.samplers import DenseSampler, FixedSampler, UniformSampler
from ups_data.training import Checkpoint

Points = tuple[Int64[np.ndarray, " query"], Float64[np.ndarray, " query"]]
"""Ids of points, and their weights."""


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="of a run on a plane grid")
    parser.add_argument("store", nargs="?", help="that of the run otherwise")
    parser.add_argument("--velocity", required=True, help="name of the field u")
    parser.add_argument("--points", type=int, nargs="+", default=[64, 256, 1024], help="of fixed and uniform sets")
    parser.add_argument("--every", type=int, nargs="+", default=[1, 2, 4], help="of the nodes of an axis, for grids")
    parser.add_argument("--rounds", type=int, default=9, help="of the times, in turns; medians (9)")
    arguments = parser.parse_args()
    loaded = Checkpoint.load(arguments.checkpoint)
    config = RewardConfig(velocity=arguments.velocity, momentum=1.0, energy=1.0)
    predictor = Predictor.of(loaded, arguments.store, sampler=DenseSampler())
    sets = {f"grid, every {step}": grid_points(predictor, step) for step in arguments.every}
    kinds: dict[str, type[FixedSampler | UniformSampler]] = {"fixed": FixedSampler, "uniform": UniformSampler}
    for kind, sampler in kinds.items():
        for count in arguments.points:
            drawn = Predictor.of(loaded, arguments.store, sampler=sampler(num_queries=count))
            sets[f"{kind}, {count}"] = points_of(drawn.start(drawn.trajectories[0]))
    times, errors = measure_times(predictor, config, sets, arguments.rounds), measure_errors(predictor, config, sets)
    table = rich.table.Table("points", "number", "CPU ms a reward", "momentum", "energy")
    for name, (ids, _) in sets.items():
        table.add_row(name, str(ids.size), f"{1e3 * times[name]:.2f}", *(f"{error:.1e}" for error in errors[name]))
    rich.console.Console(width=None if sys.stdout.isatty() else 120).print(machine_line(), table)
    return 0


def points_of(sample: SparseSample) -> Points:
    """Return the queries of a sample."""
    return sample.query_index.numpy().astype(np.int64), sample.query_weights.double().numpy()


def grid_points(predictor: Predictor, step: int) -> Points:
    """Return every n-th node of each axis."""
    shape = predictor.dataset.store.shape(predictor.trajectories[0])
    ids = np.arange(np.prod(shape)).reshape(shape)[(slice(None, None, step),) * len(shape)].ravel()
    return ids, np.full(ids.size, 1 / ids.size)


def measure_times(predictor: Predictor, config: RewardConfig, sets: dict[str, Points], rounds: int) -> dict[str, float]:
    """Return the median seconds of one reward, all sets in turns."""
    sample = predictor.start(predictor.trajectories[0])
    start = RolloutState.start(predictor.model, sample, LATENT)
    whole = ConservationReward.of(predictor.model, sample, config)
    order = np.argsort(sample.query_index.numpy())
    coordinates = whole.points.coordinates()[order]
    taken: dict[str, list[float]] = {name: [] for name in sets}
    for _ in range(rounds + 1):
        for name, (ids, weights) in sets.items():
            reward = ConservationReward(
                config=config,
                points=PointSet.cloud(coordinates[ids]),
                weights=weights,
                channels=whole.channels,
                start=whole.start,
            )
            began = time.process_time()
            reward.total(reward.lost(start))
            taken[name].append(time.process_time() - began)
    return {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}


def measure_errors(
    predictor: Predictor, config: RewardConfig, sets: dict[str, Points]
) -> dict[str, tuple[float, float]]:
    """Return the root mean square errors of momentum and energy over all frames of the split."""
    store = predictor.dataset.store
    channels = store.manifest.channels_of((config.velocity,)) if config.velocity else ()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sets}
    for trajectory in predictor.trajectories:
        for frame in range(store.num_frames(trajectory)):
            values = store.read_frames(trajectory, (frame,), channels)[0].reshape(len(channels), -1).astype(np.float64)
            dense = Integrals.of(None, values, np.full(values.shape[1], 1 / values.shape[1]))
            for name, (ids, weights) in sets.items():
                part = Integrals.of(None, values[:, ids], weights)
                momentum = float(np.linalg.norm(part.momentum - dense.momentum)) / dense.absolute_momentum
                found[name].append((momentum, part.energy / dense.energy - 1))
    return {name: tuple(np.sqrt(np.square(errors).mean(axis=0)).tolist()) for name, errors in found.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
