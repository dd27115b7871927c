"""What a flow conserves, estimated on a fixed set of points: how much of it a state of a rollout has lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
import pydantic
from jaxtyping import Float, Float64

from ups_data.errors import ConfigError, DatasetError, suggest
from ups_data.inference.points import PointSet
from ups_data.inference.state import RolloutState
from ups_data.models import NeuralOperator, ProblemSpec
from ups_data.sample import SparseSample
from ups_data.schema import Record

Weight = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]

TERMS = ("mass", "momentum", "energy", "negativity")
"""What a reward may count."""


class RewardConfig(Record):
    """What a rollout should keep, and how much each part of it counts.

    Mass is the integral of the density r, momentum that of r u, energy that of r |u|^2 / 2, negativity that of
    max(-r, 0). Of a problem without a density r is 1; of one without a velocity only mass and negativity are known.
    A scalar that is advected by itself (Burgers) is a velocity, one that is carried along a density.

    Attributes:
        density: name of the field r, of one channel.
        velocity: name of the field u.
        mass, momentum, energy, negativity: weights; a term of weight 0 is not computed.
        energy_may_fall: count only what is gained of energy: viscous flows lose some.
    """

    density: str | None = None
    velocity: str | None = None
    mass: Weight = 0.0
    momentum: Weight = 0.0
    energy: Weight = 0.0
    negativity: Weight = 0.0
    energy_may_fall: bool = False

    @pydantic.model_validator(mode="after")
    def _has_its_fields(self) -> Self:
        if not self.weights:
            raise ValueError(f"a reward needs a weight above 0 for one of {', '.join(TERMS)}")
        for field, terms in (("density", ("mass", "negativity")), ("velocity", ("momentum", "energy"))):
            asked = [term for term in terms if term in self.weights]
            if asked and getattr(self, field) is None:
                raise ValueError(f"{asked[0]} needs the name of the field that is the {field}")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The weights that are not 0, by term."""
        return {term: getattr(self, term) for term in TERMS if getattr(self, term)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Integrals:
    """Integrals (or means) of one frame over the domain, estimated by weighted sums.

    Attributes:
        mass, negativity: of the density; 0 without one.
        momentum: by component of the velocity.
        energy: of the velocity.
        absolute_mass, absolute_momentum: integrals of |r| and r |u|, which the others are held against.
    """

    mass: float
    momentum: Float64[np.ndarray, " component"]
    energy: float
    negativity: float
    absolute_mass: float
    absolute_momentum: float

    @classmethod
    def of(
        cls,
        density: Float64[np.ndarray, " query"] | None,
        velocity: Float64[np.ndarray, "component query"] | None,
        weights: Float64[np.ndarray, " query"],
    ) -> Self:
        """Add up one frame.

        Args:
            density: in physical units; None takes 1 where it multiplies a velocity.
            velocity: in physical units.
            weights: of the points; those of a draw, or of every point.
        """
        mass = np.zeros_like(weights) if density is None else density
        carried = np.zeros((0, weights.size)) if velocity is None else velocity
        factor = np.ones_like(weights) if density is None else density
        speed = np.square(carried).sum(axis=0)
        return cls(
            mass=float(mass @ weights),
            momentum=(factor * carried) @ weights,
            energy=float((factor * speed) @ weights) / 2,
            negativity=float(np.maximum(-mass, 0) @ weights),
            absolute_mass=float(np.abs(mass) @ weights),
            absolute_momentum=float((np.abs(factor) * np.sqrt(speed)) @ weights),
        )

    def lost_since(self, start: Integrals, config: RewardConfig) -> dict[str, float]:
        """Return what differs from an earlier frame by term: shares of that frame's own, 0 where all is kept.

        Raises:
            DatasetError: an earlier frame in which a term is 0 everywhere, which nothing is a share of.
        """
        energy = self.energy - start.energy
        gone = {
            "mass": (abs(self.mass - start.mass), start.absolute_mass),
            "momentum": (float(np.linalg.norm(self.momentum - start.momentum)), start.absolute_momentum),
            "energy": (max(energy, 0.0) if config.energy_may_fall else abs(energy), abs(start.energy)),
            "negativity": (self.negativity, start.absolute_mass),
        }
        for term in config.weights:
            if gone[term][1] == 0:
                raise DatasetError(
                    f"the rollout starts from a frame without any {term}, so no share of it can be lost; set its "
                    f"weight to 0, or start from another frame"
                )
        return {term: gone[term][0] / gone[term][1] for term in config.weights}


@dataclass(frozen=True, kw_only=True, eq=False)
class ConservationReward:
    """Scores the states of a rollout: minus what they have lost since its start, by the weights of the terms.

    Both frames are estimated on the same points, so what the estimate errs by at the start is not taken for a loss.

    Attributes:
        config: what counts.
        points: where states are decoded.
        weights: of the points.
        channels: target channels of density and velocity.
        start: integrals of the frame that the rollout starts from.
    """

    config: RewardConfig
    points: PointSet
    weights: Float64[np.ndarray, " query"]
    channels: tuple[tuple[int, ...], tuple[int, ...]]
    start: Integrals

    @classmethod
    def of(cls, model: NeuralOperator, sample: SparseSample, config: RewardConfig) -> Self:
        """Take the queries of a sample (of its first target), with their weights: a `FixedSampler` spreads them evenly.

        Points that lack a value of these fields in the last input frame are left out.

        Raises:
            ConfigError: a field that is not predicted or not read, a density of several channels.
            DatasetError: no point is left.
        """
        channels = tuple(
            () if name is None else _channels_of(model.problem, name) for name in (config.density, config.velocity)
        )
        density, velocity = channels
        if len(density) > 1:
            raise ConfigError(f"the density {config.density!r} has {len(density)} channels, it must have one")
        inside = _input_channels(model.problem, [*density, *velocity])
        queries = sample.points_at(0)
        drawn = queries.index >= 0
        index = queries.index[drawn].long()
        values = sample.inputs[-1].flatten(1)[inside][:, index].double().numpy()
        weights = queries.weights[drawn].double().numpy()
        if sample.input_valid is not None:
            there = sample.input_valid[-1].flatten(1)[inside][:, index].all(dim=0)
            weights = weights * there.numpy()
        if not weights.any():
            raise DatasetError("none of the points that rewards are estimated on has a value at the start")
        normaliser = sample.normalisers.input
        values = values * normaliser.scale[inside, None] + normaliser.mean[inside, None]
        return cls(
            config=config,
            points=PointSet.cloud(queries.coords[drawn].double().numpy()),
            weights=weights,
            channels=(density, velocity),
            start=_integrals(values[: len(density)], values[len(density) :], weights),
        )

    def lost(self, state: RolloutState) -> dict[str, float]:
        """Return what a state has lost since the start, by term; see `Integrals.lost_since`."""
        return self.lost_of(state.answer(self.points))

    def lost_of(self, values: Float[np.ndarray, "channel query"]) -> dict[str, float]:
        """Return the same of the target channels at the points, in physical units."""
        density, velocity = (values[list(part)].astype(np.float64) for part in self.channels)
        return _integrals(density, velocity, self.weights).lost_since(self.start, self.config)

    def total(self, lost: dict[str, float]) -> float:
        """Return the reward: 0 where nothing is lost, else below."""
        return -sum(self.config.weights[term] * share for term, share in lost.items())


def _integrals(
    density: Float64[np.ndarray, "_ query"],
    velocity: Float64[np.ndarray, "component query"],
    weights: Float64[np.ndarray, " query"],
) -> Integrals:
    return Integrals.of(density[0] if len(density) else None, velocity if len(velocity) else None, weights)


def _channels_of(problem: ProblemSpec, name: str) -> tuple[int, ...]:
    start = 0
    for field in problem.target_fields:
        if field.name == name:
            return tuple(range(start, start + field.channels))
        start += field.channels
    names = [field.name for field in problem.target_fields]
    raise ConfigError(f"a reward needs the field {name!r}, which the model does not predict. {suggest(name, names)}")


def _input_channels(problem: ProblemSpec, targets: list[int]) -> list[int]:
    """Return the input channel of each of some target channels."""
    inside = problem.target_channels_in_input()
    return [inside[target] for target in targets]
