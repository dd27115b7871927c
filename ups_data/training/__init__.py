"""Training of the reference operator: sparse weighted losses, a loop, checkpoints, and errors that are always dense."""

from ups_data.training.checkpoint import Checkpoint
from ups_data.training.config import TrainConfig, find_device
from ups_data.training.config_files import load_config
from ups_data.training.inverse import inverse_decoding_loss, inverse_encoding_loss
from ups_data.training.journal import StepRecord
from ups_data.training.loop import TrainResult, train
from ups_data.training.losses import LossBundle, LossConfig, compute_operator_loss_bundle
from ups_data.training.metrics import DenseErrors, evaluate
from ups_data.training.schedules import RampConfig
from ups_data.training.spectral import spectral_loss
from ups_data.training.weighted import weighted_loss

__all__ = [
    "Checkpoint",
    "DenseErrors",
    "LossBundle",
    "LossConfig",
    "RampConfig",
    "StepRecord",
    "TrainConfig",
    "TrainResult",
    "compute_operator_loss_bundle",
    "evaluate",
    "find_device",
    "inverse_decoding_loss",
    "inverse_encoding_loss",
    "load_config",
    "spectral_loss",
    "train",
    "weighted_loss",
]
