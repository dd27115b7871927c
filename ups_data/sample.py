"""One training sample, as a dataset gives it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int

from ups_data.statistics import Normaliser


@dataclass(frozen=True, kw_only=True, eq=False)
class Normalisers:
    """The maps that took physical values to those of a batch, for its inputs and its targets."""

    input: Normaliser
    target: Normaliser


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseSample:
    """One training sample: the encoder's whole input, and the drawn points.

    Attributes:
        sample_id: number of the sample in its dataset.
        trajectory: number of the trajectory in the store.
        input_frames, target_frames: frame numbers in the trajectory.
        inputs: (T_in, C, *space) on grids, (T_in, C, N) for points.
        input_axes: node coordinates of each axis on grids, () for points.
        input_coords: (N, D) for points, None on grids.
        query_coords: (Q, D), physical.
        query_targets: (T_out, Q, C).
        input_valid: like `inputs`, False where a value is missing and `inputs` holds 0; None where none ever is.
        target_valid: like `query_targets`, as above.
        stratum_queries: (S,), drawn points of each stratum, which the queries come in the order of; 0 for all of a
            trajectory with fewer strata than the store. None unless the sampler learns from losses.
        query_weights: (Q,), 0 on padding; the sum over q of weight * f estimates the mean of f over all points that
            have values, or its integral over the domain, see `QueryDataset`.
        query_index: (Q,), point ids, -1 on padding.
        parameters: (K,), physical.
        input_times, target_times: (T_in,), (T_out,), physical.
        normalisers: the maps that were applied to inputs and to targets.
        targets_drawn: whether target frames of the window are left out, see `Window`.
    """

    sample_id: int
    trajectory: int
    input_frames: tuple[int, ...]
    target_frames: tuple[int, ...]
    inputs: Float[torch.Tensor, "time_in channel *space"]
    input_axes: tuple[Float[torch.Tensor, " _"], ...]
    input_coords: Float[torch.Tensor, "point dim"] | None
    query_coords: Float[torch.Tensor, "query dim"]
    query_targets: Float[torch.Tensor, "time_out query channel_out"]
    query_weights: Float[torch.Tensor, " query"]
    query_index: Int[torch.Tensor, " query"]
    parameters: Float[torch.Tensor, " parameter"]
    input_times: Float[torch.Tensor, " time_in"]
    target_times: Float[torch.Tensor, " time_out"]
    normalisers: Normalisers
    input_valid: Bool[torch.Tensor, "time_in channel *space"] | None = None
    target_valid: Bool[torch.Tensor, "time_out query channel_out"] | None = None
    stratum_queries: Int[torch.Tensor, " stratum"] | None = None
    targets_drawn: bool = False

    @property
    def query_mask(self) -> Bool[torch.Tensor, " query"]:
        """True on drawn points, False on padding."""
        return self.query_index >= 0
