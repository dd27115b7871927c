"""Tokens -> fields at any number of points, in memory that does not grow with it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from ups_data.errors import DatasetError
from ups_data.inference.points import PointSet
from ups_data.models import Lattice, NeuralOperator
from ups_data.models.lattice import interpolate
from ups_data.statistics import Normaliser

QUERY_CHUNK = 65536
"""Points decoded at a time, unless told otherwise."""


@torch.no_grad()
def decode_dense(
    model: NeuralOperator,
    latent: Lattice,
    points: PointSet,
    *,
    base: Lattice | None = None,
    normaliser: Normaliser | None = None,
    query_chunk: int = QUERY_CHUNK,
    out: Float[np.ndarray, "channel point"] | None = None,
) -> Float[np.ndarray, "channel point"]:
    """Decode the tokens of one sample at every point.

    Beside the result, memory holds what `query_chunk` points need: it does not depend on the number of points.

    Args:
        model: whose decoder answers.
        latent: tokens (1, L, E).
        points: where, physical.
        base: the frame that a residual model adds its answer to, see `NeuralOperator.last_frame`.
        normaliser: takes the answer to physical units; None leaves it normalised.
        query_chunk: points decoded at a time.
        out: array to fill, float32, for example a memory map; a new one if None.

    Returns:
        Values (C, N) of the target channels.

    Raises:
        DatasetError: points of another dimension, tokens of several samples, an array of another shape.
    """
    shape = (model.problem.num_targets, len(points))
    _check(model, latent, points, query_chunk)
    if out is None:
        out = np.empty(shape, dtype=np.float32)
    elif out.shape != shape:
        raise DatasetError(f"the answer has the shape {shape}, the array to fill {out.shape}")
    for start in range(0, len(points), query_chunk):
        part = torch.from_numpy(points.coordinates(start, start + query_chunk)).to(latent.values)[None]
        answer = model.decode(latent, part)
        if base is not None:
            answer = answer + interpolate(base, model.problem.unit_coordinates(part))
        if normaliser is not None:
            answer = _to_physical(answer, normaliser)
        out[:, start : start + query_chunk] = answer[0].T.cpu().numpy()
    return out


def _to_physical(
    values: Float[torch.Tensor, "batch query channel"], normaliser: Normaliser
) -> Float[torch.Tensor, "batch query channel"]:
    mean, scale = (torch.from_numpy(part).to(values) for part in (normaliser.mean, normaliser.scale))
    return values * scale + mean


def _check(model: NeuralOperator, latent: Lattice, points: PointSet, query_chunk: int) -> None:
    if len(latent.values) != 1:
        raise DatasetError(f"one sample is decoded at a time, the tokens are of {len(latent.values)}")
    if points.dims != model.problem.dims:
        raise DatasetError(
            f"the points have {points.dims} coordinates, the model was made for {model.problem.dims}: "
            f"{', '.join(model.problem.axis_names)}"
        )
    if query_chunk < 1:
        raise DatasetError(f"query_chunk must be at least 1, got {query_chunk}")
