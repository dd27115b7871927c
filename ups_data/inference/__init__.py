"""Trained operators at work: dense answers, super-resolution, rollouts, with test-time conditioning or without."""

from ups_data.inference.conservation import ConservationReward, Integrals, RewardConfig
from ups_data.inference.decode import decode_dense
from ups_data.inference.horizon import Roll, Spectra, StepErrors, rollout_errors
from ups_data.inference.points import PointSet
from ups_data.inference.predictor import Predictor
from ups_data.inference.rollout import Rollout, collect, iterate_rollout, rollout
from ups_data.inference.spectra import power_spectrum
from ups_data.inference.state import RolloutPlan, RolloutState
from ups_data.inference.ttc import TTCRollout, rollout_ttc
from ups_data.inference.ttc_records import CandidateLog, TTCConfig, TTCLog, TTCStepLog

__all__ = [
    "CandidateLog",
    "ConservationReward",
    "Integrals",
    "PointSet",
    "Predictor",
    "RewardConfig",
    "Roll",
    "Rollout",
    "RolloutPlan",
    "RolloutState",
    "Spectra",
    "StepErrors",
    "TTCConfig",
    "TTCLog",
    "TTCRollout",
    "TTCStepLog",
    "collect",
    "decode_dense",
    "iterate_rollout",
    "power_spectrum",
    "rollout",
    "rollout_errors",
    "rollout_ttc",
]
