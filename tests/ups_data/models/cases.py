"""Stores of every geometry, and small models of them."""

from collections.abc import Callable, Mapping

import torch

import ups_data
from tests.memory_source import MemorySource, cloud, wave_frames
from ups_data.models import GridEncoderConfig, NeuralOperator, OperatorConfig, PointEncoderConfig, ProblemSpec
from ups_data.samplers import Sampler
from ups_data.schema import ImportanceSpec

SHAPES = {"line": (32,), "plane": (16, 8), "space": (8, 4, 8)}
SMALL = OperatorConfig(
    width=16, grid_encoder=GridEncoderConfig(patch=4), point_encoder=PointEncoderConfig(lattice=(4,), hidden=16)
)


def build_stores(convert_source: Callable[..., ups_data.Store]) -> Mapping[str, ups_data.Store]:
    splits = ["train", "train", "test"]
    parameters = [{"nu": 0.1 * number} for number in range(3)]
    made = {}
    for name, shape in SHAPES.items():
        frames = [wave_frames(shape, num_frames=4, num_channels=2, seed=seed) for seed in range(3)]
        source = MemorySource.grid(
            frames, periodic=(True, False, True)[: len(shape)], splits=splits, parameters=parameters
        )
        made[name] = convert_source(source, page_points=4, num_strata=2)
    coordinates = [cloud(90 + 10 * seed, 2, seed=seed) for seed in range(3)]
    frames = [wave_frames((len(part),), num_frames=4, num_channels=2, seed=9) for part in coordinates]
    source = MemorySource.points(frames, coordinates, splits=splits, parameters=parameters)
    recipe = ImportanceSpec(metrics={"temporal_change": 1.0})
    made["cloud"] = convert_source(source, page_points=4, num_strata=2, importance=recipe)
    return made


def dataset_of(store: ups_data.Store, sampler: Sampler | None = None, **options: object) -> ups_data.QueryDataset:
    chosen = {"window": ups_data.Window(targets=2), "sampler": sampler or ups_data.ImportanceSampler(0.5)}
    return ups_data.QueryDataset(store, **{**chosen, **options})


def batch_of(dataset: ups_data.QueryDataset, size: int = 3) -> ups_data.SparseBatch:
    return ups_data.collate_samples([dataset[number] for number in range(size)])


def model_of(dataset: ups_data.QueryDataset, config: OperatorConfig = SMALL, seed: int = 0) -> NeuralOperator:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NeuralOperator(config, ProblemSpec.of(dataset))
