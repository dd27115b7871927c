"""The reference operator: full encoder, latent operator, any-point decoder."""

from ups_data.models.decoder import AnyPointDecoder, DecoderConfig
from ups_data.models.grid_encoder import GridEncoder, GridEncoderConfig
from ups_data.models.latent_operator import LatentOperator, LatentOperatorConfig
from ups_data.models.lattice import Lattice
from ups_data.models.operator import NeuralOperator, OperatorConfig
from ups_data.models.point_encoder import PointEncoder, PointEncoderConfig
from ups_data.models.problem import FieldChannels, ProblemSpec

__all__ = [
    "AnyPointDecoder",
    "DecoderConfig",
    "FieldChannels",
    "GridEncoder",
    "GridEncoderConfig",
    "LatentOperator",
    "LatentOperatorConfig",
    "Lattice",
    "NeuralOperator",
    "OperatorConfig",
    "PointEncoder",
    "PointEncoderConfig",
    "ProblemSpec",
]
