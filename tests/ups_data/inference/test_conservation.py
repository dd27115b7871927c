"""Rewards on a fixed set of points are those of fields whose integrals are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pydantic
import pytest

import ups_data
from tests.memory_source import MemorySource, cloud
from tests.ups_data.models.cases import dataset_of, model_of
from ups_data.errors import ConfigError, DatasetError
from ups_data.inference import ConservationReward, Integrals, RewardConfig
from ups_data.samplers import DenseSampler, FixedSampler, UniformSampler
from ups_data.schema import FieldSpec

ALL = RewardConfig(density="rho", velocity="u", mass=1.0, momentum=1.0, energy=1.0, negativity=1.0)
SIDE = 64
FIELDS = (FieldSpec(name="rho"), FieldSpec(name="u", components=("x", "y")))


def flow(x: np.ndarray, y: np.ndarray, shift: float = 0.0) -> np.ndarray:
    """Return density and velocity of a field that is carried along x: its integrals do not change."""
    phase = 2 * np.pi * (x - shift)
    density = 1 + 0.5 * np.sin(phase) * np.cos(2 * np.pi * y)
    return np.stack([density, 0.5 + 0.25 * np.cos(phase), 0.25 * np.sin(2 * np.pi * y)])


# By hand, over the unit square: the products of sines vanish but for those of like waves.
MASS, MOMENTUM, ENERGY = 1.0, (0.5, 0.0), 0.5 * (0.25 + 0.25**2 / 2 + 0.25**2 / 2)


@pytest.fixture(scope="module")
def store(convert_source) -> ups_data.Store:
    nodes = np.arange(SIDE) / SIDE
    x, y = np.meshgrid(nodes, nodes, indexing="ij")
    frames = np.stack([flow(x, y, shift) for shift in (0.0, 0.1, 0.2)]).astype(np.float32)
    source = MemorySource.grid([frames], periodic=True, splits=["train"], fields=FIELDS)
    return convert_source(source, page_points=16, num_strata=2)


def reward_of(store: ups_data.Store, sampler, config: RewardConfig = ALL, **options) -> ConservationReward:
    dataset = dataset_of(store, sampler, window=ups_data.Window(), **options)
    return ConservationReward.of(model_of(dataset), dataset[0], config)


def values_at(reward: ConservationReward, shift: float, scale: float = 1.0) -> np.ndarray:
    return scale * flow(*reward.points.coordinates().T, shift)


def test_every_point_gives_the_integrals_that_are_known(store: ups_data.Store) -> None:
    reward = reward_of(store, DenseSampler())
    assert reward.start.mass == pytest.approx(MASS, rel=1e-6)
    np.testing.assert_allclose(reward.start.momentum, MOMENTUM, atol=1e-6)
    assert reward.start.energy == pytest.approx(ENERGY, rel=1e-6)
    assert reward.start.negativity == 0
    # What is carried along loses nothing. Twice as much has 2, 4 and 8 times of mass, momentum and energy.
    assert max(reward.lost_of(values_at(reward, 0.37)).values()) < 1e-6
    twice = reward.lost_of(values_at(reward, 0.37, scale=2.0))
    absolute = reward.start.absolute_momentum
    expected = {"mass": 1.0, "momentum": 1.5 / absolute, "energy": 7.0, "negativity": 0.0}
    assert twice == pytest.approx(expected, abs=1e-5)
    assert reward.total(twice) == pytest.approx(-sum(expected.values()), abs=1e-5)


def test_a_fixed_set_comes_near_to_every_point_where_random_points_do_not(store: ups_data.Store) -> None:
    """256 of 4,096 points: errors of the three integrals, over frames that are carried along."""

    def errors_of(sampler) -> np.ndarray:
        reward = reward_of(store, sampler)
        found = []
        for shift in np.linspace(0, 1, 20, endpoint=False):
            values = values_at(reward, shift)
            sums = Integrals.of(values[0], values[1:], reward.weights)
            found.append([sums.mass - MASS, sums.momentum[0] - MOMENTUM[0], sums.energy - ENERGY])
        return np.sqrt(np.square(found).mean(axis=0)) / (MASS, MOMENTUM[0], ENERGY)

    fixed, uniform = errors_of(FixedSampler(num_queries=256)), errors_of(UniformSampler(num_queries=256))
    assert (fixed < 0.003).all()
    assert (fixed < uniform / 4).all()


def test_integrals_of_uneven_points_are_by_the_measures_of_their_cells(convert_source) -> None:
    coordinates = cloud(400, 2, seed=3)
    measures = np.random.default_rng(0).uniform(0.1, 1.0, 400)
    frames = np.ones((2, 1, 400), dtype=np.float32) * np.array([1.0, 3.0], dtype=np.float32)[:, None, None]
    source = MemorySource.points([frames], [coordinates], splits=["train"], measures=[measures])
    store = convert_source(source, page_points=8, num_strata=1)
    config = RewardConfig(density="u0", mass=1.0)
    reward = reward_of(store, FixedSampler(num_queries=50), config, estimand="integral")
    assert reward.start.mass == pytest.approx(measures.sum(), rel=1e-5)
    assert reward.lost_of(np.full((1, 50), 3.0)) == pytest.approx({"mass": 2.0})
    mean = reward_of(store, FixedSampler(num_queries=50), config, estimand="mean")
    assert mean.start.mass == pytest.approx(1.0, rel=1e-6)


def test_terms_are_told_apart(store: ups_data.Store) -> None:
    reward = reward_of(store, FixedSampler(num_queries=64))
    same = values_at(reward, 0.0)
    turned = same * np.array([1.0, -1.0, 1.0])[:, None]
    lost = reward.lost_of(turned)
    assert lost["mass"] == pytest.approx(0, abs=1e-6)
    assert lost["energy"] == pytest.approx(0, abs=1e-6)
    assert lost["momentum"] > 0.5
    holes = same.copy()
    holes[0] -= 1.0
    assert reward.lost_of(holes)["negativity"] > 0.1
    slower = same * np.array([1.0, 0.5, 0.5])[:, None]
    falling = dataclasses.replace(reward, config=ALL.model_copy(update={"energy_may_fall": True}))
    assert reward.lost_of(slower)["energy"] == pytest.approx(0.75, rel=1e-5)
    assert falling.lost_of(slower)["energy"] == 0
    assert falling.lost_of(2 * same)["energy"] == pytest.approx(7.0, rel=1e-5)


def test_points_without_a_value_at_the_start_do_not_count(convert_source) -> None:
    frames = np.ones((3, 1, 16, 16), dtype=np.float32)
    frames[:, :, :8] = np.nan
    frames[1:, :, 8] = np.nan  # a row that comes and goes
    source = MemorySource.grid([frames], splits=["train"], missing=["u0"])
    store = convert_source(source, page_points=8, num_strata=1)
    dataset = dataset_of(store, DenseSampler(), window=ups_data.Window())
    reward = ConservationReward.of(model_of(dataset), dataset[1], RewardConfig(density="u0", mass=1.0))
    assert np.count_nonzero(reward.weights) == 7 * 16
    assert reward.start.mass == pytest.approx(7 / 8)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"density": "rho"}, "a weight above 0 for one of mass, momentum, energy, negativity"),
        ({"velocity": "u", "mass": 1.0}, "mass needs the name of the field that is the density"),
        ({"density": "rho", "energy": 1.0}, "energy needs the name of the field that is the velocity"),
        ({"density": "rho", "mass": -1.0}, "greater than or equal to 0"),
        ({"density": "rho", "masss": 1.0}, "masss"),
    ],
)
def test_rewards_that_make_no_sense_are_refused(settings: dict, fault: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=fault):
        RewardConfig.model_validate(settings)


def test_fields_that_do_not_fit_are_refused(store: ups_data.Store) -> None:
    with pytest.raises(ConfigError, match=r"needs the field 'roh'.*Did you mean 'rho'"):
        reward_of(store, DenseSampler(), RewardConfig(density="roh", mass=1.0))
    with pytest.raises(ConfigError, match="density 'u' has 2 channels"):
        reward_of(store, DenseSampler(), RewardConfig(density="u", mass=1.0))
    reward = reward_of(store, DenseSampler())
    still = dataclasses.replace(reward, start=Integrals.of(np.ones(SIDE**2), np.zeros((2, SIDE**2)), reward.weights))
    with pytest.raises(DatasetError, match="a frame without any momentum"):
        still.lost_of(values_at(reward, 0.0))
