"""Trained operators at work: dense answers, super-resolution, rollouts."""

from ups_data.inference.decode import decode_dense
from ups_data.inference.horizon import Spectra, StepErrors, rollout_errors
from ups_data.inference.points import PointSet
from ups_data.inference.predictor import Predictor
from ups_data.inference.rollout import Rollout, iterate_rollout, rollout
from ups_data.inference.spectra import power_spectrum
from ups_data.inference.state import RolloutPlan, RolloutState

__all__ = [
    "PointSet",
    "Predictor",
    "Rollout",
    "RolloutPlan",
    "RolloutState",
    "Spectra",
    "StepErrors",
    "decode_dense",
    "iterate_rollout",
    "power_spectrum",
    "rollout",
    "rollout_errors",
]
