"""Training of the reference operator: sparse weighted losses, a loop, checkpoints, and errors that are always dense."""

from ups_data.training.checkpoint import Checkpoint
from ups_data.training.config import TrainConfig, load_config
from ups_data.training.loop import StepRecord, TrainResult, train
from ups_data.training.losses import LossBundle, LossConfig, compute_operator_loss_bundle, weighted_loss
from ups_data.training.metrics import DenseErrors, evaluate

__all__ = [
    "Checkpoint",
    "DenseErrors",
    "LossBundle",
    "LossConfig",
    "StepRecord",
    "TrainConfig",
    "TrainResult",
    "compute_operator_loss_bundle",
    "evaluate",
    "load_config",
    "train",
    "weighted_loss",
]
