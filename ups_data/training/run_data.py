"""What a run is trained on and evaluated on: one store, or several that one model can learn together.

The stores of a mixture need the same geometry, axes that are periodic, extent (to a tenth, the same periods), fields by
name, component and unit, parameters by name, and estimand. Resolution, number of points, and times may differ.

Values of all of them are normalised by common statistics: those of all train splits pooled as if they were of one
store, so that a physical value is the same number whichever store it comes from, in training and in evaluation. They
are kept in checkpoints as those of one store are, so a model of a mixture is taken to any store of its kind. Parameters
are mapped likewise. The training grid and the unit of time are those of the store with the most grid nodes, or of the
first by name.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from ups_data.dataset import QueryDataset
from ups_data.errors import ConfigError
from ups_data.mixture import MixtureDataset
from ups_data.models import ProblemSpec
from ups_data.models.problem import CONSTANT, traits_of
from ups_data.samplers import DenseSampler, Sampler
from ups_data.schema import ChannelStatistics
from ups_data.statistics import pool_statistics
from ups_data.storage import Store
from ups_data.training.data_config import DataConfig, MixtureConfig

_TRAIN = "train"  # whose statistics a store has
_BEYOND = 0.1  # nodes in the middle of cells of a finer grid reach a little further out, as another cloud does
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class RunData:
    """Datasets of a run.

    Attributes:
        train: what batches are made of.
        tests: what is evaluated on, by the name of the store in the mixture; under None where there is one store.
        problem: what the model must know.
        statistics: what values are normalised by: of all channels of the one store, of a mixture of those in use.
    """

    train: QueryDataset | MixtureDataset
    tests: Mapping[str | None, QueryDataset]
    problem: ProblemSpec
    statistics: tuple[ChannelStatistics, ...]

    @classmethod
    def open(cls, data: DataConfig, sampler: Sampler, *, seed: int) -> Self:
        """Open the stores that a configuration names.

        Raises:
            ConfigError: no store is named; stores of a mixture that no one model learns, with what differs.
        """
        members = {
            name: data.build(part.open(), sampler, split=data.split, seed=seed, queries=part.open_queries())
            for name, part in data.parts.items()
        }
        if data.mixture is None:
            (member,) = members.values()
            problem, statistics = ProblemSpec.of(member), member.store.manifest.statistics
            train: QueryDataset | MixtureDataset = member
        else:
            named = {str(name): member for name, member in members.items()}
            problem, statistics = _share(named, data.mixture)
            train = _mix(named, data, statistics)
        stores = {name: member.store for name, member in members.items()}
        tests = _build_tests(data, stores, statistics, split=data.test_split)
        return cls(train=train, tests=tests, problem=problem, statistics=statistics)


def open_tests(
    data: DataConfig, statistics: tuple[ChannelStatistics, ...], *, split: str | None = None
) -> dict[str | None, QueryDataset]:
    """Open what a run was evaluated on, by the name of the store in the mixture, under None where there is one.

    Args:
        data: of the run.
        statistics: that the run's values are normalised by.
        split: the run's test split if None.
    """
    stores = {name: part.open() for name, part in data.parts.items()}
    return _build_tests(data, stores, statistics, split=split or data.test_split)


def _build_tests(
    data: DataConfig, stores: Mapping[str | None, Store], statistics: tuple[ChannelStatistics, ...], *, split: str
) -> dict[str | None, QueryDataset]:
    whole = data.with_all_targets()
    return {
        name: whole.build(store, DenseSampler(), split=split, statistics=statistics) for name, store in stores.items()
    }


def _mix(
    members: Mapping[str, QueryDataset], data: DataConfig, statistics: tuple[ChannelStatistics, ...]
) -> MixtureDataset:
    """Return the mixture of datasets, normalised by common statistics."""
    assert data.mixture is not None
    return MixtureDataset(
        {
            name: data.build(
                member.store,
                member.sampler,
                split=member.split,
                seed=member.seed,
                statistics=statistics,
                queries=None if len(member.stores) == 1 else member.query_store,
            )
            for name, member in members.items()
        },
        weights=data.mixture.weights,
        epoch_batches=data.mixture.epoch_batches,
        batches=data.mixture.batches,
    )


def _share(
    members: Mapping[str, QueryDataset], mixture: MixtureConfig
) -> tuple[ProblemSpec, tuple[ChannelStatistics, ...]]:
    """Return the one problem of several datasets, and the statistics of the channels that they use."""
    (first, expected), *others = members.items()
    for name, member in others:
        if difference := next(_differences(expected, member), None):
            what, own, other = difference
            raise ConfigError(
                f"no one model learns the stores {first!r} ({expected.store.location}) and {name!r} "
                f"({member.store.location}) of data.mixture: they are {what} {own} and {what} {other}; train on "
                f"them apart, or on what they share by data.input_fields and data.target_fields"
            )
    if mixture.batches == "padded":
        _refuse_padded_grids(members)
    problems = {name: ProblemSpec.of(member) for name, member in members.items()}
    leading = max(problems.values(), key=lambda problem: math.prod(problem.grid_shape or (1,)))
    means, scales = _pool_parameters(members)
    problem = leading.model_copy(
        update={
            "lower": tuple(min(ends) for ends in zip(*(one.lower for one in problems.values()), strict=True)),
            "upper": tuple(max(ends) for ends in zip(*(one.upper for one in problems.values()), strict=True)),
            "parameter_mean": means,
            "parameter_scale": scales,
        }
    )
    channels = [name for field in (*expected.input_fields, *expected.target_fields) for name in field.channel_names]
    records = [{record.channel: record for record in one.store.manifest.statistics} for one in members.values()]
    return problem, pool_statistics([[part[name] for name in dict.fromkeys(channels)] for part in records])


def _differences(one: QueryDataset, other: QueryDataset) -> Iterator[tuple[str, str, str]]:
    """Say what keeps two datasets from being learnt by one model: what it is, and how it is with each."""
    mine, theirs = _kind_of(one), _kind_of(other)
    yield from ((what, mine[what], theirs[what]) for what in mine if mine[what] != theirs[what])
    yield from _extent_differences(one, other)


def _extent_differences(one: QueryDataset, other: QueryDataset) -> Iterator[tuple[str, str, str]]:
    mine, theirs = one.domain, other.domain
    for number, name in enumerate(mine.names):
        ends = [(box.lower[number], box.upper[number]) for box in (mine, theirs)]
        away = max(abs(low - high) for low, high in zip(*ends, strict=True))
        allowed = _ROUNDING if mine.periodic[number] else _BEYOND
        if away > allowed * max(upper - lower for lower, upper in ends):
            (low, high), (other_low, other_high) = ends
            yield f"on {name} from", f"{low:g} to {high:g}", f"{other_low:g} to {other_high:g}"


def _kind_of(dataset: QueryDataset) -> dict[str, str]:
    """Return in words what stores of a mixture have in common, each under its preposition."""
    parameters = ", ".join(parameter.name for parameter in dataset.parameters) or "none"
    return {
        **dict(traits_of(dataset)),
        "with": f"the parameters {parameters}",
        "with the channels": _describe_channels(dataset),
        "with values that may be missing in": _describe_missing(dataset),
        "for sums that estimate the": dataset.estimand,
    }


def _describe_channels(dataset: QueryDataset) -> str:
    fields = {field.name: field for field in (*dataset.input_fields, *dataset.target_fields)}
    return ", ".join(
        f"{channel} [{field.unit or 'no unit'}]" for field in fields.values() for channel in field.channel_names
    )


def _describe_missing(dataset: QueryDataset) -> str:
    channels = [name for field in dataset.input_fields for name in field.channel_names]
    return ", ".join(channels[number] for number in dataset.missing_inputs) or "no input"


def _refuse_padded_grids(members: Mapping[str, QueryDataset]) -> None:
    """Refuse batches that hold grids of several shapes, which no grid encoder takes."""
    grids = [(name, member) for name, member in members.items() if member.geometry == "grid"]
    for (first, one), (name, other) in itertools.pairwise(grids):
        if one.largest_shape != other.largest_shape:
            raise ConfigError(
                f"padded batches hold grids of one shape, those of {first!r} ({one.store.location}) and {name!r} "
                f"({other.store.location}) are {one.largest_shape} and {other.largest_shape}; set "
                f"data.mixture.batches to homogeneous"
            )


def _pool_parameters(members: Mapping[str, QueryDataset]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and scale of each parameter over the train trajectories of all stores."""
    stores = [member.store for member in members.values()]
    counts = np.array([len(store.trajectories_of(_TRAIN)) for store in stores], dtype=np.float64)
    shares = counts / counts.sum()
    means, scales = [], []
    for specs in zip(*(store.manifest.parameters for store in stores), strict=True):
        own = np.array([spec.mean for spec in specs])
        mean = float(shares @ own)
        std = math.sqrt(shares @ (np.square([spec.std for spec in specs]) + np.square(own - mean)))
        means.append(mean)
        scales.append(std if std > CONSTANT * abs(mean) else 1.0)
    return tuple(means), tuple(scales)
